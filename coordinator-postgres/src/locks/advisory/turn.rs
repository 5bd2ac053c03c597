//! Waiting for a turn: in the server's own queue, and then until the term may start (P2, P4, P5).

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_core::{Backoff, Claim};
use tokio::time::sleep;
use tracing::{debug, info};

use super::super::name::Name;
use super::super::refusal::Refusal;
use super::desk::{Attempt, Desk, Place, Turn, attempt};
use super::line::{self, Line};
use super::seen::Seen;
use crate::bells::Bell;
use crate::takeover::{Phase, When, decide, ping_every};

/// P10: how often a waiter comes back that is not the one for whom a lease is kept.
const STEP_BACK: Duration = Duration::from_millis(50);
/// P11: how often a campaign without a session of its own looks, behind the bell.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Waits until it may be worth acquiring. Cancel safe: dropped, it leaves the queue (P3).
pub(super) async fn wait(desk: &Arc<Desk>, claim: &Claim, name: &Name) -> Result<(), Refusal> {
    desk.sweep();
    let attempt = attempt(name, claim);
    if desk.is_ready(&attempt) {
        return Ok(());
    }
    let Ok(_seat) = desk.seats.clone().try_acquire_owned() else {
        return stand(desk, claim, name).await;
    };
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        let place = Queued { desk, attempt };
        match place.turn(claim, name).await {
            Ok(turn) => {
                desk.set_place(attempt, Place::Ready(Box::new(turn)));
                return Ok(());
            }
            Err(refusal) if refusal.is_final() => return Err(refusal),
            Err(refusal) => debug!(key = %claim.key, ?refusal, "the place in the queue is lost"),
        }
        let pause = backoff.next(&mut rand::rng());
        sleep(pause).await;
    }
}

/// P11: all seats are taken. Waits for the bell, or looks now and then.
async fn stand(desk: &Arc<Desk>, claim: &Claim, name: &Name) -> Result<(), Refusal> {
    let mut bell = desk.hub.bells.listen(Bell::Lease, &name.bell());
    loop {
        tokio::select! {
            () = bell.rung() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        match line::read(&desk.hub, name).await {
            Ok(seen) if seen.answer(claim).is_none() => return Ok(()),
            Ok(_) => {}
            Err(refusal) if refusal.is_final() => return Err(refusal),
            Err(refusal) => debug!(key = %claim.key, ?refusal, "no answer to a look"),
        }
    }
}

/// A place in the queue. Dropped, it is given up, unless the turn has come.
struct Queued<'a> {
    desk: &'a Arc<Desk>,
    attempt: Attempt,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.desk.leave(&self.attempt);
    }
}

/// What comes after a look at the rows.
enum Next {
    Start,
    Look,
    /// Back into the queue, after a moment.
    StepBack(Duration),
}

impl Queued<'_> {
    async fn turn(&self, claim: &Claim, name: &Name) -> Result<Turn, Refusal> {
        let line = Line::dial(&self.desk.hub, claim.ttl).await?;
        line.rehearse().await?;
        let mut bell = self.desk.hub.bells.listen(Bell::Lease, &name.bell());
        let first = line.read(name).await?;
        first.check(claim)?;
        self.desk.set_place(self.attempt, Place::Queued(None));
        self.note(&first);
        loop {
            let mut seen = line.wait(name).await?;
            seen.check(claim)?;
            while seen.granted {
                match self.settle(&line, &seen, claim, name, &mut bell).await? {
                    Next::Start => return Ok(Turn { line, seen }),
                    Next::Look => seen = line.look(name).await?,
                    Next::StepBack(pause) => {
                        self.step_back(&line, name, pause).await?;
                        break;
                    }
                }
            }
            self.note(&seen);
        }
    }

    fn note(&self, seen: &Seen) {
        if let Some(holder) = seen.holder() {
            self.desk.note(&self.attempt, &holder);
        }
    }

    /// P10: makes way for the one for whom the lease is kept.
    async fn step_back(&self, line: &Line, name: &Name, pause: Duration) -> Result<(), Refusal> {
        if !line.unlock(name).await? {
            return Err(Refusal::unavailable("the session lock was not held"));
        }
        sleep(pause.min(STEP_BACK)).await;
        Ok(())
    }

    /// P5: waits until the term may start, or something has changed.
    async fn settle(
        &self,
        line: &Line,
        seen: &Seen,
        claim: &Claim,
        name: &Name,
        bell: &mut crate::bells::Hearing,
    ) -> Result<Next, Refusal> {
        if let Some(kept) = seen.kept_for_another(claim) {
            return Ok(Next::StepBack(kept.free_in.unwrap_or(STEP_BACK)));
        }
        self.note(seen);
        match decide(&self.desk.asker(name, claim), &seen.view) {
            When::AtOnce => Ok(Next::Start),
            When::AfterQuarantine { ends_within } => {
                info!(key = %claim.key, ?ends_within, "the store may have forgotten: nothing is granted");
                pause(line, claim.ttl, seen.at, ends_within).await?;
                Ok(Next::Look)
            }
            When::AfterTermLock { of, at_most } => {
                let term = name.term(&self.desk.hub.schema, of);
                let left = at_most.saturating_sub(seen.at.elapsed());
                let evident = line.await_term(term, left).await?;
                debug!(key = %claim.key, %of, evident, waited = ?seen.at.elapsed(), "the predecessor has ended");
                Ok(Next::Start)
            }
            When::AfterRest(rest) => {
                debug!(key = %claim.key, ?rest, "waiting the rest of the predecessor's window");
                tokio::select! {
                    waited = pause(line, claim.ttl, seen.at, rest) => waited.map(|()| Next::Start),
                    // It may have been released meanwhile.
                    () = bell.rung() => Ok(Next::Look),
                }
            }
        }
    }
}

/// P4: waits until `span` after `from`, and says now and then that we are there.
async fn pause(line: &Line, ttl: Duration, from: Instant, span: Duration) -> Result<(), Refusal> {
    loop {
        let left = span.saturating_sub(from.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(ping_every(ttl, Phase::Confirming))).await;
        line.ping().await?;
    }
}
