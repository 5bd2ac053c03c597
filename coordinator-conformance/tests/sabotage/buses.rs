//! Sabotaged buses.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_conformance::bus::CHECKS;
use coordinator_core::{
    BusError, Capabilities, ClusterBus, Cursor, Feed, FeedEvent, Frame, Instance, Start, Topic,
    async_trait,
};
use tokio::time::sleep;

use crate::support::{Harm, Stores};

crate::saboteurs! {
    "bus":
    /// Breaks nothing: what rejects the others is their flaw, not the go-between.
    an_honest_go_between_is_not_rejected = Nothing => [];
    /// Keeps messages, and breaks nothing either.
    an_honest_log_is_not_rejected = Log => [];
    /// Forgets how old a stream is.
    a_field_is_lost = LosesAge => [a_frame_arrives_as_it_was_sent];
    /// Cuts large payloads.
    large_payloads_are_cut = CutsPayloads => [
        a_frame_arrives_as_it_was_sent,
        sizes_around_every_limit_arrive,
        too_large_a_payload_is_rejected,
    ];
    /// Takes upper case for lower case.
    topics_fold_case = TopicsFold => [odd_topics_arrive];
    /// Sends a batch from its end.
    batches_are_reversed = Reverses => [
        a_batch_arrives_in_order,
        a_cut_feed_says_so_and_comes_back,
        a_dropped_subscription_hurts_nobody,
        a_frame_arrives_as_it_was_sent,
        a_slow_feed_holds_up_nobody,
        a_wait_for_a_frame_can_be_dropped,
        every_subscriber_gets_each_frame_once,
        namespaces_do_not_hear_each_other,
        nothing_arrives_from_other_topics,
        odd_topics_arrive,
        order_holds_across_sizes,
        random_calls_match_the_model,
        rapid_messages_all_arrive,
        sizes_around_every_limit_arrive,
        the_publisher_gets_its_own_frames,
        too_large_a_payload_is_rejected,
        what_a_slow_feed_misses_is_seen,
    ];
    /// Sends small frames before large ones.
    small_frames_overtake = SmallFirst => [
        order_holds_across_sizes,
        random_calls_match_the_model,
    ];
    /// Delivers some frames twice.
    frames_come_twice = Duplicates => [
        a_batch_arrives_in_order,
        a_cut_feed_says_so_and_comes_back,
        a_dropped_subscription_hurts_nobody,
        a_frame_arrives_as_it_was_sent,
        a_slow_feed_holds_up_nobody,
        a_wait_for_a_frame_can_be_dropped,
        every_subscriber_gets_each_frame_once,
        nothing_arrives_from_other_topics,
        order_holds_across_sizes,
        random_calls_match_the_model,
        rapid_messages_all_arrive,
        sizes_around_every_limit_arrive,
        the_publisher_gets_its_own_frames,
        what_a_slow_feed_misses_is_seen,
    ];
    /// Keeps a publisher's frames from itself.
    own_frames_are_left_out = LeavesOutOwn => [
        a_cut_feed_says_so_and_comes_back,
        a_frame_arrives_as_it_was_sent,
        namespaces_do_not_hear_each_other,
        nothing_arrives_from_other_topics,
        random_calls_match_the_model,
        the_past_is_rejected_by_a_bus_that_keeps_nothing,
        the_publisher_gets_its_own_frames,
    ];
    /// Begins to listen when it is first read.
    a_subscription_begins_late = SubscribesLate => [
        a_batch_arrives_in_order,
        a_cut_feed_says_so_and_comes_back,
        a_dropped_subscription_hurts_nobody,
        a_frame_arrives_as_it_was_sent,
        a_slow_feed_holds_up_nobody,
        a_subscription_is_live_when_it_returns,
        a_wait_for_a_frame_can_be_dropped,
        every_subscriber_gets_each_frame_once,
        namespaces_do_not_hear_each_other,
        nothing_arrives_from_other_topics,
        odd_topics_arrive,
        order_holds_across_sizes,
        random_calls_match_the_model,
        rapid_messages_all_arrive,
        sizes_around_every_limit_arrive,
        the_past_is_rejected_by_a_bus_that_keeps_nothing,
        the_publisher_gets_its_own_frames,
        too_large_a_payload_is_rejected,
    ];
    /// Delivers more than was asked for.
    topics_leak = Leaks => [nothing_arrives_from_other_topics];
    /// Silences all feeds of a connection when one of them ends.
    a_dropped_feed_silences_others = DropSilences => [
        a_dropped_subscription_hurts_nobody,
        a_subscription_is_live_when_it_returns,
        random_calls_match_the_model,
    ];
    /// Keeps no namespaces apart.
    namespaces_are_one = OneNamespace => [namespaces_do_not_hear_each_other];
    /// Says nothing of a cut.
    cuts_are_hidden = HidesCuts => [a_cut_feed_says_so_and_comes_back];
    /// Keeps messages, and skips one when it replays.
    a_log_skips = LogSkips => [a_durable_bus_replays_from_its_cursors];
    /// Keeps messages, and forgets them for who comes late.
    a_log_forgets = LogForgets => [a_durable_bus_keeps_what_was_published];
    /// Lets publishers wait for the slowest feed.
    a_slow_feed_holds_up_publishers = Waits => [
        a_slow_feed_holds_up_nobody,
        what_a_slow_feed_misses_is_seen,
    ];
    /// Delivers again what a slow feed has had already.
    a_slow_feed_reads_twice = SlowReadsTwice => [
        rapid_messages_all_arrive,
        what_a_slow_feed_misses_is_seen,
    ];
    /// Ends a feed that is slow.
    a_slow_feed_is_ended = EndsSlow => [
        rapid_messages_all_arrive,
        what_a_slow_feed_misses_is_seen,
    ];
    /// Loses a frame now and then, and says nothing.
    frames_are_lost = Loses => [
        a_slow_feed_holds_up_nobody,
        rapid_messages_all_arrive,
    ];
    /// Publishes nothing more after a payload that was too large.
    a_large_payload_poisons = Poisoned => [too_large_a_payload_is_rejected];
    /// Takes payloads over its limit.
    the_limit_is_ignored = IgnoresLimit => [too_large_a_payload_is_rejected];
    /// Starts now, when it is asked to start in the past.
    the_past_is_now = PretendsToRemember => [the_past_is_rejected_by_a_bus_that_keeps_nothing];
    /// Loses the frame of a wait that is dropped.
    a_dropped_wait_loses_a_frame = DropLoses => [a_wait_for_a_frame_can_be_dropped];
}

impl Flaw {
    fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::LogSkips | Self::LogForgets)
    }
}

fn sabotaged(flaw: Flaw) -> Fixture<dyn ClusterBus> {
    let stores = Stores::harmed(Harm {
        one_namespace: flaw == Flaw::OneNamespace,
        ..Harm::default()
    });
    let (connections, logs) = (stores.clone(), Mutex::new(BTreeMap::new()));
    let fixture: Fixture<dyn ClusterBus> = Fixture::shared(async move |namespace: &str| {
        let mut logs = logs.lock().unwrap();
        let shared: &Arc<Shared> = logs.entry(namespace.to_owned()).or_default();
        let bus: Arc<dyn ClusterBus> = Arc::new(Saboteur {
            flaw,
            inner: connections.connect(namespace).bus?,
            shared: Arc::clone(shared),
            own: Arc::default(),
            poisoned: AtomicBool::new(false),
        });
        Some(bus)
    });
    fixture.faults(stores).virtual_time()
}

/// What the saboteurs of one namespace know together.
#[derive(Debug, Default)]
struct Shared {
    log: Mutex<Vec<Frame>>,
    sent: AtomicU64,
    backlogs: Mutex<Vec<Arc<AtomicUsize>>>,
}

/// What the feeds of one connection know together.
#[derive(Debug, Default)]
struct Own {
    instances: Mutex<Vec<Instance>>,
    silent: AtomicBool,
}

struct Saboteur {
    flaw: Flaw,
    inner: Arc<dyn ClusterBus>,
    shared: Arc<Shared>,
    own: Arc<Own>,
    poisoned: AtomicBool,
}

/// A slow feed has so many frames before it.
const BACKLOG: usize = 500;

impl Saboteur {
    fn bend_topic(&self, topic: &Topic) -> Topic {
        match self.flaw {
            Flaw::TopicsFold => Topic::named(topic.name().to_lowercase()),
            _ => topic.clone(),
        }
    }

    fn bend(&self, frame: &Frame) -> Frame {
        let mut frame = frame.clone();
        frame.topic = self.bend_topic(&frame.topic);
        match self.flaw {
            Flaw::LosesAge => frame.age = Duration::ZERO,
            Flaw::CutsPayloads => frame.payload.truncate(65_536),
            Flaw::IgnoresLimit => {
                let limit = self.inner.capabilities().payload_limit;
                frame.payload.truncate(limit.unwrap_or(usize::MAX));
            }
            _ => {}
        }
        frame
    }

    fn is_lost(&self) -> bool {
        self.flaw == Flaw::Loses && self.shared.sent.fetch_add(1, Ordering::SeqCst) % 500 == 499
    }

    /// Waits until no feed has too much before it.
    async fn wait_for_the_slow(&self) {
        let slow = || {
            let backlogs = self.shared.backlogs.lock().unwrap();
            backlogs
                .iter()
                .any(|backlog| backlog.load(Ordering::SeqCst) > BACKLOG)
        };
        while slow() {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where in the log a subscription starts.
    fn place(&self, start: &Start) -> usize {
        let end = self.shared.log.lock().unwrap().len();
        match start {
            Start::Now => end,
            Start::Oldest if self.flaw == Flaw::LogForgets => end,
            Start::Oldest => 0,
            Start::After(cursor) => {
                let after = cursor.as_str().parse().unwrap_or(end);
                let skipped = usize::from(self.flaw == Flaw::LogSkips);
                (after + skipped).min(end)
            }
        }
    }
}

#[async_trait]
impl ClusterBus for Saboteur {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        if let Some(first) = batch.first() {
            self.own.instances.lock().unwrap().push(first.instance);
            if self.poisoned.load(Ordering::SeqCst) {
                return Err(BusError::unavailable("publish", &first.topic, "poisoned"));
            }
        }
        let mut sent: Vec<Frame> = batch.iter().map(|frame| self.bend(frame)).collect();
        match self.flaw {
            Flaw::Reverses => sent.reverse(),
            Flaw::SmallFirst => sent.sort_by_key(|frame| frame.payload.len() > 8_000),
            Flaw::Waits => self.wait_for_the_slow().await,
            _ => sent.retain(|_| !self.is_lost()),
        }
        let limit = self
            .inner
            .capabilities()
            .payload_limit
            .unwrap_or(usize::MAX);
        if self.flaw.is_log() && sent.iter().all(|frame| frame.payload.len() <= limit) {
            self.shared.log.lock().unwrap().extend(sent.iter().cloned());
        }
        for backlog in self.shared.backlogs.lock().unwrap().iter() {
            backlog.fetch_add(sent.len(), Ordering::SeqCst);
        }
        let published = self.inner.publish(&sent).await;
        if published.is_err() && self.flaw == Flaw::Poisoned {
            self.poisoned.store(true, Ordering::SeqCst);
        }
        published
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        let mut asked: Vec<Topic> = topics.iter().map(|topic| self.bend_topic(topic)).collect();
        if self.flaw == Flaw::Leaks {
            asked.push(Topic::named("stray"));
        }
        let place = self.place(&start);
        let from = if self.flaw == Flaw::PretendsToRemember || self.flaw.is_log() {
            Start::Now
        } else {
            start
        };
        let late = self.flaw == Flaw::SubscribesLate;
        let inner = if late {
            None
        } else {
            Some(self.inner.subscribe(&asked, from).await?)
        };
        let backlog = Arc::new(AtomicUsize::new(0));
        self.shared
            .backlogs
            .lock()
            .unwrap()
            .push(Arc::clone(&backlog));
        Ok(Box::new(BentFeed {
            flaw: self.flaw,
            bus: Arc::clone(&self.inner),
            inner,
            topics: asked,
            shared: Arc::clone(&self.shared),
            own: Arc::clone(&self.own),
            place,
            backlog,
            again: VecDeque::new(),
            count: 0,
        }))
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = self.inner.capabilities();
        if self.flaw.is_log() {
            capabilities.durable()
        } else {
            capabilities
        }
    }
}

struct BentFeed {
    flaw: Flaw,
    bus: Arc<dyn ClusterBus>,
    inner: Option<Box<dyn Feed>>,
    topics: Vec<Topic>,
    shared: Arc<Shared>,
    own: Arc<Own>,
    /// The next place in the log.
    place: usize,
    backlog: Arc<AtomicUsize>,
    again: VecDeque<FeedEvent>,
    count: usize,
}

impl Drop for BentFeed {
    fn drop(&mut self) {
        self.backlog.store(0, Ordering::SeqCst);
        self.shared
            .backlogs
            .lock()
            .unwrap()
            .retain(|other| !Arc::ptr_eq(other, &self.backlog));
        if self.flaw == Flaw::DropSilences {
            self.own.silent.store(true, Ordering::SeqCst);
        }
    }
}

impl BentFeed {
    /// The next frame of the log, if it is there.
    fn logged(&mut self) -> Option<FeedEvent> {
        let log = self.shared.log.lock().unwrap();
        while let Some(frame) = log.get(self.place) {
            self.place += 1;
            if self.topics.contains(&frame.topic) {
                let cursor = Some(Cursor::new(self.place.to_string()));
                return Some(FeedEvent::Frame {
                    frame: frame.clone(),
                    cursor,
                });
            }
        }
        None
    }

    async fn ring(&mut self) -> Option<FeedEvent> {
        if self.inner.is_none() {
            self.inner = self.bus.subscribe(&self.topics, Start::Now).await.ok();
        }
        self.inner.as_mut()?.next().await
    }

    /// Whether this event is withheld.
    fn withholds(&self, event: &FeedEvent) -> bool {
        match event {
            FeedEvent::Frame { frame, .. } => {
                let own = self.own.instances.lock().unwrap().contains(&frame.instance);
                self.own.silent.load(Ordering::SeqCst) || self.flaw == Flaw::LeavesOutOwn && own
            }
            FeedEvent::Disconnected => self.flaw == Flaw::HidesCuts,
            FeedEvent::Gap(_) | FeedEvent::Malformed(_) | FeedEvent::Connected => false,
        }
    }

    fn repeats(&self, backlog: usize) -> bool {
        match self.flaw {
            Flaw::Duplicates => self.count.is_multiple_of(7),
            Flaw::SlowReadsTwice => backlog > BACKLOG && self.count.is_multiple_of(50),
            _ => false,
        }
    }
}

#[async_trait]
impl Feed for BentFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        if self.flaw.is_log() {
            loop {
                if let Some(event) = self.logged() {
                    return Some(event);
                }
                match self.ring().await? {
                    // Only a doorbell: what is delivered comes from the log.
                    FeedEvent::Frame { .. } => {}
                    other => return Some(other),
                }
            }
        }
        if let Some(event) = self.again.pop_front() {
            return Some(event);
        }
        loop {
            let event = self.ring().await?;
            if self.flaw == Flaw::DropLoses {
                tokio::task::yield_now().await;
            }
            if self.withholds(&event) {
                continue;
            }
            self.count += 1;
            let backlog = self.backlog.load(Ordering::SeqCst);
            self.backlog
                .store(backlog.saturating_sub(1), Ordering::SeqCst);
            if self.flaw == Flaw::EndsSlow && backlog > BACKLOG {
                return None;
            }
            if self.repeats(backlog) {
                self.again.push_back(event.clone());
            }
            return Some(event);
        }
    }
}
