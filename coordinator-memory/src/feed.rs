//! One subscription: its bounded queue, and the feed that empties it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use coordinator_core::{Feed, FeedEvent, Frame, Gap, GapCause, Instance, Topic, async_trait};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::sync::Shared;

/// Names one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FeedId(pub(crate) u64);

/// What waits for one subscriber.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topics: BTreeSet<Topic>,
    limits: Limits,
    inner: Shared<Waiting>,
    news: Notify,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// What can be read now.
    ready: VecDeque<Item>,
    /// What is still on its way, by time of arrival.
    late: BTreeMap<(Instant, u64), Item>,
    arrivals: u64,
    /// No message of a stream's publisher arrives before this, so that delays reorder nothing.
    last_arrival: BTreeMap<Instance, Instant>,
    frames: usize,
    bytes: usize,
    /// How many were dropped since the last gap that was told.
    missed: u64,
    connected: bool,
    closed: bool,
}

#[derive(Debug)]
enum Item {
    Parcel(Parcel),
    Event(FeedEvent),
}

/// Frames of one `publish`, shared by all its subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    frames: Arc<[Frame]>,
    /// Where to read on, and where to stop.
    from: usize,
    to: usize,
    /// Whether all of them are for this subscriber; otherwise its topics decide.
    all: bool,
    count: usize,
    bytes: usize,
}

impl Parcel {
    /// All frames, which are all of topics that the subscriber wants.
    pub(crate) fn whole(frames: Arc<[Frame]>, bytes: usize) -> Self {
        Self {
            from: 0,
            to: frames.len(),
            all: true,
            count: frames.len(),
            bytes,
            frames,
        }
    }

    /// Those of the frames that are of these topics.
    pub(crate) fn picked(frames: Arc<[Frame]>, topics: &BTreeSet<Topic>) -> Self {
        let wanted = || frames.iter().filter(|frame| topics.contains(&frame.topic));
        let (count, bytes) = (wanted().count(), wanted().map(weight).sum());
        Self {
            from: 0,
            to: frames.len(),
            all: false,
            count,
            bytes,
            frames,
        }
    }

    /// One frame of a batch.
    pub(crate) fn single(frames: Arc<[Frame]>, index: usize) -> Self {
        Self {
            from: index,
            to: index + 1,
            all: true,
            count: 1,
            bytes: frames.get(index).map_or(0, weight),
            frames,
        }
    }

    /// The next frame for this subscriber.
    fn next(&mut self, topics: &BTreeSet<Topic>) -> Option<Frame> {
        while self.from < self.to {
            let frame = self.frames.get(self.from)?;
            self.from += 1;
            if self.all || topics.contains(&frame.topic) {
                return Some(frame.clone());
            }
        }
        None
    }

    /// Keeps the first `count` frames for this subscriber, and drops the rest.
    fn truncate(&mut self, count: usize, topics: &BTreeSet<Topic>) {
        let mut rest = self.clone();
        for _ in 0..count {
            rest.next(topics);
        }
        let dropped = rest.frames.get(rest.from..rest.to).unwrap_or_default();
        let dropped = dropped
            .iter()
            .filter(|frame| self.all || topics.contains(&frame.topic));
        self.bytes -= dropped.map(weight).sum::<usize>();
        self.to = rest.from;
        self.count = count;
    }
}

/// What a frame counts for, besides one.
pub(crate) fn weight(frame: &Frame) -> usize {
    frame.payload.len()
}

/// When a parcel arrives that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    /// May it overtake others of its publisher?
    pub(crate) overtakes: bool,
}

impl Queue {
    pub(crate) fn new(topics: BTreeSet<Topic>, limits: Limits) -> Self {
        Self {
            topics,
            limits,
            inner: Shared::new(Waiting {
                ready: VecDeque::new(),
                late: BTreeMap::new(),
                arrivals: 0,
                last_arrival: BTreeMap::new(),
                frames: 0,
                bytes: 0,
                missed: 0,
                connected: true,
                closed: false,
            }),
            news: Notify::new(),
        }
    }

    /// Adds what arrives at once. With no fault there is nothing under way to wait behind.
    pub(crate) fn push(&self, parcel: Parcel) {
        let mut waiting = self.inner.lock();
        if !waiting.connected {
            return;
        }
        if let Some(parcel) = waiting.admit(parcel, self) {
            waiting.ready.push_back(Item::Parcel(parcel));
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Adds what is under way.
    pub(crate) fn push_late(&self, parcel: Parcel, arrival: Arrival) {
        let mut waiting = self.inner.lock();
        let now = Instant::now();
        waiting.ripen(now);
        if !waiting.connected {
            return;
        }
        let publisher = parcel.frames.get(parcel.from).map(|frame| frame.instance);
        let Some(publisher) = publisher else {
            return;
        };
        let Some(parcel) = waiting.admit(parcel, self) else {
            return;
        };
        let at = waiting.arrival(publisher, arrival, now);
        if at <= now {
            waiting.ready.push_back(Item::Parcel(parcel));
        } else {
            waiting.arrivals += 1;
            let order = waiting.arrivals;
            waiting.late.insert((at, order), Item::Parcel(parcel));
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// The connection is there, or is not. What is under way when it breaks is lost.
    pub(crate) fn set_connected(&self, connected: bool) {
        let mut waiting = self.inner.lock();
        waiting.ripen(Instant::now());
        if waiting.connected == connected {
            return;
        }
        waiting.connected = connected;
        if connected {
            waiting.ready.push_back(Item::Event(FeedEvent::Connected));
        } else {
            waiting.disconnect();
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Nothing will come any more.
    pub(crate) fn close(&self) {
        let mut waiting = self.inner.lock();
        waiting.closed = true;
        drop(waiting);
        self.news.notify_one();
    }

    fn next(&self) -> Next {
        let mut waiting = self.inner.lock();
        if waiting.closed {
            return Next::Closed;
        }
        waiting.ripen(Instant::now());
        match waiting.ready.pop_front() {
            Some(Item::Parcel(parcel)) => {
                waiting.frames -= parcel.count;
                waiting.bytes -= parcel.bytes;
                Next::Parcel(parcel)
            }
            Some(Item::Event(event)) => Next::Event(event),
            None => match waiting.take_gap() {
                Some(gap) => Next::Event(gap),
                None => Next::Wait(waiting.late.keys().next().map(|(at, _)| *at)),
            },
        }
    }
}

impl Waiting {
    /// As much of a parcel as there is room for. The newest are dropped, and counted.
    fn admit(&mut self, mut parcel: Parcel, queue: &Queue) -> Option<Parcel> {
        let Limits { frames, bytes } = queue.limits;
        let room = frames.saturating_sub(self.frames);
        if self.bytes >= bytes || room == 0 {
            self.missed += parcel.count as u64;
            return None;
        }
        if parcel.count > room {
            self.tell_gap();
            self.missed = (parcel.count - room) as u64;
            parcel.truncate(room, &queue.topics);
        } else if parcel.count > 0 {
            self.tell_gap();
        }
        self.frames += parcel.count;
        self.bytes += parcel.bytes;
        (parcel.count > 0).then_some(parcel)
    }

    fn tell_gap(&mut self) {
        if let Some(gap) = self.take_gap() {
            self.ready.push_back(Item::Event(gap));
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

    /// When a parcel of this publisher arrives: not before the one that left before it.
    fn arrival(&mut self, publisher: Instance, arrival: Arrival, now: Instant) -> Instant {
        if arrival.overtakes {
            return arrival.at;
        }
        self.last_arrival.retain(|_, last| *last > now);
        let last = self.last_arrival.entry(publisher).or_insert(arrival.at);
        *last = arrival.at.max(*last);
        *last
    }

    /// Moves what has arrived by now to what can be read.
    fn ripen(&mut self, now: Instant) {
        while let Some(first) = self.late.first_entry() {
            if first.key().0 > now {
                return;
            }
            self.ready.push_back(first.remove());
        }
    }

    fn disconnect(&mut self) {
        for item in std::mem::take(&mut self.late).into_values() {
            if let Item::Parcel(parcel) = item {
                self.frames -= parcel.count;
                self.bytes -= parcel.bytes;
            }
        }
        self.last_arrival.clear();
        // A reader who has not heard of the last reconnect need not hear of it: so the queue
        // stays bounded, however often the link flaps.
        if matches!(self.ready.back(), Some(Item::Event(FeedEvent::Connected))) {
            self.ready.pop_back();
        } else {
            self.tell_gap();
            self.ready.push_back(Item::Event(FeedEvent::Disconnected));
        }
    }
}

/// What a look into the queue finds.
enum Next {
    Parcel(Parcel),
    Event(FeedEvent),
    /// Nothing yet; something arrives then.
    Wait(Option<Instant>),
    Closed,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct MemoryFeed {
    id: FeedId,
    queue: Arc<Queue>,
    /// The parcel being read: the queue is locked once a parcel, not once a frame.
    open: Option<Parcel>,
    connection: Held,
}

/// What the feed needs of its connection. It does not keep the member's other parts alive.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) hub: Arc<crate::store::Hub>,
    pub(crate) gate: Arc<crate::gate::Gate>,
}

impl MemoryFeed {
    pub(crate) fn new(id: FeedId, queue: Arc<Queue>, connection: &Connection) -> Self {
        Self {
            id,
            queue,
            open: None,
            connection: Held {
                hub: connection.hub.clone(),
                gate: connection.process.gate.clone(),
            },
        }
    }

    fn next_open(&mut self) -> Option<FeedEvent> {
        let frame = self.open.as_mut()?.next(&self.queue.topics);
        if frame.is_none() {
            self.open = None;
        }
        frame.map(|frame| FeedEvent::Frame {
            frame,
            cursor: None,
        })
    }
}

#[async_trait]
impl Feed for MemoryFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        self.connection.gate.opened().await;
        loop {
            if let Some(event) = self.next_open() {
                return Some(event);
            }
            match self.queue.next() {
                Next::Parcel(parcel) => self.open = Some(parcel),
                Next::Event(event) => return Some(event),
                Next::Closed => return None,
                Next::Wait(None) => self.queue.news.notified().await,
                Next::Wait(Some(at)) => tokio::select! {
                    biased;
                    () = self.queue.news.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        self.connection.hub.bus.unsubscribe(self.id);
    }
}
