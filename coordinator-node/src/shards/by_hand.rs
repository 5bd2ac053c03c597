//! Shards by hand: `Node::shards`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator_core::Layout;
use tokio::sync::Notify;

use super::guard::Guard;
use super::line::{Host, Stop};
use super::seat::{Seat, SeatId};
use super::service::Service;
use super::{OwnedShard, ShardConfig};
use crate::errors::AcquireError;
use crate::shared::Shared;

/// The shards that this node owns, by hand: for work that is no task a shard.
///
/// A shard that is revoked before it was taken here is given back by itself. When this is dropped,
/// the node serves the keyspace no longer: the shards that were taken are asked to drain.
#[must_use = "dropped, the node serves the keyspace no longer"]
#[derive(Debug)]
pub struct Shards {
    service: Service,
    queue: Arc<Queue>,
}

impl Shards {
    pub(super) async fn begin(
        node: &Arc<Shared>,
        config: ShardConfig,
        layout: Layout,
    ) -> Result<Self, AcquireError> {
        let queue = Arc::new(Queue::default());
        let host = Arc::new(queue.clone());
        let service = Service::begin(node, config, layout, host, Stop::Drain).await?;
        Ok(Self { service, queue })
    }

    /// The next shard that this node owns. Dropping a shard says that the work on it has stopped;
    /// dropped unasked, it rests here until it is revoked.
    ///
    /// `None`: the node shuts down, or the keyspace turned out to be cut otherwise, which is
    /// logged. Cancel safe.
    pub async fn next(&mut self) -> Option<OwnedShard> {
        loop {
            let arrived = self.queue.arrived.notified();
            if let Some(seat) = self.queue.lock().pop_front() {
                return Some(OwnedShard::of(seat).0);
            }
            tokio::select! {
                biased;
                // Refused or shutting down: either way there will be no more.
                _ = self.service.ended() => return None,
                () = arrived => {}
            }
        }
    }
}

/// The shards that wait to be taken: at most as many as the keyspace has.
#[derive(Debug, Default)]
struct Queue {
    seats: Mutex<VecDeque<Arc<Seat>>>,
    arrived: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Arc<Queue> {
    fn start(&self, seat: Arc<Seat>) {
        self.lock().push_back(seat);
        self.arrived.notify_one();
    }

    fn withdraw(&self, id: SeatId) {
        let withdrawn: VecDeque<Arc<Seat>> = {
            let mut seats = self.lock();
            let (gone, kept) = seats.drain(..).partition(|seat| seat.id() == id);
            *seats = kept;
            gone
        };
        // Dropped outside the lock: that is its ack.
        drop(withdrawn);
    }
}
