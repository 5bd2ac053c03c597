//! The wire form of a frame, for brokers that carry bytes.
//!
//! | field | form |
//! |---|---|
//! | version | one byte: [`FRAME_VERSION`] |
//! | kind | one byte: 0 a message, 1 a beacon |
//! | instance | 16 bytes |
//! | stream, sequence, age in microseconds | a varint each |
//! | topic, origin, payload | length as a varint, then the bytes |
//!
//! A varint has seven bits a byte, the low ones first; the top bit says that more follow. Names
//! are UTF-8. Nothing follows the payload.

use std::time::Duration;

use bytes::Bytes;

use crate::bus::{BadFrame, FeedEvent, Frame, FrameKind, Topic};
use crate::names::{MAX_NAME_BYTES, MAX_SCOPED_BYTES, MemberId};
use crate::numbers::Instance;

/// The version of the wire form that this build writes, and the only one that it reads (U6).
pub const FRAME_VERSION: u8 = 1;

const MESSAGE: u8 = 0;
const BEACON: u8 = 1;

/// Why some bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first byte is another version, or these bytes were never a frame.
    #[error("frame version {found} is unknown: this build reads {FRAME_VERSION}")]
    UnknownVersion {
        /// The first byte.
        found: u8,
    },
    /// The second byte names no kind of frame.
    #[error("frame kind {found} is unknown")]
    UnknownKind {
        /// The second byte.
        found: u8,
    },
    /// The bytes end inside this field.
    #[error("the frame ends inside its {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// More bytes follow than the frame says it has.
    #[error("{count} bytes follow the end of the frame")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A number is written with more than 64 bits.
    #[error("the frame's {field} does not fit 64 bits")]
    TooLarge {
        /// The field.
        field: &'static str,
    },
    /// A number is zero that counts from 1.
    #[error("the frame's {field} is 0, and counts from 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// A name is empty, or longer than any store allows.
    #[error("the frame's {field} has {given} bytes, allowed are 1 to {limit}")]
    BadLength {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        given: u64,
        /// The longest that is allowed.
        limit: usize,
    },
    /// A name is not UTF-8.
    #[error("the frame's {field} is not UTF-8")]
    NotText {
        /// The field.
        field: &'static str,
    },
}

impl Frame {
    /// The wire form: see [`FRAME_VERSION`]. The age is rounded down to microseconds.
    pub fn to_bytes(&self) -> Bytes {
        let (topic, origin) = (self.topic.name(), self.origin.as_str());
        let mut out = Vec::with_capacity(64 + topic.len() + origin.len() + self.payload.len());
        out.push(FRAME_VERSION);
        out.push(match self.kind {
            FrameKind::Message => MESSAGE,
            FrameKind::Beacon => BEACON,
        });
        out.extend_from_slice(&self.instance.to_bytes());
        put_number(&mut out, self.stream);
        put_number(&mut out, self.sequence);
        // Rounded down a stream looks younger, and then more is demanded of it, never less (U4).
        put_number(
            &mut out,
            u64::try_from(self.age.as_micros()).unwrap_or(u64::MAX),
        );
        for field in [topic.as_bytes(), origin.as_bytes(), &self.payload] {
            put_number(&mut out, field.len() as u64);
            out.extend_from_slice(field);
        }
        out.into()
    }

    /// Reads the wire form. The payload shares the memory of `bytes`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader { rest: bytes };
        match reader.byte("version")? {
            FRAME_VERSION => {}
            found => return Err(FrameError::UnknownVersion { found }),
        }
        let kind = match reader.byte("kind")? {
            MESSAGE => FrameKind::Message,
            BEACON => FrameKind::Beacon,
            found => return Err(FrameError::UnknownKind { found }),
        };
        let frame = Self {
            kind,
            instance: reader.instance()?,
            stream: reader.counted("stream")?,
            sequence: reader.counted("sequence")?,
            age: Duration::from_micros(reader.number("age")?),
            topic: Topic::named(reader.text("topic", MAX_SCOPED_BYTES)?),
            origin: MemberId::new(reader.text("origin", MAX_NAME_BYTES)?),
            payload: reader.blob("payload")?,
        };
        match reader.rest.len() {
            0 => Ok(frame),
            count => Err(FrameError::Trailing { count }),
        }
    }
}

impl FeedEvent {
    /// What a feed yields for bytes that came from a broker: a frame without a cursor, or
    /// [`FeedEvent::Malformed`].
    pub fn from_bytes(bytes: Bytes) -> Self {
        match Frame::from_bytes(bytes) {
            Ok(frame) => Self::Frame {
                frame,
                cursor: None,
            },
            Err(error) => Self::Malformed(BadFrame::new(error.to_string())),
        }
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes fields off the front.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) rest: Bytes,
}

impl Reader {
    fn take(&mut self, field: &'static str, length: usize) -> Result<Bytes, FrameError> {
        if length > self.rest.len() {
            return Err(FrameError::Truncated { field });
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn byte(&mut self, field: &'static str) -> Result<u8, FrameError> {
        Ok(self.take(field, 1)?[0])
    }

    pub(crate) fn instance(&mut self) -> Result<Instance, FrameError> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.take("instance", 16)?);
        Ok(Instance::from_bytes(bytes))
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, FrameError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(FrameError::TooLarge { field });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(FrameError::TooLarge { field })
    }

    pub(crate) fn counted(&mut self, field: &'static str) -> Result<u64, FrameError> {
        match self.number(field)? {
            0 => Err(FrameError::Zero { field }),
            number => Ok(number),
        }
    }

    pub(crate) fn text(&mut self, field: &'static str, limit: usize) -> Result<String, FrameError> {
        let given = self.number(field)?;
        // Judged before anything is taken: rubbish that claims a huge name costs nothing.
        let length = usize::try_from(given)
            .ok()
            .filter(|length| (1..=limit).contains(length))
            .ok_or(FrameError::BadLength {
                field,
                given,
                limit,
            })?;
        let bytes = self.take(field, length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| FrameError::NotText { field })?;
        Ok(text.to_owned())
    }

    pub(crate) fn blob(&mut self, field: &'static str) -> Result<Bytes, FrameError> {
        let length = self.number(field)?;
        let length = usize::try_from(length).map_err(|_| FrameError::Truncated { field })?;
        self.take(field, length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden() -> Frame {
        let mut frame = Frame::new(
            Topic::new("t/x"),
            MemberId::from("a"),
            Instance::from_bytes([7; 16]),
            Bytes::from_static(b"\x00hi\xFF"),
        );
        frame.stream = 2;
        frame.sequence = 300;
        frame.age = Duration::from_micros(129);
        frame
    }

    fn golden_bytes() -> Vec<u8> {
        let mut bytes = vec![1, 0];
        bytes.extend([7; 16]);
        bytes.extend([2, 0xAC, 2, 0x81, 1]);
        bytes.extend(b"\x03t/x\x01a\x04\x00hi\xFF");
        bytes
    }

    /// U6: programs of other builds read and write the same bytes.
    #[test]
    fn the_wire_form_is_what_the_documentation_says() {
        assert_eq!(golden().to_bytes(), golden_bytes());
        assert_eq!(Frame::from_bytes(golden_bytes().into()), Ok(golden()));
    }

    #[test]
    fn a_payload_shares_the_memory_of_what_arrived() {
        let bytes = golden().to_bytes();
        let end = bytes.as_ptr_range().end;
        let frame = Frame::from_bytes(bytes.clone()).unwrap();
        assert_eq!(frame.payload.as_ptr_range().end, end);
    }

    #[test]
    fn every_prefix_of_a_frame_is_refused() {
        let bytes = golden().to_bytes();
        for length in 0..bytes.len() {
            let error = Frame::from_bytes(bytes.slice(..length)).unwrap_err();
            assert!(
                matches!(error, FrameError::Truncated { .. }),
                "{length}: {error}"
            );
        }
    }

    /// What is refused, and with which words.
    fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> FrameError {
        let mut bytes = golden_bytes();
        change(&mut bytes);
        Frame::from_bytes(bytes.into()).unwrap_err()
    }

    #[test]
    fn each_broken_field_has_an_error_of_its_own() {
        assert_eq!(
            refusal(|bytes| bytes[0] = 9),
            FrameError::UnknownVersion { found: 9 }
        );
        assert_eq!(
            refusal(|bytes| bytes[1] = 2),
            FrameError::UnknownKind { found: 2 }
        );
        assert_eq!(
            refusal(|bytes| bytes[18] = 0),
            FrameError::Zero { field: "stream" }
        );
        assert_eq!(
            refusal(|bytes| bytes.push(0)),
            FrameError::Trailing { count: 1 }
        );
        assert_eq!(
            refusal(|bytes| bytes[24] = 0xFF),
            FrameError::NotText { field: "topic" }
        );
        assert_eq!(
            refusal(|bytes| drop(bytes.splice(18..19, [0xFF; 10]))),
            FrameError::TooLarge { field: "stream" }
        );
    }

    #[test]
    fn an_empty_or_over_long_name_is_refused_before_it_is_read() {
        let error = |given| FrameError::BadLength {
            field: "topic",
            given,
            limit: MAX_SCOPED_BYTES,
        };
        assert_eq!(refusal(|bytes| bytes[23] = 0), error(0));
        let huge = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(
            refusal(|bytes| drop(bytes.splice(23..24, huge))),
            error(u64::MAX)
        );
    }

    #[test]
    fn rubbish_is_an_event_and_not_the_end_of_a_feed() {
        let event = FeedEvent::from_bytes(Bytes::from_static(b"\xFF"));
        let error = FrameError::UnknownVersion { found: 0xFF }.to_string();
        assert_eq!(event, FeedEvent::Malformed(BadFrame::new(error)));
    }

    prop_compose! {
        fn frames()(
            topic in "\\PC{1,80}",
            origin in "\\PC{1,40}",
            instance in any::<[u8; 16]>(),
            (stream, sequence) in (1..=u64::MAX, 1..=u64::MAX),
            age in any::<u64>(),
            beacon in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..600),
        ) -> Frame {
            let instance = Instance::from_bytes(instance);
            let mut frame =
                Frame::new(Topic::named(topic), MemberId::from(origin), instance, payload.into());
            frame.stream = stream;
            frame.sequence = sequence;
            frame.age = Duration::from_micros(age);
            frame.kind = if beacon { FrameKind::Beacon } else { FrameKind::Message };
            frame
        }
    }

    proptest! {
        /// B4, B10: any topic, any payload.
        #[test]
        fn every_frame_comes_back_as_it_was(frame in frames()) {
            prop_assert_eq!(Frame::from_bytes(frame.to_bytes()), Ok(frame));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(frame) = Frame::from_bytes(bytes.into()) {
                prop_assert_eq!(Frame::from_bytes(frame.to_bytes()), Ok(frame));
            }
        }

        #[test]
        fn a_frame_with_one_byte_changed_never_panics(
            frame in frames(), at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut bytes = frame.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(frame) = Frame::from_bytes(bytes.into()) {
                prop_assert_eq!(Frame::from_bytes(frame.to_bytes()), Ok(frame));
            }
        }
    }
}
