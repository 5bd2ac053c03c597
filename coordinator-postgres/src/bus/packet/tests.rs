use std::time::Duration;

use coordinator_core::{Bytes, Frame, FrameKind, Instance, MemberId, Topic};
use proptest::prelude::*;

use super::*;
use crate::bells::Bell;

/// What a packet says.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Frame(Frame),
    Fragment(u64, u64, Frame),
    Reference(Reference, u64),
}

fn read(packet: &str) -> Result<Vec<Said>, PacketError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(packet.as_bytes()))?;
    let mut head = None;
    let mut said = Vec::new();
    while let Some(item) = reader.next()? {
        let frame = |head: &Option<StreamHead>, payload| {
            let head = head.clone().unwrap();
            let (topic, origin) = (Topic::named(head.topic), MemberId::from(head.origin));
            let mut frame = Frame::new(topic, origin, head.instance, payload);
            (frame.stream, frame.sequence) = (head.stream, reader.sequence());
            frame.age = reader.age();
            frame
        };
        match item {
            Item::Stream(named) => head = Some(named),
            Item::Message(blob) => said.push(Said::Frame(frame(&head, reader.bytes(&blob)?))),
            Item::Beacon(blob) => {
                let mut beacon = frame(&head, reader.bytes(&blob)?);
                beacon.kind = FrameKind::Beacon;
                said.push(Said::Frame(beacon));
            }
            Item::Fragment { index, count, blob } => {
                let frame = frame(&head, reader.bytes(&blob)?);
                said.push(Said::Fragment(index, count, frame));
            }
            Item::Reference(to) => said.push(Said::Reference(to, reader.sequence())),
        }
    }
    Ok(said)
}

fn message(payload: impl Into<Bytes>) -> Frame {
    let instance = Instance::from_bytes([7; 16]);
    Frame::new(
        Topic::new("t/x"),
        MemberId::from("a"),
        instance,
        payload.into(),
    )
}

fn packed(frames: &[Frame]) -> Vec<String> {
    let mut packer = Packer::new(Charset::Utf8);
    for frame in frames {
        packer.whole(frame);
    }
    packer.take()
}

/// U6: programs of other builds read and write the same text.
#[test]
fn the_form_is_what_the_documentation_says() {
    let mut beacon = message("").sequence(2);
    beacon.kind = FrameKind::Beacon;
    beacon.age = Duration::from_micros(5);
    let packets = packed(&[message("hi"), message("é\0").sequence(2), beacon]);
    let expected = "p11;@BwcHBwcHBwcHBwcHBwcHBw1,1,0;1:a3:t/x=2:hi=4~w6kA^2,5;!0:";
    assert_eq!(packets, [expected]);
}

#[test]
fn no_bell_is_taken_for_a_packet() {
    for bell in [Bell::Lease, Bell::Members, Bell::Assignment, Bell::Log] {
        assert!(!bell.payload("").starts_with(MARK));
    }
}

/// B5: in bytes, whatever the letters; a packet is never larger than the server takes.
#[test]
fn what_fits_is_packed_whole_and_one_byte_more_is_refused() {
    for letter in ["x", "é", "\u{1F980}", "\u{0}"] {
        let sizes = 5_000 / letter.len()..8_005 / letter.len();
        let whole = |count: &usize| fits(Charset::Utf8, &message(letter.repeat(*count))).is_ok();
        let most = sizes.clone().take_while(whole).last().unwrap();
        let packets = packed(&[message(letter.repeat(most))]);
        assert_eq!(packets.len(), 1);
        assert!(packets[0].len() <= MAX_BYTES);
        assert!(
            packets[0].len() > MAX_BYTES - 64,
            "{letter:?}: room is wasted"
        );
        let error = fits(Charset::Utf8, &message(letter.repeat(most + 1))).unwrap_err();
        assert_eq!(error.given, (most + 1) * letter.len());
        assert!(error.allowed < error.given, "{error}");
    }
}

#[test]
fn equal_payloads_leave_in_unequal_packets() {
    let mut packer = Packer::new(Charset::Utf8);
    packer.whole(&message("x"));
    let first = packer.take();
    packer.whole(&message("x"));
    assert_ne!(first, packer.take());
}

#[test]
fn many_small_messages_share_a_packet() {
    let frames: Vec<_> = (1..=79)
        .map(|n| message("x".repeat(95)).sequence(n))
        .collect();
    assert_eq!(packed(&frames).len(), 1);
}

#[test]
fn each_broken_part_has_an_error_of_its_own() {
    let start = "p11;@BwcHBwcHBwcHBwcHBwcHBw";
    let error = |text: &str| read(text).unwrap_err();
    assert_eq!(error(""), PacketError::NoPacket { found: None });
    assert_eq!(error("x"), PacketError::NoPacket { found: Some('x') });
    assert_eq!(
        error("p2"),
        PacketError::UnknownVersion { found: Some('2') }
    );
    assert_eq!(error("p1"), PacketError::Truncated { field: "number" });
    assert_eq!(error("p11;=1:x"), PacketError::NoStream);
    assert_eq!(
        error("p11;?"),
        PacketError::UnknownItem { found: b'?', at: 4 }
    );
    assert_eq!(
        error(&format!("{start}0,1,0;1:a1:t")),
        PacketError::OutOfRange {
            field: "stream",
            given: 0,
            from: 1,
            to: u64::MAX
        }
    );
    assert_eq!(
        error(&format!("{start}1,1,0;0:1:t")),
        PacketError::OutOfRange {
            field: "origin",
            given: 0,
            from: 1,
            to: 512
        }
    );
    assert_eq!(
        error(&format!("{start}1,1,0;1:a1:t=9:x")),
        PacketError::Truncated { field: "payload" }
    );
    assert_eq!(
        error(&format!("{start}1,1,0;1:a1:t=1~!")),
        PacketError::NotReadable { field: "payload" }
    );
    assert_eq!(
        error(&format!("{start}1,1,0;1:a1:t#3,2;1:x")),
        PacketError::OutOfRange {
            field: "fragment",
            given: 3,
            from: 1,
            to: 2
        }
    );
}

prop_compose! {
    fn frames()(
        topic in "\\PC{1,60}",
        origin in "[a-c\u{0}é]{1,3}",
        instance in 0..3_u8,
        (stream, sequence) in (1..3_u64, prop_oneof![1..5_u64, 1..=u64::MAX]),
        age in prop_oneof![Just(0), any::<u64>()],
        beacon in any::<bool>(),
        payload in prop_oneof![
            "\\PC{0,300}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..2_000),
        ],
    ) -> Frame {
        let instance = Instance::from_bytes([instance; 16]);
        let mut frame =
            Frame::new(Topic::named(topic), MemberId::from(origin), instance, payload.into());
        (frame.stream, frame.sequence) = (stream, sequence);
        frame.age = Duration::from_micros(age);
        frame.kind = if beacon { FrameKind::Beacon } else { FrameKind::Message };
        frame
    }
}

fn charsets() -> impl Strategy<Value = Charset> {
    prop_oneof![Just(Charset::Utf8), Just(Charset::Ascii)]
}

proptest! {
    /// B4, B7, B10: whatever is packed comes out as it was, in order, in packets that the server takes.
    #[test]
    fn frames_come_back_as_they_were(
        charset in charsets(),
        frames in prop::collection::vec(frames(), 1..30),
    ) {
        let mut packer = Packer::new(charset);
        for frame in &frames {
            packer.whole(frame);
        }
        let mut seen = Vec::new();
        for packet in packer.take() {
            prop_assert!(packet.len() <= MAX_BYTES);
            prop_assert!(charset == Charset::Utf8 || packet.is_ascii());
            prop_assert!(!packet.contains('\0'));
            seen.extend(read(&packet).unwrap());
        }
        let expected: Vec<_> = frames.into_iter().map(Said::Frame).collect();
        prop_assert_eq!(seen, expected);
    }

    /// B5, B7: pieces in order make the whole, and the next message follows them.
    #[test]
    fn fragments_make_the_whole(
        charset in charsets(),
        letter in prop_oneof![Just("x"), Just("é"), Just("\u{1F980}"), Just("\u{0}")],
        count in 1..20_000_usize,
    ) {
        let frame = message(letter.repeat(count));
        let mut packer = Packer::new(charset);
        packer.whole(&message("before"));
        packer.fragments(&frame.clone().sequence(2));
        packer.whole(&message("after").sequence(3));
        let packets = packer.take();
        let said: Vec<_> = packets.iter().flat_map(|packet| read(packet).unwrap()).collect();
        let mut whole = Vec::new();
        for said in &said[1..said.len() - 1] {
            let Said::Fragment(_, _, piece) = said else { panic!("{said:?}") };
            prop_assert_eq!(piece.sequence, 2);
            whole.extend_from_slice(&piece.payload);
        }
        prop_assert!(packets.iter().all(|packet| packet.len() <= MAX_BYTES));
        prop_assert_eq!(&whole[..], &frame.payload[..]);
        prop_assert_eq!(said.last(), Some(&Said::Frame(message("after").sequence(3))));
    }

    #[test]
    fn references_come_back(row in 0..=i64::MAX, bytes in any::<u64>()) {
        let mut packer = Packer::new(Charset::Utf8);
        packer.reference(&message("").sequence(4), Reference { row, bytes });
        packer.whole(&message("after").sequence(5));
        let said = read(&packer.take()[0]).unwrap();
        prop_assert_eq!(&said[0], &Said::Reference(Reference { row, bytes }, 4));
        prop_assert_eq!(&said[1], &Said::Frame(message("after").sequence(5)));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(p1[0-9]{1,3};)?\\PC{0,200}") {
        drop(read(&text));
    }

    #[test]
    fn a_packet_with_a_letter_changed_never_panics(
        frames in prop::collection::vec(frames(), 1..4),
        at in any::<prop::sample::Index>(),
        to in any::<char>(),
    ) {
        let packet: Vec<char> = packed(&frames)[0].chars().collect();
        let at = at.index(packet.len());
        let changed: String = [&packet[..at], &[to], &packet[at + 1..]].concat().iter().collect();
        drop(read(&changed));
        let cut: String = packet[..at].iter().collect();
        drop(read(&cut));
    }
}
