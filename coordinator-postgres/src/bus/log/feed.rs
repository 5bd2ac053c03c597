//! One durable subscription: it reads the log at its own pace, and nothing else (U10). A doorbell
//! only says when to look.

mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::relay::Repeats;
use coordinator_core::{Feed, FeedEvent, Gap, GapCause, async_trait};
use futures_util::future::select_all;
use tokio::time::{Instant, sleep_until};

use super::Log;
use super::batch::{Batch, Floor, LogRow};
use super::cursor::{self, Identity};
use super::place::{Place, Snapshot, Wanted};
use super::reads::{Answer, Reading};
use super::statements::{MOST_BYTES, MOST_ROWS};
use crate::bells::{Bell, Hearing};
use crate::bus::LiveFeed;
use crate::error::CallError;
use crate::hub::Hub;
use watch::{Pace, Stall};

/// U15: so much is read again of a log that took another's place.
const REWIND_MS: i64 = 60_000;

/// How often the log is looked at behind all bells (U13).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a subscription begins.
#[derive(Debug)]
pub(in crate::bus) struct Begin {
    pub(super) wanted: Arc<Wanted>,
    pub(super) place: Place,
    /// The log that the place is in; `None`: whichever is there.
    pub(super) identity: Option<Identity>,
    /// When the row at the place was stored.
    pub(super) at: i64,
    /// What had been committed before the subscription: not for it.
    pub(super) before: Option<Snapshot>,
}

/// A subscription to the log.
pub(in crate::bus) struct LogFeed {
    log: Arc<Log>,
    begin: Begin,
    told: Option<Floor>,
    repeats: Repeats,
    ready: VecDeque<FeedEvent>,
    next: Next,
    pace: Pace,
    stall: Stall,
    bells: Vec<Hearing>,
    /// Where the listening session's ups and downs are told.
    news: LiveFeed,
}

/// What the feed waits for.
enum Next {
    /// To look again: at the bell, or then.
    Look,
    Batch(Reading),
    /// The place in a new log where to go on (U15).
    Rewind(Identity, Rewinding),
}

type Rewinding = tokio::task::JoinHandle<Result<Place, CallError>>;

impl LogFeed {
    /// Listens for the topics' bells, and for news of the session.
    pub(in crate::bus) fn new(log: Arc<Log>, begin: Begin, news: LiveFeed, hub: &Hub) -> Self {
        let topics = begin.wanted.topics.keys();
        let hear = |id: &uuid::Uuid| hub.bells.listen(Bell::Log, &id.simple().to_string());
        Self {
            bells: topics.map(hear).collect(),
            log,
            begin,
            told: None,
            repeats: Repeats::default(),
            ready: VecDeque::new(),
            next: Next::Look,
            pace: Pace::at_once(),
            stall: Stall::default(),
            news,
        }
    }

    /// Waits until there may be something. Cancel safe: what is under way goes on by itself.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            () = self.news.arrived() => {}
            done = done(&mut self.next, &mut self.bells, self.pace.look_at()) => self.take(done),
        }
    }

    fn take(&mut self, done: Done) {
        let joined = match std::mem::replace(&mut self.next, Next::Look) {
            Next::Look | Next::Rewind(..) => false,
            Next::Batch(reading) => reading.joined,
        };
        match done {
            Done::Look => self.look(),
            Done::Batch(Ok(batch)) => self.absorb(&batch, joined),
            Done::Batch(Err(error)) => self.failed(&error),
            Done::Rewind(identity, Ok(place)) => {
                self.begin.identity = Some(identity);
                self.begin.place = place;
                self.pace.at_once_again();
            }
            Done::Rewind(_, Err(error)) => self.failed(&error),
        }
    }

    fn look(&mut self) {
        let numbers = self.pace.numbers_first();
        self.next = Next::Batch(self.log.reads.read(&self.begin, numbers));
    }

    fn failed(&mut self, error: &CallError) {
        tracing::debug!(%error, "the log cannot be read");
        self.pace.failed();
    }

    fn absorb(&mut self, batch: &Batch, joined: bool) {
        let known = *self.begin.identity.get_or_insert(batch.identity);
        if known != batch.identity {
            return self.rewind(batch.identity);
        }
        self.tell_floor(batch.floor);
        for row in &batch.rows {
            self.take_row(row);
        }
        let counted = matches!(self.begin.place, Place::Numbers(_));
        let full = batch.rows.len() >= usize::try_from(MOST_ROWS).unwrap_or(usize::MAX)
            || batch.bytes >= usize::try_from(MOST_BYTES).unwrap_or(usize::MAX);
        let xmin = batch.snapshot.xmin();
        self.stall
            .seen(&self.log.statements, xmin, batch.waiting && !counted);
        if full || joined {
            self.pace.at_once_again();
        } else {
            self.pace
                .looked(batch.waiting, counted, !batch.rows.is_empty());
        }
    }

    fn take_row(&mut self, row: &LogRow) {
        match (&mut self.begin.place, row.number) {
            (Place::Watermark { xid, id }, _) => (*xid, *id) = (row.xid, row.id),
            (Place::Numbers(numbers), Some(number)) => {
                if let Some(last) = numbers.get_mut(row.topic) {
                    *last = number;
                }
            }
            (Place::Numbers(_), None) => return,
        }
        self.begin.at = row.at;
        let old = |before: &Snapshot| before.shows(row.xid);
        if self.begin.before.as_ref().is_some_and(old) || !self.repeats.is_new(&row.frame) {
            return;
        }
        let frame = row.frame.clone();
        let cursor = Some(self.cursor());
        self.ready.push_back(FeedEvent::Frame { frame, cursor });
    }

    fn cursor(&self) -> coordinator_core::Cursor {
        let identity = self.begin.identity.unwrap_or(Identity(0));
        cursor::write(
            identity,
            self.begin.at,
            &self.begin.place,
            &self.begin.wanted,
        )
    }

    /// U14: rows that had not been read were deleted.
    fn tell_floor(&mut self, floor: Option<Floor>) {
        let Some(floor) = floor.filter(|floor| self.told.is_none_or(|told| told < *floor)) else {
            return;
        };
        self.told = Some(floor);
        if self
            .begin
            .before
            .as_ref()
            .is_some_and(|before| before.shows(floor.xid))
        {
            return;
        }
        let mut gap = Gap::new(GapCause::Retention);
        let mut up_to = self.begin.place.clone();
        match &mut up_to {
            Place::Watermark { xid, id } => {
                // The beginning of the log is a wish for what is there, and not a place.
                if *xid == 0 {
                    return;
                }
                (*xid, *id) = (floor.xid, floor.id);
            }
            Place::Numbers(numbers) => {
                if let ([last], Some(number)) = (numbers.as_mut_slice(), floor.number) {
                    if *last == 0 {
                        return;
                    }
                    gap.missing = Some((number - *last).unsigned_abs());
                    *last = number;
                }
            }
        }
        let identity = self.begin.identity.unwrap_or(Identity(0));
        let to = cursor::write(identity, self.begin.at, &up_to, &self.begin.wanted);
        gap.range = Some((self.cursor(), to));
        if let (1, Some(topic)) = (
            self.begin.wanted.topics.len(),
            self.begin.wanted.topics.values().next(),
        ) {
            gap.topic = Some(topic.clone());
        }
        self.ready.push_back(FeedEvent::Gap(gap));
    }

    /// U15: the log is another one. What was read of the old one may not be in it, and what is in it
    /// may have been read: the last minute comes again, but for what is remembered.
    fn rewind(&mut self, identity: Identity) {
        self.ready
            .push_back(FeedEvent::Gap(Gap::new(GapCause::LogReset)));
        self.begin.before = None;
        self.told = None;
        let (statements, wanted) = (self.log.statements.clone(), self.begin.wanted.clone());
        let since = self.begin.at.saturating_sub(REWIND_MS);
        let rewinding = tokio::spawn(async move { statements.rewind(&wanted, since).await });
        self.next = Next::Rewind(identity, rewinding);
    }
}

/// What came.
enum Done {
    Look,
    Batch(Answer),
    Rewind(Identity, Result<Place, CallError>),
}

async fn done(next: &mut Next, bells: &mut [Hearing], look_at: Instant) -> Done {
    match next {
        Next::Batch(reading) => Done::Batch(reading.done().await),
        Next::Rewind(identity, rewinding) => {
            let gone = |error| Err(CallError::nothing_happened(error));
            Done::Rewind(*identity, rewinding.await.unwrap_or_else(gone))
        }
        Next::Look => {
            tokio::select! {
                () = any(bells) => {}
                () = sleep_until(look_at) => {}
            }
            Done::Look
        }
    }
}

async fn any(bells: &mut [Hearing]) {
    if bells.is_empty() {
        return std::future::pending().await;
    }
    select_all(bells.iter_mut().map(|bell| Box::pin(bell.rung()))).await;
}

#[async_trait]
impl Feed for LogFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            if let Some(event) = self.ready.pop_front().or_else(|| self.news.pop()) {
                return Some(event);
            }
            self.wait().await;
        }
    }
}

impl std::fmt::Debug for LogFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFeed")
            .field("begin", &self.begin)
            .finish_non_exhaustive()
    }
}
