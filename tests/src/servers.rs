//! Real servers for tests, and what breaks them.
//!
//! [`shared`] is the one server of a run, in which each test has a [`fresh_schema`] of its own. A
//! test that stops, crashes or promotes servers starts a [`Postgres`] of its own. A [`Proxy`] stands
//! for the network, a [`PgBouncer`] for the pooler, and a [`Program`] is a process to kill or to
//! suspend. For Redis, [`redis`] has the same: a shared server, a namespace for each test, and private
//! servers, alone, with replicas and [`redis::Sentinels`], or as a [`redis::Cluster`].
//!
//! What the machine lacks skips a test with one loud line, and fails it where `cargo xtask test` has
//! found it or a machine for tests must have it:
//!
//! ```no_run
//! # use coordinator_tests::servers::fresh_schema;
//! # async fn test() {
//! let Some(schema) = fresh_schema() else { return };
//! let (client, session) =
//!     tokio_postgres::connect(schema.url(), tokio_postgres::NoTls).await.unwrap();
//! # }
//! ```

mod blocking;
mod names;
pub mod pgbouncer;
pub mod postgres;
#[cfg(unix)]
pub mod process;
pub mod proxy;
pub mod redis;
pub mod schema;
mod settings;
mod skip;

pub use coordinator_servers::{Error, Reply, Stop};
pub use pgbouncer::{PgBouncer, Pooling};
pub use postgres::{Postgres, shared};
#[cfg(unix)]
pub use process::Program;
pub use proxy::{Direction, Mode, Proxy};
pub use redis::Redis;
pub use schema::{Schema, fresh_schema};
