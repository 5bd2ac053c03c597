//! One durable subscription: it delivers the log of each topic in its order, and nothing else (U10). News of the log may save a
//! read where they follow what is known; any other only say that there is something to read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{BusError, Cursor, Feed, FeedEvent, Start, Topic, async_trait};
use futures_util::future::{join_all, try_join_all};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::follow::{self, Follow, Found};
use super::inbox::{LogRouter, Seat};
use super::place::{self, Place};
use super::{Log, Page};
use crate::bus::ear::{Ear, Hearing};
use crate::trouble::Trouble;

/// How often the log is looked at behind all news.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a read that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A subscription to the logs of some topics.
pub(in crate::bus) struct LogFeed {
    log: Arc<Log>,
    /// By the topics' channels, in the order of the topics' names.
    follows: Vec<(Bytes, Follow)>,
    ready: VecDeque<FeedEvent>,
    reading: Option<Reading>,
    /// No read begins before this, and one does at the later.
    rest_until: Instant,
    look_at: Instant,
    seat: Seat,
    _hearing: Hearing,
}

/// Reads of some topics, by their places in the list.
type Reading = JoinHandle<Vec<(usize, Result<Page, Trouble>)>>;

impl LogFeed {
    /// Listens first, then finds its place: nothing falls between.
    pub(in crate::bus) async fn open(
        ear: &Ear,
        router: &Arc<LogRouter>,
        log: &Arc<Log>,
        topics: &[Topic],
        start: &Start,
    ) -> Result<Self, BusError> {
        let any = topics.first().cloned().unwrap_or(Topic::new("*"));
        let topics: BTreeSet<Topic> = topics.iter().cloned().collect();
        let channels: Vec<Bytes> = topics.iter().map(|topic| log.channel(topic)).collect();
        let heard: BTreeSet<Bytes> = channels.iter().cloned().collect();
        let seat = Seat::new(router.clone(), heard.clone());
        let (inbox, router) = (Arc::downgrade(seat.inbox()), router.clone());
        let failed = |trouble: Trouble| trouble.of_bus("subscribe to", &any);
        let hearing = ear
            .listen(heard, Box::new(move || router.add(&inbox)))
            .await;
        let hearing = hearing.map_err(failed)?;
        let places = begin(log, &topics, start).await.map_err(failed)?;
        let follows = topics.into_iter().zip(places);
        let follows = follows.map(|(topic, place)| Follow::new(topic, place));
        Ok(Self {
            log: log.clone(),
            follows: channels.into_iter().zip(follows).collect(),
            ready: VecDeque::new(),
            reading: None,
            rest_until: Instant::now(),
            look_at: Instant::now() + LOOK_EVERY,
            seat,
            _hearing: hearing,
        })
    }

    /// Takes all that is there. What waits for a slow reader is bounded: it takes no more while it has something.
    fn take(&mut self) {
        // News wait for the end of a read: it may bring what comes before them.
        if self.reading.is_some() {
            return;
        }
        while self.ready.is_empty() {
            let Some((channel, news)) = self.seat.inbox().news() else {
                break;
            };
            let place = self.follows.iter().position(|(known, _)| *known == channel);
            if let Some(index) = place {
                self.absorb(index, |follow, found| follow.told(&news, found));
            }
        }
        if self.ready.is_empty() && self.seat.inbox().missed() {
            self.all_behind();
        }
    }

    fn all_behind(&mut self) {
        for (_, follow) in &mut self.follows {
            follow.set_behind();
        }
    }

    /// Lets a follower take something, and makes events of what it finds.
    fn absorb(
        &mut self,
        index: usize,
        take: impl FnOnce(&mut Follow, &mut dyn FnMut(&Place, Found)),
    ) {
        let places: Vec<Place> = self
            .follows
            .iter()
            .map(|(_, follow)| follow.place.clone())
            .collect();
        let Some((_, follow)) = self.follows.get_mut(index) else {
            return;
        };
        let topic = follow.topic.clone();
        let ready = &mut self.ready;
        take(follow, &mut |place, found| {
            let event = event(&topic, found, |place| cursor(&places, index, place), place);
            ready.push_back(event);
        });
    }

    /// Begins to read what is behind.
    fn read(&mut self) {
        let mut reads = Vec::new();
        for (index, (_, follow)) in self.follows.iter_mut().enumerate() {
            if !follow.is_behind() {
                continue;
            }
            follow.begin_read();
            let (log, topic, from) = (self.log.clone(), follow.topic.clone(), follow.place.id);
            reads.push(async move { (index, log.read(&topic, from).await) });
        }
        self.reading = Some(tokio::spawn(join_all(reads)));
        self.look_at = Instant::now() + LOOK_EVERY;
    }

    fn was_read(&mut self, pages: Vec<(usize, Result<Page, Trouble>)>) {
        for (index, page) in pages {
            match page {
                Ok(page) => self.absorb(index, |follow, found| follow.read(&page, found)),
                Err(trouble) => {
                    tracing::debug!(?trouble, "a log cannot be read");
                    self.rest_until = Instant::now() + PAUSE;
                    if let Some((_, follow)) = self.follows.get_mut(index) {
                        follow.set_behind();
                    }
                }
            }
        }
    }

    /// Waits until there may be something. Cancel safe: what is under way goes on by itself.
    async fn wait(&mut self) {
        let is_behind = self.follows.iter().any(|(_, follow)| follow.is_behind());
        if let Some(reading) = &mut self.reading {
            tokio::select! {
                pages = reading => {
                    self.reading = None;
                    match pages {
                        Ok(pages) => self.was_read(pages),
                        Err(error) => {
                            tracing::debug!(%error, "a read of a log ended");
                            self.all_behind();
                        }
                    }
                }
                () = self.seat.inbox().rung() => {}
            }
            return;
        }
        let look_at = if is_behind {
            self.rest_until
        } else {
            self.look_at
        };
        if look_at <= Instant::now() {
            if !is_behind {
                self.all_behind();
            }
            return self.read();
        }
        tokio::select! {
            () = self.seat.inbox().rung() => {}
            () = sleep_until(look_at) => {}
        }
    }
}

/// Where a subscription begins.
async fn begin(log: &Log, topics: &BTreeSet<Topic>, start: &Start) -> Result<Vec<Place>, Trouble> {
    match start {
        Start::Now => try_join_all(topics.iter().map(|topic| log.end(topic))).await,
        Start::Oldest => Ok(vec![Place::default(); topics.len()]),
        Start::After(cursor) => place::read(cursor, topics.len()).map_err(Trouble::rejected),
    }
}

/// The cursor of a subscription whose topic at `index` is at `place`.
fn cursor(places: &[Place], index: usize, place: &Place) -> Cursor {
    let places = places.iter().enumerate();
    let places = places.map(|(other, known)| if other == index { place } else { known });
    place::write(&places.collect::<Vec<_>>())
}

fn event(
    topic: &Topic,
    found: Found,
    cursor: impl Fn(&Place) -> Cursor,
    place: &Place,
) -> FeedEvent {
    match found {
        Found::Frame(frame) => FeedEvent::Frame {
            frame,
            cursor: Some(cursor(place)),
        },
        Found::Gap(gap) => FeedEvent::Gap(gap),
        Found::Missing { count, up_to } => {
            FeedEvent::Gap(follow::gap(topic, count, cursor(place), cursor(&up_to)))
        }
        Found::Malformed(mut bad) => {
            bad.cursor = Some(cursor(place));
            FeedEvent::Malformed(bad)
        }
    }
}

#[async_trait]
impl Feed for LogFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            let event = self.ready.pop_front();
            if let Some(event) = event.or_else(|| self.seat.inbox().event()) {
                return Some(event);
            }
            self.take();
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }
}

impl Drop for LogFeed {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}
