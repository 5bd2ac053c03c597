//! Fenced checkpoints of an owned shard: `load` and `save`.

use std::fmt::Display;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coordinator_core::{
    Backoff, BoxError, Checkpoint, CheckpointError, CheckpointStore, ErrorKind, FencingToken, Load,
    Lost, LostCause, Position, Save,
};
use tracing::{debug, warn};

use super::OwnedShard;
use super::seat::Seat;
use crate::errors::SaveError;
use crate::tasks::Ended;
use crate::telemetry;

impl OwnedShard {
    /// Claims the shard in the checkpoint store, so that no earlier owner can save any more, and
    /// reads where the work has come to. `None`: nobody ever saved. Load before you work.
    ///
    /// Retries while the store does not answer and the shard is held. Cancel safe.
    ///
    /// # Errors
    /// [`SaveError::Lost`]: stop. [`SaveError::Malformed`]: what is stored is no `P`; it is never
    /// taken for none.
    pub async fn load<P>(&self) -> Result<Option<P>, SaveError>
    where
        P: FromStr,
        P::Err: Into<BoxError>,
    {
        let seat = self.seat.clone();
        let claim = self
            .seat
            .line
            .context
            .tasks
            .spawn(async move { claim(&seat).await });
        let position = outcome(&self.seat, claim.await)?;
        let parse = |position: Position| {
            position
                .as_str()
                .parse::<P>()
                .map_err(|error| SaveError::Malformed {
                    keyspace: self.seat.line.keyspace.clone(),
                    shard: self.seat.shard,
                    found: position.as_str().chars().take(120).collect(),
                    source: error.into(),
                })
        };
        position.map(parse).transpose()
    }

    /// Stores where the work has come to: the text of `position`, at most 64 KiB. Refused if
    /// another owns the shard by now. A save never overtakes a later one.
    ///
    /// Retries while the store does not answer and the shard is held. Dropped, it goes on in the
    /// background, untold; the shard is not acked before it has ended.
    ///
    /// # Errors
    /// [`SaveError::Lost`]: stop.
    pub fn save<P: Display>(
        &self,
        position: P,
    ) -> impl Future<Output = Result<(), SaveError>> + Send + 'static + use<P> {
        let position = Position::new(position.to_string());
        let (seat, number) = (self.seat.clone(), self.seat.line.next_save());
        async move {
            let saving = seat.clone();
            let saved = seat
                .line
                .context
                .tasks
                .spawn(async move { save(&saving, number, position).await });
            outcome(&seat, saved.await)
        }
    }
}

/// A store call that was cut short was cut short by the end of the node, and so of the lease.
fn outcome<T>(seat: &Seat, ended: Ended<Result<T, SaveError>>) -> Result<T, SaveError> {
    match ended {
        Ended::Done(outcome) => outcome,
        Ended::Cancelled => Err(lost(seat, LostCause::Released)),
        Ended::Panicked(message) => Err(SaveError::Unavailable {
            keyspace: seat.line.keyspace.clone(),
            shard: seat.shard,
            source: format!("the checkpoint store panicked: {message}").into(),
        }),
    }
}

/// C1: raises the fence to our token, and reads.
async fn claim(seat: &Arc<Seat>) -> Result<Option<Position>, SaveError> {
    let store = store(seat)?;
    let context = &seat.line.context;
    let token = FencingToken::from(seat.token);
    let load = || store.load(&context.group, &seat.line.keyspace, seat.shard, token);
    match persist(seat, "load", load).await? {
        Load::Loaded(position) => {
            seat.claimed.store(true, Ordering::Release);
            counted(seat, "load", "done");
            Ok(position)
        }
        Load::Fenced { by } => Err(fenced(seat, "load", by)),
    }
}

async fn save(seat: &Arc<Seat>, number: u64, position: Position) -> Result<(), SaveError> {
    if !seat.claimed.load(Ordering::Acquire) {
        // A store refuses what was never claimed.
        claim(seat).await?;
    }
    let store = store(seat)?;
    let (group, keyspace) = (seat.line.context.group.clone(), seat.line.keyspace.clone());
    let token = FencingToken::from(seat.token);
    let checkpoint = Checkpoint::new(group, keyspace, seat.shard, token, position).number(number);
    match persist(seat, "save", || store.save(&checkpoint)).await? {
        // Superseded: a later position is stored already.
        Save::Saved | Save::Superseded => {
            counted(seat, "save", "done");
            Ok(())
        }
        Save::Fenced { by: Some(by) } => Err(fenced(seat, "save", by)),
        Save::Fenced { by: None } => {
            seat.claimed.store(false, Ordering::Release);
            counted(seat, "save", "refused");
            Err(rejected(
                seat,
                "the store has forgotten that the shard was claimed".into(),
            ))
        }
    }
}

/// Asks until there is an answer, or the shard is lost.
async fn persist<T, Fut>(
    seat: &Seat,
    operation: &'static str,
    call: impl Fn() -> Fut,
) -> Result<T, SaveError>
where
    Fut: Future<Output = Result<T, CheckpointError>>,
{
    let context = &seat.line.context;
    let mut backoff = Backoff::new(Duration::from_millis(20), context.trust.renew_every());
    let mut random = context.fork_random();
    let mut last: Option<CheckpointError> = None;
    loop {
        let answer = match seat.grip.run(call()).await {
            Ok(answer) => answer,
            Err(lost) => return Err(unanswered(seat, last, lost)),
        };
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Rejected {
            return Err(rejected(seat, error.into()));
        }
        debug!(keyspace = %seat.line.keyspace, shard = %seat.shard, operation, error = %error, "no answer");
        last = Some(error);
        let pause = tokio::time::sleep(backoff.next(&mut random));
        if let Err(lost) = seat.grip.run(pause).await {
            return Err(unanswered(seat, last, lost));
        }
    }
}

/// The store was silent until trust ran out; or the shard was lost for another reason.
fn unanswered(seat: &Seat, last: Option<CheckpointError>, lost: Lost) -> SaveError {
    match last {
        Some(error) if lost.cause == LostCause::Expired => SaveError::Unavailable {
            keyspace: seat.line.keyspace.clone(),
            shard: seat.shard,
            source: error.into(),
        },
        Some(_) | None => SaveError::Lost(lost),
    }
}

/// Another owner has claimed the shard: ours is over, whatever else we believe.
fn fenced(seat: &Seat, operation: &'static str, by: FencingToken) -> SaveError {
    warn!(keyspace = %seat.line.keyspace, shard = %seat.shard, token = %seat.token, %by,
        "checkpoint refused: another owns the shard");
    counted(seat, operation, "refused");
    let error = lost(seat, LostCause::Superseded);
    seat.line.reload();
    error
}

fn lost(seat: &Seat, cause: LostCause) -> SaveError {
    let cause = seat.grip.lose(cause);
    SaveError::Lost(Lost::new(seat.grip.terms().key.clone(), cause))
}

fn rejected(seat: &Seat, source: BoxError) -> SaveError {
    SaveError::Rejected {
        keyspace: seat.line.keyspace.clone(),
        shard: seat.shard,
        source,
    }
}

fn store(seat: &Seat) -> Result<Arc<dyn CheckpointStore>, SaveError> {
    let checkpoints = seat.line.context.backend.checkpoints.clone();
    checkpoints.ok_or_else(|| SaveError::MissingPart {
        keyspace: seat.line.keyspace.clone(),
    })
}

fn counted(seat: &Seat, operation: &str, outcome: &str) {
    let keyspace = seat.line.keyspace.as_str();
    let labels = [
        ("keyspace", keyspace),
        ("operation", operation),
        ("outcome", outcome),
    ];
    telemetry::count(telemetry::CHECKPOINTS, 1, &labels);
}
