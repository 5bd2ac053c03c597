//! Whom a process watches: of each group the next life by id, in a ring (G5).
//!
//! That a lock is free is noticed here, and judged by the store: it makes the tombstone, and tells the
//! group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_core::{Backoff, Group, Incarnation, MemberId};
use tokio::time::sleep;
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, info};
use uuid::Uuid;

use super::deaths::Stakes;
use super::stake::Keys;
use super::{group_id, member_id};
use crate::bells::{Bell, Hearing};
use crate::greeting;
use crate::hub::{Hub, query};
use crate::session::{Session, Timeouts, no_inbox};
use crate::trouble::{Trouble, unsigned};

const NEXT: &str = "select name, incarnation from {schema}.next_life($1, $2)";
const WATCH: &str = "select {schema}.watch_life($1, $2, $3, $4)";
const DEATH: &str = "select {schema}.note_death($1, $2, $3)";

/// How long one statement waits: its snapshot keeps the server from clearing old rows.
const REARM: Duration = Duration::from_secs(30);
/// Within which the sessions of a process that has died end on the server.
const TOGETHER: Duration = Duration::from_millis(300);
/// How long changes gather before the ring is looked at anew: members join together, and one that has
/// joined takes its locks first. Longer while there is no end of them.
const SETTLE: Duration = Duration::from_millis(20);
const LONGEST_SETTLE: Duration = Duration::from_millis(200);
/// After so long without a change, the next one is looked at soon.
const CALM: Duration = Duration::from_secs(1);
/// How long a life that lives with less than all its locks is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches one group, until this process has no life in it any more. Cancel safe.
pub(super) async fn watch(hub: Arc<Hub>, stakes: Stakes, group: Group) {
    let bell = group_id(&group).to_string();
    let mut watch = Watch {
        changes: Changes {
            bell: hub.bells.listen(Bell::Members, &bell),
            pace: SETTLE,
            last: None,
        },
        hub,
        stakes,
        group,
        session: None,
        spared: None,
    };
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        match watch.step().await {
            Ok(true) => backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
            Ok(false) => return,
            Err(trouble) => {
                debug!(?trouble, "nobody is watched for a moment");
                watch.session = None;
                let pause = backoff.next(&mut rand::rng());
                sleep(pause).await;
            }
        }
    }
}

type Target = (MemberId, Incarnation);

struct Watch {
    hub: Arc<Hub>,
    stakes: Stakes,
    group: Group,
    changes: Changes,
    /// Its own, for a statement that waits in it.
    session: Option<Session>,
    /// Who was found alive without its hint.
    spared: Option<Target>,
}

impl Watch {
    /// False: there is nobody to watch for.
    async fn step(&mut self) -> Result<bool, Trouble> {
        let own = self.stakes.names(&self.group);
        if own.is_empty() {
            return Ok(false);
        }
        let Some(target) = next(&self.hub, &self.group, &own).await? else {
            self.session = None;
            tokio::select! {
                () = self.changes.settled() => {}
                () = sleep(REARM) => {}
            }
            return Ok(true);
        };
        if self.spared.take().is_some_and(|spared| spared == target) {
            sleep(PAUSE).await;
        }
        let answer = self.wait(&target).await?;
        let dead = match answer.as_deref() {
            None => {
                // Another one is to be watched: with the session the wait ends.
                self.session = None;
                return Ok(true);
            }
            Some("quiet") => return Ok(true),
            Some("free") => self.note_death(&target).await?,
            Some("living") => false,
            Some(other) => return Err(Trouble::unreadable(other)),
        };
        if dead {
            info!(group = %self.group, member = %target.0, "a member has died");
        } else {
            self.spared = Some(target);
        }
        Ok(true)
    }

    /// What its locks say; none: another one is to be watched.
    async fn wait(&mut self, target: &Target) -> Result<Option<String>, Trouble> {
        let session = match self.session.take().filter(|session| !session.is_ended()) {
            Some(session) => session,
            None => dial(&self.hub).await?,
        };
        let session = &*self.session.insert(session);
        let keys = Keys::of(&self.hub.schema, &self.group, &target.0, target.1);
        let (rearm, patience) = (millis(REARM), millis(TOGETHER));
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&keys.hint, Type::INT8),
            (&keys.evidence, Type::INT8),
            (&rearm, Type::INT8),
            (&patience, Type::INT8),
        ];
        let statement = self.hub.sql(WATCH);
        let mut asked = std::pin::pin!(query(session, &statement, &parameters));
        loop {
            tokio::select! {
                answer = &mut asked => {
                    let rows = answer?;
                    let word = rows.first().map(|row| row.try_get(0)).transpose()?;
                    return Ok(Some(word.unwrap_or_default()));
                }
                () = self.changes.settled() => {}
            }
            let own = self.stakes.names(&self.group);
            let next = next(&self.hub, &self.group, &own).await?;
            if next.as_ref() != Some(target) {
                return Ok(None);
            }
        }
    }

    async fn note_death(&self, (id, life): &Target) -> Result<bool, Trouble> {
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&group_id(&self.group), Type::UUID),
            (&member_id(id), Type::UUID),
            (&i64::from(*life), Type::INT8),
        ];
        let rows = self.hub.call(&self.hub.sql(DEATH), &parameters).await?;
        let dead: Option<bool> = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(dead.unwrap_or_default())
    }
}

/// The life that this process watches.
async fn next(hub: &Hub, group: &Group, own: &[MemberId]) -> Result<Option<Target>, Trouble> {
    let own: Vec<Uuid> = own.iter().map(member_id).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&group_id(group), Type::UUID), (&own, Type::UUID_ARRAY)];
    let rows = hub.call(&hub.sql(NEXT), &parameters).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (name, life): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some((
        MemberId::from(name),
        Incarnation::new(unsigned(life)),
    )))
}

/// Changes of the group, a few at a time.
struct Changes {
    bell: Hearing,
    pace: Duration,
    last: Option<Instant>,
}

impl Changes {
    /// Cancel safe: what rang is looked at by whoever cancels it.
    async fn settled(&mut self) {
        self.bell.rung().await;
        let is_calm = self.last.is_none_or(|last| last.elapsed() > CALM);
        self.pace = if is_calm {
            SETTLE
        } else {
            (self.pace * 2).min(LONGEST_SETTLE)
        };
        self.last = Some(Instant::now());
        sleep(self.pace).await;
    }
}

async fn dial(hub: &Hub) -> Result<Session, Trouble> {
    let timeouts = Timeouts {
        idle: REARM * 2,
        check: Duration::from_secs(1),
    };
    let dialled = async {
        let session = hub.target.dial(Some(timeouts), no_inbox()).await?;
        let greeting = greeting::greet(&session, &hub.target).await?;
        greeting::refuse_pooler(&session, &greeting, &hub.target)?;
        Ok::<_, crate::error::ConnectError>(session)
    };
    dialled
        .await
        .map_err(|error| crate::error::CallError::nothing_happened(error.to_string()).into())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
