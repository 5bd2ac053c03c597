//! The pool for bulk reads: the application's, or a small one of our own, opened when needed.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow, PgSslMode};
use sqlx::{PgPool, Postgres};
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};

use crate::config::PostgresConfig;
use crate::error::CallError;
use crate::session::{Target, lock};

/// So many connections has a pool of our own, and so long it waits for one of them.
const CONNECTIONS: u32 = 2;
const WITHIN: Duration = Duration::from_secs(5);
/// A connection that nobody uses is closed after so long.
const IDLE: Duration = Duration::from_secs(60);

/// A statement for the pool.
pub(crate) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// So long a read may take. The pool's driver does not notice by itself that a server is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where bulk reads go. Never liveness: an application may have used its pool up.
pub(crate) struct Pool {
    given: Option<PgPool>,
    own: Mutex<Option<Own>>,
    config: PostgresConfig,
    target: Target,
}

/// A pool of our own, of one of the URL's hosts: its driver knows but one.
struct Own {
    host: usize,
    pool: PgPool,
}

impl Pool {
    pub(crate) fn new(config: &PostgresConfig, target: &Target) -> Self {
        Self {
            given: config.pool.clone(),
            own: Mutex::default(),
            config: config.clone(),
            target: target.clone(),
        }
    }

    /// The application's, or one of the host that last let a session of ours in: of several, the primary.
    pub(crate) fn get(&self) -> PgPool {
        if let Some(given) = &self.given {
            return given.clone();
        }
        let host = self.target.host();
        let mut own = lock(&self.own);
        match &*own {
            Some(own) if own.host == host => own.pool.clone(),
            _ => {
                let pool = open(options(&self.config, &self.target, host));
                *own = Some(Own {
                    host,
                    pool: pool.clone(),
                });
                pool
            }
        }
    }

    /// The rows of a statement. One that changes nothing, or that may be repeated: what became of it
    /// when no answer came is not told.
    pub(crate) async fn rows(&self, query: Query<'_>) -> Result<Vec<PgRow>, CallError> {
        let mut connection = self.get().acquire().await.map_err(CallError::from)?;
        let rows = query
            .persistent(self.prepares())
            .fetch_all(&mut *connection);
        if let Ok(rows) = timeout(ANSWER_WITHIN, rows).await {
            return rows.map_err(CallError::from);
        }
        // Whatever hangs there must not be handed to the next.
        drop(connection.detach());
        Err(CallError::nothing_happened(format!(
            "the pool's connection gave no answer within {ANSWER_WITHIN:?}"
        )))
    }

    /// Whether statements may be prepared by name: a pool of the application may lead through a
    /// pooler, where the next statement meets another session.
    pub(crate) fn prepares(&self) -> bool {
        self.given.is_none()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("given", &self.given.is_some())
            .finish_non_exhaustive()
    }
}

fn open(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(WITHIN)
        .idle_timeout(IDLE)
        // A round trip each time; those who read try again.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// What the URL says of one of its hosts, for the pool's driver.
fn options(config: &PostgresConfig, target: &Target, host: usize) -> PgConnectOptions {
    let url = target.config();
    let mut options = PgConnectOptions::new_without_pgpass()
        .application_name(&config.application_name)
        .ssl_mode(ssl_mode(url.get_ssl_mode(), target));
    if let Some(user) = url.get_user() {
        options = options.username(user);
    }
    if let Some(password) = url.get_password() {
        options = options.password(&String::from_utf8_lossy(password));
    }
    if let Some(database) = url.get_dbname() {
        options = options.database(database);
    }
    if let Some(file) = target.roots() {
        options = options.ssl_root_cert(file);
    }
    let ports = url.get_ports();
    // One port is for all hosts.
    if let Some(port) = ports.get(host).or(ports.first()) {
        options = options.port(*port);
    }
    match url.get_hosts().get(host) {
        Some(Host::Tcp(host)) => options.host(host),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => options.socket(folder),
        None => options,
    }
}

fn ssl_mode(mode: SslMode, target: &Target) -> PgSslMode {
    match (mode, target.verifies()) {
        (SslMode::Disable, _) => PgSslMode::Disable,
        (_, Some(true)) => PgSslMode::VerifyFull,
        (_, Some(false)) => PgSslMode::VerifyCa,
        (SslMode::Require, None) => PgSslMode::Require,
        (_, None) => PgSslMode::Prefer,
    }
}
