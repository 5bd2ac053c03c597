//! Fenced checkpoints: how far the work on a shard has come.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::errors::CheckpointError;
use crate::guarantees::Guarantees;
use crate::names::{Group, Keyspace, StoreId};
use crate::numbers::{FencingToken, ShardId};

/// The longest position, in bytes.
pub const MAX_POSITION_BYTES: usize = 64 * 1024;

/// How far the work on a shard has come: opaque text, of the application's choosing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(Arc<str>);

impl Position {
    /// The position that is written so.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Position {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// A position to store, and the right to store it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The fleet.
    pub group: Group,
    /// The keyspace.
    pub keyspace: Keyspace,
    /// The shard.
    pub shard: ShardId,
    /// The token of the grant under which the work was done.
    pub token: FencingToken,
    /// Rises with each save under this token, so that a delayed duplicate moves nothing back.
    pub number: u64,
    /// How far the work has come.
    pub position: Position,
}

impl Checkpoint {
    /// The first checkpoint under a token.
    pub fn new(
        group: Group,
        keyspace: Keyspace,
        shard: ShardId,
        token: FencingToken,
        position: Position,
    ) -> Self {
        Self {
            group,
            keyspace,
            shard,
            token,
            number: 1,
            position,
        }
    }

    /// The same, as the `number`th save under its token.
    pub fn number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }
}

/// The answer to [`CheckpointStore::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// The shard is claimed for the token; this is the last position saved, if any ever was.
    Loaded(Option<Position>),
    /// A higher token has claimed the shard.
    Fenced {
        /// That token.
        by: FencingToken,
    },
}

/// The answer to [`CheckpointStore::save`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Save {
    /// The position is stored.
    Saved,
    /// A later save under the same token is stored already. Nothing changed.
    Superseded,
    /// A higher token has claimed the shard, or none ever did. Nothing changed.
    Fenced {
        /// The token that has claimed it; `None`: nobody has, as the store remembers.
        by: Option<FencingToken>,
    },
}

/// Positions of shards, each guarded by the highest token that claimed it.
///
/// # Contract
/// 1. `load` claims: in one atomic step it reads the position and lifts the fence of the shard up
///    to `token` (rule C1).
/// 2. `load` or `save` with a token below the fence is `Fenced`, and changes nothing.
/// 3. A save numbered no higher than the last one of that token is `Superseded`, and changes
///    nothing; but the same number with the same position again is `Saved`.
/// 4. `save` with a token above the fence claims, as `load` does; where nobody has ever claimed the
///    shard it is `Fenced { by: None }`: a store that forgot its fences refuses its old owners.
/// 5. Shards, keyspaces and groups do not touch each other.
/// 6. A position survives the end of every lease and member.
/// 7. A position over [`MAX_POSITION_BYTES`] is `Rejected`.
///
/// # Fencing
/// FENCED means: lower than the highest token that has *claimed*. Load before you work.
///
/// # Ordering
/// Calls on one shard are linearizable. Nothing is promised across shards.
///
/// # Cancel safety
/// Not cancel safe: a dropped call may still take effect.
///
/// # Errors
/// An error means there was no answer. A refusal is an answer, and is `Ok`.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// `async fn load(&self, group, keyspace, shard, token) -> Result<Load, CheckpointError>`
    ///
    /// Claims the shard for `token` and reads its position.
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, CheckpointError>;

    /// `async fn save(&self, checkpoint: &Checkpoint) -> Result<Save, CheckpointError>`
    ///
    /// Stores a position, unless the token is no longer the highest.
    async fn save(&self, checkpoint: &Checkpoint) -> Result<Save, CheckpointError>;

    /// Which store and namespace this is.
    fn store(&self) -> StoreId;

    /// What the store was found to guarantee.
    fn guarantees(&self) -> Guarantees {
        Guarantees::unknown()
    }
}
