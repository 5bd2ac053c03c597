//! Who does what in a fleet of ordinary processes: decided by the database or broker that the fleet
//! has anyway.
//!
//! A process starts one [`Node`], which makes it a member of a group. Everything else hangs on it:
//!
//! | you say | you call |
//! |---|---|
//! | exactly one of us runs the scheduler | [`Node::election`] |
//! | account 42 is changed by one of us at a time, and whoever writes late is refused | [`Node::lock`] |
//! | who is alive, with what metadata | [`Node::members`] |
//! | split 256 shards among us, never two owners | [`Node::run_shards`] |
//! | tell everyone, and tell me if I missed something | [`Node::bus`] |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use coordinator_memory::MemoryStore;
//! use coordinator_node::Node;
//!
//! let store = MemoryStore::new(); // in production: a database or broker that the fleet shares
//! let node = Node::builder("billing").backend(store.connect("a")).start().await?;
//!
//! node.election("scheduler").run(async |term| {
//!     while term.tick(Duration::from_secs(60)).await {
//!         println!("due jobs run under token {}", term.token()?);
//! #       break;
//!     }
//!     Ok(())
//! }).await?;
//!
//! node.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! # What a lease gives, and what it does not
//!
//! At no instant do two members both trust one lease: each counts its trust from before it asked,
//! by a clock that counts suspended time, and stops by itself before the store gives the lease
//! away. But a process can be stopped between a check and the write that follows. So every guard
//! has a **fencing token**: whatever you write to can refuse one that is lower than it has seen.
//!
//! # Two signals
//!
//! *Draining* means finish: shutdown, revocation, transfer. *Lost* means stop. `until_drain` and
//! `tick` end a loop on either; `run` drops the work the moment the lease is lost.
//!
//! # Features
//!
//! `json` (default): [`Json`] payloads. `memory`, `postgres`, `redis`: the schemes of [`connect()`].
//! `tls` (default): TLS for those over a network. `signal`:
//! `signal::terminate`. `metrics`: the counters of [`telemetry`], through the `metrics` facade.

mod builder;
mod bus;
mod clock;
mod connect;
mod context;
mod election;
mod errors;
mod handle;
mod health;
mod inbox;
mod lease;
mod lock;
mod members;
mod planner;
mod shards;
mod shared;
#[cfg(feature = "signal")]
pub mod signal;
mod tasks;
pub mod telemetry;
mod vote;
mod watch;

pub use builder::NodeBuilder;
#[cfg(feature = "json")]
pub use bus::Json;
pub use bus::{Bus, Incoming, Malformed, Message, PayloadTooLarge, Subscribe, Subscription};
pub use connect::connect;
pub use coordinator_core as core;
pub use coordinator_core::{
    Backend, BoxError, BusError, Bytes, Cursor, Epoch, FencingToken, Gap, GapCause, Group,
    Guarantee, Guarantees, Held, HeldShard, Key, Keyspace, Lease, Lost, LostCause, Member,
    MemberId, Payload, Position, Routing, ShardId, Start, Topic,
};
pub use election::{Election, ElectionConfig, Leadership, Observer, Term, WorkResult};
pub use errors::{
    AcquireError, ConnectError, ReleaseError, RunError, SaveError, ShutdownError, StartError,
    TransferError,
};
pub use handle::Node;
pub use health::{Health, Standing};
pub use lease::LeaseView;
pub use lock::{Lock, LockConfig, LockGuard};
pub use members::{BadMetadata, MemberSource, Members};
pub use shards::{
    DEFAULT_SHARDS, DenseShard, Handoff, OnError, OwnedShard, Router, ShardConfig, Shards,
};
pub use vote::Quorum;
