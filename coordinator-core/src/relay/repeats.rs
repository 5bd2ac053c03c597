//! Messages that were stored twice: a publisher whose first attempt had an unknown outcome stores
//! them again under the same sequences (U2).

use std::collections::BTreeMap;

use crate::bus::{Frame, FrameKind, Topic};
use crate::numbers::Instance;

/// So many streams are remembered, and as many of those heard before them.
const STREAMS: usize = 4_096;

type Stream = (Instance, u64, Topic);

/// The last sequence of each stream.
#[derive(Debug, Default)]
pub struct Repeats {
    young: BTreeMap<Stream, u64>,
    old: BTreeMap<Stream, u64>,
}

impl Repeats {
    /// Whether this message comes for the first time.
    pub fn is_new(&mut self, frame: &Frame) -> bool {
        if frame.kind == FrameKind::Beacon {
            return true;
        }
        let stream = (frame.instance, frame.stream, frame.topic.clone());
        let known = self.young.get(&stream).or_else(|| self.old.get(&stream));
        if known.is_some_and(|last| frame.sequence <= *last) {
            return false;
        }
        if self.young.len() >= STREAMS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, frame.sequence);
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::names::MemberId;

    fn frame(topic: &'static str, instance: u128, sequence: u64) -> Frame {
        let instance = Instance::from_random(instance);
        Frame::new(
            Topic::new(topic),
            MemberId::from("a"),
            instance,
            Bytes::new(),
        )
        .sequence(sequence)
    }

    #[test]
    fn what_was_stored_twice_is_new_once() {
        let mut repeats = Repeats::default();
        let mut is_new = |topic, sequence| repeats.is_new(&frame(topic, 1, sequence));
        assert!(is_new("a", 1) && is_new("a", 2) && is_new("b", 1));
        assert!(!is_new("a", 1) && !is_new("a", 2));
        assert!(is_new("a", 3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = Repeats::default();
        for instance in 0..20_000 {
            repeats.is_new(&frame("a", instance, 1));
        }
        assert!(repeats.young.len() + repeats.old.len() <= 2 * STREAMS);
        assert!(!repeats.is_new(&frame("a", 19_999, 1)));
    }
}
