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
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    backlog: Backlog,
    /// There is no connection.
    is_down: bool,
    /// Those channels that are not heard although there is one.
    deaf: BTreeSet<Bytes>,
}

impl Waiting {
    fn is_whole(&self) -> bool {
        !self.is_down && self.deaf.is_empty()
    }

    /// Tells it if it is otherwise than it was.
    fn tell(&mut self, was_whole: bool) {
        let is_whole = self.is_whole();
        if is_whole != was_whole {
            self.backlog.set_connected(is_whole);
        }
    }
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
        lock(&self.waiting).backlog.push(run);
        self.news.notify_one();
    }

    /// Something arrived that is no frame.
    pub(super) fn malformed(&self, bad: BadFrame) {
        lock(&self.waiting).backlog.malformed(bad);
        self.news.notify_one();
    }

    /// The connection is there again, or has ended.
    pub(super) fn set_connected(&self, connected: bool) {
        let mut waiting = lock(&self.waiting);
        let was_whole = waiting.is_whole();
        waiting.is_down = !connected;
        waiting.tell(was_whole);
        drop(waiting);
        self.news.notify_one();
    }

    /// One of the channels is heard again, or no longer. It is connected when all are.
    pub(super) fn set_heard(&self, channel: &Bytes, heard: bool) {
        let mut waiting = lock(&self.waiting);
        let was_whole = waiting.is_whole();
        if heard {
            waiting.deaf.remove(channel);
        } else {
            waiting.deaf.insert(channel.clone());
        }
        waiting.tell(was_whole);
        drop(waiting);
        self.news.notify_one();
    }

    /// What comes next, if it is there.
    pub(super) fn pop(&self) -> Option<FeedEvent> {
        lock(&self.waiting).backlog.pop()
    }

    /// Waits for something to come. Cancel safe: what came since the last wait ends the next.
    pub(super) async fn arrived(&self) {
        self.news.notified().await;
    }
}
