//! The stored form of a [`Document`]: compact, versioned, and never trusted when read.
//!
//! Format 1, numbers as LEB128 varints unless told otherwise:
//!
//! ```text
//! version (1 byte) · planner's token · layout (1 byte) · routing (1 byte) · N
//! members: how many, then of each: length of the name, its bytes, incarnation
//! epochs:  how many, then the distinct ones in rising order, each as the step from the last
//! holder of each shard: 2 bytes, little end first; 0xffff: nobody
//! state of each shard, in runs of (length, 0 free · 1 owned · 2 revoking)
//! token of each shard that is not free, in runs of (length, place among the epochs)
//! since of each revoking shard, in such runs; then their next ones, 2 bytes each
//! ```
//!
//! So an assignment that changed a few times costs little more than two bytes a shard.

use bytes::Bytes;

use super::{Document, Layout, Life, MemberIndex, Slot};
use crate::assignment::MAX_DOCUMENT_BYTES;
use crate::member::MAX_MEMBERS;
use crate::names::{MAX_NAME_BYTES, MemberId};
use crate::numbers::{Epoch, FencingToken, Incarnation, NUMBER_LIMIT};
use crate::routing::Routing;

/// The newest version of the stored form that this program reads and writes (rule S10).
pub const DOCUMENT_FORMAT: u16 = 1;

/// Stands for "no member" among 2-byte indexes; no table of members is that long.
const NOBODY: MemberIndex = MemberIndex::MAX;

/// Why a document cannot be read, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadDocument {
    /// It is in a version that this program does not know.
    #[error("the document is in format {found}, this program knows 1 to {DOCUMENT_FORMAT}")]
    Format {
        /// The version that was found or asked for.
        found: u16,
    },
    /// The bytes end too early.
    #[error("the document ends within its {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// The bytes go on after the end.
    #[error("the document has {bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A value that no writer would write.
    #[error("the document is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// It does not fit the store (rule S10).
    #[error("the document takes {bytes} bytes, allowed are {MAX_DOCUMENT_BYTES}")]
    TooLarge {
        /// How many it takes.
        bytes: usize,
    },
}

impl Document {
    /// The stored form, in the newest format. The epoch is not in it: the store keeps that.
    ///
    /// # Errors
    /// [`BadDocument::Malformed`] if [`Self::check`] fails, [`BadDocument::TooLarge`] if it does
    /// not fit the store.
    pub fn encode(&self) -> Result<Bytes, BadDocument> {
        self.encode_in(DOCUMENT_FORMAT)
    }

    /// The stored form in an older format: the newest one that all its readers know.
    ///
    /// # Errors
    /// Those of [`Self::encode`], and [`BadDocument::Format`] for a format this program cannot
    /// write.
    pub fn encode_in(&self, format: u16) -> Result<Bytes, BadDocument> {
        if format != DOCUMENT_FORMAT {
            return Err(BadDocument::Format { found: format });
        }
        self.check()?;
        let mut out = Vec::with_capacity(64 + self.members.len() * 48 + self.slots.len() * 3);
        out.push(1);
        self.write_head(&mut out);
        self.write_members(&mut out);
        self.write_slots(&mut out);
        if out.len() > MAX_DOCUMENT_BYTES {
            return Err(BadDocument::TooLarge { bytes: out.len() });
        }
        Ok(Bytes::from(out))
    }

    /// Reads what was stored under `epoch`, and puts that in where the writer could not know it.
    ///
    /// # Errors
    /// On any bytes that [`Self::encode`] does not write. Never panics, and allocates in
    /// proportion to the input.
    pub fn decode(epoch: Epoch, bytes: &[u8]) -> Result<Self, BadDocument> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(BadDocument::TooLarge { bytes: bytes.len() });
        }
        let mut input = Input { rest: bytes };
        let version = u16::from(input.byte("version")?);
        if version != DOCUMENT_FORMAT {
            return Err(BadDocument::Format { found: version });
        }
        let mut document = input.head()?;
        let shards = document.slots.len();
        document.members = input.members()?;
        document.slots = input.slots(shards)?;
        if !input.rest.is_empty() {
            return Err(BadDocument::Trailing {
                bytes: input.rest.len(),
            });
        }
        let document = document.stamped(epoch);
        document.check()?;
        Ok(document)
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        write_number(out, self.planner.get());
        out.push(match self.layout {
            Layout::Fixed { .. } => 0,
            Layout::Dense => 1,
        });
        out.push(match self.routing {
            Routing::Fnv1a64 => 0,
            Routing::Fnv1a32 => 1,
            Routing::Xxh3 => 2,
        });
        write_number(out, self.slots.len() as u64);
    }

    fn write_members(&self, out: &mut Vec<u8>) {
        write_number(out, self.members.len() as u64);
        for (id, incarnation) in &self.members {
            write_number(out, id.as_str().len() as u64);
            out.extend_from_slice(id.as_str().as_bytes());
            write_number(out, incarnation.get());
        }
    }

    fn write_slots(&self, out: &mut Vec<u8>) {
        let epochs = self.epochs();
        write_number(out, epochs.len() as u64);
        let mut last = 0;
        for epoch in &epochs {
            write_number(out, epoch - last);
            last = *epoch;
        }
        let place = |epoch: Epoch| epochs.partition_point(|known| *known < epoch.get()) as u64;
        for slot in &self.slots {
            out.extend_from_slice(&slot.holder().unwrap_or(NOBODY).to_le_bytes());
        }
        write_runs(out, self.slots.iter().map(Slot::state), |state| state);
        write_runs(out, self.slots.iter().filter_map(Slot::token), place);
        let revoked = || self.slots.iter().filter_map(Slot::revoked);
        write_runs(out, revoked().map(|(since, _)| since), place);
        for (_, next) in revoked() {
            out.extend_from_slice(&next.unwrap_or(NOBODY).to_le_bytes());
        }
    }

    /// All epochs that the slots speak of, rising, each once.
    fn epochs(&self) -> Vec<u64> {
        let mut epochs = Vec::new();
        for slot in &self.slots {
            let since = slot.revoked().map(|(since, _)| since);
            for epoch in slot.token().into_iter().chain(since) {
                // Neighbours mostly share their epoch: this keeps the list short before the sort.
                if epochs.last() != Some(&epoch.get()) {
                    epochs.push(epoch.get());
                }
            }
        }
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }
}

impl Slot {
    /// The index written for the slot: whose it is, or for whom it is kept.
    fn holder(&self) -> Option<MemberIndex> {
        match self {
            Self::Free { reserved } => *reserved,
            Self::Owned { member, .. } | Self::Revoking { member, .. } => Some(*member),
        }
    }

    fn state(&self) -> u64 {
        match self {
            Self::Free { .. } => 0,
            Self::Owned { .. } => 1,
            Self::Revoking { .. } => 2,
        }
    }

    fn revoked(&self) -> Option<(Epoch, Option<MemberIndex>)> {
        match self {
            Self::Free { .. } | Self::Owned { .. } => None,
            Self::Revoking { since, next, .. } => Some((*since, *next)),
        }
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than eight bits are left"
    )]
    out.push(number as u8);
}

/// Writes equal neighbours as one pair of their count and what `code` makes of them.
fn write_runs<T: PartialEq + Copy>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = T>,
    code: impl Fn(T) -> u64,
) {
    let mut run: Option<(T, u64)> = None;
    for value in values {
        run = match run {
            Some((last, length)) if last == value => Some((last, length + 1)),
            Some((last, length)) => {
                write_number(out, length);
                write_number(out, code(last));
                Some((value, 1))
            }
            None => Some((value, 1)),
        };
    }
    if let Some((last, length)) = run {
        write_number(out, length);
        write_number(out, code(last));
    }
}

/// What is left to read.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, bytes: usize, what: &'static str) -> Result<&'a [u8], BadDocument> {
        let (taken, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(BadDocument::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, BadDocument> {
        self.take(1, what)
            .map(|taken| taken.first().copied().unwrap_or_default())
    }

    /// A varint of at most `most`, in its shortest form.
    fn number(&mut self, most: u64, what: &'static str) -> Result<u64, BadDocument> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte(what)?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest && number <= most {
                    Ok(number)
                } else {
                    Err(BadDocument::Malformed { what })
                };
            }
        }
        Err(BadDocument::Malformed { what })
    }

    fn length(&mut self, most: usize, what: &'static str) -> Result<usize, BadDocument> {
        let length = self.number(most as u64, what)?;
        usize::try_from(length).map_err(|_| BadDocument::Malformed { what })
    }

    /// Everything before the members; `slots` are so many free ones.
    fn head(&mut self) -> Result<Document, BadDocument> {
        let planner = FencingToken::new(self.number(NUMBER_LIMIT - 1, "planner's token")?);
        let layout = self.byte("layout")?;
        let routing = match self.byte("routing")? {
            0 => Routing::Fnv1a64,
            1 => Routing::Fnv1a32,
            2 => Routing::Xxh3,
            _ => return Err(BadDocument::Malformed { what: "routing" }),
        };
        let count = self.number(u64::from(u16::MAX), "number of shards")?;
        let shards = u16::try_from(count).map_err(|_| BadDocument::Malformed {
            what: "number of shards",
        })?;
        let layout = match layout {
            0 => Layout::Fixed { shards },
            1 => Layout::Dense,
            _ => return Err(BadDocument::Malformed { what: "layout" }),
        };
        // Two bytes a shard must follow: a short input cannot claim a long document.
        if self.rest.len() < usize::from(shards) * 2 {
            return Err(BadDocument::Truncated { what: "holders" });
        }
        let mut document = Document::new(planner, layout, routing);
        document.slots = vec![Slot::Free { reserved: None }; usize::from(shards)];
        Ok(document)
    }

    fn members(&mut self) -> Result<Vec<Life>, BadDocument> {
        let count = self.length(MAX_MEMBERS, "number of members")?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let length = self.length(MAX_NAME_BYTES, "length of a member's name")?;
            let name = self.take(length, "member's name")?;
            let name = std::str::from_utf8(name).map_err(|_| BadDocument::Malformed {
                what: "member's name",
            })?;
            let incarnation = self.number(NUMBER_LIMIT - 1, "incarnation")?;
            members.push((MemberId::from(name), Incarnation::new(incarnation)));
        }
        Ok(members)
    }

    fn slots(&mut self, shards: usize) -> Result<Vec<Slot>, BadDocument> {
        let epochs = self.epochs(shards)?;
        let holders = self.indexes(shards, "holders")?;
        let states = self.runs(shards, 2, "states")?;
        let held = states.iter().filter(|state| **state != 0).count();
        let revoked = states.iter().filter(|state| **state == 2).count();
        let last = epochs.len().saturating_sub(1);
        let mut tokens = self.runs(held, last, "tokens")?.into_iter();
        let mut sinces = self.runs(revoked, last, "sinces")?.into_iter();
        let mut nexts = self.indexes(revoked, "next holders")?.into_iter();
        let what = BadDocument::Malformed { what: "slot" };
        let epoch = |place: Option<usize>| place.and_then(|place| epochs.get(place).copied());
        let mut slots = Vec::with_capacity(shards);
        for (holder, state) in holders.into_iter().zip(states) {
            slots.push(match (state, holder) {
                (0, reserved) => Slot::Free { reserved },
                (1, Some(member)) => Slot::Owned {
                    member,
                    token: epoch(tokens.next()).ok_or_else(|| what.clone())?,
                },
                (_, Some(member)) => Slot::Revoking {
                    member,
                    token: epoch(tokens.next()).ok_or_else(|| what.clone())?,
                    since: epoch(sinces.next()).ok_or_else(|| what.clone())?,
                    next: nexts.next().ok_or_else(|| what.clone())?,
                },
                (_, None) => return Err(what),
            });
        }
        Ok(slots)
    }

    fn epochs(&mut self, shards: usize) -> Result<Vec<Epoch>, BadDocument> {
        // Each slot speaks of two at most.
        let count = self.length(2 * shards, "number of epochs")?;
        let mut epochs = Vec::with_capacity(count);
        let mut last = 0;
        for place in 0..count {
            let step = self.number(NUMBER_LIMIT - 1, "epoch")?;
            last += step;
            // Only the first may be zero, which is "this very swap".
            if (step == 0 && place > 0) || last >= NUMBER_LIMIT {
                return Err(BadDocument::Malformed { what: "epoch" });
            }
            epochs.push(Epoch::new(last));
        }
        Ok(epochs)
    }

    fn indexes(
        &mut self,
        count: usize,
        what: &'static str,
    ) -> Result<Vec<Option<MemberIndex>>, BadDocument> {
        let bytes = self.take(count * 2, what)?;
        let (pairs, _) = bytes.as_chunks::<2>();
        let index = |pair: &[u8; 2]| MemberIndex::from_le_bytes(*pair);
        Ok(pairs
            .iter()
            .map(|pair| Some(index(pair)).filter(|index| *index != NOBODY))
            .collect())
    }

    /// Runs that make up exactly `count` values of at most `most`.
    fn runs(
        &mut self,
        count: usize,
        most: usize,
        what: &'static str,
    ) -> Result<Vec<usize>, BadDocument> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            let length = self.length(count - values.len(), what)?;
            let value = self.length(most, what)?;
            if length == 0 {
                return Err(BadDocument::Malformed { what });
            }
            values.resize(values.len() + length, value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests;
