//! Many frames in one payload, for brokers that carry bytes.
//!
//! | item | form |
//! |---|---|
//! | start | one byte: [`FRAME_VERSION`] |
//! | 0: a stream | instance, stream, next sequence, age in microseconds, topic, origin |
//! | 1: the same stream, elsewhere | next sequence, age |
//! | 2: its next message | payload |
//! | 3: a beacon at that sequence | payload |
//! | 4: its next message, by reference | the key of the payload, its bytes |
//!
//! Each item begins with its number in one byte. Numbers, texts and payloads are those of a frame.

use std::time::Duration;

use bytes::Bytes;

use crate::bus::{Frame, FrameKind, Topic};
use crate::frame::{FRAME_VERSION, FrameError, Reader, put_number};
use crate::names::{MAX_NAME_BYTES, MAX_SCOPED_BYTES, MemberId};
use crate::numbers::Instance;

const STREAM: u8 = 0;
const ELSEWHERE: u8 = 1;
const MESSAGE: u8 = 2;
const BEACON: u8 = 3;
const REFERENCE: u8 = 4;

/// Where a payload lies that travels by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name it was stored under.
    pub key: Bytes,
    /// Its length.
    pub bytes: u64,
}

/// Writes a packet.
#[derive(Debug, Default)]
pub struct Packer {
    out: Vec<u8>,
    at: Option<Stream>,
    frames: usize,
}

/// The place that the next message has by itself.
#[derive(Debug)]
struct Stream {
    topic: Topic,
    origin: MemberId,
    instance: Instance,
    number: u64,
    sequence: u64,
    age: Duration,
}

impl Stream {
    fn is_of(&self, frame: &Frame) -> bool {
        self.instance == frame.instance
            && self.number == frame.stream
            && self.topic == frame.topic
            && self.origin == frame.origin
    }
}

impl Packer {
    /// Adds a frame as it is.
    pub fn whole(&mut self, frame: &Frame) {
        self.go_to(frame);
        match frame.kind {
            FrameKind::Message => {
                self.out.push(MESSAGE);
                self.advance();
            }
            FrameKind::Beacon => self.out.push(BEACON),
        }
        self.put(&frame.payload);
    }

    /// Adds a message whose payload lies elsewhere.
    pub fn reference(&mut self, frame: &Frame, to: &Reference) {
        self.go_to(frame);
        self.out.push(REFERENCE);
        self.put(&to.key);
        put_number(&mut self.out, to.bytes);
        self.advance();
    }

    /// How many bytes it has by now.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// How many frames are in it.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The packet.
    pub fn finish(self) -> Bytes {
        self.out.into()
    }

    fn go_to(&mut self, frame: &Frame) {
        self.frames += 1;
        if self.out.is_empty() {
            self.out.push(FRAME_VERSION);
        }
        let here = self.at.take().filter(|at| at.is_of(frame));
        let (sequence, age) = (frame.sequence, frame.age);
        match &here {
            Some(at) if at.sequence == sequence && at.age == age => {}
            Some(_) => {
                self.out.push(ELSEWHERE);
                self.place(frame);
            }
            None => {
                self.out.push(STREAM);
                self.out.extend_from_slice(&frame.instance.to_bytes());
                put_number(&mut self.out, frame.stream);
                self.place(frame);
                self.put(frame.topic.name().as_bytes());
                self.put(frame.origin.as_str().as_bytes());
            }
        }
        self.at = Some(match here {
            Some(at) => Stream {
                sequence,
                age,
                ..at
            },
            None => Stream {
                topic: frame.topic.clone(),
                origin: frame.origin.clone(),
                instance: frame.instance,
                number: frame.stream,
                sequence,
                age,
            },
        });
    }

    fn place(&mut self, frame: &Frame) {
        put_number(&mut self.out, frame.sequence);
        // As in a frame: a stream that looks younger is asked for more, never for less (U4).
        let age = u64::try_from(frame.age.as_micros()).unwrap_or(u64::MAX);
        put_number(&mut self.out, age);
    }

    fn put(&mut self, bytes: &[u8]) {
        put_number(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn advance(&mut self) {
        if let Some(at) = &mut self.at {
            at.sequence = at.sequence.saturating_add(1);
        }
    }
}

/// A frame out of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// All of it.
    Whole(Frame),
    /// A message without its payload, and where that lies.
    Away(Frame, Reference),
}

/// Reads a packet. Total: whatever arrives, it ends with frames, or with an error that says why.
#[derive(Debug)]
pub struct Unpacker {
    reader: Reader,
    at: Option<Stream>,
}

impl Unpacker {
    /// Begins to read. Payloads share the memory of `packet`.
    pub fn new(packet: Bytes) -> Result<Self, FrameError> {
        let mut reader = Reader { rest: packet };
        match reader.byte("version")? {
            FRAME_VERSION => Ok(Self { reader, at: None }),
            found => Err(FrameError::UnknownVersion { found }),
        }
    }

    /// The next frame; `None` at the end. Nothing follows an error.
    pub fn next_frame(&mut self) -> Result<Option<Packed>, FrameError> {
        while !self.reader.rest.is_empty() {
            let item = self.reader.byte("item")?;
            match item {
                STREAM => self.at = Some(self.stream()?),
                ELSEWHERE => {
                    let (sequence, age) = self.place()?;
                    let at = self.at.as_mut();
                    let at = at.ok_or(FrameError::UnknownKind { found: item })?;
                    (at.sequence, at.age) = (sequence, age);
                }
                MESSAGE | BEACON => {
                    let payload = self.reader.blob("payload")?;
                    return self.frame(item, payload).map(Packed::Whole).map(Some);
                }
                REFERENCE => {
                    let key = self.reader.blob("reference")?;
                    let bytes = self.reader.number("reference")?;
                    let frame = self.frame(item, Bytes::new())?;
                    return Ok(Some(Packed::Away(frame, Reference { key, bytes })));
                }
                found => return Err(FrameError::UnknownKind { found }),
            }
        }
        Ok(None)
    }

    fn stream(&mut self) -> Result<Stream, FrameError> {
        let reader = &mut self.reader;
        let (instance, number) = (reader.instance()?, reader.counted("stream")?);
        let (sequence, age) = self.place()?;
        let reader = &mut self.reader;
        Ok(Stream {
            topic: Topic::named(reader.text("topic", MAX_SCOPED_BYTES)?),
            origin: MemberId::new(reader.text("origin", MAX_NAME_BYTES)?),
            instance,
            number,
            sequence,
            age,
        })
    }

    fn place(&mut self) -> Result<(u64, Duration), FrameError> {
        let sequence = self.reader.counted("sequence")?;
        Ok((sequence, Duration::from_micros(self.reader.number("age")?)))
    }

    fn frame(&mut self, item: u8, payload: Bytes) -> Result<Frame, FrameError> {
        let at = self.at.as_mut();
        let at = at.ok_or(FrameError::UnknownKind { found: item })?;
        let (topic, origin) = (at.topic.clone(), at.origin.clone());
        let mut frame = Frame::new(topic, origin, at.instance, payload);
        (frame.stream, frame.sequence, frame.age) = (at.number, at.sequence, at.age);
        if item == BEACON {
            frame.kind = FrameKind::Beacon;
        } else {
            at.sequence = at.sequence.saturating_add(1);
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(topic: &str, sequence: u64, payload: &'static [u8]) -> Frame {
        let instance = Instance::from_bytes([7; 16]);
        let (topic, payload) = (Topic::named(topic), Bytes::from_static(payload));
        Frame::new(topic, MemberId::from("a"), instance, payload).sequence(sequence)
    }

    fn packed(frames: &[Frame]) -> Bytes {
        let mut packer = Packer::default();
        for frame in frames {
            packer.whole(frame);
        }
        assert_eq!(packer.frames(), frames.len());
        packer.finish()
    }

    fn unpacked(packet: Bytes) -> Result<Vec<Packed>, FrameError> {
        let mut unpacker = Unpacker::new(packet)?;
        let mut frames = Vec::new();
        while let Some(frame) = unpacker.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// U6: programs of other builds read and write the same bytes.
    #[test]
    fn the_form_is_what_the_documentation_says() {
        let mut bytes = vec![1, 0];
        bytes.extend([7; 16]);
        bytes.extend(b"\x01\x02\x00\x01t\x01a\x02\x02hi\x02\x00\x01\x09\x00\x02\x01x");
        let frames = [
            frame("t", 2, b"hi"),
            frame("t", 3, b""),
            frame("t", 9, b"x"),
        ];
        assert_eq!(packed(&frames), bytes);
    }

    #[test]
    fn a_reference_takes_a_place_in_its_stream() {
        let mut packer = Packer::default();
        let to = Reference {
            key: Bytes::from_static(b"k"),
            bytes: 70_000,
        };
        packer.reference(&frame("t", 1, b""), &to);
        packer.whole(&frame("t", 2, b"x"));
        let seen = unpacked(packer.finish()).unwrap();
        let wanted = [
            Packed::Away(frame("t", 1, b""), to),
            Packed::Whole(frame("t", 2, b"x")),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn rubbish_is_refused() {
        let found = |bytes: &'static [u8]| unpacked(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(found(b"\x09"), FrameError::UnknownVersion { found: 9 });
        assert_eq!(found(b"\x01\x02\x00"), FrameError::UnknownKind { found: 2 });
        assert_eq!(found(b"\x01\x63"), FrameError::UnknownKind { found: 99 });
        assert_eq!(unpacked(Bytes::from_static(b"\x01")), Ok(Vec::new()));
    }

    prop_compose! {
        fn frames()(
            (topic, origin) in ("[ab]", "[cd]"),
            (stream, sequence) in (1..3_u64, 1..4_u64),
            age in 0..2_u64,
            beacon in any::<bool>(),
            payload in prop::collection::vec(any::<u8>(), 0..200),
        ) -> Frame {
            let instance = Instance::from_bytes([3; 16]);
            let origin = MemberId::from(origin);
            let mut frame = Frame::new(Topic::named(topic), origin, instance, payload.into());
            (frame.stream, frame.sequence) = (stream, sequence);
            frame.age = Duration::from_micros(age);
            frame.kind = if beacon { FrameKind::Beacon } else { FrameKind::Message };
            frame
        }
    }

    proptest! {
        /// B4, B10: any mixture of streams.
        #[test]
        fn all_frames_come_back_in_order(frames in prop::collection::vec(frames(), 0..20)) {
            let mut packet = packed(&frames);
            if frames.is_empty() {
                packet = Bytes::from_static(b"\x01");
            }
            let frames: Vec<_> = frames.into_iter().map(Packed::Whole).collect();
            prop_assert_eq!(unpacked(packet), Ok(frames));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(unpacked(bytes.into()));
        }
    }
}
