//! Private servers for tests: found on the machine, started in a temporary folder, and never left
//! behind.
//!
//! `cargo xtask test` starts one server for a whole run, and tests start servers of their own to
//! break. Both do it by this crate, which needs nothing but the standard library, so that the first
//! `cargo xtask test` of a fresh clone starts at once.
//!
//! Everything here blocks its thread. Tests use it through `coordinator-tests`, which does not.

mod account;
mod binaries;
mod cleaner;
mod error;
mod folder;
mod os;
mod port;
mod postgres;
mod probe;
mod programs;
mod random;
mod redis;
mod template;

pub use account::{Account, is_root};
pub use binaries::{Binaries, OLDEST};
pub use cleaner::Cleaner;
pub use error::Error;
pub use folder::Folder;
pub use os::detach;
pub use port::{free_port, listen_on_free_port};
pub use postgres::{Postgres, Stop};
pub use probe::accepts;
pub use programs::find as find_program;
pub use redis::{
    OLDEST as OLDEST_REDIS, Redis, RedisProgram, Reply, SENTINEL_NAME, Talk, in_a_cluster,
    replica_in_a_cluster, sentinel, slots,
};
pub use template::Template;

/// The URL of a Postgres server for all tests. Set by `cargo xtask test`, or by whoever has one.
pub const POSTGRES_URL: &str = "COORDINATOR_TEST_POSTGRES_URL";

/// The directory of the server's programs, for tests that start servers of their own.
pub const POSTGRES_BIN: &str = "COORDINATOR_TEST_POSTGRES_BIN";

/// A folder with a database cluster that tests may copy: `initdb` takes a second, a copy a tenth.
pub const POSTGRES_TEMPLATE: &str = "COORDINATOR_TEST_POSTGRES_TEMPLATE";

/// The URL of a Redis or Valkey server for all tests. Set by `cargo xtask test`, or by whoever has one.
pub const REDIS_URL: &str = "COORDINATOR_TEST_REDIS_URL";

/// The directory of the program `redis-server` or `valkey-server`, for tests that start servers of
/// their own.
pub const REDIS_BIN: &str = "COORDINATOR_TEST_REDIS_BIN";

/// What must be there, with commas between: `postgres` and `redis` (a server to use), `postgres-bin`
/// and `redis-bin` (programs to start servers by), `pgbouncer`. A test that needs one of these fails where it would be skipped.
pub const REQUIRE: &str = "COORDINATOR_TEST_REQUIRE";

/// Where packages put PgBouncer besides the search path.
pub const PGBOUNCER_PLACES: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"];
