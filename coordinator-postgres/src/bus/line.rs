//! The session F, shared by all publishers of a process: what is published while a round trip is in
//! flight leaves together in the next one.
//!
//! There is no task that sends: whoever publishes and finds the line free sends for all who wait. So
//! a message published alone leaves at once, without a change of tasks.

mod connection;
mod ringing;
mod rows;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{BoxError, Frame};
use tokio::sync::{Mutex as Turn, Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::packet::{Charset, Packer, Reference};
use crate::error::{CallError, Outcome};
use crate::hub::Hub;
use crate::session::lock;
use connection::Connection;
use ringing::{Ring, Ringing};
pub(super) use rows::{Row, topic_id};

/// So many bytes wait to be sent (U8): more of them wait outside, as long as their caller likes.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// So long an answer may take. Publishers give up earlier, and try again.
const WITHIN: Duration = Duration::from_secs(10);

/// How one frame travels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Whole,
    Fragments,
    Reference(Reference),
}

/// Something to send, and who waits for it.
#[derive(Debug)]
struct Job {
    cargo: Cargo,
    answer: oneshot::Sender<Result<(), Failure>>,
}

#[derive(Debug)]
enum Cargo {
    Frames(Vec<(Frame, Way)>),
    Rows(Vec<Row>),
    /// Nothing but the bells of these topics.
    Bells(Vec<Uuid>),
}

/// What one round trip carries.
#[derive(Debug, Default)]
struct Load {
    packets: Vec<String>,
    rows: Vec<Row>,
    /// The topics whose bell is to be rung.
    bells: BTreeSet<Uuid>,
}

/// Why something was not sent: one answer for several callers.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    outcome: Outcome,
    source: Arc<str>,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self {
            outcome: error.outcome,
            source: error.to_string().into(),
        }
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self {
            outcome: failure.outcome,
            source: BoxError::from(&*failure.source),
        }
    }
}

/// The way out.
#[derive(Debug)]
pub(super) struct Line {
    hub: Arc<Hub>,
    connection: Mutex<Option<Arc<Connection>>>,
    dialling: Turn<()>,
    waiting: Mutex<Vec<Job>>,
    /// One round trip after another: so batches keep their order (U2).
    turn: Turn<Packer>,
    room: Semaphore,
    numbers: bool,
    ringing: Ringing,
}

impl Line {
    /// `numbers`: whether rows are numbered after they are stored (U12).
    pub(super) fn new(hub: Arc<Hub>, numbers: bool) -> Self {
        Self {
            hub,
            connection: Mutex::default(),
            dialling: Turn::new(()),
            waiting: Mutex::default(),
            turn: Turn::new(Packer::new(Charset::Ascii)),
            room: Semaphore::new(MAX_WAITING),
            numbers,
            ringing: Ringing::default(),
        }
    }

    /// What the server can hold as text. Dials it, the first time.
    pub(super) async fn charset(&self) -> Result<Charset, CallError> {
        Ok(self.connection().await?.charset())
    }

    /// Waits for room for so many bytes (U8).
    pub(super) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, CallError> {
        let bytes = u32::try_from(bytes.min(MAX_WAITING)).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(bytes).await;
        room.map_err(CallError::nothing_happened)
    }

    /// Sends frames.
    pub(super) async fn send(self: &Arc<Self>, frames: Vec<(Frame, Way)>) -> Result<(), CallError> {
        self.submit(Cargo::Frames(frames)).await
    }

    /// Stores rows, and rings for them soon (U13).
    pub(super) async fn store(self: &Arc<Self>, rows: Vec<Row>) -> Result<(), CallError> {
        self.submit(Cargo::Rows(rows)).await
    }

    /// Says that rows were stored by others; numbers them first where that is the mode.
    pub(super) async fn ring(self: &Arc<Self>, topics: Vec<Uuid>) -> Result<(), CallError> {
        self.submit(Cargo::Bells(topics)).await
    }

    /// Stores a payload that travels by reference, and gives its row (U7).
    pub(super) async fn spill(&self, payload: &[u8]) -> Result<i64, CallError> {
        self.connection().await?.spill(payload).await
    }

    /// A dropped call leaves nothing behind that would be sent later: by then it would be stale (E16).
    async fn submit(self: &Arc<Self>, cargo: Cargo) -> Result<(), CallError> {
        let (job, mut answer) = oneshot::channel();
        lock(&self.waiting).push(Job { cargo, answer: job });
        let gone = || CallError::unknown("the one who sent it gave up");
        // Whoever sent before may have sent this as well.
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer,
            mut turn = self.turn.lock() => {
                if let Ok(answer) = answer.try_recv() {
                    Ok(answer)
                } else {
                    self.flush(&mut turn).await;
                    answer.await
                }
            }
        };
        answer.map_err(|_| gone())?.map_err(CallError::from)
    }

    /// Sends all that waits, in one round trip.
    async fn flush(self: &Arc<Self>, packer: &mut Packer) {
        let connection = self.connection().await;
        let jobs = std::mem::take(&mut *lock(&self.waiting));
        let answer = match connection {
            Ok(connection) => {
                packer.set_charset(connection.charset());
                let (mut load, answers) = loaded(packer, jobs);
                load.bells = self.bells(std::mem::take(&mut load.bells));
                let flight = Flight(Some(connection));
                let answer = self.fly(&flight, &load).await;
                flight.landed();
                settle(answers, answer);
                return;
            }
            Err(error) => Err(error),
        };
        settle(jobs.into_iter().map(|job| job.answer), answer);
    }

    /// The topics to ring for now. Those that are left are rung for later.
    fn bells(self: &Arc<Self>, topics: BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        let heard = self.hub.bells.of_the_log();
        match self.ringing.due(Instant::now(), heard, topics) {
            Ring::Now(topics) => topics,
            Ring::At(at) => {
                let line = Arc::downgrade(self);
                tokio::spawn(async move {
                    sleep_until(at).await;
                    if let Some(line) = line.upgrade() {
                        line.ring_the_rest().await;
                    }
                });
                BTreeSet::new()
            }
        }
    }

    async fn ring_the_rest(self: &Arc<Self>) {
        self.ringing.is_back();
        if let Err(error) = self.ring(Vec::new()).await {
            // Readers look by themselves.
            tracing::debug!(%error, "stored, but the doorbell did not ring");
        }
    }

    async fn fly(&self, flight: &Flight, load: &Load) -> Result<(), CallError> {
        let Flight(Some(connection)) = flight else {
            return Ok(());
        };
        let sent = timeout(WITHIN, connection.send(load, self.numbers)).await;
        sent.unwrap_or_else(|_| {
            connection.close();
            Err(CallError::unknown(format!("no answer within {WITHIN:?}")))
        })
    }

    /// The session, which is dialled if there is none.
    async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let _alone = self.dialling.lock().await;
        if let Some(connection) = self.present() {
            return Ok(connection);
        }
        let connection = Connection::dial(&self.hub).await;
        let connection = Arc::new(connection.map_err(CallError::nothing_happened)?);
        *lock(&self.connection) = Some(connection.clone());
        Ok(connection)
    }

    fn present(&self) -> Option<Arc<Connection>> {
        let mut present = lock(&self.connection);
        if present.as_ref().is_some_and(|known| known.is_ended()) {
            *present = None;
        }
        present.clone()
    }
}

/// A round trip. Dropped before it has landed, it closes the session: whatever hangs there must not
/// make the next one hang too.
struct Flight(Option<Arc<Connection>>);

impl Flight {
    fn landed(mut self) {
        self.0 = None;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.close();
        }
    }
}

type Answer = oneshot::Sender<Result<(), Failure>>;

/// Packs what somebody still waits for.
fn loaded(packer: &mut Packer, jobs: Vec<Job>) -> (Load, Vec<Answer>) {
    let mut load = Load::default();
    let mut answers = Vec::with_capacity(jobs.len());
    for Job { cargo, answer } in jobs {
        if answer.is_closed() {
            continue;
        }
        answers.push(answer);
        match cargo {
            Cargo::Frames(frames) => {
                for (frame, way) in &frames {
                    match way {
                        Way::Whole => packer.whole(frame),
                        Way::Fragments => packer.fragments(frame),
                        Way::Reference(to) => packer.reference(frame, *to),
                    }
                }
            }
            Cargo::Rows(rows) => {
                load.bells.extend(rows.iter().map(|row| row.topic));
                load.rows.extend(rows);
            }
            Cargo::Bells(topics) => load.bells.extend(topics),
        }
    }
    load.packets = packer.take();
    (load, answers)
}

fn settle(answers: impl IntoIterator<Item = Answer>, answer: Result<(), CallError>) {
    let answer = answer.map_err(Failure::from);
    for waits in answers {
        // One who gave up waits no longer.
        drop(waits.send(answer.clone()));
    }
}
