//! One subscription to the backend, shared by all local subscribers of its topic.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::machine::stream::{Receipt, Receiver};
use coordinator_core::{
    BusError, ClusterBus, Cursor, ErrorKind, Feed, FeedEvent, Frame, GapCause, Moment, Start, Topic,
};
use futures_util::FutureExt;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

use super::lock;
use super::outgoing::Failure;
use super::queue::{Chunk, Event, Queue};
use crate::context::Context;
use crate::tasks::panic_message;
use crate::telemetry;
use crate::watch;

/// So many events are handed on together at most, or little more than so many bytes.
const CHUNK: usize = 128;
const CHUNK_BYTES: usize = 1024 * 1024;

/// `subscribe` waits so long for the feed to be live.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether a feed carries messages.
#[derive(Debug, Clone)]
enum Status {
    /// Not now; with the last error, if there was one.
    Down(Option<Failure>),
    Live,
    /// It never will.
    Refused(Failure),
}

/// A topic's feed, and who listens to it.
#[derive(Debug)]
pub(super) struct TopicFeed {
    /// As the topic is called on the wire.
    pub(super) topic: Topic,
    start: Start,
    /// Of a durable subscription, which stops reading instead of dropping (U8).
    paced: bool,
    status: watch::Sender<Status>,
    queues: Mutex<Vec<Arc<Queue>>>,
    ended: CancellationToken,
}

impl TopicFeed {
    pub(super) fn new(topic: Topic, start: Start) -> Arc<Self> {
        Arc::new(Self {
            topic,
            paced: start != Start::Now,
            start,
            status: watch::Sender::new(Status::Down(None)),
            queues: Mutex::default(),
            ended: CancellationToken::new(),
        })
    }

    pub(super) fn attach(&self, queue: Arc<Queue>) {
        lock(&self.queues).push(queue);
    }

    /// Says whether nobody is left.
    pub(super) fn detach(&self, queue: &Arc<Queue>) -> bool {
        let mut queues = lock(&self.queues);
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        queues.is_empty()
    }

    /// Ends the subscription to the backend.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Ends it, and all who listen.
    pub(super) fn close(&self) {
        self.end();
        for queue in lock(&self.queues).iter() {
            queue.close();
        }
    }

    /// Waits until the feed is live. Says whether it had to wait.
    pub(super) async fn live(&self) -> Result<bool, Failure> {
        let mut status = self.status.subscribe();
        let waited = !matches!(*status.borrow(), Status::Live);
        let settled = status.wait_for(|status| !matches!(status, Status::Down(_)));
        let settled = match timeout(LIVE_WITHIN, settled).await {
            Ok(Ok(settled)) => settled.clone(),
            // The sender is ours: it cannot be gone.
            Ok(Err(_)) | Err(_) => self.status.borrow().clone(),
        };
        match settled {
            Status::Live => Ok(waited),
            Status::Refused(failure) | Status::Down(Some(failure)) => Err(failure),
            Status::Down(None) => Err(Failure::unavailable(NotLive)),
        }
    }

    /// Whether it is one for all subscribers of its topic.
    pub(super) fn is_shared(&self) -> bool {
        !self.paced
    }

    fn is_refused(&self) -> bool {
        matches!(*self.status.borrow(), Status::Refused(_))
    }

    /// Whether a new subscriber may share it.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_refused() && !self.ended.is_cancelled()
    }

    /// Hands events to everyone, and holds nobody up.
    fn hand_on(&self, events: Vec<Event>) {
        let chunk = Chunk::new(events);
        let mut of_others = None;
        let (mut queued, mut dropped) = (0, 0);
        for queue in lock(&self.queues).iter() {
            let wanted = if queue.others_only {
                of_others.get_or_insert_with(|| chunk.of_others())
            } else {
                &chunk
            };
            let pushed = queue.push(wanted);
            queued += pushed.queued as u64;
            dropped += pushed.dropped as u64;
        }
        telemetry::count(telemetry::BUS_DELIVERED, queued, &[]);
        if dropped > 0 {
            let cause = GapCause::Slow.to_string();
            telemetry::count(telemetry::BUS_GAPS, 1, &[("cause", &cause)]);
            debug!(topic = %self.topic, dropped, cause, "a subscriber is slow");
        }
    }

    /// How many events may be read now: a paced feed waits for its one subscriber.
    async fn room(&self) -> usize {
        if !self.paced {
            return CHUNK;
        }
        let queue = lock(&self.queues).first().cloned();
        match queue {
            Some(queue) => queue.room().await.min(CHUNK),
            None => CHUNK,
        }
    }
}

/// The feed did not come up in time, and nobody knows why.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the subscription was not live within {LIVE_WITHIN:?}")]
struct NotLive;

/// Reads one feed, and opens it again when it ends.
pub(super) struct Reader {
    context: Arc<Context>,
    bus: Arc<dyn ClusterBus>,
    shared: Arc<TopicFeed>,
    sorter: Sorter,
    pause: Duration,
    random: StdRng,
}

impl Reader {
    pub(super) fn new(
        context: Arc<Context>,
        bus: Arc<dyn ClusterBus>,
        shared: Arc<TopicFeed>,
    ) -> Self {
        Self {
            sorter: Sorter {
                receiver: Receiver::new(context.steady.now()),
                me: context.instance,
                durable: bus.capabilities().durable,
                cursor: None,
                was_live: false,
            },
            pause: FIRST_PAUSE,
            random: context.fork_random(),
            context,
            bus,
            shared,
        }
    }

    /// Runs until nobody listens, the feed is refused, or the node stops.
    pub(super) async fn run(mut self) {
        let stopping = self.context.stopping.clone();
        let ended = self.shared.ended.clone();
        let read = ended.run_until_cancelled(stopping.run_until_cancelled(self.read()));
        read.await;
        if self.context.stopping.is_cancelled() {
            self.shared.close();
        }
    }

    async fn read(&mut self) {
        loop {
            // A backend that panics is treated like one whose feed ended.
            match AssertUnwindSafe(self.read_once()).catch_unwind().await {
                Ok(Some(Refused)) => return,
                Ok(None) => {}
                Err(panic) => {
                    let error = panic_message(&*panic);
                    warn!(topic = %self.shared.topic, error, "the backend panicked in a feed");
                }
            }
            if matches!(*self.shared.status.borrow(), Status::Live) {
                self.shared.status.send_replace(Status::Down(None));
            }
            let half = self.pause / 2;
            let pause = half + half.mul_f64(self.random.random());
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            tokio::time::sleep(pause).await;
        }
    }

    /// Opens the feed and reads it to its end.
    async fn read_once(&mut self) -> Option<Refused> {
        let mut feed = match self.open().await {
            Ok(feed) => feed,
            Err(error) => return self.refused(error),
        };
        self.pause = FIRST_PAUSE;
        self.live();
        info!(group = %self.context.group, topic = %self.shared.topic, "subscribed");
        while self.read_chunk(&mut *feed).await {
            // A feed that always has something must not keep others from running.
            tokio::task::yield_now().await;
        }
        info!(group = %self.context.group, topic = %self.shared.topic, "the feed ended");
        None
    }

    fn open(&self) -> impl Future<Output = Result<Box<dyn Feed>, BusError>> + use<> {
        let bus = self.bus.clone();
        let topic = self.shared.topic.clone();
        let start = match &self.sorter.cursor {
            Some(cursor) => Start::After(cursor.clone()),
            None => self.shared.start.clone(),
        };
        async move { bus.subscribe(&[topic], start).await }
    }

    /// A feed that was live before is opened again however it is refused: its subscribers have no
    /// one else to tell them.
    fn refused(&self, error: BusError) -> Option<Refused> {
        let for_good = error.kind() == ErrorKind::Rejected && !self.sorter.was_live;
        debug!(group = %self.context.group, topic = %self.shared.topic, %error, for_good, "not subscribed");
        let status = if for_good {
            Status::Refused(Failure::rejected(error))
        } else {
            Status::Down(Some(Failure::unavailable(error)))
        };
        self.shared.status.send_replace(status);
        for_good.then_some(Refused)
    }

    /// The feed is open: from here on everything is to arrive.
    fn live(&mut self) {
        let gap = self.sorter.opened(self.context.steady.now());
        self.hand_on(gap.into_iter().collect());
        self.shared.status.send_replace(Status::Live);
    }

    /// Reads what there is, up to a bound. `false`: the feed has ended.
    async fn read_chunk(&mut self, feed: &mut dyn Feed) -> bool {
        let room = self.shared.room().await;
        let mut next = feed.next().await;
        let now = self.context.steady.now();
        let mut events = Vec::with_capacity(room.min(8));
        let (mut counted, mut bytes, mut going) = (0, 0, true);
        loop {
            match next {
                Some(FeedEvent::Disconnected) => {
                    self.shared.status.send_replace(Status::Down(None));
                    debug!(topic = %self.shared.topic, "disconnected");
                }
                Some(FeedEvent::Connected) => {
                    self.sorter.sort(now, FeedEvent::Connected, &mut events);
                    // Before anybody is told that the feed is live: what follows is theirs.
                    self.hand_on(std::mem::take(&mut events));
                    self.shared.status.send_replace(Status::Live);
                    debug!(topic = %self.shared.topic, "connected");
                }
                Some(event) => self.sorter.sort(now, event, &mut events),
                None => {
                    going = false;
                    break;
                }
            }
            bytes += events.get(counted..).map_or(0, total);
            counted = events.len();
            if counted >= room || bytes >= CHUNK_BYTES {
                break;
            }
            match feed.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        self.hand_on(events);
        going
    }

    fn hand_on(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        trace!(topic = %self.shared.topic, count = events.len(), "arrived");
        for event in &events {
            match event {
                Event::Message { .. } => {}
                Event::Gap(gap) => {
                    let cause = gap.cause.to_string();
                    telemetry::count(telemetry::BUS_GAPS, 1, &[("cause", &cause)]);
                    info!(topic = %self.shared.topic, missing = gap.missing, cause, "gap");
                }
                Event::Malformed(bad) => {
                    telemetry::count(telemetry::BUS_MALFORMED, 1, &[]);
                    warn!(topic = %self.shared.topic, error = bad.error, "malformed frame");
                }
            }
        }
        self.shared.hand_on(events);
    }
}

fn total(events: &[Event]) -> usize {
    events.iter().map(Event::bytes).sum()
}

/// The feed was refused for good.
struct Refused;

/// Tells messages, gaps and repetitions apart.
struct Sorter {
    receiver: Receiver,
    me: coordinator_core::Instance,
    durable: bool,
    /// The last place in the log that was handed on, where the next feed goes on (U10).
    cursor: Option<Cursor>,
    was_live: bool,
}

impl Sorter {
    /// The feed was opened, for the first time or again.
    fn opened(&mut self, now: Moment) -> Option<Event> {
        let again = std::mem::replace(&mut self.was_live, true);
        if !again {
            self.receiver = Receiver::new(now);
            return None;
        }
        let gap = self.receiver.connected(now);
        // From a cursor on the log replays everything.
        let replayed = self.durable && self.cursor.is_some();
        (!replayed).then(|| Event::Gap(Box::new(gap)))
    }

    fn sort(&mut self, now: Moment, event: FeedEvent, to: &mut Vec<Event>) {
        match event {
            FeedEvent::Frame {
                frame,
                cursor: Some(cursor),
            } => {
                self.cursor = Some(cursor.clone());
                to.push(self.message(frame, Some(cursor)));
            }
            FeedEvent::Frame {
                frame,
                cursor: None,
            } => match self.receiver.accept(now, &frame) {
                Receipt::Deliver => to.push(self.message(frame, None)),
                Receipt::DeliverAfter(gap) => {
                    to.push(Event::Gap(Box::new(gap)));
                    to.push(self.message(frame, None));
                }
                Receipt::Missing(gap) => to.push(Event::Gap(Box::new(gap))),
                Receipt::Nothing => {}
            },
            FeedEvent::Gap(gap) => {
                let gap = if self.durable {
                    gap
                } else {
                    self.receiver.dropped(gap)
                };
                to.push(Event::Gap(Box::new(gap)));
            }
            FeedEvent::Malformed(bad) => {
                self.cursor = bad.cursor.clone().or_else(|| self.cursor.take());
                to.push(Event::Malformed(Box::new(bad)));
            }
            FeedEvent::Disconnected => {}
            FeedEvent::Connected if self.durable => {}
            FeedEvent::Connected => {
                let gap = self.receiver.connected(now);
                to.push(Event::Gap(Box::new(gap)));
            }
        }
    }

    fn message(&self, frame: Frame, cursor: Option<Cursor>) -> Event {
        Event::Message {
            own: frame.instance == self.me,
            origin: frame.origin,
            cursor,
            payload: frame.payload,
        }
    }
}
