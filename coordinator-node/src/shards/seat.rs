//! One run of one shard, from its grant until nobody holds any of it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coordinator_core::{Epoch, Key, Lease, Moment, Routing, ShardId};

use super::line::Line;
use crate::context::WorkTicket;
use crate::lease::{Grip, GripParts};
use crate::shared::Shared;

/// What names a run.
pub(super) type SeatId = (ShardId, Epoch);

/// One run of one shard. Its guards, and its saves under way, share it: when the last of them is
/// dropped, the work is really gone, and only then is the shard acked (S4).
pub(super) struct Seat {
    pub(super) grip: Arc<Grip>,
    pub(super) shard: ShardId,
    pub(super) token: Epoch,
    pub(super) count: NonZeroU16,
    pub(super) routing: Routing,
    pub(super) line: Arc<Line>,
    /// Whether the checkpoint store knows our token.
    pub(super) claimed: AtomicBool,
    /// The node lives as long as its guards.
    _node: Arc<Shared>,
    /// Shutdown waits for it.
    _ticket: WorkTicket,
}

/// What a [`Seat`] is made of.
pub(super) struct SeatParts {
    pub(super) shard: ShardId,
    pub(super) token: Epoch,
    pub(super) count: NonZeroU16,
    pub(super) routing: Routing,
    pub(super) until: Moment,
    pub(super) drain_timeout: std::time::Duration,
}

impl Seat {
    pub(super) fn new(line: &Arc<Line>, node: &Arc<Shared>, parts: &SeatParts) -> Arc<Self> {
        let context = &line.context;
        let name = format!("{}/{}", line.keyspace, parts.shard);
        let key = Key::scoped(&context.group, "shard", &name);
        let owner = context.me.clone();
        let grip = Grip::new(GripParts {
            lease: Lease::new(key, owner, parts.token.into(), line.store_id.clone()),
            clock: context.clock.clone(),
            look_every: context.trust.look_every(),
            stall_limit: None,
            until: parts.until,
        });
        Arc::new(Self {
            grip,
            shard: parts.shard,
            token: parts.token,
            count: parts.count,
            routing: parts.routing,
            line: line.clone(),
            claimed: AtomicBool::new(false),
            _node: node.clone(),
            _ticket: context
                .work
                .begin(format!("shard {name}"), parts.drain_timeout),
        })
    }

    pub(super) fn id(&self) -> SeatId {
        (self.shard, self.token)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.line.seat_gone(self.id());
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("keyspace", &self.line.keyspace)
            .field("shard", &self.shard)
            .field("token", &self.token)
            .field("grip", &self.grip)
            .finish_non_exhaustive()
    }
}
