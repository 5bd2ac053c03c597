//! How small messages of the machines are written: numbers, texts and flags behind a header.
//!
//! The header is two bytes: the version in which the message is written, and the oldest version
//! whose readers understand it. A later version may only append fields; readers of an older one
//! skip them. Where it must change more than that, it raises the second byte, and older readers
//! refuse the message instead of misreading it.
//!
//! Numbers are LEB128 varints in their shortest form, texts are UTF-8 behind their length.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::numbers::Instance;

/// Why some bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It is written in a way that this build does not understand, or was never a message.
    #[error("the message is for readers of version {oldest} and later, this build reads {known}")]
    UnknownVersion {
        /// The oldest version whose readers understand it.
        oldest: u8,
        /// The version that this build reads.
        known: u8,
    },
    /// The bytes end inside this field.
    #[error("the message ends inside its {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// More bytes follow than a message of its version has.
    #[error("{count} bytes follow the end of the message")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A field holds what no writer writes.
    #[error("the message's {field} cannot be right")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// It belongs to another group, or to something else that shares the topic.
    #[error("the message's {field} is another one than ours")]
    Foreign {
        /// The field that tells.
        field: &'static str,
    },
}

/// Writes a message field by field.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Begins a message of this version, which readers of `oldest` and later understand.
    pub(crate) fn new(version: u8, oldest: u8) -> Self {
        let mut out = Vec::with_capacity(128);
        out.extend([version, oldest]);
        Self { out }
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.out.push(u8::from(flag));
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.out.push(number.to_le_bytes()[0]);
    }

    /// A count, or a length.
    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// A span, rounded down to microseconds.
    pub(crate) fn span(&mut self, span: Duration) {
        self.number(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn instance(&mut self, instance: Instance) {
        self.out.extend(instance.to_bytes());
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.into()
    }
}

/// Takes a message apart, field by field. Allocates nothing that the input does not pay for.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Whether the message is of a later version, whose fields may follow ours.
    newer: bool,
}

impl<'a> Reader<'a> {
    /// Reads the header: refuses what readers of version `known` do not understand.
    pub(crate) fn open(bytes: &'a [u8], known: u8) -> Result<Self, WireError> {
        let mut reader = Self {
            rest: bytes,
            newer: false,
        };
        let version = reader.byte("version")?;
        let oldest = reader.byte("oldest version")?;
        if oldest == 0 || oldest > version {
            return Err(WireError::Malformed { field: "version" });
        }
        if oldest > known {
            return Err(WireError::UnknownVersion { oldest, known });
        }
        reader.newer = version > known;
        Ok(reader)
    }

    /// Nothing may follow, except for the fields of a later version.
    pub(crate) fn close(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            _ if self.newer => Ok(()),
            count => Err(WireError::Trailing { count }),
        }
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, WireError> {
        let taken = self.take(field, 1)?;
        taken.first().copied().ok_or(WireError::Truncated { field })
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed { field }),
        }
    }

    /// A number of at most `most`, in its shortest form.
    pub(crate) fn number(&mut self, field: &'static str, most: u64) -> Result<u64, WireError> {
        let mut number = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                if shortest && number <= most {
                    return Ok(number);
                }
                break;
            }
        }
        Err(WireError::Malformed { field })
    }

    /// How many items follow, or bytes: at most `most`.
    pub(crate) fn count(&mut self, field: &'static str, most: usize) -> Result<usize, WireError> {
        let count = self.number(field, most as u64)?;
        usize::try_from(count).map_err(|_| WireError::Malformed { field })
    }

    pub(crate) fn span(&mut self, field: &'static str) -> Result<Duration, WireError> {
        self.number(field, u64::MAX).map(Duration::from_micros)
    }

    /// A text of so many bytes.
    pub(crate) fn text(
        &mut self,
        field: &'static str,
        bytes: RangeInclusive<usize>,
    ) -> Result<&'a str, WireError> {
        let length = self.count(field, *bytes.end())?;
        if !bytes.contains(&length) {
            return Err(WireError::Malformed { field });
        }
        let text = self.take(field, length)?;
        std::str::from_utf8(text).map_err(|_| WireError::Malformed { field })
    }

    pub(crate) fn instance(&mut self, field: &'static str) -> Result<Instance, WireError> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.take(field, 16)?);
        Ok(Instance::from_bytes(bytes))
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(version: u8, oldest: u8) -> Writer {
        let mut out = Writer::new(version, oldest);
        out.number(300);
        out.text("hi");
        out
    }

    fn read(bytes: &[u8], known: u8) -> Result<(u64, String), WireError> {
        let mut input = Reader::open(bytes, known)?;
        let number = input.number("number", 1_000)?;
        let text = input.text("text", 1..=8)?.to_owned();
        input.close()?;
        Ok((number, text))
    }

    #[test]
    fn the_form_is_what_the_documentation_says() {
        let bytes = message(1, 1).finish();
        assert_eq!(&bytes[..], b"\x01\x01\xac\x02\x02hi");
        assert_eq!(read(&bytes, 1), Ok((300, "hi".to_owned())));
    }

    /// Two builds in one fleet.
    #[test]
    fn fields_of_a_later_version_are_skipped_and_a_form_that_is_not_for_us_is_refused() {
        let mut later = message(2, 1);
        later.text("news");
        assert_eq!(read(&later.finish(), 1), Ok((300, "hi".to_owned())));
        let other = message(2, 2).finish();
        let refused = WireError::UnknownVersion {
            oldest: 2,
            known: 1,
        };
        assert_eq!(read(&other, 1), Err(refused));
        assert_eq!(read(&message(1, 1).finish(), 2).map(|(n, _)| n), Ok(300));
    }

    #[test]
    fn each_broken_field_has_its_error() {
        let malformed = |field| Err(WireError::Malformed { field });
        assert_eq!(
            read(b"\x01\x01\xac", 1),
            Err(WireError::Truncated { field: "number" })
        );
        assert_eq!(read(b"\x01\x02\x00\x01a", 1), malformed("version"));
        assert_eq!(read(b"\x01\x00\x00\x01a", 1), malformed("version"));
        assert_eq!(read(b"\x01\x01\xff\x7f\x01a", 1), malformed("number"));
        assert_eq!(read(b"\x01\x01\x80\x00\x01a", 1), malformed("number"));
        assert_eq!(read(b"\x01\x01\x00\x00", 1), malformed("text"));
        assert_eq!(read(b"\x01\x01\x00\x01\xff", 1), malformed("text"));
        assert_eq!(
            read(b"\x01\x01\x00\x01ab", 1),
            Err(WireError::Trailing { count: 1 })
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number in any::<u64>(), micros in any::<u64>(), text in "\\PC{0,30}",
            flag in any::<bool>(), instance in any::<[u8; 16]>(),
        ) {
            let mut out = Writer::new(3, 2);
            out.number(number);
            out.span(Duration::from_micros(micros));
            out.text(&text);
            out.flag(flag);
            out.byte(7);
            out.instance(Instance::from_bytes(instance));
            let bytes = out.finish();
            let mut input = Reader::open(&bytes, 3)?;
            prop_assert_eq!(input.number("a", u64::MAX)?, number);
            prop_assert_eq!(input.span("b")?, Duration::from_micros(micros));
            prop_assert_eq!(input.text("c", 0..=200)?, &text);
            prop_assert_eq!(input.flag("d")?, flag);
            prop_assert_eq!(input.byte("e")?, 7);
            prop_assert_eq!(input.instance("f")?, Instance::from_bytes(instance));
            input.close()?;
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok((number, text)) = read(&bytes, 1)
                && bytes[..2] == [1, 1]
            {
                let mut again = Writer::new(1, 1);
                again.number(number);
                again.text(&text);
                prop_assert_eq!(&again.finish()[..], &bytes[..]);
            }
        }
    }
}
