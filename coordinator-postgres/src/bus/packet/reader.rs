//! Reads packets. Total: whatever arrives, it ends with items or with an error that says why.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use coordinator_core::{Bytes, Instance, MAX_NAME_BYTES, MAX_SCOPED_BYTES};

use super::{MARK, Reference, VERSION};

/// Letters of an instance in base64url.
const INSTANCE_LETTERS: usize = 22;

/// Why a text is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::bus) enum PacketError {
    #[error("it begins with {found:?}, which no packet of ours does")]
    NoPacket { found: Option<char> },
    #[error("packet version {found:?} is unknown: this build reads {VERSION}")]
    UnknownVersion { found: Option<char> },
    #[error("{found:?} at byte {at} is no kind of item")]
    UnknownItem { found: u8, at: usize },
    #[error("the packet ends inside its {field}")]
    Truncated { field: &'static str },
    #[error("the packet's {field} at byte {at} is no number")]
    NoNumber { field: &'static str, at: usize },
    #[error("the packet's {field} is {given}, allowed are {from} to {to}")]
    OutOfRange {
        field: &'static str,
        given: u64,
        from: u64,
        to: u64,
    },
    #[error("the packet's {field} is neither text nor base64")]
    NotReadable { field: &'static str },
    #[error("a message comes before any stream")]
    NoStream,
}

/// A stream, as a packet names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) struct StreamHead {
    pub(in crate::bus) instance: Instance,
    pub(in crate::bus) stream: u64,
    pub(in crate::bus) origin: String,
    pub(in crate::bus) topic: String,
}

/// Bytes inside the packet, decoded when they are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) struct Blob {
    range: Range<usize>,
    encoded: bool,
}

/// One thing in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) enum Item {
    /// What follows is of this stream.
    Stream(StreamHead),
    Message(Blob),
    Beacon(Blob),
    Fragment {
        index: u64,
        count: u64,
        blob: Blob,
    },
    Reference(Reference),
}

/// Takes items off a packet.
#[derive(Debug)]
pub(in crate::bus) struct Reader {
    packet: Bytes,
    at: usize,
    place: Option<Place>,
}

/// Where the last item was.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: u64,
    next: u64,
    age: Duration,
}

impl Reader {
    /// The packet shares its memory with the payloads that are read from it.
    pub(in crate::bus) fn new(packet: Bytes) -> Result<Self, PacketError> {
        let letter = |at: usize| packet.get(at).copied().map(char::from);
        match letter(0) {
            Some(MARK) => {}
            found => return Err(PacketError::NoPacket { found }),
        }
        match letter(1) {
            Some(VERSION) => {}
            found => return Err(PacketError::UnknownVersion { found }),
        }
        let mut reader = Self {
            packet,
            at: 2,
            place: None,
        };
        reader.number("number", b';')?;
        Ok(reader)
    }

    /// The sequence of the last item.
    pub(in crate::bus) fn sequence(&self) -> u64 {
        self.place.map_or(0, |place| place.sequence)
    }

    /// The age of the last item's stream.
    pub(in crate::bus) fn age(&self) -> Duration {
        self.place.map_or(Duration::ZERO, |place| place.age)
    }

    /// The next item; `None` at the end.
    pub(in crate::bus) fn next(&mut self) -> Result<Option<Item>, PacketError> {
        loop {
            let Some(&mark) = self.packet.get(self.at) else {
                return Ok(None);
            };
            let at = self.at;
            self.at += 1;
            let item = match mark {
                b'@' => self.stream()?,
                b'^' => {
                    self.elsewhere()?;
                    continue;
                }
                b'=' => {
                    self.step(true)?;
                    Item::Message(self.blob("payload")?)
                }
                b'!' => {
                    self.step(false)?;
                    Item::Beacon(self.blob("payload")?)
                }
                b'#' => self.fragment()?,
                b'&' => self.reference()?,
                found => return Err(PacketError::UnknownItem { found, at }),
            };
            return Ok(Some(item));
        }
    }

    /// What a blob holds.
    pub(in crate::bus) fn bytes(&self, blob: &Blob) -> Result<Bytes, PacketError> {
        if !blob.encoded {
            return Ok(self.packet.slice(blob.range.clone()));
        }
        let text = self.packet.get(blob.range.clone()).unwrap_or_default();
        let decoded = STANDARD_NO_PAD.decode(text);
        let decoded = decoded.map_err(|_| PacketError::NotReadable { field: "payload" })?;
        Ok(decoded.into())
    }

    fn stream(&mut self) -> Result<Item, PacketError> {
        let field = "instance";
        let letters = self.take(field, INSTANCE_LETTERS)?;
        let letters = self.packet.get(letters).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(letters).unwrap_or_default();
        let bytes: [u8; 16] = (bytes.try_into()).map_err(|_| PacketError::NotReadable { field })?;
        let stream = self.counted("stream", b',')?;
        self.elsewhere()?;
        Ok(Item::Stream(StreamHead {
            instance: Instance::from_bytes(bytes),
            stream,
            origin: self.name("origin", MAX_NAME_BYTES)?,
            topic: self.name("topic", MAX_SCOPED_BYTES)?,
        }))
    }

    fn elsewhere(&mut self) -> Result<(), PacketError> {
        let next = self.counted("sequence", b',')?;
        let age = Duration::from_micros(self.number("age", b';')?);
        self.place = Some(Place {
            sequence: next,
            next,
            age,
        });
        Ok(())
    }

    /// Moves to the next item of the stream.
    fn step(&mut self, uses_number: bool) -> Result<(), PacketError> {
        let place = self.place.as_mut().ok_or(PacketError::NoStream)?;
        place.sequence = place.next;
        if uses_number {
            place.next = place.next.saturating_add(1);
        }
        Ok(())
    }

    fn fragment(&mut self) -> Result<Item, PacketError> {
        let index = self.counted("fragment", b',')?;
        let count = self.counted("fragments", b';')?;
        within("fragment", index, 1, count)?;
        self.step(index == count)?;
        let blob = self.blob("fragment")?;
        Ok(Item::Fragment { index, count, blob })
    }

    fn reference(&mut self) -> Result<Item, PacketError> {
        self.step(true)?;
        let row = self.number("row", b',')?;
        let bytes = self.number("size", b';')?;
        within("row", row, 0, i64::MAX.unsigned_abs())?;
        let row = i64::try_from(row).unwrap_or(i64::MAX);
        Ok(Item::Reference(Reference { row, bytes }))
    }

    fn name(&mut self, field: &'static str, limit: usize) -> Result<String, PacketError> {
        let blob = self.blob(field)?;
        let bytes = self.bytes(&blob)?;
        within(field, bytes.len() as u64, 1, limit as u64)?;
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| PacketError::NotReadable { field })?;
        Ok(text.to_owned())
    }

    fn blob(&mut self, field: &'static str) -> Result<Blob, PacketError> {
        let (length, end) = self.number_until(field)?;
        let encoded = match end {
            b':' => false,
            b'~' => true,
            _ => return Err(PacketError::NoNumber { field, at: self.at }),
        };
        let length = usize::try_from(length).map_err(|_| PacketError::Truncated { field })?;
        let range = self.take(field, length)?;
        Ok(Blob { range, encoded })
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<Range<usize>, PacketError> {
        let end = self.at.checked_add(length);
        let end = end.filter(|end| *end <= self.packet.len());
        let range = self.at..end.ok_or(PacketError::Truncated { field })?;
        self.at = range.end;
        Ok(range)
    }

    fn counted(&mut self, field: &'static str, end: u8) -> Result<u64, PacketError> {
        let number = self.number(field, end)?;
        within(field, number, 1, u64::MAX)?;
        Ok(number)
    }

    fn number(&mut self, field: &'static str, end: u8) -> Result<u64, PacketError> {
        let at = self.at;
        match self.number_until(field)? {
            (number, found) if found == end => Ok(number),
            _ => Err(PacketError::NoNumber { field, at }),
        }
    }

    /// A number, and the byte behind it.
    fn number_until(&mut self, field: &'static str) -> Result<(u64, u8), PacketError> {
        let start = self.at;
        let wrong = PacketError::NoNumber { field, at: start };
        let mut number: u64 = 0;
        while let Some(&byte) = self.packet.get(self.at) {
            self.at += 1;
            if !byte.is_ascii_digit() {
                return if self.at == start + 1 {
                    Err(wrong)
                } else {
                    Ok((number, byte))
                };
            }
            let more = number.checked_mul(10);
            let more = more.and_then(|tens| tens.checked_add(u64::from(byte - b'0')));
            number = more.ok_or(PacketError::NoNumber { field, at: start })?;
        }
        Err(PacketError::Truncated { field })
    }
}

fn within(field: &'static str, given: u64, from: u64, to: u64) -> Result<(), PacketError> {
    if (from..=to).contains(&given) {
        return Ok(());
    }
    Err(PacketError::OutOfRange {
        field,
        given,
        from,
        to,
    })
}
