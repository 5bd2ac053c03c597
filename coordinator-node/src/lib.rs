//! The runtime of Coordinator.

mod builder;
mod bus;
mod clock;
mod connect;
mod context;
mod election;
mod errors;
mod handle;
mod health;
mod lease;
mod lock;
mod members;
mod shards;
mod shared;
#[cfg(feature = "signal")]
pub mod signal;
mod tasks;
pub mod telemetry;

pub use builder::NodeBuilder;
#[cfg(feature = "json")]
pub use bus::Json;
pub use bus::{Bus, Incoming, Malformed, Message, PayloadTooLarge, Subscribe, Subscription};
pub use connect::connect;
pub use coordinator_core as core;
pub use coordinator_core::{
    Backend, BoxError, BusError, Cursor, Epoch, FencingToken, Gap, GapCause, Group, Guarantee,
    Guarantees, Held, HeldShard, Key, Keyspace, Lease, Lost, LostCause, Member, MemberId, Payload,
    Position, Routing, ShardId, Start, Topic,
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
pub use members::{BadMetadata, Members};
pub use shards::{
    DEFAULT_SHARDS, DenseShard, Handoff, OnError, OwnedShard, Router, ShardConfig, Shards,
};
