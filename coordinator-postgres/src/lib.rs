#![doc = include_str!("../README.md")]

mod assignments;
mod backend;
mod bells;
mod bus;
mod checkpoints;
mod config;
mod error;
mod fence;
mod greeting;
mod guarantees;
mod hub;
mod janitor;
mod link;
mod locks;
mod members;
mod names;
mod pool;
mod role;
mod schema;
mod session;
#[doc(hidden)] // Public for the model of take-overs in `tests`, and for nobody else.
pub mod takeover;
mod trouble;
mod turns;

pub use backend::PostgresBackend;
pub use bus::Outbox;
pub use config::{Cursors, Leases, PostgresConfig, Spill, Takeover};
pub use error::ConnectError;
pub use fence::{Fence, FenceError, PgTx, SaveIn};
pub use role::role_sql;
pub use schema::migration_sql;
