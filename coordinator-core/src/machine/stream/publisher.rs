//! Stamps what one instance publishes, and remembers which beacons are due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::bus::{Frame, FrameKind, Topic};
use crate::names::MemberId;
use crate::numbers::Instance;
use crate::time::Moment;

/// An instance keeps so many streams; the one longest unused gives way (rule U1).
pub const MAX_PUBLISHED_STREAMS: usize = 4_096;

/// So long after the last publish a beacon tells its number; again after [`SECOND_BEACON`] (U3).
const FIRST_BEACON: Duration = Duration::from_millis(500);
const SECOND_BEACON: Duration = Duration::from_secs(5);

/// A stream unused for so long ends, with a last beacon. Receivers forget streams that were idle
/// for longer (U3): one that went on afterwards would look to them like one whose start they missed.
const RETIRE: Duration = Duration::from_mins(5);

/// Numbers the messages of one instance, per topic (rules U1 and U3).
#[derive(Debug, Clone)]
pub struct Publisher {
    origin: MemberId,
    instance: Instance,
    streams: BTreeMap<Topic, Stream>,
    /// The next wake-up of each stream: exactly one a stream.
    wakes: BTreeSet<(Moment, Topic)>,
    /// The last beacons of streams that ended, each due at its moment.
    farewells: VecDeque<(Moment, Frame)>,
    /// Above every number that a stream which ended has had.
    next_number: u64,
    max_streams: usize,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    number: u64,
    last: u64,
    began: Moment,
    published: Moment,
    wake: Moment,
    stage: Stage,
}

/// What a stream wakes up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A beacon out of turn.
    Reminder,
    FirstBeacon,
    SecondBeacon,
    Retire,
}

impl Stage {
    fn after_publish(self) -> Duration {
        match self {
            Self::Reminder => Duration::ZERO,
            Self::FirstBeacon => FIRST_BEACON,
            Self::SecondBeacon => SECOND_BEACON,
            Self::Retire => RETIRE,
        }
    }
}

impl Publisher {
    /// Publishes nothing yet.
    pub fn new(origin: MemberId, instance: Instance) -> Self {
        Self {
            origin,
            instance,
            streams: BTreeMap::new(),
            wakes: BTreeSet::new(),
            farewells: VecDeque::new(),
            next_number: 1,
            max_streams: MAX_PUBLISHED_STREAMS,
        }
    }

    /// The next message of its topic's stream. The driver sends frames in the order of stamping.
    #[must_use]
    pub fn stamp(&mut self, now: Moment, topic: &Topic, payload: Bytes) -> Frame {
        if !self.streams.contains_key(topic) {
            self.begin(now, topic);
        }
        let number = self.next_number;
        let stream = self.streams.entry(topic.clone()).or_insert(Stream {
            number,
            last: 0,
            began: now,
            published: now,
            wake: now + FIRST_BEACON,
            stage: Stage::FirstBeacon,
        });
        stream.last += 1;
        stream.published = now;
        if stream.stage != Stage::FirstBeacon {
            let wake = now + FIRST_BEACON;
            Self::reschedule(&mut self.wakes, topic, stream, wake);
            stream.stage = Stage::FirstBeacon;
        }
        let stream = *stream;
        self.frame(now, topic.clone(), stream, FrameKind::Message, payload)
    }

    /// This message was refused, and is certainly nowhere: its number is given again, if nothing has been stamped behind it. Else receivers
    /// see a gap where nothing was sent.
    pub fn take_back(&mut self, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&frame.topic) else {
            return;
        };
        let is_last = (stream.number, stream.last) == (frame.stream, frame.sequence);
        if frame.kind != FrameKind::Message || !is_last {
            return;
        }
        stream.last -= 1;
        // A stream without a message has no last number to tell.
        if stream.last == 0 {
            let wake = (stream.wake, frame.topic.clone());
            self.wakes.remove(&wake);
            self.streams.remove(&frame.topic);
        }
    }

    /// When [`Self::beacons`] has something to say.
    pub fn deadline(&self) -> Option<Moment> {
        let wake = self.wakes.first().map(|(wake, _)| *wake);
        let farewell = self.farewells.front().map(|(due, _)| *due);
        wake.into_iter().chain(farewell).min()
    }

    /// The beacons that are due. What cannot be sent comes back through [`Self::remind`].
    #[must_use]
    pub fn beacons(&mut self, now: Moment) -> Vec<Frame> {
        let mut due = self.due_farewells(now);
        while let Some((wake, topic)) = self.wakes.first().cloned()
            && wake <= now
        {
            due.extend(self.wake(now, &topic));
        }
        due
    }

    /// Receivers may not know the last numbers of these frames' streams: the next beacon of each is
    /// due at `at`. For frames whose outcome is unknown, and for beacons that could not be sent.
    pub fn remind(&mut self, at: Moment, frames: &[Frame]) {
        for frame in frames {
            match self.streams.get_mut(&frame.topic) {
                Some(stream) if stream.number == frame.stream => {
                    Self::reschedule(&mut self.wakes, &frame.topic, stream, at);
                    stream.stage = Stage::Reminder;
                }
                // The stream has ended since, and said farewell with its last number.
                Some(_) | None if frame.kind == FrameKind::Message => {}
                Some(_) | None => self.say_farewell(at, frame.clone()),
            }
        }
    }

    /// Ends every stream. The last beacons of those that were published on lately: a process that
    /// ends cannot be asked later.
    #[must_use]
    pub fn retire(&mut self, now: Moment) -> Vec<Frame> {
        let streams = std::mem::take(&mut self.streams);
        self.wakes.clear();
        let mut last: Vec<_> = self.farewells.drain(..).map(|(_, frame)| frame).collect();
        for (topic, stream) in streams {
            self.next_number = self.next_number.max(stream.number + 1);
            if stream.stage != Stage::Retire {
                last.push(self.beacon(now, topic, stream));
            }
        }
        last
    }

    /// How many streams it keeps.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    fn begin(&mut self, now: Moment, topic: &Topic) {
        if self.streams.len() >= self.max_streams {
            self.evict(now);
        }
        self.wakes.insert((now + FIRST_BEACON, topic.clone()));
    }

    /// Ends the longest unused streams, an eighth of all at once: so that finding them costs little
    /// per message even when every message is of a new topic.
    fn evict(&mut self, now: Moment) {
        let mut unused: Vec<_> = self.streams.iter().collect();
        unused.sort_by_key(|(_, stream)| stream.published);
        let count = (self.max_streams / 8).max(1);
        let topics: Vec<_> = unused[..count.min(unused.len())]
            .iter()
            .map(|(topic, _)| (*topic).clone())
            .collect();
        for topic in topics {
            if let Some(farewell) = self.end(now, &topic) {
                self.say_farewell(now, farewell);
            }
        }
    }

    /// Ends a stream. Gives its last beacon: a tail that is lost now would never be missed.
    fn end(&mut self, now: Moment, topic: &Topic) -> Option<Frame> {
        let stream = self.streams.remove(topic)?;
        self.wakes.remove(&(stream.wake, topic.clone()));
        self.next_number = self.next_number.max(stream.number + 1);
        Some(self.beacon(now, topic.clone(), stream))
    }

    fn say_farewell(&mut self, at: Moment, frame: Frame) {
        if self.farewells.len() >= self.max_streams {
            self.farewells.pop_front();
        }
        self.farewells.push_back((at, frame));
    }

    fn due_farewells(&mut self, now: Moment) -> Vec<Frame> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.farewells.front()
            && *at <= now
        {
            due.extend(self.farewells.pop_front().map(|(_, frame)| frame));
        }
        due
    }

    /// One stream's wake-up, and the beacon it is for.
    fn wake(&mut self, now: Moment, topic: &Topic) -> Option<Frame> {
        let stream = self.streams.get_mut(topic)?;
        // It may have published since: the wake-up was not moved for each message.
        let due = (stream.published + stream.stage.after_publish()).max(stream.wake);
        if due > now {
            Self::reschedule(&mut self.wakes, topic, stream, due);
            return None;
        }
        stream.stage = match stream.stage {
            Stage::Reminder if now < stream.published + FIRST_BEACON => Stage::FirstBeacon,
            Stage::Reminder | Stage::FirstBeacon => Stage::SecondBeacon,
            Stage::SecondBeacon => Stage::Retire,
            Stage::Retire => return self.end(now, topic),
        };
        let next = stream.published + stream.stage.after_publish();
        // Two beacons at once would be lost together.
        Self::reschedule(&mut self.wakes, topic, stream, next.max(now + FIRST_BEACON));
        let stream = *stream;
        Some(self.beacon(now, topic.clone(), stream))
    }

    fn reschedule(
        wakes: &mut BTreeSet<(Moment, Topic)>,
        topic: &Topic,
        stream: &mut Stream,
        wake: Moment,
    ) {
        wakes.remove(&(stream.wake, topic.clone()));
        stream.wake = wake;
        wakes.insert((wake, topic.clone()));
    }

    fn beacon(&self, now: Moment, topic: Topic, stream: Stream) -> Frame {
        self.frame(now, topic, stream, FrameKind::Beacon, Bytes::new())
    }

    fn frame(
        &self,
        now: Moment,
        topic: Topic,
        stream: Stream,
        kind: FrameKind,
        payload: Bytes,
    ) -> Frame {
        Frame {
            topic,
            origin: self.origin.clone(),
            instance: self.instance,
            stream: stream.number,
            sequence: stream.last,
            age: now.since(stream.began),
            kind,
            payload,
        }
    }

    /// What must hold after every step; for tests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let wakes: BTreeSet<_> = self
            .streams
            .iter()
            .map(|(topic, stream)| (stream.wake, topic.clone()))
            .collect();
        assert_eq!(self.wakes, wakes, "each stream has one wake-up");
        assert!(self.streams.len() <= self.max_streams);
        assert!(self.farewells.len() <= self.max_streams);
    }

    #[cfg(test)]
    pub(super) fn with_max_streams(mut self, max_streams: usize) -> Self {
        self.max_streams = max_streams;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic::new("prices");

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    fn publisher() -> Publisher {
        Publisher::new(MemberId::from("a"), Instance::from_bytes([1; 16]))
    }

    fn publish(publisher: &mut Publisher, now: Moment, topic: &Topic) -> (u64, u64) {
        let frame = publisher.stamp(now, topic, Bytes::new());
        publisher.check();
        (frame.stream, frame.sequence)
    }

    fn beacons(publisher: &mut Publisher, now: Moment) -> Vec<(String, u64, u64)> {
        let frames = publisher.beacons(now);
        publisher.check();
        assert!(frames.iter().all(|frame| frame.kind == FrameKind::Beacon));
        frames
            .into_iter()
            .map(|frame| (frame.topic.to_string(), frame.stream, frame.sequence))
            .collect()
    }

    fn beacon(topic: &str, stream: u64, sequence: u64) -> Vec<(String, u64, u64)> {
        vec![(topic.to_owned(), stream, sequence)]
    }

    /// U1.
    #[test]
    fn each_topic_counts_from_one_by_itself() {
        let mut publisher = publisher();
        let other = Topic::new("orders");
        assert_eq!(publish(&mut publisher, at(0), &TOPIC), (1, 1));
        assert_eq!(publish(&mut publisher, at(0), &other), (1, 1));
        assert_eq!(publish(&mut publisher, at(0), &TOPIC), (1, 2));
    }

    /// U1, B13.
    #[test]
    fn a_number_that_was_taken_back_is_given_again_unless_others_follow_it() {
        let mut publisher = publisher();
        let first = publisher.stamp(at(0), &TOPIC, Bytes::new());
        publisher.take_back(&first);
        publisher.check();
        assert_eq!((publisher.streams(), publisher.deadline()), (0, None));
        let first = publisher.stamp(at(1), &TOPIC, Bytes::new());
        assert_eq!(first.sequence, 1);
        let second = publisher.stamp(at(2), &TOPIC, Bytes::new());
        publisher.take_back(&first);
        publisher.take_back(&second);
        publisher.take_back(&second);
        assert_eq!(beacons(&mut publisher, at(502)), beacon("prices", 1, 1));
        assert_eq!(publish(&mut publisher, at(503), &TOPIC), (1, 2));
    }

    /// U4.
    #[test]
    fn a_frame_carries_the_age_of_its_stream() {
        let mut publisher = publisher();
        assert_eq!(
            publisher.stamp(at(5), &TOPIC, Bytes::new()).age,
            Duration::ZERO
        );
        let age = publisher.stamp(at(25), &TOPIC, Bytes::new()).age;
        assert_eq!(age, Duration::from_millis(20));
    }

    /// U3.
    #[test]
    fn beacons_follow_half_a_second_and_five_seconds_after_the_last_publish() {
        let mut publisher = publisher();
        assert_eq!(publisher.deadline(), None);
        publish(&mut publisher, at(0), &TOPIC);
        publish(&mut publisher, at(400), &TOPIC);
        assert_eq!(publisher.deadline(), Some(at(500)));
        assert_eq!(beacons(&mut publisher, at(500)), []);
        assert_eq!(publisher.deadline(), Some(at(900)));
        assert_eq!(beacons(&mut publisher, at(900)), beacon("prices", 1, 2));
        assert_eq!(publisher.deadline(), Some(at(5_400)));
        assert_eq!(beacons(&mut publisher, at(5_400)), beacon("prices", 1, 2));
        assert_eq!(publisher.deadline(), Some(at(300_400)));
    }

    #[test]
    fn a_publish_between_the_beacons_begins_them_anew() {
        let mut publisher = publisher();
        publish(&mut publisher, at(0), &TOPIC);
        assert_eq!(beacons(&mut publisher, at(500)).len(), 1);
        publish(&mut publisher, at(1_000), &TOPIC);
        assert_eq!(publisher.deadline(), Some(at(1_500)));
        assert_eq!(beacons(&mut publisher, at(1_500)), beacon("prices", 1, 2));
    }

    /// U1, U3: receivers forget idle streams, so a publisher never goes on with one.
    #[test]
    fn an_idle_stream_ends_with_a_beacon_and_a_later_one_has_the_next_number() {
        let mut publisher = publisher();
        publish(&mut publisher, at(0), &TOPIC);
        assert_eq!(beacons(&mut publisher, at(500)).len(), 1);
        assert_eq!(beacons(&mut publisher, at(5_000)).len(), 1);
        assert_eq!(beacons(&mut publisher, at(300_000)), beacon("prices", 1, 1));
        assert_eq!(publisher.streams(), 0);
        assert_eq!(publisher.deadline(), None);
        assert_eq!(publish(&mut publisher, at(300_001), &TOPIC), (2, 1));
    }

    /// U1.
    #[test]
    fn the_longest_unused_stream_gives_way_says_farewell_and_restarts_under_the_next_number() {
        let mut publisher = publisher().with_max_streams(2);
        let (second, third) = (Topic::new("second"), Topic::new("third"));
        publish(&mut publisher, at(0), &TOPIC);
        publish(&mut publisher, at(1), &second);
        publish(&mut publisher, at(2), &TOPIC);
        assert_eq!(publish(&mut publisher, at(3), &third), (2, 1));
        assert_eq!(publisher.deadline(), Some(at(3)));
        assert_eq!(beacons(&mut publisher, at(3)), beacon("second", 1, 1));
        assert_eq!(publish(&mut publisher, at(4), &TOPIC), (1, 3));
        assert_eq!(publish(&mut publisher, at(5), &second), (3, 1));
    }

    /// U3: a beacon that is not sent makes nothing visible.
    #[test]
    fn a_beacon_that_could_not_be_sent_is_due_again() {
        let mut publisher = publisher();
        publish(&mut publisher, at(0), &TOPIC);
        let unsent = publisher.beacons(at(500));
        publisher.remind(at(1_500), &unsent);
        assert_eq!(publisher.deadline(), Some(at(1_500)));
        assert_eq!(beacons(&mut publisher, at(1_499)), []);
        assert_eq!(beacons(&mut publisher, at(1_500)), beacon("prices", 1, 1));
        assert_eq!(publisher.deadline(), Some(at(5_000)));
    }

    #[test]
    fn a_farewell_that_could_not_be_sent_is_due_again() {
        let mut publisher = publisher().with_max_streams(1);
        publish(&mut publisher, at(0), &TOPIC);
        publish(&mut publisher, at(1), &Topic::new("other"));
        let unsent = publisher.beacons(at(1));
        publisher.remind(at(100), &unsent);
        assert_eq!(publisher.deadline(), Some(at(100)));
        assert_eq!(beacons(&mut publisher, at(100)), beacon("prices", 1, 1));
    }

    /// U3: nobody can ask a process that has ended.
    #[test]
    fn a_publisher_that_ends_tells_the_last_numbers_of_what_it_published_lately() {
        let mut publisher = publisher();
        let other = Topic::new("other");
        publish(&mut publisher, at(0), &TOPIC);
        assert_eq!(beacons(&mut publisher, at(500)).len(), 1);
        assert_eq!(beacons(&mut publisher, at(5_000)).len(), 1);
        publish(&mut publisher, at(5_001), &other);
        let last = publisher.retire(at(5_002));
        publisher.check();
        assert_eq!(last.len(), 1);
        assert_eq!((&last[0].topic, last[0].sequence), (&other, 1));
        assert_eq!(publish(&mut publisher, at(5_003), &TOPIC), (2, 1));
    }

    /// U2: after an outcome that stays unknown, a beacon.
    #[test]
    fn a_reminder_of_unsure_messages_hastens_their_beacon() {
        let mut publisher = publisher();
        let frame = publisher.stamp(at(0), &TOPIC, Bytes::new());
        publisher.remind(at(5), &[frame]);
        assert_eq!(publisher.deadline(), Some(at(5)));
        assert_eq!(beacons(&mut publisher, at(5)), beacon("prices", 1, 1));
        // The two that follow every publish are not forgotten over it.
        assert_eq!(beacons(&mut publisher, at(505)), beacon("prices", 1, 1));
        assert_eq!(publisher.deadline(), Some(at(5_000)));
    }
}
