//! What the driver of a keyspace shares with its services, seats and guards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator_core::{AssignmentStore, Keyspace, Layout, Mismatch, StoreId};
use tokio::sync::Notify;

use super::ShardConfig;
use super::seat::{Seat, SeatId};
use crate::context::Context;
use crate::members::Membership;
use crate::shared::Shared;
use crate::watch;

/// Takes the shards that are granted, on behalf of `run_shards`, `run_dense` or `Shards`.
pub(super) trait Host: Send + Sync + 'static {
    /// A shard is granted: its work begins.
    fn start(&self, seat: Arc<Seat>);

    /// The shard is revoked or lost. If its work has not begun, it never shall.
    fn withdraw(&self, id: SeatId);
}

/// What a service asks of the driver.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) config: Arc<ShardConfig>,
    pub(super) layout: Layout,
    pub(super) host: Arc<dyn Host>,
    pub(super) node: Arc<Shared>,
}

/// One keyspace of one node.
pub(super) struct Line {
    pub(super) context: Arc<Context>,
    pub(super) membership: Membership,
    pub(super) store: Arc<dyn AssignmentStore>,
    pub(super) store_id: StoreId,
    pub(super) keyspace: Keyspace,
    /// Whether a service has the keyspace, from its first check until it is dropped.
    taken: Mutex<bool>,
    desk: Mutex<Desk>,
    pub(super) told: Notify,
    pub(super) state: watch::Sender<LineState>,
    /// Numbers all saves of this node in the keyspace, so that those under one token rise, also
    /// through restarts of the work.
    saves: AtomicU64,
}

/// What the driver tells its service.
#[derive(Debug, Clone, Default)]
pub(super) struct LineState {
    /// Whether the driver serves a service now.
    pub(super) serving: bool,
    /// Whether anything runs, or is being ended.
    pub(super) busy: bool,
    /// The keyspace turned out to be another than ours.
    pub(super) refused: Option<Mismatch>,
}

#[derive(Default)]
struct Desk {
    stop: Option<Stop>,
    serve: Option<Offer>,
    gone: Vec<SeatId>,
    reload: bool,
}

/// How the service that is served now ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its shards drain.
    Drain,
    /// Their work is dropped at once.
    Drop,
}

/// What was laid on the desk since the driver last looked.
#[derive(Default)]
pub(super) struct Told {
    /// Comes before `serve`.
    pub(super) stop: Option<Stop>,
    pub(super) serve: Option<Offer>,
    pub(super) gone: Vec<SeatId>,
    pub(super) reload: bool,
}

impl Line {
    pub(super) fn new(
        context: Arc<Context>,
        membership: Membership,
        store: Arc<dyn AssignmentStore>,
        keyspace: Keyspace,
    ) -> Self {
        Self {
            store_id: store.store(),
            context,
            membership,
            store,
            keyspace,
            taken: Mutex::new(false),
            desk: Mutex::default(),
            told: Notify::new(),
            state: watch::Sender::default(),
            saves: AtomicU64::new(1),
        }
    }

    /// Takes the keyspace for one service. `false`: another has it.
    pub(super) fn take(&self) -> bool {
        !std::mem::replace(&mut *lock(&self.taken), true)
    }

    pub(super) fn give_back(&self) {
        *lock(&self.taken) = false;
    }

    pub(super) fn serve(&self, offer: Offer) {
        // What was refused before is another service's affair.
        self.state.send_modify(|state| state.refused = None);
        lock(&self.desk).serve = Some(offer);
        self.told.notify_one();
    }

    pub(super) fn stop(&self, how: Stop) {
        let withdrawn = {
            let mut desk = lock(&self.desk);
            desk.stop = Some(how);
            // An offer that the driver has not seen yet: it never will.
            desk.serve.take()
        };
        // Outside the lock: who knows what else it drops.
        drop(withdrawn);
        self.told.notify_one();
    }

    pub(super) fn seat_gone(&self, id: SeatId) {
        lock(&self.desk).gone.push(id);
        self.told.notify_one();
    }

    /// The document may be another than we know.
    pub(super) fn reload(&self) {
        lock(&self.desk).reload = true;
        self.told.notify_one();
    }

    pub(super) fn read_desk(&self) -> Told {
        let mut desk = lock(&self.desk);
        Told {
            stop: desk.stop.take(),
            serve: desk.serve.take(),
            gone: std::mem::take(&mut desk.gone),
            reload: std::mem::take(&mut desk.reload),
        }
    }

    pub(super) fn next_save(&self) -> u64 {
        self.saves.fetch_add(1, Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
