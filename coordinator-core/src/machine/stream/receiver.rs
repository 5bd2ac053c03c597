//! Counts what arrives, and says what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bus::{Frame, FrameKind, Gap, GapCause};
use crate::numbers::Instance;
use crate::time::Moment;
use crate::trust::RATE;

/// A receiver keeps so many streams; those longest silent give way (rule U3).
pub const MAX_RECEIVED_STREAMS: usize = 10_000;

/// A stream silent for so long is forgotten (rule U3).
const IDLE: Duration = Duration::from_mins(10);

/// No frame is under way for longer; where it matters whether a stream is one that was forgotten.
const SLOWEST: Duration = Duration::from_mins(1);

/// Idle streams are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// What to do with a frame that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The next message of its stream: deliver it.
    Deliver,
    /// Report the gap, then deliver the message.
    DeliverAfter(Gap),
    /// A beacon that shows a gap: report it.
    Missing(Gap),
    /// A beacon that says nothing new; or a message that was delivered, or is covered by a gap that
    /// was reported: order is never repaired by late delivery (U2).
    Nothing,
}

/// Finds what is missing among the frames of one feed of one topic (rules U2 to U4).
#[derive(Debug, Clone)]
pub struct Receiver {
    /// From here on, everything is to arrive.
    live_since: Moment,
    streams: BTreeMap<(Instance, u64), Known>,
    /// When the stream among the forgotten ones that was heard last was heard.
    forgotten: Option<Moment>,
    sweep_at: Moment,
    max_streams: usize,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    last: u64,
    heard: Moment,
    /// What happened to the whole feed since this stream was heard.
    since: GapCause,
}

impl Receiver {
    /// The counts of a feed that is live now.
    pub fn new(now: Moment) -> Self {
        Self {
            live_since: now,
            streams: BTreeMap::new(),
            forgotten: None,
            sweep_at: now + SWEEP_EVERY,
            max_streams: MAX_RECEIVED_STREAMS,
        }
    }

    /// A frame without a cursor arrived.
    #[must_use]
    pub fn accept(&mut self, now: Moment, frame: &Frame) -> Receipt {
        let stream = (frame.instance, frame.stream);
        let (missing, cause) = match self.streams.get_mut(&stream) {
            Some(known) => match Self::count(known, now, frame) {
                Some(found) => found,
                None => return Receipt::Nothing,
            },
            None => (self.begin(now, frame), GapCause::Lost),
        };
        if now >= self.sweep_at {
            self.sweep(now);
        }
        let gap = (missing != Some(0)).then(|| gap(frame, missing, cause));
        match (frame.kind, gap) {
            (FrameKind::Message, None) => Receipt::Deliver,
            (FrameKind::Message, Some(gap)) => Receipt::DeliverAfter(gap),
            (FrameKind::Beacon, None) => Receipt::Nothing,
            (FrameKind::Beacon, Some(gap)) => Receipt::Missing(gap),
        }
    }

    /// The feed is live again after a cut. The gap is to be reported now: streams may have lived
    /// wholly inside the cut. What is missing of those known is reported at their next frame.
    #[must_use]
    pub fn connected(&mut self, now: Moment) -> Gap {
        self.live_since = now;
        self.happened(Gap::new(GapCause::Disconnected))
    }

    /// The feed itself says that frames are missing. The gap is to be reported now, but of unknown
    /// extent: how many of which stream are missing is counted at their next frames, and must not be
    /// counted twice.
    #[must_use]
    pub fn dropped(&mut self, gap: Gap) -> Gap {
        self.happened(gap)
    }

    fn happened(&mut self, gap: Gap) -> Gap {
        for known in self.streams.values_mut() {
            known.since = gap.cause;
        }
        Gap {
            missing: None,
            ..gap
        }
    }

    /// How many streams it keeps.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many frames of a known stream are missing before this one; `None`: it is not news.
    fn count(known: &mut Known, now: Moment, frame: &Frame) -> Option<(Option<u64>, GapCause)> {
        known.heard = now;
        let unseen = frame.sequence.checked_sub(known.last).filter(|n| *n > 0);
        // A beacon that shows nothing new still shows that nothing was lost in a cut.
        let cause = std::mem::replace(&mut known.since, GapCause::Lost);
        let unseen = unseen?;
        known.last = frame.sequence;
        Some((Some(unseen - itself(frame)), cause))
    }

    /// How many frames of a stream that is not known are missing before this one.
    fn begin(&mut self, now: Moment, frame: &Frame) -> Option<u64> {
        if self.streams.len() >= self.max_streams {
            self.forget_some();
        }
        let known = Known {
            last: frame.sequence,
            heard: now,
            since: GapCause::Lost,
        };
        self.streams.insert((frame.instance, frame.stream), known);
        let missing = frame.sequence.saturating_sub(itself(frame));
        // The clocks drift, and the frame was under way for a while.
        let drift = frame.age.saturating_mul(2) / RATE;
        let earliest = now - frame.age - drift - SLOWEST;
        let latest = now - frame.age.saturating_sub(drift);
        if missing > 0 && self.forgotten.is_some_and(|heard| earliest <= heard) {
            return None;
        }
        // In doubt the stream is young: at worst a gap is reported of what was sent just before we
        // were live; loss is never taken for the past.
        if latest < self.live_since {
            return Some(0);
        }
        Some(missing)
    }

    /// Forgets the streams that were silent longest, an eighth of all at once: so that finding them
    /// costs little per frame even when every frame is of a new stream.
    fn forget_some(&mut self) {
        let streams = self.streams.iter();
        let mut silent: Vec<_> = streams.map(|(id, known)| (known.heard, *id)).collect();
        silent.sort_unstable();
        silent.truncate((self.max_streams / 8).max(1));
        for (_, stream) in silent {
            self.forget(stream);
        }
    }

    fn sweep(&mut self, now: Moment) {
        self.sweep_at = now + SWEEP_EVERY;
        let streams = self.streams.iter();
        let idle = streams.filter(|(_, known)| now.since(known.heard) >= IDLE);
        for stream in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(stream);
        }
    }

    fn forget(&mut self, stream: (Instance, u64)) {
        let heard = self.streams.remove(&stream).map(|known| known.heard);
        self.forgotten = self.forgotten.max(heard);
    }

    #[cfg(test)]
    pub(super) fn with_max_streams(mut self, max_streams: usize) -> Self {
        self.max_streams = max_streams;
        self
    }
}

/// A message takes up one number; a beacon only tells the last.
fn itself(frame: &Frame) -> u64 {
    match frame.kind {
        FrameKind::Message => 1,
        FrameKind::Beacon => 0,
    }
}

fn gap(frame: &Frame, missing: Option<u64>, cause: GapCause) -> Gap {
    Gap {
        topic: Some(frame.topic.clone()),
        origin: Some(frame.origin.clone()),
        missing,
        ..Gap::new(cause)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::Topic;
    use crate::names::MemberId;

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    /// A message of a stream that began at `began`, arriving the moment it was sent.
    fn message(began: u64, now: u64, sequence: u64) -> Frame {
        let instance = Instance::from_bytes([1; 16]);
        let frame = Frame::new(Topic::new("t"), MemberId::from("a"), instance, Bytes::new());
        Frame {
            age: at(now).since(at(began)),
            sequence,
            ..frame
        }
    }

    fn beacon(began: u64, now: u64, sequence: u64) -> Frame {
        Frame {
            kind: FrameKind::Beacon,
            ..message(began, now, sequence)
        }
    }

    fn of_stream(stream: u64, frame: Frame) -> Frame {
        Frame { stream, ..frame }
    }

    fn missing(count: impl Into<Option<u64>>, cause: GapCause) -> Gap {
        gap(&message(0, 0, 1), count.into(), cause)
    }

    fn lost(count: u64) -> Gap {
        missing(count, GapCause::Lost)
    }

    /// Live since second 10.
    fn receiver() -> Receiver {
        Receiver::new(at(10))
    }

    /// Arrives as it should.
    fn receive(receiver: &mut Receiver, now: Moment, frame: &Frame) {
        assert_eq!(receiver.accept(now, frame), Receipt::Deliver);
    }

    #[test]
    fn messages_in_order_are_delivered_and_one_that_is_missing_is_reported() {
        let mut receiver = receiver();
        let mut accept = |sequence| receiver.accept(at(20), &message(20, 20, sequence));
        assert_eq!(accept(1), Receipt::Deliver);
        assert_eq!(accept(2), Receipt::Deliver);
        assert_eq!(accept(5), Receipt::DeliverAfter(lost(2)));
        assert_eq!(accept(6), Receipt::Deliver);
    }

    /// U2.
    #[test]
    fn a_message_that_comes_twice_or_late_is_dropped() {
        let mut receiver = receiver();
        let mut accept = |sequence| receiver.accept(at(20), &message(20, 20, sequence));
        assert_eq!(accept(1), Receipt::Deliver);
        assert_eq!(accept(1), Receipt::Nothing);
        assert_eq!(accept(3), Receipt::DeliverAfter(lost(1)));
        assert_eq!(accept(2), Receipt::Nothing);
    }

    /// U3.
    #[test]
    fn a_beacon_shows_a_lost_tail_once() {
        let mut receiver = receiver();
        receive(&mut receiver, at(20), &message(20, 20, 1));
        assert_eq!(
            receiver.accept(at(21), &beacon(20, 21, 1)),
            Receipt::Nothing
        );
        assert_eq!(
            receiver.accept(at(25), &beacon(20, 25, 4)),
            Receipt::Missing(lost(3))
        );
        assert_eq!(
            receiver.accept(at(26), &beacon(20, 26, 4)),
            Receipt::Nothing
        );
        assert_eq!(
            receiver.accept(at(27), &message(20, 27, 5)),
            Receipt::Deliver
        );
    }

    /// U4.
    #[test]
    fn what_a_stream_sent_before_we_were_live_is_not_missed() {
        let mut receiver = receiver();
        assert_eq!(
            receiver.accept(at(20), &message(9, 20, 7)),
            Receipt::Deliver
        );
        assert_eq!(
            receiver.accept(at(20), &message(9, 20, 9)),
            Receipt::DeliverAfter(lost(1))
        );
        let mut fresh = self::receiver();
        assert_eq!(fresh.accept(at(20), &beacon(9, 20, 7)), Receipt::Nothing);
        assert_eq!(fresh.accept(at(20), &message(9, 20, 8)), Receipt::Deliver);
    }

    /// U4.
    #[test]
    fn a_stream_that_began_while_we_were_live_must_start_at_one() {
        assert_eq!(
            receiver().accept(at(20), &message(10, 20, 3)),
            Receipt::DeliverAfter(lost(2))
        );
        assert_eq!(
            receiver().accept(at(20), &beacon(15, 20, 3)),
            Receipt::Missing(lost(3))
        );
    }

    /// A-RATE: an age measured by a fast clock does not hide loss.
    #[test]
    fn drift_of_the_clocks_never_makes_loss_look_like_the_past() {
        let frame = message(10, 10, 3);
        let frame = Frame {
            age: Duration::from_millis(10_010),
            ..frame
        };
        assert_eq!(
            receiver().accept(at(20), &frame),
            Receipt::DeliverAfter(lost(2))
        );
    }

    /// U4.
    #[test]
    fn after_a_cut_each_known_stream_tells_what_it_lost_and_one_gap_stands_for_the_rest() {
        let mut receiver = receiver();
        receive(&mut receiver, at(20), &message(20, 20, 1));
        receive(&mut receiver, at(20), &of_stream(2, message(20, 20, 1)));
        assert_eq!(receiver.connected(at(30)), Gap::new(GapCause::Disconnected));
        assert_eq!(
            receiver.accept(at(31), &message(20, 31, 4)),
            Receipt::DeliverAfter(missing(2, GapCause::Disconnected))
        );
        // The next loss of the stream is one of another cause.
        assert_eq!(
            receiver.accept(at(31), &message(20, 31, 6)),
            Receipt::DeliverAfter(lost(1))
        );
        // The other stream lost nothing in the cut.
        assert_eq!(
            receiver.accept(at(31), &of_stream(2, beacon(20, 31, 1))),
            Receipt::Nothing
        );
        // A stream that began inside the cut is covered by the gap of unknown extent; one that
        // began after it must start at 1.
        assert_eq!(
            receiver.accept(at(40), &of_stream(3, message(25, 40, 5))),
            Receipt::Deliver
        );
        assert_eq!(
            receiver.accept(at(40), &of_stream(4, message(31, 40, 5))),
            Receipt::DeliverAfter(lost(4))
        );
    }

    /// U8: told once with the number, not twice.
    #[test]
    fn what_the_feed_itself_dropped_is_counted_by_the_sequences() {
        let mut receiver = receiver();
        receive(&mut receiver, at(20), &message(20, 20, 1));
        let mut dropped = Gap::new(GapCause::Slow);
        dropped.missing = Some(3);
        assert_eq!(receiver.dropped(dropped), Gap::new(GapCause::Slow));
        assert_eq!(
            receiver.accept(at(20), &message(20, 20, 5)),
            Receipt::DeliverAfter(missing(3, GapCause::Slow))
        );
    }

    /// U3: bounded, and what was forgotten is not taken for loss, nor for no loss.
    #[test]
    fn a_stream_that_was_forgotten_comes_back_with_a_gap_of_unknown_size() {
        let mut receiver = receiver().with_max_streams(2);
        receive(&mut receiver, at(20), &message(20, 20, 1));
        receive(&mut receiver, at(21), &of_stream(2, message(21, 21, 1)));
        receive(&mut receiver, at(22), &of_stream(3, message(22, 22, 1)));
        assert_eq!(receiver.streams(), 2);
        assert_eq!(
            receiver.accept(at(23), &message(20, 23, 2)),
            Receipt::DeliverAfter(missing(None, GapCause::Lost))
        );
        // One that cannot have been among the forgotten is counted exactly.
        assert_eq!(
            receiver.accept(at(99), &of_stream(4, message(98, 99, 3))),
            Receipt::DeliverAfter(lost(2))
        );
        assert_eq!(receiver.streams(), 2);
    }

    /// U3: a frame that was long under way makes its stream look younger than what was forgotten.
    #[test]
    fn a_late_frame_of_a_forgotten_stream_is_not_counted_from_one() {
        let mut receiver = receiver().with_max_streams(1);
        receive(&mut receiver, at(20), &message(20, 20, 1));
        receive(&mut receiver, at(21), &of_stream(2, message(21, 21, 1)));
        // Sent at 22, and 50 seconds under way.
        assert_eq!(
            receiver.accept(at(72), &message(20, 22, 2)),
            Receipt::DeliverAfter(missing(None, GapCause::Lost))
        );
    }

    /// U3.
    #[test]
    fn a_stream_silent_for_ten_minutes_is_forgotten() {
        let mut receiver = receiver();
        receive(&mut receiver, at(20), &message(20, 20, 1));
        receive(&mut receiver, at(619), &of_stream(2, message(619, 619, 1)));
        assert_eq!(receiver.streams(), 2);
        receive(&mut receiver, at(680), &of_stream(2, message(619, 680, 2)));
        assert_eq!(receiver.streams(), 1);
    }

    #[test]
    fn numbers_at_the_very_end_do_not_overflow() {
        let mut receiver = receiver();
        let frame = message(20, 20, u64::MAX);
        let first = receiver.accept(at(20), &frame);
        assert_eq!(first, Receipt::DeliverAfter(lost(u64::MAX - 1)));
        assert_eq!(receiver.accept(at(20), &frame), Receipt::Nothing);
        // Stamped by a broken publisher.
        let ancient = Frame {
            age: Duration::MAX,
            ..message(20, 20, 2)
        };
        let ancient = of_stream(3, ancient);
        assert_eq!(receiver.accept(at(20), &ancient), Receipt::Deliver);
        let zero = of_stream(2, message(20, 20, 0));
        assert_eq!(receiver.accept(at(20), &zero), Receipt::Deliver);
    }
}
