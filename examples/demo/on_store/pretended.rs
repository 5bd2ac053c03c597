//! What a real guard does not give: the token of another.

use coordinator_node::core::{NUMBER_LIMIT, StoreId};
use coordinator_node::{FencingToken, Group, Held, HeldShard, Key, Keyspace, Lease, Lost, ShardId};

use crate::fleet::{GROUP, KEYSPACE};
use crate::watch::shard_id;
use crate::witness::Letter;

/// A shard with a token that may be any: a real guard gives none that is not its own, and so cannot
/// show what the store does to one that is late.
pub(crate) struct Pretended {
    lease: Lease,
    keyspace: Keyspace,
    shard: ShardId,
}

impl Pretended {
    /// As the one holds it who comes last of all: nobody can write after it.
    pub(crate) fn last(shard: usize, store: &StoreId) -> anyhow::Result<Self> {
        Self::held(
            shard,
            "observer",
            FencingToken::new(NUMBER_LIMIT - 1),
            store,
        )
    }

    /// As one held it who was stopped.
    pub(crate) fn late(letter: &Letter, store: &StoreId) -> anyhow::Result<Self> {
        Self::held(letter.shard, &letter.member, letter.token, store)
    }

    fn held(
        shard: usize,
        owner: &str,
        token: FencingToken,
        store: &StoreId,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            lease: Lease::new(lease_key(shard), owner.into(), token, store.clone()),
            keyspace: Keyspace::from(KEYSPACE),
            shard: shard_id(shard)?,
        })
    }
}

/// What the lease of a shard is known by.
pub(crate) fn lease_key(shard: usize) -> Key {
    Key::scoped(&Group::from(GROUP), "shard", &format!("{KEYSPACE}/{shard}"))
}

impl Held for Pretended {
    fn lease(&self) -> Result<&Lease, Lost> {
        Ok(&self.lease)
    }
}

impl HeldShard for Pretended {
    fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn shard(&self) -> ShardId {
        self.shard
    }
}
