//! The bus: who has subscribed to what, and how frames get there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use coordinator_core::{
    BusError, Capabilities, ClusterBus, Feed, Frame, MAX_SCOPED_BYTES, MemberId, Start, Topic,
    async_trait,
};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::faults::Failure;
use crate::feed::{Arrival, FeedId, Limits, MemoryFeed, Parcel, Queue, weight};
use crate::link::LinkState;
use crate::store::Settings;
use crate::sync::Shared;

/// All subscriptions of all members.
#[derive(Debug)]
pub(crate) struct BusHub {
    limits: Limits,
    routes: Shared<Routes>,
    /// Whether any fault of the bus was ever set: until then frames take a shorter way.
    faults: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Routes {
    feeds: BTreeMap<FeedId, Subscriber>,
    topics: BTreeMap<Topic, Vec<(FeedId, Arc<Queue>)>>,
    subscriptions: u64,
    partitions: Vec<(BTreeSet<MemberId>, BTreeSet<MemberId>)>,
}

#[derive(Debug)]
struct Subscriber {
    queue: Arc<Queue>,
    link: Arc<LinkState>,
    process: Weak<crate::gate::Gate>,
}

impl BusHub {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            limits: Limits {
                frames: settings.feed_frames,
                bytes: settings.feed_bytes,
            },
            routes: Shared::default(),
            faults: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// From now on every frame's way is looked at.
    pub(crate) fn faults_may_exist(&self) {
        self.faults.store(true, Ordering::Release);
    }

    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Release);
        self.refresh();
    }

    /// Tells each feed whether it is connected, and closes those whose process is dead.
    pub(crate) fn refresh(&self) {
        let running = !self.stopped.load(Ordering::Acquire);
        for subscriber in self.routes.lock().feeds.values() {
            let gate = subscriber.process.upgrade();
            if gate.is_none_or(|gate| gate.is_crashed()) {
                subscriber.queue.close();
            } else {
                let connected = running && subscriber.link.passes_bus();
                subscriber.queue.set_connected(connected);
            }
        }
    }

    pub(crate) fn partition(&self, one: BTreeSet<MemberId>, other: BTreeSet<MemberId>) {
        self.faults_may_exist();
        self.routes.lock().partitions.push((one, other));
    }

    pub(crate) fn heal_partitions(&self) {
        self.routes.lock().partitions.clear();
    }

    fn subscribe(&self, topics: BTreeSet<Topic>, connection: &Connection) -> MemoryFeed {
        let queue = Arc::new(Queue::new(topics, self.limits));
        let mut routes = self.routes.lock();
        routes.subscriptions += 1;
        let id = FeedId(routes.subscriptions);
        for topic in &queue.topics {
            let route = routes.topics.entry(topic.clone()).or_default();
            route.push((id, queue.clone()));
        }
        let subscriber = Subscriber {
            queue: queue.clone(),
            link: connection.link.clone(),
            process: Arc::downgrade(&connection.process.gate),
        };
        routes.feeds.insert(id, subscriber);
        drop(routes);
        // The link may have been cut while the feed was not yet known.
        self.refresh();
        MemoryFeed::new(id, queue, connection)
    }

    pub(crate) fn unsubscribe(&self, id: FeedId) {
        let mut routes = self.routes.lock();
        let Some(subscriber) = routes.feeds.remove(&id) else {
            return;
        };
        for topic in &subscriber.queue.topics {
            if let Some(route) = routes.topics.get_mut(topic) {
                route.retain(|(feed, _)| *feed != id);
                if route.is_empty() {
                    routes.topics.remove(topic);
                }
            }
        }
    }

    fn publish(&self, batch: &[Frame], from: &LinkState) {
        let routes = self.routes.lock();
        if self.faults.load(Ordering::Acquire) {
            routes.publish_each(batch, from);
        } else {
            routes.publish_whole(batch);
        }
    }
}

impl Routes {
    /// One parcel for each subscriber, no fault in the way.
    fn publish_whole(&self, batch: &[Frame]) {
        let Some(first) = batch.first() else {
            return;
        };
        if batch.iter().all(|frame| frame.topic == first.topic) {
            if let Some(route) = self.topics.get(&first.topic) {
                let frames: Arc<[Frame]> = batch.into();
                let bytes = batch.iter().map(weight).sum();
                for (_, queue) in route {
                    queue.push(Parcel::whole(frames.clone(), bytes));
                }
            }
            return;
        }
        let frames: Arc<[Frame]> = batch.into();
        for queue in self.wanting(batch).values() {
            queue.push(Parcel::picked(frames.clone(), &queue.topics));
        }
    }

    /// All subscribers of any topic of a batch, each once.
    fn wanting(&self, batch: &[Frame]) -> BTreeMap<FeedId, &Arc<Queue>> {
        let topics: BTreeSet<&Topic> = batch.iter().map(|frame| &frame.topic).collect();
        topics
            .into_iter()
            .filter_map(|topic| self.topics.get(topic))
            .flatten()
            .map(|(id, queue)| (*id, queue))
            .collect()
    }

    /// Frame by frame, for each may meet another fate.
    fn publish_each(&self, batch: &[Frame], from: &LinkState) {
        let frames: Arc<[Frame]> = batch.into();
        for id in self.wanting(batch).into_keys() {
            let Some(subscriber) = self.feeds.get(&id) else {
                continue;
            };
            if self.parted(&from.name, &subscriber.link.name) {
                continue;
            }
            for (index, frame) in batch.iter().enumerate() {
                if subscriber.queue.topics.contains(&frame.topic) {
                    subscriber.send(&Parcel::single(frames.clone(), index), from);
                }
            }
        }
    }

    fn parted(&self, one: &MemberId, other: &MemberId) -> bool {
        self.partitions.iter().any(|(left, right)| {
            (left.contains(one) && right.contains(other))
                || (left.contains(other) && right.contains(one))
        })
    }
}

impl Subscriber {
    fn send(&self, parcel: &Parcel, from: &LinkState) {
        let faults = self.link.faults();
        if self.link.chance(faults.bus_loss) {
            return;
        }
        let copies = 1 + usize::from(self.link.chance(faults.duplicate));
        for _ in 0..copies {
            let arrival = Arrival {
                at: Instant::now() + from.delay() + self.link.delay(),
                overtakes: faults.reorder,
            };
            self.queue.push_late(parcel.clone(), arrival);
        }
    }
}

#[async_trait]
impl ClusterBus for Connection {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        self.check_batch(batch)?;
        let failed = |failure: Failure| {
            if failure.may_have_happened() {
                BusError::indeterminate("publish", &first.topic, failure)
            } else {
                BusError::unavailable("publish", &first.topic, failure)
            }
        };
        self.can_ask().await.map_err(failed)?;
        let plan = self.link.plan_publish().map_err(failed)?;
        if !plan.request_lost {
            self.hub.bus.publish(batch, &self.link);
        }
        if plan.request_lost || plan.reply_lost {
            return Err(failed(self.no_reply().await));
        }
        Ok(())
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        start.must_be_now()?;
        let any = || topics.first().cloned().unwrap_or(Topic::new("*"));
        for topic in topics {
            check_topic("subscribe to", topic)?;
        }
        let unavailable = |failure| BusError::unavailable("subscribe to", any(), failure);
        self.can_ask().await.map_err(unavailable)?;
        if !self.link.passes_bus() {
            return Err(unavailable(Failure::Cut));
        }
        let topics = topics.iter().cloned().collect();
        Ok(Box::new(self.hub.bus.subscribe(topics, self)))
    }

    fn capabilities(&self) -> Capabilities {
        match self.hub.settings.payload_limit {
            Some(limit) => Capabilities::new().payload_limit(limit),
            None => Capabilities::new(),
        }
    }
}

impl Connection {
    /// Refuses a batch as a whole, before any of it is out.
    fn check_batch(&self, batch: &[Frame]) -> Result<(), BusError> {
        let limit = self.hub.settings.payload_limit.unwrap_or(usize::MAX);
        for frame in batch {
            check_topic("publish", &frame.topic)?;
            let bytes = frame.payload.len();
            if bytes > limit {
                let error = format!("the payload has {bytes} bytes, allowed are {limit}");
                return Err(BusError::rejected("publish", &frame.topic, error));
            }
        }
        Ok(())
    }
}

fn check_topic(operation: &'static str, topic: &Topic) -> Result<(), BusError> {
    match topic.name().len() {
        1..=MAX_SCOPED_BYTES => Ok(()),
        given => {
            let bad = format!("the topic has {given} bytes, allowed are 1 to {MAX_SCOPED_BYTES}");
            Err(BusError::rejected(operation, topic, bad))
        }
    }
}
