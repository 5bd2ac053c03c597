//! What waits for one subscriber: bounded, and the newest is dropped where there is no room (U8).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bus::{BadFrame, FeedEvent, Frame, Gap, GapCause};

/// So many frames wait: a few round trips' worth, for they arrive in bursts; or so many bytes.
const MAX_FRAMES: usize = 4_096;
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Events beside frames and gaps: the rest of them is dropped.
const MAX_EVENTS: usize = 64;

/// Frames of one topic that arrived together, shared by all who get them.
#[derive(Debug, Clone)]
pub struct Run {
    frames: Arc<[Frame]>,
    bytes: usize,
}

impl Run {
    /// These frames.
    pub fn new(frames: Vec<Frame>) -> Self {
        Self {
            bytes: frames.iter().map(weight).sum(),
            frames: frames.into(),
        }
    }
}

/// What waits for one subscriber.
#[derive(Debug, Default)]
pub struct Backlog {
    ready: VecDeque<Waits>,
    frames: usize,
    bytes: usize,
    /// How many were dropped since the last gap that was told.
    missed: u64,
    /// How many of `ready` are events of the bus, and how many more there were.
    events: usize,
}

#[derive(Debug)]
enum Waits {
    /// Frames `from..to` of a run.
    Run {
        run: Run,
        from: usize,
        to: usize,
    },
    Event(FeedEvent),
}

impl Backlog {
    /// Adds what arrived, as far as there is room.
    pub fn push(&mut self, run: &Run) {
        let count = run.frames.len();
        let room = MAX_FRAMES.saturating_sub(self.frames);
        let fits = if self.bytes >= MAX_BYTES {
            0
        } else {
            count.min(room)
        };
        if fits > 0 {
            self.tell_gap();
            self.frames += fits;
            let taken = run.frames.iter().take(fits);
            self.bytes += if fits == count {
                run.bytes
            } else {
                taken.map(weight).sum()
            };
            let run = run.clone();
            self.ready.push_back(Waits::Run {
                run,
                from: 0,
                to: fits,
            });
        }
        self.missed += (count - fits) as u64;
    }

    /// Something arrived that is no frame.
    pub fn malformed(&mut self, bad: BadFrame) {
        if self.events < MAX_EVENTS {
            self.event(FeedEvent::Malformed(bad));
        }
    }

    /// The connection is there again, or has ended.
    pub fn set_connected(&mut self, connected: bool) {
        if connected {
            self.event(FeedEvent::Connected);
        } else {
            self.disconnected();
        }
    }

    fn event(&mut self, event: FeedEvent) {
        self.tell_gap();
        self.events += 1;
        self.ready.push_back(Waits::Event(event));
    }

    /// A reader who has not heard of the last reconnect need not hear of it: so the queue stays
    /// bounded, however often the connection ends.
    fn disconnected(&mut self) {
        if matches!(self.ready.back(), Some(Waits::Event(FeedEvent::Connected))) {
            self.ready.pop_back();
            self.events -= 1;
        } else {
            self.event(FeedEvent::Disconnected);
        }
    }

    fn tell_gap(&mut self) {
        if let Some(gap) = self.take_gap() {
            self.ready.push_back(Waits::Event(gap));
            self.events += 1;
        }
    }

    fn take_gap(&mut self) -> Option<FeedEvent> {
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then(|| {
            let mut gap = Gap::new(GapCause::Slow);
            gap.missing = Some(missed);
            FeedEvent::Gap(gap)
        })
    }

    /// What comes next, if it is there.
    pub fn pop(&mut self) -> Option<FeedEvent> {
        let (frame, last) = match self.ready.front_mut() {
            None => return self.take_gap(),
            Some(Waits::Event(_)) => {
                self.events -= 1;
                return match self.ready.pop_front() {
                    Some(Waits::Event(event)) => Some(event),
                    Some(Waits::Run { .. }) | None => None,
                };
            }
            Some(Waits::Run { run, from, to }) => {
                let frame = run.frames.get(*from).cloned();
                *from += 1;
                (frame, *from >= *to)
            }
        };
        if last {
            self.ready.pop_front();
        }
        let frame = frame?;
        self.frames -= 1;
        self.bytes -= weight(&frame);
        Some(FeedEvent::Frame {
            frame,
            cursor: None,
        })
    }
}

/// What a frame counts for, besides one.
pub(super) fn weight(frame: &Frame) -> usize {
    frame.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::Topic;
    use crate::names::MemberId;
    use crate::numbers::Instance;

    fn run(count: usize, size: usize) -> Run {
        let instance = Instance::from_bytes([1; 16]);
        let payload = Bytes::from(vec![b'x'; size]);
        let frame = Frame::new(Topic::new("t"), MemberId::from("a"), instance, payload);
        Run::new(vec![frame; count])
    }

    fn frames(queue: &mut Backlog) -> usize {
        let is_frame = |event: &FeedEvent| matches!(event, FeedEvent::Frame { .. });
        std::iter::from_fn(|| queue.pop())
            .take_while(is_frame)
            .count()
    }

    fn slow(missing: u64) -> FeedEvent {
        let mut gap = Gap::new(GapCause::Slow);
        gap.missing = Some(missing);
        FeedEvent::Gap(gap)
    }

    /// U8, B11: the newest is dropped, and the number is told where it is missing.
    #[test]
    fn what_has_no_room_is_counted() {
        let mut queue = Backlog::default();
        queue.push(&run(MAX_FRAMES - 1, 1));
        queue.push(&run(5, 1));
        queue.push(&run(2, 1));
        assert!(queue.pop().is_some());
        queue.push(&run(1, 1));
        let mut seen = 0;
        let gap = loop {
            match queue.pop() {
                Some(FeedEvent::Frame { .. }) => seen += 1,
                other => break other,
            }
        };
        assert_eq!((seen, gap), (MAX_FRAMES - 1, Some(slow(6))));
        assert_eq!(frames(&mut queue), 1);
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_too_and_one_large_frame_passes() {
        let mut queue = Backlog::default();
        queue.push(&run(1, MAX_BYTES + 1));
        queue.push(&run(3, 1));
        assert!(matches!(queue.pop(), Some(FeedEvent::Frame { .. })));
        assert_eq!(queue.pop(), Some(slow(3)));
    }

    #[test]
    fn a_reader_who_sleeps_through_many_cuts_hears_of_one() {
        let mut queue = Backlog::default();
        for _ in 0..1_000 {
            queue.set_connected(false);
            queue.set_connected(true);
        }
        assert_eq!(queue.pop(), Some(FeedEvent::Disconnected));
        assert_eq!(queue.pop(), Some(FeedEvent::Connected));
        assert_eq!(queue.pop(), None);
    }
}
