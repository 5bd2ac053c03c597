//! News of logs, on their way to the feeds. They are hints, which may save a read: what has no room is read from the stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use coordinator_core::FeedEvent;
use coordinator_core::relay::Backlog;
use tokio::sync::Notify;

use super::Entry;
use crate::bus::ear::Hears;
use crate::bus::lock;

/// So much waits for a reader.
const MAX_NEWS: usize = 1_024;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// That a log has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) identity: Arc<str>,
    /// The entry. Without its packet if that is large.
    pub(super) entry: Entry,
}

impl News {
    /// `IDENTITY ID NUMBER PACKET`, as `log_append.lua` tells it.
    fn read(payload: &Bytes) -> Option<Self> {
        let mut parts = payload.splitn(4, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(parts.next()?).ok();
        let (identity, id, first) = (text()?, text()?.parse().ok()?, text()?.parse().ok()?);
        let packet = payload.slice_ref(parts.next()?);
        Some(Self {
            identity: identity.into(),
            entry: Entry { id, first, packet },
        })
    }
}

/// What one feed is told.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    channels: BTreeSet<Bytes>,
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    news: VecDeque<(Bytes, News)>,
    bytes: usize,
    /// News were not taken down: the logs are to be read.
    missed: bool,
    events: Backlog,
}

impl Inbox {
    pub(super) fn new(channels: BTreeSet<Bytes>) -> Self {
        Self {
            channels,
            ..Self::default()
        }
    }

    fn push(&self, channel: &Bytes, news: Option<News>) {
        let mut waiting = lock(&self.waiting);
        let has_room = waiting.news.len() < MAX_NEWS && waiting.bytes < MAX_BYTES;
        match news.filter(|_| has_room && !waiting.missed) {
            Some(news) => {
                waiting.bytes += news.entry.packet.len();
                waiting.news.push_back((channel.clone(), news));
            }
            None => waiting.missed = true,
        }
        drop(waiting);
        self.rung.notify_one();
    }

    fn set_connected(&self, connected: bool) {
        let mut waiting = lock(&self.waiting);
        waiting.events.set_connected(connected);
        waiting.missed = true;
        drop(waiting);
        self.rung.notify_one();
    }

    /// Connects and disconnects.
    pub(super) fn event(&self) -> Option<FeedEvent> {
        lock(&self.waiting).events.pop()
    }

    /// The next news, and the channel that they came by.
    pub(super) fn news(&self) -> Option<(Bytes, News)> {
        let mut waiting = lock(&self.waiting);
        let news = waiting.news.pop_front()?;
        waiting.bytes -= news.1.entry.packet.len();
        Some(news)
    }

    /// Whether some were missed since this was asked last. Asked when all news were taken: those missed came behind them.
    pub(super) fn missed(&self) -> bool {
        std::mem::take(&mut lock(&self.waiting).missed)
    }

    /// Waits for anything. Cancel safe: what came since the last wait ends the next.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

/// Hands news to feeds.
#[derive(Debug, Default)]
pub(in crate::bus) struct LogRouter {
    inboxes: Mutex<BTreeMap<Bytes, Vec<Arc<Inbox>>>>,
}

impl LogRouter {
    /// Adds a feed that somebody still has.
    pub(super) fn add(&self, inbox: &Weak<Inbox>) {
        // Under the lock: a feed that is dropped now takes itself out behind this.
        let mut inboxes = lock(&self.inboxes);
        let Some(inbox) = inbox.upgrade() else {
            return;
        };
        for channel in &inbox.channels {
            inboxes
                .entry(channel.clone())
                .or_default()
                .push(inbox.clone());
        }
    }

    /// Takes a feed out, and drops it.
    pub(super) fn remove(&self, inbox: Arc<Inbox>) {
        let mut inboxes = lock(&self.inboxes);
        for channel in &inbox.channels {
            if let Some(known) = inboxes.get_mut(channel) {
                known.retain(|other| !Arc::ptr_eq(other, &inbox));
                if known.is_empty() {
                    inboxes.remove(channel);
                }
            }
        }
        drop(inbox);
    }
}

impl Hears for LogRouter {
    fn message(&self, channel: &Bytes, payload: Bytes) {
        let inboxes = lock(&self.inboxes);
        let Some(inboxes) = inboxes.get(channel) else {
            return;
        };
        let news = News::read(&payload);
        for inbox in inboxes {
            inbox.push(channel, news.clone());
        }
    }

    fn set_connected(&self, connected: bool) {
        let mut told: Vec<*const Inbox> = Vec::new();
        for inbox in lock(&self.inboxes).values().flatten() {
            let address = Arc::as_ptr(inbox);
            if !told.contains(&address) {
                told.push(address);
                inbox.set_connected(connected);
            }
        }
    }

    /// News are hints: without them the logs are looked at less often, and nothing is lost.
    fn set_heard(&self, channel: &Bytes, _: bool) {
        for inbox in lock(&self.inboxes).get(channel).into_iter().flatten() {
            inbox.push(channel, None);
        }
    }
}

/// A feed's place at the router, which ends with it.
#[derive(Debug)]
pub(super) struct Seat {
    router: Arc<LogRouter>,
    inbox: Arc<Inbox>,
}

impl Seat {
    pub(super) fn new(router: Arc<LogRouter>, channels: BTreeSet<Bytes>) -> Self {
        Self {
            router,
            inbox: Arc::new(Inbox::new(channels)),
        }
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.router.remove(std::mem::take(&mut self.inbox));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(first: u64, packet: &'static str) -> Bytes {
        format!("run/birth 17-{first} {first} {packet}").into()
    }

    #[test]
    fn news_name_the_log_the_entry_and_the_number() {
        let read = News::read(&news(5, "a b \n")).unwrap();
        assert_eq!((&*read.identity, read.entry.first), ("run/birth", 5));
        assert_eq!(read.entry.id, "17-5".parse().unwrap());
        assert_eq!(read.entry.packet, "a b \n");
        for rubbish in ["", "a", "a 1-1", "a 1-1 x p", "a 1 1 p", "a 1-1 1"] {
            assert_eq!(News::read(&rubbish.into()), None, "{rubbish}");
        }
    }

    /// U8: what has no room is read from the stream.
    #[test]
    fn what_is_missed_is_told_behind_what_was_taken() {
        let router = Arc::<LogRouter>::default();
        let channel = Bytes::from_static(b"c");
        let seat = Seat::new(router.clone(), [channel.clone()].into());
        router.add(&Arc::downgrade(seat.inbox()));
        for first in 0..2_000 {
            router.message(&channel, news(first, "p"));
        }
        let taken = std::iter::from_fn(|| seat.inbox().news());
        let taken: Vec<u64> = taken.map(|(_, news)| news.entry.first).collect();
        assert_eq!(taken, (0..MAX_NEWS as u64).collect::<Vec<_>>());
        assert!(seat.inbox().missed() && !seat.inbox().missed());
        assert_eq!(lock(&seat.inbox().waiting).bytes, 0);
        drop(seat);
        assert!(lock(&router.inboxes).is_empty());
    }
}
