//! Vocabulary, backend traits, errors and state machines of Coordinator.
//!
//! This crate does no IO, reads no clock, spawns no task: the same inputs give the same outputs.
//! Authors of a backend implement its traits:
//!
//! | trait | what it gives |
//! |---|---|
//! | [`LockBackend`] | leases with fencing tokens: elections and locks |
//! | [`MembershipStore`] | who lives, with what |
//! | [`AssignmentStore`] | assignments by compare-and-swap: sharding |
//! | [`CheckpointStore`] | fenced positions of shards |
//! | [`ClusterBus`] | messages to everyone |
//!
//! Each trait's documentation is its contract, in numbered clauses; `coordinator-conformance`
//! checks them one by one. Users of Coordinator import `coordinator-node` instead.

mod assignment;
mod backend;
mod backoff;
mod bus;
mod checkpoint;
mod document;
mod errors;
mod frame;
mod guarantees;
mod held;
mod lock;
pub mod machine;
mod member;
mod names;
mod numbers;
pub mod relay;
mod requests;
mod routing;
mod strategy;
mod time;
pub mod trust;
#[allow(
    dead_code,
    reason = "the machines that speak over a bus alone come next"
)]
mod wire;

pub use assignment::{AssignmentStore, Lead, MAX_DOCUMENT_BYTES, StoredDocument, Swap, Swapped};
pub use async_trait::async_trait;
pub use backend::{Backend, Executor, Task};
pub use backoff::Backoff;
pub use bus::{
    BadFrame, Capabilities, ClusterBus, Cursor, Feed, FeedEvent, Frame, FrameKind, Gap, GapCause,
    KeepsNothing, Payload, Start, Topic,
};
pub use bytes::Bytes;
pub use checkpoint::{Checkpoint, CheckpointStore, Load, MAX_POSITION_BYTES, Position, Save};
pub use document::{
    BadDocument, DOCUMENT_FORMAT, Document, Evidence, IllegalStep, Layout, Life, MAX_SHARDS,
    MemberIndex, Mismatch, Slot,
};
pub use errors::{
    AssignmentError, BoxError, BusError, CheckpointError, ErrorKind, LockError, MembershipError,
};
pub use frame::{FRAME_VERSION, FrameError};
pub use guarantees::{Finding, Guarantee, Guarantees};
pub use held::{Held, HeldShard, Lease, Lost, LostCause};
pub use lock::{Acquisition, Claim, Holder, LockBackend, LockCapabilities, Release, Renewal};
pub use member::{
    Beat, EndReason, Eviction, Heartbeat, Join, Joined, KeyspaceReport, Leave, MAX_MEMBERS,
    MAX_METADATA_BYTES, Member, MemberState, MembershipStore, Profile, Report, Snapshot,
    TOMBSTONE_RETENTION, Versions,
};
pub use names::{
    BadName, Group, Key, Keyspace, MAX_NAME_BYTES, MAX_SCOPED_BYTES, MemberId, MemoryId, StoreId,
    check_name, scoped,
};
pub use numbers::{
    ClaimId, Epoch, FencingToken, Incarnation, Instance, NUMBER_LIMIT, ShardId, Version,
    next_number,
};
pub use requests::{BadRequest, check_key, check_keyspace, check_member, check_ttl};
pub use routing::{Routing, TEST_VECTORS, TestVector};
pub use strategy::{Candidate, Question, Rendezvous, Sticky, Strategy};
pub use time::{Clock, Moment};
pub use wire::WireError;
