//! The lock of a life, held in C and in W for as long as this process may act in its name (G5).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{Group, Incarnation, MemberId};
use tokio_postgres::types::{ToSql, Type};
use tracing::debug;
use uuid::Uuid;

use super::{group_id, member_id};
use crate::hub::{Hub, PROBE, query};
use crate::link::Link;
use crate::names::Schema;
use crate::session::{Session, lock};
use crate::takeover::claims_witness;
use crate::trouble::Trouble;

const TAKE: &str = "select pg_catalog.pg_try_advisory_lock_shared($1)";
const HINT: &str = "select pg_catalog.pg_try_advisory_lock($1)";
const FREE: &str = "select pg_catalog.pg_advisory_unlock_shared($1)";
const UNHINT: &str = "select pg_catalog.pg_advisory_unlock($1)";
const STAKE: &str = "select {schema}.stake_life($1, $2, $3, $4, $5)";

/// Both locks of a life. Of the evidence C and W each hold a share; the hint is W's alone, and whoever
/// watches this life waits for that one: a request for the evidence that waits keeps all others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) evidence: i64,
    pub(super) hint: i64,
}

impl Keys {
    pub(super) fn of(schema: &Schema, group: &Group, id: &MemberId, life: Incarnation) -> Self {
        let (group, id) = (group_id(group), member_id(id));
        let name = format!("{group}/{id}/{life}");
        Self {
            evidence: schema.advisory("member", &name),
            hint: schema.advisory("member-hint", &name),
        }
    }
}

/// What a life puts up as evidence that it goes on.
#[derive(Debug)]
pub(super) struct Stake {
    group: Uuid,
    member: Uuid,
    life: i64,
    keys: Keys,
    held: Mutex<Held>,
    /// One at a time: a session counts how often it has taken a lock.
    gate: tokio::sync::Mutex<()>,
}

/// Sessions are kept open here, even where they were given up: closed by ourselves, they would pass for
/// the death of this process.
#[derive(Debug, Default)]
struct Held {
    control: Option<Arc<Session>>,
    witness: Option<Arc<Session>>,
    hint: Option<Arc<Session>>,
    /// The store knows the lock.
    is_staked: bool,
    /// The life has ended: nothing is taken for it any more.
    is_over: bool,
}

/// Both sessions of a process, nothing between them and the server, in one run of sessions.
struct Pair {
    control: Arc<Session>,
    witness: Arc<Session>,
    identity: String,
}

impl Pair {
    /// P7. What was found out of a session counts only for that one.
    fn of(hub: &Hub) -> Option<Self> {
        let control = hub.control().current()?;
        let witness = hub.witness().and_then(Link::current)?;
        let facts = hub.facts();
        let mut identities = Vec::with_capacity(2);
        for (session, facts) in [(&control, facts.control), (&witness, facts.witness)] {
            let (greeting, identity) = facts?;
            let is_its_own = session.pid() == Some(greeting.pid);
            if !is_its_own || !hub.is_direct(session.ends(), &greeting) {
                return None;
            }
            identities.push(identity.session);
        }
        let identity = identities.pop()?;
        identities.contains(&identity).then_some(Self {
            control,
            witness,
            identity,
        })
    }
}

fn is_same(held: Option<&Arc<Session>>, session: &Arc<Session>) -> bool {
    held.is_some_and(|held| Arc::ptr_eq(held, session))
}

impl Stake {
    pub(super) fn new(hub: &Hub, group: &Group, id: &MemberId, life: Incarnation) -> Arc<Self> {
        Arc::new(Self {
            group: group_id(group),
            member: member_id(id),
            life: i64::from(life),
            keys: Keys::of(&hub.schema, group, id, life),
            held: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        })
    }

    /// What a heartbeat that is sent now may say: the run of sessions in which both of ours hold the lock.
    pub(super) fn evidence(&self, hub: &Hub) -> Option<String> {
        let pair = Pair::of(hub)?;
        // A session that is not heard may be gone on the server's side already.
        let heard = pair.witness.heard_since();
        claims_witness(self.is_held_by(&pair), heard, PROBE).then_some(pair.identity)
    }

    fn is_held_by(&self, pair: &Pair) -> bool {
        let held = lock(&self.held);
        held.is_staked
            && !held.is_over
            && is_same(held.control.as_ref(), &pair.control)
            && is_same(held.witness.as_ref(), &pair.witness)
    }

    /// Takes in the present sessions what they do not hold yet. Runs to its end: what the statements did
    /// must be known.
    pub(super) async fn take(&self, hub: &Hub) {
        let _one = self.gate.lock().await;
        let Some(pair) = Pair::of(hub) else { return };
        let ((), ()) = tokio::join!(self.take_control(&pair), self.take_witness(&pair));
        if let Err(trouble) = self.stake(hub, &pair).await {
            debug!(?trouble, "the lock of a life is not known to the store");
        }
    }

    async fn take_control(&self, pair: &Pair) {
        let session = &pair.control;
        let holds = is_same(lock(&self.held).control.as_ref(), session);
        if !holds && ask(session, TAKE, self.keys.evidence).await {
            lock(&self.held).control = Some(session.clone());
        }
    }

    async fn take_witness(&self, pair: &Pair) {
        let session = &pair.witness;
        let (holds, hints) = {
            let held = lock(&self.held);
            let (witness, hint) = (held.witness.as_ref(), held.hint.as_ref());
            (is_same(witness, session), is_same(hint, session))
        };
        if !holds && ask(session, TAKE, self.keys.evidence).await {
            lock(&self.held).witness = Some(session.clone());
        }
        if !hints && ask(session, HINT, self.keys.hint).await {
            lock(&self.held).hint = Some(session.clone());
        }
    }

    async fn stake(&self, hub: &Hub, pair: &Pair) -> Result<(), Trouble> {
        let both = {
            let held = lock(&self.held);
            let (control, witness) = (held.control.as_ref(), held.witness.as_ref());
            is_same(control, &pair.control) && is_same(witness, &pair.witness)
        };
        if !both || lock(&self.held).is_staked {
            return Ok(());
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&self.group, Type::UUID),
            (&self.member, Type::UUID),
            (&self.life, Type::INT8),
            (&self.keys.evidence, Type::INT8),
            (&pair.identity, Type::TEXT),
        ];
        let rows = hub.call(&hub.sql(STAKE), &parameters).await?;
        let known = rows.first().map(|row| row.try_get(0)).transpose()?;
        lock(&self.held).is_staked = known.unwrap_or_default();
        Ok(())
    }

    /// Whether there is something to take.
    pub(super) fn lacks(&self, hub: &Hub) -> bool {
        let Some(pair) = Pair::of(hub) else {
            return false;
        };
        !self.is_held_by(&pair) || !is_same(lock(&self.held).hint.as_ref(), &pair.witness)
    }

    /// The store knows that there is no evidence: sessions that are no longer ours may go.
    pub(super) fn let_go_of_former(&self, hub: &Hub) {
        let control = hub.control().current();
        let witness = hub.witness().and_then(Link::current);
        let is_present = |held: &Arc<Session>, present: Option<&Arc<Session>>| {
            present.is_some_and(|present| Arc::ptr_eq(held, present))
        };
        let mut held = lock(&self.held);
        held.control
            .take_if(|held| !is_present(held, control.as_ref()));
        held.witness
            .take_if(|held| !is_present(held, witness.as_ref()));
        held.hint
            .take_if(|held| !is_present(held, witness.as_ref()));
    }

    /// Gives the locks up, for good: the life has ended.
    pub(super) async fn free(&self) {
        let _one = self.gate.lock().await;
        let held = {
            let mut held = lock(&self.held);
            let over = Held {
                is_over: true,
                ..Held::default()
            };
            std::mem::replace(&mut *held, over)
        };
        let Keys { evidence, hint } = self.keys;
        let locks = [
            (held.control, FREE, evidence),
            (held.witness, FREE, evidence),
            (held.hint, UNHINT, hint),
        ];
        for (session, statement, key) in locks {
            if let Some(session) = session.filter(|session| !session.is_ended()) {
                ask(&session, statement, key).await;
            }
        }
    }
}

async fn ask(session: &Session, statement: &str, key: i64) -> bool {
    match query(session, statement, &[(&key, Type::INT8)]).await {
        Ok(rows) => rows.first().is_some_and(|row| row.get(0)),
        Err(error) => {
            debug!(%error, "a session did not answer");
            false
        }
    }
}

/// For how long the system bears the silence of a server before it closes a socket of ours by itself.
/// Whoever trusts for longer than that must not be taken for dead by it (G5).
pub(super) const fn silence_borne(configured: Duration) -> Duration {
    if cfg!(target_os = "linux") {
        configured
    } else {
        Duration::from_secs(4)
    }
}
