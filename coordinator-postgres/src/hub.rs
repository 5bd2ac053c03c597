//! What all parts of a backend share: the sessions C and W, the bells, the names.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::StoreId;
use tokio::time::{interval, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::bells::Bells;
use crate::config::{Leases, PostgresConfig};
use crate::error::{CallError, ConnectError};
use crate::greeting::{self, Greeting, Identity};
use crate::guarantees::{self, Settings};
use crate::janitor::Janitor;
use crate::link::{Dialler, Link, Watcher};
use crate::names::Schema;
use crate::pool::Pool;
use crate::schema;
use crate::session::{Inbox, Session, Target, Timeouts, lock, no_inbox};
use crate::takeover::witness_silence;

/// U5: how often the listening session is probed, and how long the answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long the silence of W may last before it counts as gone (P6).
pub(crate) const PROBE: Duration = PROBE_EVERY.saturating_add(PROBE_WITHIN);

/// What is shared.
pub(crate) struct Hub {
    pub(crate) config: PostgresConfig,
    pub(crate) schema: Schema,
    pub(crate) target: Target,
    pub(crate) store: StoreId,
    pub(crate) bells: Arc<Bells>,
    /// C: every call that is one statement.
    control: Link,
    /// W: listens, and is the witness. `None`: a pooler stands between, and leases are rows.
    witness: Option<Link>,
    facts: Arc<Mutex<Facts>>,
    /// For bulk reads, and for the janitors.
    pub(crate) pool: Arc<Pool>,
    _janitor: Janitor,
}

/// What the sessions found, renewed with each of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) control: Option<(Greeting, Identity)>,
    pub(crate) witness: Option<(Greeting, Identity)>,
    pub(crate) settings: Option<Settings>,
}

impl Hub {
    /// Connects, makes the schema, and keeps both sessions up from then on.
    pub(crate) async fn connect(config: PostgresConfig) -> Result<Arc<Self>, ConnectError> {
        check(&config)?;
        let schema = Schema::new(&config.schema)?;
        let target = Target::new(&config)?;
        let bells = Arc::<Bells>::default();
        let ready = Ready {
            config: config.clone(),
            schema: schema.clone(),
            target: target.clone(),
            bells: bells.clone(),
            facts: Arc::default(),
        };
        let first = ready.control(true).await?;
        let store = store_id(&ready, &first)?;
        let control = Link::start("control", first, ready.dialler(Role::Control), None);
        let witness = ready.first_witness().await?;
        let witness = witness.map(|first| {
            let watcher: Arc<dyn Watcher> = Arc::new(Ringer(bells.clone()));
            Link::start(
                "witness",
                first,
                ready.dialler(Role::Witness),
                Some(watcher),
            )
        });
        let pool = Arc::new(Pool::new(&config, &target));
        Ok(Arc::new(Self {
            _janitor: Janitor::start(&config, &schema, pool.clone()),
            pool,
            config,
            schema,
            target,
            store,
            bells,
            control,
            witness,
            facts: ready.facts,
        }))
    }

    /// A statement with `{schema}` replaced.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.schema.sql(statement)
    }

    /// Sends one statement over C. Pipelined with those of others.
    pub(crate) async fn call(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, CallError> {
        let session = self.control.session().await?;
        query(&session, statement, parameters).await
    }

    /// C.
    pub(crate) fn control(&self) -> &Link {
        &self.control
    }

    /// W.
    pub(crate) fn witness(&self) -> Option<&Link> {
        self.witness.as_ref()
    }

    /// What the sessions found.
    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("store", &self.store)
            .field("control", &self.control)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}

/// Sends one statement over a session.
pub(crate) async fn query(
    session: &Session,
    statement: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, CallError> {
    let answer = session.client().query_typed(statement, parameters).await;
    answer.map_err(|error| {
        if error.as_db_error().is_none() && session.is_ended() {
            session.gone()
        } else {
            error.into()
        }
    })
}

fn check(config: &PostgresConfig) -> Result<(), ConnectError> {
    let longest = Duration::from_hours(24);
    if config.max_ttl < Duration::from_secs(1) || config.max_ttl > longest {
        return Err(ConnectError::BadSetting {
            setting: "max_ttl",
            given: format!("{:?}", config.max_ttl),
            wanted: format!("between 1 s and {longest:?}"),
        });
    }
    Ok(())
}

fn store_id(ready: &Ready, _: &Session) -> Result<StoreId, ConnectError> {
    let facts = lock(&ready.facts).clone();
    let memory = facts.control.map(|(_, identity)| identity.memory);
    let memory = memory.ok_or_else(|| ConnectError::Unreachable {
        host: ready.target.shown(),
        source: "the store told no identity".into(),
    })?;
    // The cluster, not its timeline: a promoted standby is the same store.
    let cluster = memory.split('/').next().unwrap_or_default();
    let database = ready.target.config().get_dbname().unwrap_or("");
    Ok(StoreId::new(format!(
        "postgres:{cluster}/{database}/{}",
        ready.schema.as_str()
    )))
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Control,
    Witness,
}

/// Makes sessions ready.
#[derive(Clone)]
struct Ready {
    config: PostgresConfig,
    schema: Schema,
    target: Target,
    bells: Arc<Bells>,
    facts: Arc<Mutex<Facts>>,
}

impl Ready {
    fn dialler(&self, role: Role) -> Dialler {
        let ready = self.clone();
        Arc::new(move || {
            let ready = ready.clone();
            Box::pin(async move {
                match role {
                    Role::Control => ready.control(false).await,
                    Role::Witness => ready.witness().await,
                }
            })
        })
    }

    async fn control(&self, migrates: bool) -> Result<Session, ConnectError> {
        let session = self.target.dial(None, no_inbox()).await?;
        let greeting = greeting::greet(&session, &self.target).await?;
        if migrates {
            schema::prepare(session.client(), &self.schema, &self.config).await?;
        }
        let identity = greeting::identify(&session, &self.schema, &self.config).await?;
        let settings = guarantees::probe(&session).await?;
        let mut facts = lock(&self.facts);
        facts.control = Some((greeting, identity));
        facts.settings = Some(settings);
        drop(facts);
        Ok(session)
    }

    /// Behind a pooler in transaction mode there is no witness, and nothing that needs one.
    async fn first_witness(&self) -> Result<Option<Session>, ConnectError> {
        match (self.witness().await, self.config.leases) {
            (Ok(session), _) => Ok(Some(session)),
            (Err(error @ ConnectError::Pooler { .. }), Leases::Row) => {
                tracing::warn!(%error, "no bus and no wake-ups: waiters poll");
                Ok(None)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn witness(&self) -> Result<Session, ConnectError> {
        let timeouts = Timeouts {
            idle: witness_silence(self.config.max_ttl, PROBE).max(PROBE_EVERY * 3),
            check: Duration::from_secs(1),
        };
        let bells = self.bells.clone();
        let inbox: Inbox = Arc::new(move |news| bells.heard(news.payload()));
        let session = self.target.dial(Some(timeouts), inbox).await?;
        let greeting = greeting::greet(&session, &self.target).await?;
        greeting::refuse_pooler(&session, &greeting, &self.target)?;
        let identity = greeting::identify(&session, &self.schema, &self.config).await?;
        // Also says, as long as the session lasts, that the schema is in use (I5).
        let listen = format!(
            "listen \"{}\"; select pg_catalog.pg_advisory_lock_shared({})",
            self.schema.channel(),
            self.schema.fleet()
        );
        let listening = session.client().batch_execute(&listen).await;
        listening.map_err(|error| ConnectError::failed("listen", error))?;
        lock(&self.facts).witness = Some((greeting, identity));
        Ok(session)
    }
}

/// Probes W, and tells whoever listens that it is up or down.
struct Ringer(Arc<Bells>);

impl Watcher for Ringer {
    fn up(&self, session: &Arc<Session>) {
        self.0.connected();
        tokio::spawn(probe(Arc::downgrade(session)));
    }

    fn down(&self) {
        self.0.disconnected();
    }
}

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
///
/// It is given up, not closed: the term locks in it are the evidence that this process lives, and who
/// trusts in one of its terms keeps it open until the store knows better (P6).
async fn probe(session: std::sync::Weak<Session>) {
    let mut ticks = interval(PROBE_EVERY);
    loop {
        ticks.tick().await;
        let Some(session) = session.upgrade().filter(|session| !session.is_ended()) else {
            return;
        };
        let sent = std::time::Instant::now();
        let answer = session.client().query_typed("select 1", &[]);
        if !matches!(timeout(PROBE_WITHIN, answer).await, Ok(Ok(_))) {
            session.give_up("a probe was not answered in time");
            return;
        }
        session.note_heard(sent);
    }
}
