#![doc = include_str!("../README.md")]

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
mod greeting;
mod guarantees;
mod hub;
mod janitor;
mod locks;
mod members;
mod names;
mod reply;
mod script;
mod spread;
mod trouble;
mod watch;

/// The other client library, of the version that [`RedisBackend::connect_with_fred`] takes.
#[cfg(feature = "client-fred")]
pub use fred;
/// The client library, of the version that [`RedisBackend::connect_with`] takes.
pub use redis;

pub use backend::RedisBackend;
pub use config::{ClientKind, RedisConfig};
pub use error::ConnectError;
pub use fence::{FenceError, FencedWrites};
