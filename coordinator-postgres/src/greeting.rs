//! The first words with a server: who serves us, over which path, and what it remembers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio_postgres::Row;

use crate::config::PostgresConfig;
use crate::error::ConnectError;
use crate::names::Schema;
use crate::session::{Session, Target};

/// The oldest version that has `idle_session_timeout` and `client_connection_check_interval`.
const OLDEST: i32 = 140_000;

const FACTS: &str = "select pg_catalog.pg_backend_pid(), \
    current_setting('server_version_num')::int, current_setting('server_version'), \
    pg_catalog.pg_is_in_recovery(), \
    pg_catalog.host(pg_catalog.inet_client_addr()), pg_catalog.inet_client_port(), \
    pg_catalog.host(pg_catalog.inet_server_addr()), pg_catalog.inet_server_port()";

/// What a server says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The process that serves us now.
    pub(crate) pid: i32,
    /// Our address as the server sees it; `None`: a socket of its machine.
    pub(crate) client: Option<SocketAddr>,
    /// Its own address, as it sees it.
    pub(crate) server: Option<SocketAddr>,
}

/// Asks who serves this session, and refuses servers that cannot.
pub(crate) async fn greet(session: &Session, target: &Target) -> Result<Greeting, ConnectError> {
    let asked = session.client().query_typed(FACTS, &[]).await;
    let rows = asked.map_err(|error| ConnectError::failed("read the server's version", error))?;
    let Some(row) = rows.first() else {
        return Err(ConnectError::Unreachable {
            host: target.shown(),
            source: "the server answered with nothing".into(),
        });
    };
    check_version(row.get(1), row.get(2))?;
    if row.get::<_, bool>(3) {
        return Err(ConnectError::ReadOnly {
            host: target.shown(),
        });
    }
    Ok(Greeting {
        pid: row.get(0),
        client: address(row, 4),
        server: address(row, 6),
    })
}

pub(crate) fn check_version(number: i32, shown: &str) -> Result<(), ConnectError> {
    if number >= OLDEST {
        return Ok(());
    }
    Err(ConnectError::TooOld {
        found: shown.to_owned(),
    })
}

fn address(row: &Row, column: usize) -> Option<SocketAddr> {
    let host: Option<&str> = row.get(column);
    let port: Option<i32> = row.get(column + 1);
    let ip: IpAddr = host?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(port?).ok()?))
}

/// Whether the process that greeted this session serves it: behind a pooler another does (P7).
pub(crate) fn refuse_pooler(
    session: &Session,
    greeting: &Greeting,
    target: &Target,
) -> Result<(), ConnectError> {
    match session.pid() {
        Some(pid) if pid == greeting.pid => Ok(()),
        found => Err(ConnectError::Pooler {
            host: target.shown(),
            noticed: match found {
                Some(pid) => format!(
                    "the session began with server process {pid} and is served by {}",
                    greeting.pid
                ),
                None => "the server named no process of its own".to_owned(),
            },
        }),
    }
}

/// What the store remembers (section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Changes when the store may have forgotten grants.
    pub(crate) memory: String,
    /// Changes when all sessions have ended at once.
    pub(crate) session: String,
}

/// Reads the store's identities, and refuses other constants of the namespace: the longest TTL (I4),
/// and how leases are held.
pub(crate) async fn identify(
    session: &Session,
    schema: &Schema,
    config: &PostgresConfig,
) -> Result<Identity, ConnectError> {
    let failed = |error| ConnectError::failed("read the store's identity", error);
    let hello = schema.sql("select memory, session, max_ttl, leases from {schema}.hello()");
    let rows = session.client().query_typed(&hello, &[]).await;
    let rows = rows.map_err(failed)?;
    let Some(row) = rows.first() else {
        return Err(ConnectError::ForeignObjects {
            schema: schema.as_str().to_owned(),
            object: "an empty table `identity`".to_owned(),
        });
    };
    let stored = Duration::from_millis(u64::try_from(row.get::<_, i64>(2)).unwrap_or_default());
    if stored != config.max_ttl {
        return Err(ConnectError::OtherMaxTtl {
            schema: schema.as_str().to_owned(),
            stored,
            ours: config.max_ttl,
        });
    }
    let leases: &str = row.get(3);
    if leases != config.leases.word() {
        return Err(ConnectError::OtherLeases {
            schema: schema.as_str().to_owned(),
            stored: leases.to_owned(),
            ours: config.leases.word(),
        });
    }
    Ok(Identity {
        memory: row.get(0),
        session: row.get(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_13_is_too_old() {
        assert!(check_version(140_000, "14.0").is_ok());
        let error = check_version(130_014, "13.14").expect_err("too old");
        assert_eq!(
            error.to_string(),
            "Postgres 13.14 is too old: version 14 or later is needed"
        );
    }
}
