//! The server that the nodes share, and what it shows of itself.

mod postgres;
mod redis;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::servers::{Postgres, Redis, Stop};
use postgres::Look;

/// Where everything is: a schema, or a namespace.
const NAME: &str = "soak";

/// Which store is soaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A Postgres server.
    Postgres,
    /// A Redis server that writes all to its disk before it answers.
    Redis,
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "postgres" => Ok(Self::Postgres),
            "redis" => Ok(Self::Redis),
            other => Err(format!("`{other}` is neither `postgres` nor `redis`")),
        }
    }
}

/// What becomes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Messages {
    /// They are kept.
    Durable,
    /// They are heard by whoever listens.
    Live,
}

/// A private server.
#[derive(Debug, Clone)]
pub(super) enum Server {
    Postgres(Postgres),
    Redis(Redis),
}

impl Server {
    pub(super) async fn start(store: Store) -> io::Result<Self> {
        let started = match store {
            Store::Postgres => {
                let server = Postgres::start(&[("max_connections", "200")]).await;
                server.map(|server| server.map(Self::Postgres))
            }
            Store::Redis => {
                let settings = [("appendonly", "yes"), ("appendfsync", "always")];
                let server = Redis::start(&settings).await;
                server.map(|server| server.map(Self::Redis))
            }
        };
        let started = started.map_err(io::Error::other)?;
        started.ok_or_else(|| io::Error::other("the programs of a server are needed"))
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Postgres(server) => server.address(),
            Self::Redis(server) => server.address(),
        }
    }

    /// A node's URL: directly, or by a proxy at this port.
    pub(super) fn url_of_node(&self, port: Option<u16>, messages: Messages) -> String {
        let is_durable = messages == Messages::Durable;
        match self {
            Self::Postgres(server) => {
                let url = port.map_or_else(|| server.url(), |port| server.url_at(port));
                let spill = if is_durable { "always" } else { "overflow" };
                format!("{url}?schema={NAME}&spill={spill}")
            }
            Self::Redis(server) => {
                let url = port.map_or_else(|| server.url(), |port| server.url_at(port));
                // Nothing is granted for so long after each restart; and the log is long enough for the
                // longest run: what is trimmed could not be told from what is lost.
                format!(
                    "{url}?namespace={NAME}&max_ttl_seconds=2&durable={is_durable}&log_entries=10000000"
                )
            }
        }
    }

    /// How many connections the nodes have.
    pub(super) async fn sessions(&self) -> Result<i64, String> {
        match self {
            Self::Postgres(server) => Look::at(&server.url()).await?.sessions().await,
            Self::Redis(server) => {
                redis::answers(server).await?;
                redis::sessions(server).await
            }
        }
    }

    /// Ends one of the nodes' connections: at that share of all.
    pub(super) async fn terminate(&self, which: f64) -> Result<(), String> {
        match self {
            Self::Postgres(server) => Look::at(&server.url()).await?.terminate(which).await,
            Self::Redis(server) => {
                redis::answers(server).await?;
                redis::terminate(server, which).await
            }
        }
    }

    /// How many rows or elements there are of each kind.
    pub(super) async fn rows(&self) -> Result<BTreeMap<String, i64>, String> {
        match self {
            Self::Postgres(server) => Look::at(&server.url()).await?.rows().await,
            Self::Redis(server) => redis::rows(server).await,
        }
    }

    /// Stops it and starts it again, in an orderly way or not.
    pub(super) async fn restart(&self, orderly: bool) -> io::Result<()> {
        let restarted = match self {
            Self::Postgres(server) => {
                let how = if orderly { Stop::Fast } else { Stop::Immediate };
                server.restart(how).await
            }
            Self::Redis(server) if orderly => match server.stop().await {
                Ok(()) => server.start_again().await,
                Err(error) => Err(error),
            },
            Self::Redis(server) => server.restart().await,
        };
        restarted.map_err(io::Error::other)
    }

    /// Whether a reader of kept messages may be told of this gap after a restart. A Redis server that has
    /// started again may have lost the last of its log, and cannot know.
    pub(super) fn may_tell(&self, gap: &str) -> bool {
        matches!(self, Self::Redis(_)) && gap.ends_with("LogReset")
    }
}
