//! The assignment of one keyspace: who owns which shard, under which token.

use std::fmt;

use crate::names::MemberId;
use crate::numbers::{Epoch, FencingToken, Incarnation};
use crate::routing::Routing;

/// The most shards a keyspace can have (rule S10).
pub const MAX_SHARDS: u16 = u16::MAX;

/// How a keyspace is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// Into `shards` parts, for ever: a key's shard never changes.
    Fixed {
        /// How many, 1 to [`MAX_SHARDS`].
        shards: u16,
    },
    /// Into as many parts as members live. Any change cuts anew (rule S11).
    Dense,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed { shards } => write!(f, "fixed({shards})"),
            Self::Dense => f.write_str("dense"),
        }
    }
}

/// One life of one member: ownership is by this, never by the name alone (rule S1).
pub type Life = (MemberId, Incarnation);

/// A place in [`Document::members`].
pub type MemberIndex = u16;

/// What the document says of one shard.
///
/// A `token` or `since` of zero was written by the very swap that stored the document, and is read
/// as the document's epoch: [`Document::stamped`] puts it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Nobody's.
    Free {
        /// For whose return it is kept: a static name within its grace period.
        reserved: Option<MemberIndex>,
    },
    /// A member's, under this token.
    Owned {
        /// Whose.
        member: MemberIndex,
        /// The epoch of the grant.
        token: Epoch,
    },
    /// Still a member's, who has been told to drain it.
    Revoking {
        /// Whose.
        member: MemberIndex,
        /// The epoch of its grant.
        token: Epoch,
        /// The epoch that revoked it: only a report that has seen this one acks it.
        since: Epoch,
        /// Who is meant to get it next.
        next: Option<MemberIndex>,
    },
}

/// The assignment of one keyspace.
///
/// In the dense layout shard `i` of `slots.len()` is the part of the member at index `i` of the
/// cut. While any slot is `Revoking` or `Free` the cut is at its barrier; a new cut is granted
/// only as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Document {
    /// The number that the store stamped on it. Zero in one not stored yet.
    pub epoch: Epoch,
    /// The token of the planner that wrote it.
    pub planner: FencingToken,
    /// How the keyspace is cut.
    pub layout: Layout,
    /// By which hash.
    pub routing: Routing,
    /// The lives that `slots` speak of.
    pub members: Vec<Life>,
    /// What is said of each shard.
    pub slots: Vec<Slot>,
}

impl Document {
    /// A first document: every shard is free. A dense one has no shards until its first cut.
    pub fn new(planner: FencingToken, layout: Layout, routing: Routing) -> Self {
        let shards = match layout {
            Layout::Fixed { shards } => usize::from(shards),
            Layout::Dense => 0,
        };
        Self {
            epoch: Epoch::new(0),
            planner,
            layout,
            routing,
            members: Vec::new(),
            slots: vec![Slot::Free { reserved: None }; shards],
        }
    }

    /// The life at an index of the member table.
    pub fn member(&self, index: MemberIndex) -> Option<&Life> {
        self.members.get(usize::from(index))
    }

    /// The same document as stored under `epoch`: zero tokens and `since`s become that epoch.
    pub fn stamped(mut self, epoch: Epoch) -> Self {
        let stamp = |number: &mut Epoch| {
            if number.get() == 0 {
                *number = epoch;
            }
        };
        self.epoch = epoch;
        for slot in &mut self.slots {
            match slot {
                Slot::Free { .. } => {}
                Slot::Owned { token, .. } => stamp(token),
                Slot::Revoking { token, since, .. } => {
                    stamp(token);
                    stamp(since);
                }
            }
        }
        self
    }
}
