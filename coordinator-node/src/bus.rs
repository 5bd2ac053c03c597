//! The cluster bus: typed messages to every member of the group, and word of what is missing.
//!
//! ```no_run
//! # use std::collections::BTreeSet;
//! # use coordinator_node::{Bus, BusError, Incoming, Topic};
//! /// Names of those whose price is not known any more.
//! const CHANGED: Topic<String> = Topic::new("changed");
//!
//! async fn forget_what_changed(bus: &Bus, known: &mut BTreeSet<String>) -> Result<(), BusError> {
//!     let mut changes = bus.subscribe(&CHANGED).await?;
//!     bus.publish(&CHANGED, &"4711".to_owned()).await?;
//!     while let Some(change) = changes.next().await {
//!         match change {
//!             Incoming::Message(changed) => drop(known.remove(&changed.payload)),
//!             Incoming::Gap(_) | Incoming::Malformed(_) => known.clear(), // all may have changed
//!         }
//!     }
//!     Ok(())
//! }
//! ```

mod feed;
mod flusher;
mod message;
mod outgoing;
mod queue;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_core::{BoxError, BusError, Bytes, ClusterBus, Payload, Start, Topic, scoped};
use tokio::time::timeout;
use tracing::warn;

use crate::context::Context;
use crate::tasks::Handle;
use feed::{Reader, TopicFeed};
use flusher::Flusher;
#[cfg(feature = "json")]
pub use message::Json;
pub use message::{Incoming, Malformed, Message};
use outgoing::{Entry, Outgoing, Place, QueueFull, ShutDown, Ticket};
use queue::Queue;
pub use subscribe::{Subscribe, Subscription};

/// What is queued has so long to leave when the node shuts down.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The wire names of so many topics are remembered.
const REMEMBERED_NAMES: usize = 4_096;

/// A node's part in the bus: one flusher, and one feed per topic that is subscribed to.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Inner>,
    flusher: Mutex<Option<Handle<()>>>,
}

impl Hub {
    /// Starts the flusher. `None`: the backend has no bus.
    pub(crate) fn start(context: &Arc<Context>) -> Option<Self> {
        let bus = context.backend.bus.clone()?;
        let outgoing = Arc::new(Outgoing::new());
        let flusher = Flusher::new(context.clone(), bus.clone(), outgoing.clone());
        let flusher = context.tasks.spawn(flusher.run());
        let shared = Inner {
            context: context.clone(),
            payload_limit: bus.capabilities().payload_limit,
            bus,
            outgoing,
            names: Mutex::default(),
            feeds: Mutex::default(),
        };
        Some(Self {
            shared: Arc::new(shared),
            flusher: Mutex::new(Some(flusher)),
        })
    }

    /// A handle for users.
    pub(crate) fn bus(&self) -> Bus {
        Bus {
            shared: Ok(self.shared.clone()),
        }
    }

    /// Sends what is queued, for at most 5 seconds; then every subscription yields `None`, and
    /// nothing else (H17). Idempotent.
    pub(crate) async fn close(&self) {
        self.shared.outgoing.close();
        let flusher = lock(&self.flusher).take();
        if let Some(mut flusher) = flusher
            && timeout(FLUSH_WITHIN, &mut flusher).await.is_err()
        {
            warn!(group = %self.shared.context.group, "messages are left unsent");
            flusher.abort();
            self.shared.outgoing.abandon();
        }
        self.shared.close_feeds();
    }
}

/// The bus of a node, as users see it. Cheap to clone.
///
/// Topics belong to the node's group: another group's topic of the same name is another topic.
#[derive(Clone)]
pub struct Bus {
    shared: Result<Arc<Inner>, Missing>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shared {
            Ok(shared) => write!(f, "Bus({:?})", shared.context.group),
            Err(_) => f.write_str("Bus(missing)"),
        }
    }
}

/// The backend has no bus.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this needs the backend's `bus`, which this node's backend does not have")]
pub(crate) struct Missing;

/// A payload that the bus does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload has {given} bytes, allowed are {allowed}")]
#[non_exhaustive]
pub struct PayloadTooLarge {
    /// Its size, encoded.
    pub given: usize,
    /// The bus's limit.
    pub allowed: usize,
}

impl Bus {
    /// The bus of a node whose backend has none: everything is rejected, and says why.
    pub(crate) fn missing() -> Self {
        Self {
            shared: Err(Missing),
        }
    }

    /// Publishes a message to every subscriber of the topic, this node's own too.
    ///
    /// The message is encoded and, as far as the queue of 16 MiB has room, queued by the call
    /// itself, so messages leave in the order of the calls. The future is done when the backend has
    /// accepted it; while the queue is full it first waits for room, and leaves in the order of
    /// awaiting. To publish many, make the calls first and await the futures then: what
    /// is queued while a batch is in flight leaves together in the next one.
    ///
    /// # Errors
    /// - [`BusError::Rejected`]: the payload does not encode, is larger than the bus takes
    ///   ([`PayloadTooLarge`]), or the topic's name is no name; the bus is missing or shut down; or
    ///   the backend refused. Nothing was sent.
    /// - [`BusError::Unavailable`]: there was no room in the queue for 5 seconds, or the message was
    ///   not sent within 5 seconds, or the backend was not reached for 5 seconds. Nothing was sent.
    /// - [`BusError::Indeterminate`]: it was sent, again and again for 5 seconds, and the outcome is
    ///   unknown.
    ///
    /// Subscribers are told of a gap where a message may have left and did not arrive.
    ///
    /// # Cancel safety
    /// A dropped future's message is sent in the background, and nobody is told how that went;
    /// except while the queue is full: then it is withdrawn.
    pub fn publish<T: Payload>(
        &self,
        topic: &Topic<T>,
        message: &T,
    ) -> impl Future<Output = Result<(), BusError>> + Send + use<T> {
        let begun = self.open().and_then(|shared| {
            topic.check()?;
            let wire = shared.wire_name(topic.name());
            shared.begin(wire, message.encode()?)
        });
        finish(begun, topic.untyped())
    }

    /// Subscribes to a topic: set options, and await it.
    pub fn subscribe<T: Payload>(&self, topic: &Topic<T>) -> Subscribe<T> {
        let wire = match &self.shared {
            Ok(shared) => shared.wire_name(topic.name()),
            Err(_) => topic.untyped(),
        };
        Subscribe::new(self.shared.clone(), topic.clone(), wire)
    }

    /// For the node's own messages: the topic is named as it is on the wire.
    pub(crate) fn publish_raw(
        &self,
        topic: &Topic,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), BusError>> + Send + use<> {
        let begun = self.open();
        let begun = begun.and_then(|shared| shared.begin(topic.clone(), payload));
        finish(begun, topic.clone())
    }

    /// For the node's own messages: the topic is named as it is on the wire.
    pub(crate) fn subscribe_raw(&self, topic: &Topic) -> Subscribe<Bytes> {
        Subscribe::new(self.shared.clone(), topic.clone(), topic.clone())
    }

    fn open(&self) -> Result<&Arc<Inner>, BoxError> {
        self.shared.as_ref().map_err(|missing| (*missing).into())
    }
}

/// A publish whose first, synchronous half is done.
enum Begun {
    Queued(Ticket),
    Waiting(Arc<Inner>, Entry),
}

/// The second half of a publish.
async fn finish(begun: Result<Begun, BoxError>, topic: Topic) -> Result<(), BusError> {
    let ticket = match begun {
        Ok(Begun::Queued(ticket)) => ticket,
        Ok(Begun::Waiting(shared, entry)) => {
            let now = || shared.context.steady.now();
            match shared.outgoing.wait_for_room(now, entry).await {
                Place::Queued(ticket) => ticket,
                Place::Full => return Err(BusError::unavailable("publish", topic, QueueFull)),
                Place::Closed => return Err(BusError::rejected("publish", topic, ShutDown)),
            }
        }
        Err(error) => return Err(BusError::rejected("publish", topic, error)),
    };
    let sent = ticket.await;
    sent.map_err(|failure| failure.into_error("publish", topic))
}

/// What all handles, subscriptions and tasks of the bus share.
struct Inner {
    context: Arc<Context>,
    bus: Arc<dyn ClusterBus>,
    payload_limit: Option<usize>,
    outgoing: Arc<Outgoing>,
    /// What topics are called on the wire.
    names: Mutex<BTreeMap<String, Topic>>,
    feeds: Mutex<Feeds>,
}

#[derive(Default)]
struct Feeds {
    /// By their names on the wire: one for all subscribers that begin now.
    shared: BTreeMap<Topic, Arc<TopicFeed>>,
    /// One for each subscriber that begins in the past.
    own: Vec<Arc<TopicFeed>>,
    closed: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// `group/topic/name`: the topics of two groups never meet.
    fn wire_name(&self, name: &str) -> Topic {
        let mut names = lock(&self.names);
        if let Some(wire) = names.get(name) {
            return wire.clone();
        }
        if names.len() >= REMEMBERED_NAMES {
            names.clear();
        }
        let wire = Topic::named(scoped(&self.context.group, "topic", name));
        names.insert(name.to_owned(), wire.clone());
        wire
    }

    fn begin(self: &Arc<Self>, wire: Topic, payload: Bytes) -> Result<Begun, BoxError> {
        let given = payload.len();
        if let Some(allowed) = self.payload_limit.filter(|limit| given > *limit) {
            return Err(PayloadTooLarge { given, allowed }.into());
        }
        let topic = wire;
        match self
            .outgoing
            .offer(|| self.context.steady.now(), Entry { topic, payload })
        {
            Ok(Place::Queued(ticket)) => Ok(Begun::Queued(ticket)),
            Ok(Place::Closed | Place::Full) => Err(ShutDown.into()),
            Err(entry) => Ok(Begun::Waiting(self.clone(), entry)),
        }
    }

    /// Puts a subscriber's queue to a feed, and opens that feed if it is the first.
    fn join_feed(
        &self,
        wire: Topic,
        start: Start,
        queue: Arc<Queue>,
    ) -> Result<Arc<TopicFeed>, ShutDown> {
        let mut feeds = lock(&self.feeds);
        if feeds.closed {
            return Err(ShutDown);
        }
        if start == Start::Now
            && let Some(feed) = feeds.shared.get(&wire)
            && feed.is_usable()
        {
            feed.attach(queue);
            return Ok(feed.clone());
        }
        let feed = TopicFeed::new(wire, start);
        feed.attach(queue);
        if feed.is_shared() {
            feeds.shared.insert(feed.topic.clone(), feed.clone());
        } else {
            feeds.own.push(feed.clone());
        }
        let reader = Reader::new(self.context.clone(), self.bus.clone(), feed.clone());
        drop(self.context.tasks.spawn(reader.run()));
        Ok(feed)
    }

    /// Takes a subscriber's queue out. A feed that nobody listens to ends.
    fn leave_feed(&self, feed: &Arc<TopicFeed>, queue: &Arc<Queue>) {
        let mut feeds = lock(&self.feeds);
        if !feed.detach(queue) {
            return;
        }
        feed.end();
        feeds.own.retain(|other| !Arc::ptr_eq(other, feed));
        let ours = feeds.shared.get(&feed.topic);
        // Where it was refused, a later one may have taken its place.
        if ours.is_some_and(|ours| Arc::ptr_eq(ours, feed)) {
            feeds.shared.remove(&feed.topic);
        }
    }

    fn close_feeds(&self) {
        let ended = {
            let mut feeds = lock(&self.feeds);
            let closed = Feeds {
                closed: true,
                ..Feeds::default()
            };
            std::mem::replace(&mut *feeds, closed)
        };
        for feed in ended.shared.into_values().chain(ended.own) {
            feed.close();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
