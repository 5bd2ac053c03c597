//! The publish queue: what arrives while a batch is in flight leaves together in the next one.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coordinator_core::{BoxError, BusError, Bytes, Moment, Topic};
use tokio::sync::{Notify, Semaphore, TryAcquireError};
use tokio::time::timeout;

use super::lock;

/// The publish queue holds so many bytes (rule U8).
const QUEUE_BYTES: u32 = 16 * 1024 * 1024;

/// What a message takes up beside its payload.
const OVERHEAD: usize = 128;

/// So long a publish waits for room in the queue, and then in the queue for its turn (rule U8).
pub(super) const QUEUED_FOR: Duration = Duration::from_secs(5);

/// A batch holds so many messages, or little more than so many bytes: so that no batch holds up the
/// next one for long.
const BATCH_MESSAGES: usize = 1_024;
const BATCH_BYTES: usize = 1024 * 1024;

/// One message to send.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is called on the wire.
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
}

impl Entry {
    fn cost(&self) -> u32 {
        let bytes = self.payload.len().saturating_add(OVERHEAD);
        // A payload larger than the whole queue has the queue to itself.
        u32::try_from(bytes).map_or(QUEUE_BYTES, |bytes| bytes.min(QUEUE_BYTES))
    }
}

/// Messages on their way to the flusher.
#[derive(Debug)]
pub(super) struct Outgoing {
    rounds: Mutex<Rounds>,
    room: Semaphore,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Rounds {
    waiting: VecDeque<Round>,
    closed: bool,
}

/// What the flusher does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Round(Round),
    /// Nothing waits.
    Idle,
    /// Nothing waits, and nothing will.
    Closed,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            rounds: Mutex::default(),
            room: Semaphore::new(QUEUE_BYTES as usize),
            arrived: Notify::new(),
        }
    }

    /// Queues a message at once, if there is room. `Err`: there is none yet.
    pub(super) fn offer(&self, now: impl FnOnce() -> Moment, entry: Entry) -> Result<Place, Entry> {
        match self.room.try_acquire_many(entry.cost()) {
            Ok(permit) => {
                permit.forget();
                Ok(self.push(now, entry))
            }
            Err(TryAcquireError::Closed) => Ok(Place::Closed),
            Err(TryAcquireError::NoPermits) => Err(entry),
        }
    }

    /// Waits for room, in the order of asking, and queues the message. A dropped wait withdraws it.
    pub(super) async fn wait_for_room(&self, now: impl FnOnce() -> Moment, entry: Entry) -> Place {
        match timeout(QUEUED_FOR, self.room.acquire_many(entry.cost())).await {
            Ok(Ok(permit)) => {
                permit.forget();
                self.push(now, entry)
            }
            Ok(Err(_)) => Place::Closed,
            Err(_) => Place::Full,
        }
    }

    fn push(&self, now: impl FnOnce() -> Moment, entry: Entry) -> Place {
        let mut rounds = lock(&self.rounds);
        if rounds.closed {
            self.free(entry.cost());
            return Place::Closed;
        }
        if rounds.waiting.is_empty() {
            self.arrived.notify_one();
        }
        if rounds.waiting.back().is_none_or(Round::is_full) {
            rounds.waiting.push_back(Round::new(now()));
        }
        match rounds.waiting.back_mut() {
            Some(round) => Place::Queued(round.push(entry)),
            None => Place::Closed,
        }
    }

    /// Waits until something was queued, or the queue closed.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn next(&self) -> Next {
        let mut rounds = lock(&self.rounds);
        match rounds.waiting.pop_front() {
            Some(round) => Next::Round(round),
            None if rounds.closed => Next::Closed,
            None => Next::Idle,
        }
    }

    /// How many messages wait.
    pub(super) fn depth(&self) -> usize {
        let rounds = lock(&self.rounds);
        rounds.waiting.iter().map(|round| round.entries.len()).sum()
    }

    /// Tells everyone in the round how it went, and makes room.
    pub(super) fn settle(&self, round: &Round, outcome: Outcome) {
        self.free(round.cost);
        round.settled.settle(outcome);
    }

    /// Takes no more messages. Those that wait are still sent.
    pub(super) fn close(&self) {
        lock(&self.rounds).closed = true;
        self.arrived.notify_one();
    }

    /// Sends nothing any more: what waits is told so.
    pub(super) fn abandon(&self) {
        let waiting = {
            let mut rounds = lock(&self.rounds);
            rounds.closed = true;
            std::mem::take(&mut rounds.waiting)
        };
        for round in waiting {
            let failed = Outcome::all(round.len(), &Failure::unavailable(ShutDown));
            self.settle(&round, failed);
        }
        self.room.close();
    }

    fn free(&self, cost: u32) {
        self.room.add_permits(cost as usize);
    }
}

/// Where an offered message is.
#[derive(Debug)]
pub(super) enum Place {
    Queued(Ticket),
    /// There was no room for too long.
    Full,
    /// The bus is shut down: it was not taken.
    Closed,
}

/// Messages that leave together.
#[derive(Debug)]
pub(super) struct Round {
    /// When the first of them was queued.
    pub(super) opened: Moment,
    entries: Vec<Entry>,
    bytes: usize,
    cost: u32,
    settled: Arc<Settled>,
}

impl Round {
    fn new(now: Moment) -> Self {
        Self {
            opened: now,
            entries: Vec::new(),
            bytes: 0,
            cost: 0,
            settled: Arc::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }

    fn push(&mut self, entry: Entry) -> Ticket {
        let index = self.entries.len();
        self.bytes += entry.payload.len();
        self.cost += entry.cost();
        self.entries.push(entry);
        Ticket {
            index,
            settled: self.settled.clone(),
            slot: None,
        }
    }

    /// The messages. They are taken once; what they take up in the queue is freed by settling.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// However a round ends, those who wait for it are told.
impl Drop for Round {
    fn drop(&mut self) {
        self.settled.settle(Outcome::Unknown);
    }
}

/// How a round went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The backend has accepted every message.
    Sent,
    /// Each message by itself; `None`: accepted.
    Mixed(Vec<Option<Failure>>),
    /// The flusher ended in mid-flight.
    Unknown,
}

impl Outcome {
    pub(super) fn all(count: usize, failure: &Failure) -> Self {
        Self::Mixed(vec![Some(failure.clone()); count])
    }
}

/// Why a message was not published. Many callers may share one reason.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    kind: FailureKind,
    source: Arc<dyn Error + Send + Sync>,
}

#[derive(Debug, Clone, Copy)]
enum FailureKind {
    Unavailable,
    Indeterminate,
    Rejected,
}

impl Failure {
    pub(super) fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Unavailable, source)
    }

    pub(super) fn indeterminate(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Indeterminate, source)
    }

    pub(super) fn rejected(source: impl Into<BoxError>) -> Self {
        Self::new(FailureKind::Rejected, source)
    }

    /// Whether the message is nowhere, and will not be.
    pub(super) fn is_certain(&self) -> bool {
        match self.kind {
            FailureKind::Unavailable | FailureKind::Rejected => true,
            FailureKind::Indeterminate => false,
        }
    }

    fn new(kind: FailureKind, source: impl Into<BoxError>) -> Self {
        let source = Arc::from(source.into());
        Self { kind, source }
    }

    /// As the caller is told, about the topic as the caller calls it.
    pub(super) fn into_error(self, operation: &'static str, topic: Topic) -> BusError {
        let source = SharedError(self.source);
        match self.kind {
            FailureKind::Unavailable => BusError::unavailable(operation, topic, source),
            FailureKind::Indeterminate => BusError::indeterminate(operation, topic, source),
            FailureKind::Rejected => BusError::rejected(operation, topic, source),
        }
    }
}

/// An error that several callers are told.
struct SharedError(Arc<dyn Error + Send + Sync>);

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The bus of this node has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node is shut down")]
pub(super) struct ShutDown;

/// The message waited too long.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "the message was not sent within {QUEUED_FOR:?}: the publish queue is full, or does not move"
)]
pub(super) struct QueueFull;

/// Where those who published in one round wait together.
#[derive(Debug, Default)]
struct Settled {
    outcome: OnceLock<Outcome>,
    wakers: Mutex<Vec<Waker>>,
}

impl Settled {
    fn settle(&self, outcome: Outcome) {
        // Only the first word counts: the last one comes from `Round::drop`.
        if self.outcome.set(outcome).is_ok() {
            let wakers = std::mem::take(&mut *lock(&self.wakers));
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

/// Waits for one message to be accepted.
#[derive(Debug)]
pub(super) struct Ticket {
    index: usize,
    settled: Arc<Settled>,
    /// Where our waker is.
    slot: Option<usize>,
}

impl Ticket {
    fn outcome(&self) -> Option<Result<(), Failure>> {
        Some(match self.settled.outcome.get()? {
            Outcome::Sent => Ok(()),
            Outcome::Unknown => Err(Failure::indeterminate(ShutDown)),
            Outcome::Mixed(each) => match each.get(self.index) {
                Some(Some(failure)) => Err(failure.clone()),
                Some(None) | None => Ok(()),
            },
        })
    }

    fn register(&mut self, waker: &Waker) {
        let mut wakers = lock(&self.settled.wakers);
        if let Some(ours) = self.slot.and_then(|slot| wakers.get_mut(slot)) {
            ours.clone_from(waker);
        } else {
            self.slot = Some(wakers.len());
            wakers.push(waker.clone());
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        self.register(cx.waker());
        // It may have been settled before our waker was there.
        match self.outcome() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}
