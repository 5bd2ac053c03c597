//! Errors of the runtime, split by what the caller does next.

use std::time::Duration;

use coordinator_core::{BoxError, Group, Guarantee, Key, Keyspace, Lost, MemberId, ShardId};

/// Why a URL gave no backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no URL of a backend.
    #[error("`{url}` is no backend's url: write `memory:`, `postgres://…` or `redis://…`")]
    BadUrl {
        /// What was given, without its password.
        url: String,
    },
    /// The backend exists, but this build leaves it out.
    #[error(
        "`{scheme}` backends are left out of this build: enable the feature `{feature}` of coordinator-node"
    )]
    MissingFeature {
        /// The scheme that was asked for.
        scheme: String,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// The store did not answer: retry with backoff.
    #[error("cannot reach the store at `{url}`")]
    Unavailable {
        /// What was given, without its password.
        url: String,
        /// What the client library said.
        source: BoxError,
    },
    /// The store answered, and refused. Do not retry.
    #[error("the store at `{url}` refused")]
    Rejected {
        /// What was given, without its password.
        url: String,
        /// Why.
        source: BoxError,
    },
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The backend could not be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A setting is not allowed, or contradicts another. The source says what was given.
    #[error("node of group `{group}` rejected: {what}")]
    Rejected {
        /// The group.
        group: Group,
        /// What was rejected.
        what: &'static str,
        /// What was given, and what is allowed.
        source: BoxError,
    },
    /// Another live process has this static name.
    #[error(
        "member `{member}` of group `{group}` is alive in another process: give each its own name"
    )]
    DuplicateName {
        /// The group.
        group: Group,
        /// The name.
        member: MemberId,
    },
    /// The store does not give what was demanded.
    #[error("the store does not give `{guarantee}`: found {found}; {remedy}")]
    MissingGuarantee {
        /// What was demanded.
        guarantee: Guarantee,
        /// What was read.
        found: String,
        /// How to get it.
        remedy: String,
    },
    /// The store did not answer in time: retry.
    #[error("group `{group}` could not be joined within {waited:?}")]
    Unavailable {
        /// The group.
        group: Group,
        /// How long it was tried.
        waited: Duration,
        /// The last error.
        source: BoxError,
    },
}

/// Why a lease was not acquired. Losing a race is not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Refused for good: a setting or name that is not allowed, or contradicts the store's.
    #[error("`{name}` rejected")]
    Rejected {
        /// The key or keyspace.
        name: String,
        /// What was given, and what is allowed.
        source: BoxError,
    },
    /// The backend lacks a part that this needs.
    #[error("`{name}` needs the backend's `{part}`, which this node's backend does not have")]
    MissingPart {
        /// The key or keyspace.
        name: String,
        /// The field of `Backend` that is `None`.
        part: &'static str,
    },
    /// The store did not answer. Only attempts that do not wait say so.
    #[error("no answer for `{name}`")]
    Unavailable {
        /// The key or keyspace.
        name: String,
        /// What the store's client said.
        source: BoxError,
    },
    /// The node is shutting down.
    #[error("`{name}` was not acquired: the node is shutting down")]
    ShuttingDown {
        /// The key or keyspace.
        name: String,
    },
}

/// How `run` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Nothing ran.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lease was lost in mid-work, and the work dropped.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The work failed while the lease was held.
    #[error("the work under `{name}` failed")]
    Work {
        /// The key or shard.
        name: String,
        /// What the work said.
        source: BoxError,
    },
}

/// Why a release is not known to have taken effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The lease had ended before.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The store did not confirm. The lease ends by itself.
    #[error("the release of `{key}` is not confirmed: it ends by itself within {ends_within:?}")]
    Unconfirmed {
        /// The key.
        key: Key,
        /// When the store's lease has ended at the latest.
        ends_within: Duration,
    },
}

/// Why a checkpoint was not loaded or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The shard is no longer this member's: stop.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The stored position cannot be read as what was asked for. It is not taken for none.
    #[error("the checkpoint of shard {shard} in `{keyspace}` cannot be read: `{found}`")]
    Malformed {
        /// The keyspace.
        keyspace: Keyspace,
        /// The shard.
        shard: ShardId,
        /// What is stored.
        found: String,
        /// Why it cannot be read.
        source: BoxError,
    },
    /// The backend lacks a checkpoint store.
    #[error(
        "checkpoints of `{keyspace}` need the backend's `checkpoints`, which this node's backend does not have"
    )]
    MissingPart {
        /// The keyspace.
        keyspace: Keyspace,
    },
    /// Refused for good.
    #[error("the checkpoint of shard {shard} in `{keyspace}` was rejected")]
    Rejected {
        /// The keyspace.
        keyspace: Keyspace,
        /// The shard.
        shard: ShardId,
        /// Why.
        source: BoxError,
    },
    /// The store did not answer for as long as the shard was trusted, or said that it may not
    /// have stored it.
    #[error("no answer on the checkpoint of shard {shard} in `{keyspace}`")]
    Unavailable {
        /// The keyspace.
        keyspace: Keyspace,
        /// The shard.
        shard: ShardId,
        /// What the store's client said.
        source: BoxError,
    },
}

/// Why a leader did not hand over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Nobody leads, so nobody can hand over.
    #[error("nobody leads `{name}`")]
    NoLeader {
        /// The election.
        name: String,
    },
    /// The successor is not a live member.
    #[error("`{successor}` is no live member: `{name}` cannot be handed to it")]
    UnknownSuccessor {
        /// The election.
        name: String,
        /// Who was named.
        successor: MemberId,
    },
    /// The backend lacks a part that this needs.
    #[error(
        "transferring `{name}` needs the backend's `{part}`, which this node's backend does not have"
    )]
    MissingPart {
        /// The election.
        name: String,
        /// The field of `Backend` that is `None`.
        part: &'static str,
    },
    /// The leader was asked, and the successor does not lead in time. It may yet.
    #[error("`{successor}` does not lead `{name}` after {waited:?}")]
    TimedOut {
        /// The election.
        name: String,
        /// Who was named.
        successor: MemberId,
        /// How long was waited.
        waited: Duration,
    },
    /// The leader could not be asked.
    #[error("the leader of `{name}` could not be asked")]
    Unavailable {
        /// The election.
        name: String,
        /// What the bus said.
        source: BoxError,
    },
}

/// What a shutdown could not finish. The node is down all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// This work was still busy at the drain timeout. Its leases run out by themselves.
    #[error("still busy at the drain timeout: {}", .names.join(", "))]
    Overran {
        /// The terms, locks and shards.
        names: Vec<String>,
    },
    /// The store did not confirm the release or the leave. Both happen by themselves.
    #[error("the store did not confirm: leases and membership end within {ends_within:?}")]
    Unconfirmed {
        /// When the store's leases have ended at the latest.
        ends_within: Duration,
    },
}
