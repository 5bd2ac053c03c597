//! L: the session of one campaign, and then of its term. Never reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coordinator_core::{Claim, FencingToken, MemberId, Release};
use tokio::runtime::Handle;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};
use tracing::debug;
use uuid::Uuid;

use super::super::name::Name;
use super::super::refusal::Refusal;
use super::seen::{COLUMNS, Seen};
use crate::error::CallError;
use crate::greeting;
use crate::hub::Hub;
use crate::names::Schema;
use crate::session::{Session, Target, Timeouts, no_inbox};
use crate::takeover::{ClientEnds, Pong, ServerEnds, confirm, is_direct, milliseconds};

/// P2: how long one statement waits for the lock; then it waits anew.
const REARM: Duration = Duration::from_secs(30);
/// How long a claim waits for a lock that nobody has by the rows: its last holder has just expired,
/// or another is just starting.
const PATIENCE: Duration = Duration::from_millis(500);

/// L. Dropped, it is closed, and a statement that waits there is cancelled (P3).
#[derive(Debug)]
pub(super) struct Line {
    session: Session,
    target: Target,
    schema: Schema,
    pid: i32,
    direct: bool,
    ttl: Duration,
    /// Whether a statement runs that may wait.
    waiting: AtomicBool,
    /// The server has said farewell: the socket's end follows.
    over: AtomicBool,
}

impl Line {
    /// P1. Cancel safe: dropped, it closes what it has opened.
    pub(super) async fn dial(hub: &Hub, ttl: Duration) -> Result<Self, Refusal> {
        let timeouts = Timeouts {
            idle: ttl,
            check: (ttl / 4).min(Duration::from_secs(1)),
        };
        let session = hub.target.dial(Some(timeouts), no_inbox()).await?;
        let greeting = greeting::greet(&session, &hub.target).await?;
        greeting::refuse_pooler(&session, &greeting, &hub.target)?;
        let direct = hub.is_direct(session.ends(), &greeting) && hub.has_direct_witness();
        Ok(Self {
            session,
            target: hub.target.clone(),
            schema: hub.schema.clone(),
            pid: greeting.pid,
            direct,
            ttl,
            waiting: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn is_ended(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.session.is_ended()
    }

    /// Waits for its end. Cancel safe, and keeps nothing alive.
    pub(super) fn ending(&self) -> impl Future<Output = ()> + Send + use<> {
        self.session.ending()
    }

    /// Closes it at once.
    pub(super) fn close(&self) {
        self.session.close();
    }

    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, CallError> {
        let statement = self.schema.sql(statement);
        let answer = self
            .session
            .client()
            .query_typed(&statement, parameters)
            .await;
        answer.map_err(|error| self.failed(error))
    }

    /// An error that ends the session is seen as one before the socket's end is (P8).
    fn failed(&self, error: Error) -> CallError {
        let Some(told) = error.as_db_error() else {
            self.over.store(true, Ordering::Relaxed);
            return if self.session.is_ended() {
                self.session.gone()
            } else {
                error.into()
            };
        };
        if matches!(
            told.parsed_severity(),
            Some(Severity::Fatal | Severity::Panic)
        ) {
            self.over.store(true, Ordering::Relaxed);
        }
        error.into()
    }

    /// A statement that may wait in the server: dropped, it is cancelled with the session.
    async fn ask_patiently(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, CallError> {
        self.waiting.store(true, Ordering::Relaxed);
        let answer = self.ask(statement, parameters).await;
        self.waiting.store(false, Ordering::Relaxed);
        answer
    }

    /// Prepares for what follows the wait, so that it takes a tenth of the time.
    pub(super) async fn rehearse(&self) -> Result<(), Refusal> {
        self.ask("select {schema}.lease_rehearse()", &[]).await?;
        Ok(())
    }

    /// P2: waits for the key's lock, and reads the rows; not granted: it waited for long enough.
    pub(super) async fn wait(&self, name: &Name) -> Result<Seen, Refusal> {
        self.lock("lease_wait", name, REARM).await
    }

    /// Takes the key's lock if it is free, and reads the rows.
    pub(super) async fn try_lock(&self, name: &Name) -> Result<Seen, Refusal> {
        self.lock("lease_try", name, PATIENCE).await
    }

    async fn lock(&self, how: &str, name: &Name, patience: Duration) -> Result<Seen, Refusal> {
        let statement = format!("select {COLUMNS} from {{schema}}.{how}($1, $2, $3, $4, $5)");
        let (key, confirm, patience) = (
            name.key.as_str(),
            millis(confirm(self.ttl)),
            millis(patience),
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&name.id, Type::UUID),
            (&key, Type::TEXT),
            (&name.lock, Type::INT8),
            (&confirm, Type::INT8),
            (&patience, Type::INT8),
        ];
        seen(&self.ask_patiently(&statement, &parameters).await?)
    }

    /// Reads the rows.
    pub(super) async fn read(&self, name: &Name) -> Result<Seen, Refusal> {
        let (statement, key) = (view_statement(), name.key.as_str());
        seen(&self.ask(&statement, &view_parameters(name, &key)).await?)
    }

    /// Reads the rows again; the lock is held. A ping, too (P4).
    pub(super) async fn look(&self, name: &Name) -> Result<Seen, Refusal> {
        let mut seen = self.read(name).await?;
        seen.granted = true;
        Ok(seen)
    }

    /// P4: says that the client is there.
    pub(super) async fn ping(&self) -> Result<(), Refusal> {
        self.ask("select 1", &[]).await?;
        Ok(())
    }

    /// P5.3: waits for a term lock, or until this much has passed.
    pub(super) async fn await_term(&self, term: i64, rest: Duration) -> Result<bool, Refusal> {
        let rest = millis(rest);
        let rows = self
            .ask_patiently(
                "select {schema}.lease_await_term($1, $2)",
                &[(&term, Type::INT8), (&rest, Type::INT8)],
            )
            .await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Gives the key's lock up.
    pub(super) async fn unlock(&self, name: &Name) -> Result<bool, Refusal> {
        let rows = self
            .ask(
                "select pg_catalog.pg_advisory_unlock($1)",
                &[(&name.lock, Type::INT8)],
            )
            .await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// F2. False: a higher token was announced, so this session holds no lock any more.
    pub(super) async fn announce(&self, name: &Name, token: FencingToken) -> Result<bool, Refusal> {
        let (key, token, ttl) = (name.key.as_str(), i64::from(token), millis(self.ttl));
        let rows = self
            .ask(
                "select {schema}.lease_announce($1, $2, $3, $4)",
                &[
                    (&name.id, Type::UUID),
                    (&key, Type::TEXT),
                    (&token, Type::INT8),
                    (&ttl, Type::INT8),
                ],
            )
            .await?;
        Ok(rows
            .first()
            .is_some_and(|row| row.get::<_, Option<i64>>(0) == Some(token)))
    }

    /// P4: begins the term.
    pub(super) async fn begin(&self, terms: &Terms<'_>) -> Result<Begun, Refusal> {
        let statement = self.schema.sql(
            "select quarantine, started from {schema}.lease_begin($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        let bound = terms.bind(self.direct);
        self.waiting.store(true, Ordering::Relaxed);
        let parameters = bound.parameters();
        let answer = self.session.client().query_typed(&statement, &parameters);
        let answer = answer.await;
        self.waiting.store(false, Ordering::Relaxed);
        match answer {
            Ok(rows) => Ok(rows.first().map_or(Begun::Overtaken, begun)),
            Err(error) if was_held_up(&error) => Ok(Begun::HeldUp),
            Err(error) => Err(self.failed(error).into()),
        }
    }

    /// P8. Nothing: the lease has ended.
    pub(super) async fn beat(
        &self,
        name: &Name,
        token: FencingToken,
        witness: bool,
    ) -> Result<Option<Pong>, Refusal> {
        let (token, ttl) = (i64::from(token), millis(self.ttl));
        let rows = self
            .ask(
                "select pid, idle from {schema}.lease_ping($1, $2, $3, $4)",
                &[
                    (&name.id, Type::UUID),
                    (&token, Type::INT8),
                    (&ttl, Type::INT8),
                    (&witness, Type::BOOL),
                ],
            )
            .await?;
        Ok(rows.first().map(|row| Pong {
            pid: row.get(0),
            idle_timeout: milliseconds(row.get(1)),
        }))
    }

    /// What a ping has to answer.
    pub(super) fn due(&self) -> Pong {
        Pong {
            pid: self.pid,
            idle_timeout: Some(Duration::from_millis(millis(self.ttl).unsigned_abs())),
        }
    }

    /// P9: marks, and only then unlocks: the next one is to read the mark.
    pub(super) async fn release(
        &self,
        name: &Name,
        token: FencingToken,
        claim: &Claim,
        next: Option<&MemberId>,
    ) -> Result<Release, Refusal> {
        let (token, next) = (i64::from(token), next.map(MemberId::as_str));
        let instance = Uuid::from_bytes(claim.instance.to_bytes());
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&name.id, Type::UUID),
            (&token, Type::INT8),
            (&instance, Type::UUID),
            (&next, Type::TEXT),
        ];
        // Sent as one, handled one after the other: each commits by itself.
        let (marked, unlocked) = tokio::join!(self.ask(RELEASE, &parameters), self.unlock(name));
        let marked = released(&marked?);
        if !unlocked? {
            return Err(Refusal::unknown("the session lock was not held"));
        }
        Ok(marked)
    }

    /// I6: registers a grant that the store forgot.
    pub(super) async fn register(&self, terms: &Terms<'_>) -> Result<bool, Refusal> {
        let statement = "select {schema}.lease_register($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let bound = terms.bind(self.direct);
        let rows = self.ask(statement, &bound.parameters()).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let token = self.session.client().cancel_token();
        self.session.close();
        if !self.waiting.load(Ordering::Relaxed) {
            return;
        }
        // A session that waits for a lock does not see at once that its socket is closed. Without a
        // runtime it sees it at `client_connection_check_interval`.
        if let Ok(runtime) = Handle::try_current() {
            let target = self.target.clone();
            runtime.spawn(async move {
                if let Err(error) = target.cancel(&token).await {
                    debug!(%error, "a wait that was given up could not be cancelled");
                }
            });
        }
    }
}

/// P9, over L or, after its end, over C.
pub(super) const RELEASE: &str = "select {schema}.lease_release($1, $2, $3, $4)";

pub(super) fn released(rows: &[Row]) -> Release {
    if rows.first().is_some_and(|row| row.get(0)) {
        Release::Released
    } else {
        Release::NotHeld
    }
}

/// What became of the statement that begins a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Started,
    Quarantined(Duration),
    /// A higher token is in force: another session has got the lock since.
    Overtaken,
    /// Fenced transactions held it up for a TTL (F3).
    HeldUp,
}

fn begun(row: &Row) -> Begun {
    let quarantine: i64 = row.get(0);
    match row.get(1) {
        true => Begun::Started,
        false if quarantine > 0 => Begun::Quarantined(Duration::from_millis(
            u64::try_from(quarantine).unwrap_or_default(),
        )),
        false => Begun::Overtaken,
    }
}

fn was_held_up(error: &Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

/// A grant as its rows say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) name: &'a Name,
    pub(super) claim: &'a Claim,
    pub(super) token: FencingToken,
    pub(super) witness: bool,
}

/// The same in the server's types.
struct Bound<'a> {
    id: Uuid,
    key: &'a str,
    lock: i64,
    token: i64,
    owner: &'a str,
    instance: Uuid,
    attempt: i64,
    ttl: i64,
    direct: bool,
    witness: bool,
}

impl<'a> Terms<'a> {
    fn bind(&self, direct: bool) -> Bound<'a> {
        Bound {
            id: self.name.id,
            key: self.name.key.as_str(),
            lock: self.name.lock,
            token: i64::from(self.token),
            owner: self.claim.owner.as_str(),
            instance: Uuid::from_bytes(self.claim.instance.to_bytes()),
            attempt: i64::try_from(self.claim.id.get()).unwrap_or(i64::MAX),
            ttl: millis(self.claim.ttl),
            direct,
            witness: self.witness,
        }
    }
}

impl Bound<'_> {
    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 10] {
        [
            (&self.id, Type::UUID),
            (&self.key, Type::TEXT),
            (&self.lock, Type::INT8),
            (&self.token, Type::INT8),
            (&self.owner, Type::TEXT),
            (&self.instance, Type::UUID),
            (&self.attempt, Type::INT8),
            (&self.ttl, Type::INT8),
            (&self.direct, Type::BOOL),
            (&self.witness, Type::BOOL),
        ]
    }
}

/// Reads the rows over C.
pub(super) async fn read(hub: &Arc<Hub>, name: &Name) -> Result<Seen, Refusal> {
    let statement = hub.sql(&view_statement());
    let rows = hub
        .call(&statement, &view_parameters(name, &name.key.as_str()))
        .await?;
    seen(&rows)
}

fn view_statement() -> String {
    format!("select {COLUMNS} from {{schema}}.lease_view($1, $2, $3)")
}

fn view_parameters<'a>(name: &'a Name, key: &'a &str) -> [(&'a (dyn ToSql + Sync), Type); 3] {
    [
        (&name.id, Type::UUID),
        (key, Type::TEXT),
        (&name.lock, Type::INT8),
    ]
}

fn seen(rows: &[Row]) -> Result<Seen, Refusal> {
    let row = rows.first().map(Seen::read);
    row.ok_or_else(|| Refusal::unavailable("the server answered with no row"))
}

/// As the functions take spans; rounded up.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

impl Hub {
    /// P7: whether nothing stands between this session and the server.
    pub(crate) fn is_direct(
        &self,
        ends: &crate::session::Ends,
        greeting: &greeting::Greeting,
    ) -> bool {
        let ours = match *ends {
            crate::session::Ends::Local => ClientEnds::Unix,
            crate::session::Ends::Tcp { ours, theirs } => ClientEnds::Tcp {
                local: ours,
                peer: theirs,
            },
        };
        ServerEnds::new(greeting.client, greeting.server)
            .is_some_and(|theirs| is_direct(ours, theirs, self.config.direct))
    }

    /// P7, of W.
    pub(crate) fn has_direct_witness(&self) -> bool {
        let Some(session) = self.witness().and_then(crate::link::Link::current) else {
            return false;
        };
        let greeting = self.facts().witness.map(|(greeting, _)| greeting);
        greeting.is_some_and(|greeting| self.is_direct(session.ends(), &greeting))
    }
}
