//! The guards of shards: what the work is given.

use std::num::NonZeroU16;
use std::sync::Arc;

use coordinator_core::{Epoch, HeldShard, Keyspace, ShardId};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::seat::Seat;
use crate::lease::{Grip, guard_words};

/// A shard that this member owns, one of a fixed number.
///
/// Dropping it says that the work on the shard has stopped: that is the ack of a revocation.
/// Dropped unasked, the shard rests here until it is revoked.
#[must_use = "dropping it says that the work has stopped"]
#[derive(Debug)]
pub struct OwnedShard {
    pub(super) seat: Arc<Seat>,
    _alive: DropGuard,
}

/// This member's part of a keyspace that is cut into as many parts as members.
///
/// Dropping it says that the work on it has stopped. A new cut is granted only when all parts of
/// the old one have ended, unless the handoff is immediate.
#[must_use = "dropping it says that the work has stopped"]
#[derive(Debug)]
pub struct DenseShard {
    seat: Arc<Seat>,
    _alive: DropGuard,
}

/// A guard that a run can be handed to.
pub(super) trait Guard: Send + 'static {
    /// The guard, and a signal of its drop.
    fn of(seat: Arc<Seat>) -> (Self, CancellationToken)
    where
        Self: Sized;
}

macro_rules! guard {
    ($guard:ident) => {
        impl Guard for $guard {
            fn of(seat: Arc<Seat>) -> (Self, CancellationToken) {
                let dropped = CancellationToken::new();
                let alive = dropped.clone().drop_guard();
                let guard = Self {
                    seat,
                    _alive: alive,
                };
                (guard, dropped)
            }
        }

        impl $guard {
            fn grip(&self) -> &Arc<Grip> {
                &self.seat.grip
            }
        }

        impl HeldShard for $guard {
            fn keyspace(&self) -> &Keyspace {
                &self.seat.line.keyspace
            }

            fn shard(&self) -> ShardId {
                self.seat.shard
            }
        }

        guard_words!($guard);
    };
}

guard!(OwnedShard);
guard!(DenseShard);

impl OwnedShard {
    /// Which shard, from 0.
    pub fn id(&self) -> ShardId {
        self.seat.shard
    }

    /// Of how many.
    pub fn count(&self) -> NonZeroU16 {
        self.seat.count
    }

    /// Whether a key belongs to this shard.
    pub fn owns(&self, key: impl AsRef<[u8]>) -> bool {
        owns(&self.seat, key.as_ref())
    }
}

impl DenseShard {
    /// Which part of the cut, from 0.
    pub fn index(&self) -> u16 {
        self.seat.shard.get()
    }

    /// How many parts the cut has.
    pub fn count(&self) -> NonZeroU16 {
        self.seat.count
    }

    /// The number of the cut: rises with each.
    pub fn epoch(&self) -> Epoch {
        self.seat.token
    }

    /// Whether a key belongs to this part, in this cut.
    pub fn owns(&self, key: impl AsRef<[u8]>) -> bool {
        owns(&self.seat, key.as_ref())
    }
}

fn owns(seat: &Seat, key: &[u8]) -> bool {
    seat.routing.shard_of(key, seat.count) == seat.shard
}
