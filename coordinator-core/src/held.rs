//! What all guards have in common, and how they end.

use std::fmt;

use crate::names::{Key, Keyspace, MemberId, StoreId};
use crate::numbers::{FencingToken, ShardId};

/// A lease that this process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// What is leased.
    pub key: Key,
    /// To whom.
    pub owner: MemberId,
    /// The number of the grant.
    pub token: FencingToken,
    /// Which store granted it.
    pub store: StoreId,
}

impl Lease {
    /// The lease with these parts.
    pub fn new(key: Key, owner: MemberId, token: FencingToken, store: StoreId) -> Self {
        Self {
            key,
            owner,
            token,
            store,
        }
    }
}

/// Why a lease is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostCause {
    /// It was not renewed before trust in it ended.
    Expired,
    /// The store has given it to another, or took it away.
    Superseded,
    /// The work reported no progress for the stall limit.
    Stalled,
    /// The work was asked to finish, and overran the drain timeout.
    Overran,
    /// Its holder gave it back.
    Released,
    /// The store lost its memory, and with it the grant.
    StoreReset,
}

impl fmt::Display for LostCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Stalled => "stalled",
            Self::Overran => "overran",
            Self::Released => "released",
            Self::StoreReset => "store-reset",
        })
    }
}

/// The lease on `key` is no longer held: stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lease on `{key}` is lost: {cause}")]
#[non_exhaustive]
pub struct Lost {
    /// What was leased.
    pub key: Key,
    /// Why it no longer is.
    pub cause: LostCause,
}

impl Lost {
    /// This key's lease was lost so.
    pub fn new(key: Key, cause: LostCause) -> Self {
        Self { key, cause }
    }
}

/// A guard of a lease. Backends hang their extras here.
pub trait Held: Send + Sync {
    /// The lease, or how it was lost: an error from the instant trust ends.
    fn lease(&self) -> Result<&Lease, Lost>;
}

/// A guard of a shard's lease.
pub trait HeldShard: Held {
    /// The keyspace that the shard is part of.
    fn keyspace(&self) -> &Keyspace;

    /// Which part.
    fn shard(&self) -> ShardId;
}
