//! The start of a term: what follows the grant of the key's lock (P4).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coordinator_core::{Claim, FencingToken};
use tokio::sync::watch;
use tracing::debug;

use super::super::name::Name;
use super::super::refusal::Refusal;
use super::super::writers;
use super::desk::{Desk, Grant, Outcome, Start, Turn, attempt};
use super::line::{Begun, Line, Terms};
use super::seen::{Known, Seen};
use super::term::Term;
use crate::session::lock;
use crate::takeover::{When, confirm, decide};

/// Starts a term with a turn, or tries without one. On a task of its own: who asked may give up, and
/// ask again under the same claim (W4).
pub(super) async fn start(
    desk: &Arc<Desk>,
    claim: &Claim,
    name: &Name,
    turn: Option<Turn>,
) -> Outcome {
    let attempt = attempt(name, claim);
    let start = match desk.enter_start(attempt) {
        Err(under_way) => under_way,
        Ok(tell) => {
            let under_way = tell.subscribe();
            let (desk, claim, name) = (desk.clone(), claim.clone(), name.clone());
            tokio::spawn(async move {
                let starting = Starting {
                    desk: &desk,
                    claim: &claim,
                    name: &name,
                    tell: &tell,
                };
                let outcome = starting.run(turn).await;
                let outcome = outcome.unwrap_or_else(Outcome::Refused);
                debug!(key = %claim.key, ?outcome, "asked for");
                desk.end_start(&attempt);
                tell.send_replace(Some(outcome));
            });
            under_way
        }
    };
    decided(start).await
}

/// Waits for a start that is under way. Cancel safe.
pub(super) async fn decided(mut start: Start) -> Outcome {
    let decided = start.wait_for(Option::is_some).await;
    let outcome = decided.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or_else(|| Outcome::Refused(Refusal::unknown("the start was cut short")))
}

struct Starting<'a> {
    desk: &'a Arc<Desk>,
    claim: &'a Claim,
    name: &'a Name,
    tell: &'a watch::Sender<Option<Outcome>>,
}

impl Starting<'_> {
    async fn run(&self, turn: Option<Turn>) -> Result<Outcome, Refusal> {
        let turn = match turn {
            Some(turn) => turn,
            None => match self.try_turn().await? {
                Ok(turn) => turn,
                Err(outcome) => return Ok(outcome),
            },
        };
        self.take(turn).await
    }

    /// Without a turn, a term starts at once or not at all.
    async fn try_turn(&self) -> Result<Result<Turn, Outcome>, Refusal> {
        let line = Line::dial(&self.desk.hub, self.claim.ttl).await?;
        let seen = line.try_lock(self.name).await?;
        seen.check(self.claim)?;
        if let Some(known) = seen.answer(self.claim) {
            return Ok(Err(told(known)));
        }
        let rest = match decide(&self.desk.asker(self.name, self.claim), &seen.view) {
            When::AfterQuarantine { ends_within } => {
                return Err(Refusal::Quarantined(ends_within));
            }
            _ if !seen.granted => confirm(self.claim.ttl),
            When::AtOnce => return Ok(Ok(Turn { line, seen })),
            When::AfterTermLock { at_most, .. } => at_most,
            When::AfterRest(rest) => rest,
        };
        match seen.last() {
            Some(last) => Ok(Err(Outcome::HeldBy(last.free_in(rest)))),
            None => Err(Refusal::unavailable("another claim is being decided")),
        }
    }

    /// The rest of P4, with the key's lock held.
    async fn take(&self, turn: Turn) -> Result<Outcome, Refusal> {
        let Turn { line, seen } = turn;
        if let Some(known @ (Known::Granted(_) | Known::Released)) = seen.answer(self.claim) {
            return Ok(told(known));
        }
        let token = seen.next_token(self.claim.floor)?;
        let term = Term::new(&self.desk.hub, self.name.term(&self.desk.hub.schema, token));
        // At once: both only have to come before the term begins.
        let (announced, witness) = tokio::join!(
            line.announce(self.name, token),
            term.hold(confirm(self.claim.ttl) / 2)
        );
        let told = Mutex::new(
            term.witness()
                .map(|w| Arc::downgrade(&w))
                .unwrap_or_default(),
        );
        let begun = match announced {
            Ok(true) => self.begin(&line, token, witness).await,
            Ok(false) => Ok(Begun::Overtaken),
            Err(refusal) => Err(refusal),
        };
        match begun {
            Ok(Begun::Started) => {
                self.desk.enter(Grant {
                    name: self.name.clone(),
                    claim: self.claim.clone(),
                    token,
                    line,
                    term,
                    told,
                });
                Ok(Outcome::Granted(token))
            }
            other => {
                // No trust has begun in this term, and none will: whether its row was written or not,
                // it is over.
                drop(line);
                term.free().await;
                self.desk.note_end(self.name, self.claim.instance, token);
                match other? {
                    Begun::Quarantined(ends_within) => Err(Refusal::Quarantined(ends_within)),
                    Begun::HeldUp => Err(Refusal::unavailable("transactions hold the start up")),
                    Begun::Started | Begun::Overtaken => Err(overtaken(&seen)),
                }
            }
        }
    }

    /// F3: begins, and again while transactions that hold the fence row hold it up, until nobody has
    /// asked for it for a TTL.
    async fn begin(
        &self,
        line: &Line,
        token: FencingToken,
        witness: bool,
    ) -> Result<Begun, Refusal> {
        let terms = Terms {
            name: self.name,
            claim: self.claim,
            token,
            witness,
        };
        let mut wanted = Instant::now();
        loop {
            let begun = tokio::select! {
                begun = line.begin(&terms) => begun?,
                never = writers::look(&self.desk.hub, &self.claim.key, line.pid(), self.claim.ttl) => match never {},
            };
            if begun != Begun::HeldUp {
                return Ok(begun);
            }
            if self.tell.receiver_count() > 1 {
                wanted = Instant::now();
            } else if wanted.elapsed() >= self.claim.ttl {
                return Ok(begun);
            }
        }
    }
}

fn told(known: Known) -> Outcome {
    match known {
        Known::Granted(token) => Outcome::Granted(token),
        Known::HeldBy(holder) => Outcome::HeldBy(holder),
        Known::Released => {
            Outcome::Refused(Refusal::rejected("this claim was released: make a new one"))
        }
    }
}

/// The session lock has passed to another since the rows were read.
fn overtaken(seen: &Seen) -> Refusal {
    let after = seen.at.elapsed();
    Refusal::unavailable(format!(
        "another session took the lock over, within {after:?}"
    ))
}

/// Whether W has changed since the store was last told of it (P6).
pub(super) fn is_untold(grant: &Grant) -> bool {
    let present = grant.term.witness();
    let present = present.map(|w| Arc::downgrade(&w)).unwrap_or_default();
    !std::sync::Weak::ptr_eq(&present, &lock(&grant.told))
}

/// Waits until the grant's session ends, or W is another than the store knows of. Cancel safe.
pub(super) async fn alarm(grant: &Grant) {
    let mut state = grant.term.witness_state();
    loop {
        if grant.line.is_ended() || is_untold(grant) {
            return;
        }
        let changed = async {
            let told = match &mut state {
                Some(state) => state.changed().await.is_ok(),
                None => false,
            };
            if !told {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = grant.line.ending() => return,
            () = changed => {}
        }
    }
}

/// How long a ping waits for W: the ping itself must be in time.
pub(super) fn patience_with_witness(ttl: Duration) -> Duration {
    ttl / 20
}
