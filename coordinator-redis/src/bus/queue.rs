//! What waits for one subscriber, and the subscriber's wait for it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;
use coordinator_core::relay::{Backlog, Run};
use coordinator_core::{BadFrame, FeedEvent};
use tokio::sync::Notify;

use super::lock;

/// One subscriber's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) channels: BTreeSet<Bytes>,
    waiting: Mutex<Backlog>,
    news: Notify,
}

impl Queue {
    pub(super) fn new(channels: BTreeSet<Bytes>) -> Self {
        Self {
            channels,
            ..Self::default()
        }
    }

    /// Adds what arrived, as far as there is room.
    pub(super) fn push(&self, run: &Run) {
        lock(&self.waiting).push(run);
        self.news.notify_one();
    }

    /// Something arrived that is no frame.
    pub(super) fn malformed(&self, bad: BadFrame) {
        lock(&self.waiting).malformed(bad);
        self.news.notify_one();
    }

    /// The connection is there again, or has ended.
    pub(super) fn set_connected(&self, connected: bool) {
        lock(&self.waiting).set_connected(connected);
        self.news.notify_one();
    }

    /// What comes next, if it is there.
    pub(super) fn pop(&self) -> Option<FeedEvent> {
        lock(&self.waiting).pop()
    }

    /// Waits for something to come. Cancel safe: what came since the last wait ends the next.
    pub(super) async fn arrived(&self) {
        self.news.notified().await;
    }
}
