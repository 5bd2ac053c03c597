//! The assignment of one keyspace: who owns which shard, under which token.

mod codec;
mod follows;

use std::fmt;

pub use codec::{BadDocument, DOCUMENT_FORMAT};
pub use follows::{Evidence, IllegalStep};

use crate::member::MAX_MEMBERS;
use crate::names::MemberId;
use crate::numbers::{Epoch, FencingToken, Incarnation, NUMBER_LIMIT, ShardId};
use crate::routing::Routing;

/// The most shards a keyspace can have (rule S10).
pub const MAX_SHARDS: u16 = u16::MAX;

/// How a keyspace is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// Into `shards` parts, for ever: a key's shard never changes.
    Fixed {
        /// How many, 1 to [`MAX_SHARDS`].
        shards: u16,
    },
    /// Into as many parts as members live. Any change cuts anew (rule S11).
    Dense,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { shards } => write!(f, "fixed({shards})"),
            Self::Dense => f.write_str("dense"),
        }
    }
}

/// One life of one member: ownership is by this, never by the name alone (rule S1).
pub type Life = (MemberId, Incarnation);

/// A place in [`Document::members`].
pub type MemberIndex = u16;

/// What the document says of one shard.
///
/// A `token` or `since` of zero was written by the very swap that stored the document, and is read
/// as the document's epoch: [`Document::stamped`] puts it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Nobody's.
    Free {
        /// For whose return it is kept: a static name within its grace period.
        reserved: Option<MemberIndex>,
    },
    /// A member's, under this token.
    Owned {
        /// Whose.
        member: MemberIndex,
        /// The epoch of the grant.
        token: Epoch,
    },
    /// Still a member's, who has been told to drain it.
    Revoking {
        /// Whose.
        member: MemberIndex,
        /// The epoch of its grant.
        token: Epoch,
        /// The epoch that revoked it: only a report that has seen this one acks it.
        since: Epoch,
        /// Who is meant to get it next.
        next: Option<MemberIndex>,
    },
}

impl Slot {
    /// Whose it is, also while that one is told to drain it.
    pub const fn owner(&self) -> Option<MemberIndex> {
        match self {
            Self::Free { .. } => None,
            Self::Owned { member, .. } | Self::Revoking { member, .. } => Some(*member),
        }
    }

    /// The token of the grant that is in force.
    pub const fn token(&self) -> Option<Epoch> {
        match self {
            Self::Free { .. } => None,
            Self::Owned { token, .. } | Self::Revoking { token, .. } => Some(*token),
        }
    }

    /// Every member that it names, in whatever role.
    fn named(&self) -> [Option<MemberIndex>; 2] {
        match self {
            Self::Free { reserved } => [*reserved, None],
            Self::Owned { member, .. } => [Some(*member), None],
            Self::Revoking { member, next, .. } => [Some(*member), *next],
        }
    }
}

/// A keyspace that is cut otherwise than a member says: the member is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the keyspace is {stored_layout} by {stored_routing}, not {given_layout} by {given_routing}"
)]
#[non_exhaustive]
pub struct Mismatch {
    /// The layout of the stored document.
    pub stored_layout: Layout,
    /// The routing of the stored document.
    pub stored_routing: Routing,
    /// The layout that was asked for.
    pub given_layout: Layout,
    /// The routing that was asked for.
    pub given_routing: Routing,
}

/// The assignment of one keyspace.
///
/// In the dense layout shard `i` of `slots.len()` is the part of the member at index `i` of the
/// cut. While any slot is `Revoking` or `Free` the cut is at its barrier; a new cut is granted
/// only as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The number that the store stamped on it. Zero in one not stored yet.
    pub epoch: Epoch,
    /// The token of the planner that wrote it.
    pub planner: FencingToken,
    /// How the keyspace is cut.
    pub layout: Layout,
    /// By which hash.
    pub routing: Routing,
    /// The lives that `slots` speak of.
    pub members: Vec<Life>,
    /// What is said of each shard.
    pub slots: Vec<Slot>,
}

impl Document {
    /// A first document: every shard is free. A dense one has no shards until its first cut.
    pub fn new(planner: FencingToken, layout: Layout, routing: Routing) -> Self {
        let shards = match layout {
            Layout::Fixed { shards } => usize::from(shards),
            Layout::Dense => 0,
        };
        Self {
            epoch: Epoch::new(0),
            planner,
            layout,
            routing,
            members: Vec::new(),
            slots: vec![Slot::Free { reserved: None }; shards],
        }
    }

    /// The life at an index of the member table.
    pub fn member(&self, index: MemberIndex) -> Option<&Life> {
        self.members.get(usize::from(index))
    }

    /// Who owns a shard, also while it is told to drain it.
    pub fn owner(&self, shard: ShardId) -> Option<&Life> {
        let slot = self.slots.get(usize::from(shard.get()))?;
        self.member(slot.owner()?)
    }

    /// The shards that a life owns, rising, those included that it is told to drain.
    pub fn shards_of(&self, life: &Life) -> impl Iterator<Item = ShardId> {
        let index = self.index_of(life);
        self.numbered().filter_map(move |(shard, slot)| {
            (index.is_some() && slot.owner() == index).then_some(shard)
        })
    }

    /// Every shard with what is said of it.
    pub fn numbered(&self) -> impl Iterator<Item = (ShardId, &Slot)> {
        (0..=u16::MAX).map(ShardId::new).zip(&self.slots)
    }

    /// The place of a life in the table of members.
    pub fn index_of(&self, life: &Life) -> Option<MemberIndex> {
        let at = self.members.iter().position(|member| member == life)?;
        MemberIndex::try_from(at).ok()
    }

    /// Whether no cut is in force or every part of it is owned: see [`Document`]. Always so in the
    /// fixed layout, which knows no barrier.
    pub fn is_stable(&self) -> bool {
        let owned = |slot: &Slot| matches!(slot, Slot::Owned { .. });
        match self.layout {
            Layout::Fixed { .. } => true,
            Layout::Dense => self.slots.iter().all(owned),
        }
    }

    /// Whether the keyspace is cut like this.
    ///
    /// # Errors
    /// [`Mismatch`], which names both.
    pub fn agrees(&self, layout: Layout, routing: Routing) -> Result<(), Mismatch> {
        if self.layout == layout && self.routing == routing {
            return Ok(());
        }
        Err(Mismatch {
            stored_layout: self.layout,
            stored_routing: self.routing,
            given_layout: layout,
            given_routing: routing,
        })
    }

    /// What must hold within any document.
    ///
    /// # Errors
    /// [`BadDocument::Malformed`] names what does not.
    pub fn check(&self) -> Result<(), BadDocument> {
        let that = |holds: bool, what: &'static str| {
            holds.then_some(()).ok_or(BadDocument::Malformed { what })
        };
        that(self.planner.get() < NUMBER_LIMIT, "planner's token")?;
        that(self.epoch.get() < NUMBER_LIMIT, "epoch")?;
        that(self.members.len() <= MAX_MEMBERS, "number of members")?;
        let mut lives: Vec<&Life> = self.members.iter().collect();
        lives.sort_unstable();
        that(
            lives.windows(2).all(|two| two[0] != two[1]),
            "a life is listed twice",
        )?;
        let sound = |life: &&Life| life.0.check().is_ok() && life.1.get() < NUMBER_LIMIT;
        that(
            lives.iter().all(sound),
            "a life has an impossible name or incarnation",
        )?;
        let known = |index: MemberIndex| usize::from(index) < self.members.len();
        for slot in &self.slots {
            that(
                slot.named().into_iter().flatten().all(known),
                "a slot names nobody listed",
            )?;
            that(self.dates(slot), "a slot is dated from the future")?;
        }
        self.check_layout(that)
    }

    /// Whether the epochs of a slot are possible: a revoke follows its grant, and neither is newer
    /// than the document. In a document not stored yet zero is "this very swap", newer than all.
    fn dates(&self, slot: &Slot) -> bool {
        let date = |epoch: Epoch| {
            if epoch.get() == 0 {
                u64::MAX
            } else {
                epoch.get()
            }
        };
        let stored = self.epoch.get() != 0;
        let past = |epoch: Epoch| {
            epoch.get() < NUMBER_LIMIT && !(stored && date(epoch) > self.epoch.get())
        };
        match slot {
            Slot::Free { .. } => true,
            Slot::Owned { token, .. } => past(*token),
            Slot::Revoking { token, since, .. } => {
                past(*token) && past(*since) && token.get() != 0 && date(*token) < date(*since)
            }
        }
    }

    fn check_layout(
        &self,
        that: impl Fn(bool, &'static str) -> Result<(), BadDocument>,
    ) -> Result<(), BadDocument> {
        match self.layout {
            Layout::Fixed { shards } => {
                that(shards > 0, "no shards")?;
                that(
                    self.slots.len() == usize::from(shards),
                    "another number of shards",
                )
            }
            Layout::Dense => {
                that(self.slots.len() <= MAX_MEMBERS, "more parts than members")?;
                let mut owners: Vec<_> = self.slots.iter().filter_map(Slot::owner).collect();
                owners.sort_unstable();
                that(
                    owners.windows(2).all(|two| two[0] != two[1]),
                    "a member has two parts",
                )?;
                let mut tokens = self.slots.iter().filter_map(Slot::token);
                let first = tokens.next();
                that(
                    tokens.all(|token| Some(token) == first),
                    "a cut with two tokens",
                )
            }
        }
    }

    /// The same document as stored under `epoch`: zero tokens and `since`s become that epoch.
    pub fn stamped(mut self, epoch: Epoch) -> Self {
        let stamp = |number: &mut Epoch| {
            if number.get() == 0 {
                *number = epoch;
            }
        };
        self.epoch = epoch;
        for slot in &mut self.slots {
            match slot {
                Slot::Free { .. } => {}
                Slot::Owned { token, .. } => stamp(token),
                Slot::Revoking { token, since, .. } => {
                    stamp(token);
                    stamp(since);
                }
            }
        }
        self
    }
}
