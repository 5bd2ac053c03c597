//! The Redis backend of Coordinator.
//!
//! Leases, members, assignments and checkpoints are kept by scripts that run on the server, each operation by one, judged by the server's
//! clock; messages travel by its channels, and are kept in streams where they must last. Redis replicates asynchronously: a fail-over may lose the last writes. Then nothing is granted until every lease that
//! may have been lost has ended, and tokens go on rising; but what a lost lease guarded is protected by its token alone, where
//! it is checked: see [`RedisBackend::fenced`].

mod assignments;
mod backend;
mod bells;
mod bus;
mod checkpoints;
mod client;
mod config;
mod endpoint;
mod error;
mod fence;
mod fields;
mod guarantees;
mod hub;
mod janitor;
mod locks;
mod members;
mod names;
mod reply;
mod script;
mod trouble;

pub use backend::RedisBackend;
pub use config::{ClientKind, RedisConfig};
pub use error::ConnectError;
pub use fence::{FenceError, FencedWrites};
