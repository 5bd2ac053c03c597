//! The term lock: held in W, for as long as the work of a term may run (P6).

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tracing::debug;

use crate::hub::{Hub, PROBE, query};
use crate::link::{Link, State};
use crate::session::{Session, lock};
use crate::takeover::claims_witness;

/// The lock of one term, taken in whichever session is W at present.
pub(super) struct Term {
    key: i64,
    hub: Arc<Hub>,
    held: Mutex<Held>,
    /// One statement at a time: a session counts how often it has taken a lock.
    gate: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// The session that holds it. Kept open, even where it was given up as W: closed by ourselves
    /// it would pass for the death of this process (P6).
    by: Option<Arc<Session>>,
    /// The work has stopped: nothing takes it again.
    freed: bool,
}

impl Term {
    pub(super) fn new(hub: &Arc<Hub>, key: i64) -> Arc<Self> {
        Arc::new(Self {
            key,
            hub: hub.clone(),
            held: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        })
    }

    /// W, at present.
    pub(super) fn witness(&self) -> Option<Arc<Session>> {
        self.hub.witness().and_then(Link::current)
    }

    /// W, as it comes and goes.
    pub(super) fn witness_state(&self) -> Option<watch::Receiver<State>> {
        self.hub.witness().map(Link::state)
    }

    /// Whether W holds it now.
    fn is_held(&self, witness: &Arc<Session>) -> bool {
        let held = lock(&self.held);
        let by = held.by.as_ref();
        !held.freed && by.is_some_and(|by| Arc::ptr_eq(by, witness))
    }

    /// Whether W holds it, and was heard of late: one that was not may be gone already.
    fn may_be_claimed(&self, witness: &Arc<Session>) -> bool {
        claims_witness(self.is_held(witness), witness.heard_since(), PROBE)
    }

    /// The store knows that there is no witness: the session that was given up may go.
    pub(super) fn let_go_of_former(&self) {
        let present = self.witness();
        let mut held = lock(&self.held);
        let is_present = match (&held.by, &present) {
            (Some(by), Some(present)) => Arc::ptr_eq(by, present),
            (None | Some(_), _) => false,
        };
        if !is_present {
            held.by = None;
        }
    }

    /// Takes it in W unless W has it. False: W is down, or slow, or another session still has it.
    pub(super) async fn hold(self: &Arc<Self>, within: Duration) -> bool {
        let Some(witness) = self.witness() else {
            return false;
        };
        if self.is_held(&witness) {
            return self.may_be_claimed(&witness);
        }
        let term = self.clone();
        // Not dropped half-way: what the statement did must be known.
        let taking = tokio::spawn(async move {
            let taken = term.take(&witness).await;
            taken && term.may_be_claimed(&witness)
        });
        matches!(timeout(within, taking).await, Ok(Ok(true)))
    }

    async fn take(&self, witness: &Arc<Session>) -> bool {
        let _one = self.gate.lock().await;
        if self.is_held(witness) {
            return true;
        }
        if lock(&self.held).freed {
            return false;
        }
        let taken = ask(
            witness,
            "select pg_catalog.pg_try_advisory_lock($1)",
            self.key,
        )
        .await;
        if taken {
            lock(&self.held).by = Some(witness.clone());
        }
        taken
    }

    /// Gives it up, for good: the work has stopped, or its window has passed.
    pub(super) async fn free(&self) {
        let _one = self.gate.lock().await;
        let by = {
            let mut held = lock(&self.held);
            held.freed = true;
            held.by.take()
        };
        if let Some(witness) = by.filter(|witness| !witness.is_ended()) {
            ask(
                &witness,
                "select pg_catalog.pg_advisory_unlock($1)",
                self.key,
            )
            .await;
        }
    }
}

async fn ask(witness: &Session, statement: &str, key: i64) -> bool {
    match query(witness, statement, &[(&key, Type::INT8)]).await {
        Ok(rows) => rows.first().is_some_and(|row| row.get(0)),
        Err(error) => {
            debug!(%error, "the witness did not answer");
            false
        }
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("key", &self.key)
            .field("held", &*lock(&self.held))
            .finish_non_exhaustive()
    }
}
