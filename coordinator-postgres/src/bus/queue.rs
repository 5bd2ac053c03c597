//! What waits for one subscriber, and the subscriber's wait for it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use coordinator_core::relay::{Backlog, Run};
use coordinator_core::{BadFrame, FeedEvent, Topic};
use tokio::sync::Notify;

use crate::session::lock;

/// One subscriber's queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) topics: BTreeSet<Topic>,
    waiting: Mutex<Backlog>,
    news: Notify,
}

impl Queue {
    pub(super) fn new(topics: BTreeSet<Topic>) -> Self {
        Self {
            topics,
            waiting: Mutex::default(),
            news: Notify::new(),
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

    /// The session is there again, or has ended.
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
