//! What the store did, with the true time of each: so that a test can check what overlapped.

use std::collections::VecDeque;
use std::time::Duration;

use coordinator_core::{
    Claim, EndReason, Epoch, FencingToken, Group, Incarnation, Instance, Key, Keyspace, MemberId,
    MemoryId, Position, ShardId,
};

/// One thing that the store did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in true time since the store was made: no clock that a test has set shows here.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// What a store did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lease was granted. A claim that was asked for again shows once.
    Granted {
        /// The key.
        key: Key,
        /// Who holds it now.
        owner: MemberId,
        /// Which start of that member.
        instance: Instance,
        /// The token of the grant.
        token: FencingToken,
        /// How long it lasts unless renewed.
        ttl: Duration,
    },
    /// A lease was prolonged; or brought back, after a loss of memory (I6).
    Renewed {
        /// The key.
        key: Key,
        /// Who holds it.
        owner: MemberId,
        /// The token of the grant.
        token: FencingToken,
        /// How long it lasts from now.
        ttl: Duration,
    },
    /// A lease was given back. One that runs out shows nowhere: see its last `ttl`.
    Released {
        /// The key.
        key: Key,
        /// Who held it.
        owner: MemberId,
        /// The token of the grant.
        token: FencingToken,
    },
    /// A life of a member began.
    Joined {
        /// The group.
        group: Group,
        /// Its name.
        id: MemberId,
        /// Its number.
        incarnation: Incarnation,
    },
    /// A member left.
    Ended {
        /// The group.
        group: Group,
        /// Its name.
        id: MemberId,
        /// The number of its life.
        incarnation: Incarnation,
        /// How it ended.
        reason: EndReason,
    },
    /// A member was put out.
    Evicted {
        /// The group.
        group: Group,
        /// Its name.
        id: MemberId,
        /// The number of its life.
        incarnation: Incarnation,
    },
    /// The assignment of a keyspace was replaced.
    Swapped {
        /// The group.
        group: Group,
        /// The keyspace.
        keyspace: Keyspace,
        /// The epoch of the new one.
        epoch: Epoch,
        /// The lives that it counts as ended.
        ended: Vec<(MemberId, Incarnation)>,
    },
    /// A member showed that it lives. Told to observers only: it comes too often to be kept.
    Beat {
        /// The group.
        group: Group,
        /// Its name.
        id: MemberId,
        /// The number of its life.
        incarnation: Incarnation,
        /// How long it lives from now.
        ttl: Duration,
    },
    /// A shard was claimed, and its position read. Told to observers only.
    Loaded {
        /// The group.
        group: Group,
        /// The keyspace.
        keyspace: Keyspace,
        /// The shard.
        shard: ShardId,
        /// The token of the claim.
        token: FencingToken,
        /// What was read.
        position: Option<Position>,
    },
    /// A position was stored. Told to observers only.
    Saved {
        /// The group.
        group: Group,
        /// The keyspace.
        keyspace: Keyspace,
        /// The shard.
        shard: ShardId,
        /// The token it was stored under.
        token: FencingToken,
        /// What was stored.
        position: Position,
    },
    /// The store lost its memory, or a part of it.
    MemoryLost {
        /// What it calls its new memory.
        memory: MemoryId,
    },
}

impl Event {
    /// Whether the history keeps it.
    pub(crate) fn is_kept(&self) -> bool {
        match self {
            Self::Granted { .. }
            | Self::Renewed { .. }
            | Self::Released { .. }
            | Self::Joined { .. }
            | Self::Ended { .. }
            | Self::Evicted { .. }
            | Self::Swapped { .. }
            | Self::MemoryLost { .. } => true,
            Self::Beat { .. } | Self::Loaded { .. } | Self::Saved { .. } => false,
        }
    }

    pub(crate) fn granted(claim: &Claim, token: FencingToken) -> Self {
        Self::Granted {
            key: claim.key.clone(),
            owner: claim.owner.clone(),
            instance: claim.instance,
            token,
            ttl: claim.ttl,
        }
    }

    pub(crate) fn renewed(claim: &Claim, token: FencingToken) -> Self {
        Self::Renewed {
            key: claim.key.clone(),
            owner: claim.owner.clone(),
            token,
            ttl: claim.ttl,
        }
    }

    pub(crate) fn released(claim: &Claim, token: FencingToken) -> Self {
        Self::Released {
            key: claim.key.clone(),
            owner: claim.owner.clone(),
            token,
        }
    }
}

/// The last entries, as many as were asked for.
#[derive(Debug)]
pub(crate) struct History {
    entries: VecDeque<Entry>,
    limit: usize,
}

impl History {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
        }
    }

    pub(crate) fn record(&mut self, entry: Entry) {
        if self.limit == 0 {
            return;
        }
        if self.entries.len() == self.limit {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }
}
