//! A bus that counts what goes through it, and one that speaks like a later release.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coordinator_node::core::{ClusterBus, Feed, FeedEvent, Frame, async_trait};
use coordinator_node::{BusError, Start, Topic};

/// How many messages of elections passed.
#[derive(Default)]
pub(crate) struct Count {
    sent: AtomicU64,
    delivered: AtomicU64,
}

impl Count {
    /// Sent and delivered so far, oneself's own not counted.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.sent), read(&self.delivered))
    }
}

/// Counts the messages of elections.
pub(crate) struct Counted {
    pub(crate) inner: Arc<dyn ClusterBus>,
    pub(crate) name: String,
    pub(crate) count: Arc<Count>,
}

fn is_vote(frame: &Frame) -> bool {
    let name = frame.topic.name();
    name.contains("/votes/") || name.contains("/ballots/")
}

struct CountedFeed {
    inner: Box<dyn Feed>,
    name: String,
    count: Arc<Count>,
}

#[async_trait]
impl ClusterBus for Counted {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let votes = batch.iter().filter(|frame| is_vote(frame)).count();
        self.count.sent.fetch_add(votes as u64, Ordering::Relaxed);
        self.inner.publish(batch).await
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        Ok(Box::new(CountedFeed {
            inner: self.inner.subscribe(topics, start).await?,
            name: self.name.clone(),
            count: self.count.clone(),
        }))
    }
}

#[async_trait]
impl Feed for CountedFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        let event = self.inner.next().await;
        if let Some(FeedEvent::Frame { frame, .. }) = &event
            && is_vote(frame)
            && frame.origin.as_str() != self.name
        {
            self.count.delivered.fetch_add(1, Ordering::Relaxed);
        }
        event
    }
}

/// Writes votes as a later release might: under a higher version, with fields at the end that this
/// one does not know.
pub(crate) struct Later(pub(crate) Arc<dyn ClusterBus>);

#[async_trait]
impl ClusterBus for Later {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let later = |frame: &Frame| {
            let mut frame = frame.clone();
            if is_vote(&frame) {
                let mut bytes = frame.payload.to_vec();
                bytes[0] += 1;
                bytes.extend(b"of a later release");
                frame.payload = bytes.into();
            }
            frame
        };
        let batch: Vec<_> = batch.iter().map(later).collect();
        self.0.publish(&batch).await
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        self.0.subscribe(topics, start).await
    }
}
