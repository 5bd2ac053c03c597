//! The subscriber's side.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coordinator_core::{BoxError, BusError, Gap, GapCause, MemberId, Payload, Start, Topic};
use futures_core::Stream;
use tokio::task::coop::poll_proceed;

use super::feed::TopicFeed;
use super::message::{Incoming, Malformed, Message};
use super::queue::{Chunk, Event, Item, QUEUE_MESSAGES, Queue};
use super::{Inner, Missing};

/// A subscription to be made: set what it should be, and await it.
///
/// ```no_run
/// # use coordinator_node::{Bus, BusError, Subscription, Topic};
/// const NEWS: Topic<String> = Topic::new("news");
///
/// async fn news_of_others(bus: &Bus) -> Result<Subscription<String>, BusError> {
///     bus.subscribe(&NEWS).others_only().capacity(64).await
/// }
/// ```
#[must_use = "nothing is subscribed to until this is awaited"]
pub struct Subscribe<T> {
    bus: Result<Arc<Inner>, Missing>,
    topic: Topic<T>,
    /// As the topic is called on the wire.
    wire: Topic,
    start: Start,
    others_only: bool,
    capacity: usize,
}

impl<T> fmt::Debug for Subscribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("topic", &self.topic)
            .field("start", &self.start)
            .field("others_only", &self.others_only)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<T: Payload> Subscribe<T> {
    pub(super) fn new(bus: Result<Arc<Inner>, Missing>, topic: Topic<T>, wire: Topic) -> Self {
        Self {
            bus,
            topic,
            wire,
            start: Start::Now,
            others_only: false,
            capacity: QUEUE_MESSAGES,
        }
    }

    /// Where to begin: with what is published from now on (the default), or in the past, which only
    /// a durable bus can. A subscription that begins in the past reads at its own pace: when its
    /// queue is full it stops reading, and drops nothing.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Leaves out what this node publishes itself. By default it arrives, too.
    pub fn others_only(mut self) -> Self {
        self.others_only = true;
        self
    }

    /// So many messages may wait for this subscriber; at least 1. The default is 1,024. Beside
    /// them up to 128 are already on their way to `next`, and in any case no more than 8 MiB wait.
    ///
    /// Where more would wait, the newest are dropped and reported as a gap with
    /// [`GapCause::Slow`] and their exact number.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    async fn subscribe(self) -> Result<Subscription<T>, BusError> {
        let rejected =
            |source: BoxError| BusError::rejected("subscribe", self.topic.untyped(), source);
        let bus = self
            .bus
            .clone()
            .map_err(|missing| rejected(missing.into()))?;
        self.topic.check().map_err(|bad| rejected(bad.into()))?;
        let paced = self.start != Start::Now;
        let queue = Arc::new(Queue::new(self.capacity, self.others_only, paced));
        let feed = bus.join_feed(self.wire, self.start, queue.clone());
        let feed = feed.map_err(|down| rejected(down.into()))?;
        // From here on dropping this future takes the queue out again.
        let subscription = Subscription {
            bus,
            feed,
            queue,
            hand: None,
            topic: self.topic,
            origin: None,
        };
        match subscription.feed.live().await {
            Ok(waited) => {
                if waited && subscription.feed.is_shared() {
                    // What came before we were live, and the gap of a reconnect that others had.
                    subscription.queue.clear();
                }
                Ok(subscription)
            }
            Err(failure) => Err(failure.into_error("subscribe", subscription.topic.untyped())),
        }
    }
}

impl<T: Payload> IntoFuture for Subscribe<T> {
    type Output = Result<Subscription<T>, BusError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Subscribes. The subscription is live when this returns: what is published afterwards, by
    /// anybody, arrives or is reported as a gap. During an outage this waits for up to 5 seconds,
    /// and then fails with [`BusError::Unavailable`]. Cancel safe.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.subscribe())
    }
}

/// Yields what arrives on a topic. Dropping it unsubscribes.
#[must_use = "dropping a subscription unsubscribes"]
pub struct Subscription<T> {
    bus: Arc<Inner>,
    feed: Arc<TopicFeed>,
    queue: Arc<Queue>,
    /// What was taken out of the queue and not yet yielded.
    hand: Option<(Arc<Chunk>, Range<usize>)>,
    topic: Topic<T>,
    /// The last origin, in a copy of our own: subscribers on several threads that all count the
    /// clones of one name wait for each other.
    origin: Option<MemberId>,
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl<T: Payload> Subscription<T> {
    /// The next message, gap or malformed message; `None` after the node has shut down.
    ///
    /// Cancel safe: what a dropped call would have yielded, the next one does.
    pub async fn next(&mut self) -> Option<Incoming<T>> {
        poll_fn(|cx| self.poll_incoming(cx)).await
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming<T>>> {
        loop {
            // H17: not even what is at hand.
            if self.queue.is_closed() {
                self.hand = None;
                return Poll::Ready(None);
            }
            if let Some(incoming) = self.take_in_hand() {
                return Poll::Ready(Some(incoming));
            }
            // A subscriber that always finds something must not keep others from running.
            let turn = ready!(poll_proceed(cx));
            match ready!(self.queue.poll_pop(cx)) {
                Some(Item::Events(chunk, range)) => self.hand = Some((chunk, range)),
                Some(Item::Slow(missing)) => {
                    turn.made_progress();
                    return Poll::Ready(Some(Incoming::Gap(self.slow(missing))));
                }
                None => return Poll::Ready(None),
            }
            turn.made_progress();
        }
    }

    fn take_in_hand(&mut self) -> Option<Incoming<T>> {
        let (chunk, range) = self.hand.as_mut()?;
        // Counted before it is decoded: a decoder that panics is not met again.
        let index = range.next();
        if let Some(event) = index.and_then(|index| chunk.event(index)) {
            return Some(decode(&self.topic, &mut self.origin, event));
        }
        self.hand = None;
        None
    }

    fn slow(&self, missing: Option<u64>) -> Gap {
        let mut gap = Gap::new(GapCause::Slow);
        gap.topic = Some(self.topic.untyped());
        gap.missing = missing;
        gap
    }
}

/// Decoded here, in the subscriber's own task: what goes wrong in it hurts nobody else (B11).
fn decode<T: Payload>(
    topic: &Topic<T>,
    known: &mut Option<MemberId>,
    event: &Event,
) -> Incoming<T> {
    match event {
        Event::Message {
            origin,
            cursor,
            payload,
            own: _,
        } => match T::decode(payload.clone()) {
            Ok(payload) => Incoming::Message(Message {
                topic: topic.clone(),
                origin: copy_of(origin, known),
                cursor: cursor.clone(),
                payload,
            }),
            Err(error) => {
                crate::telemetry::count(crate::telemetry::BUS_MALFORMED, 1, &[]);
                Incoming::Malformed(Malformed {
                    topic: topic.untyped(),
                    origin: Some(origin.clone()),
                    cursor: cursor.clone(),
                    error,
                    bytes: payload.clone(),
                })
            }
        },
        Event::Gap(gap) => {
            let mut gap = Gap::clone(gap);
            gap.topic = Some(topic.untyped());
            Incoming::Gap(gap)
        }
        Event::Malformed(bad) => Incoming::Malformed(Malformed {
            topic: topic.untyped(),
            origin: None,
            cursor: bad.cursor.clone(),
            error: bad.error.clone().into(),
            bytes: coordinator_core::Bytes::new(),
        }),
    }
}

impl<T> Unpin for Subscription<T> {}

impl<T: Payload> Stream for Subscription<T> {
    type Item = Incoming<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_incoming(cx)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.bus.leave_feed(&self.feed, &self.queue);
    }
}

/// The name, as a clone of the copy that is known here.
fn copy_of(origin: &MemberId, known: &mut Option<MemberId>) -> MemberId {
    match known {
        Some(known) if known == origin => known.clone(),
        _ => known.insert(MemberId::from(origin.as_str())).clone(),
    }
}
