//! What a node runs on: one part for each job, from one store or several.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::assignment::AssignmentStore;
use crate::bus::ClusterBus;
use crate::checkpoint::CheckpointStore;
use crate::lock::LockBackend;
use crate::member::MembershipStore;
use crate::time::Clock;

/// A task to run: what an [`Executor`] takes.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Runs tasks. A node spawns everything through one, so that a test can freeze a whole member.
pub trait Executor: Send + Sync + 'static {
    /// Begins to run the task. It must not run it inside this call.
    fn spawn(&self, task: Task);
}

/// What a node runs on. Mix parts by functional update:
/// `Backend { bus: redis.bus, ..postgres }`.
#[derive(Clone, Default)]
pub struct Backend {
    /// Carries messages. Needed by `bus`, transfers and elections by vote. Without `members` it also
    /// carries heartbeats, by which each node judges who is there.
    pub bus: Option<Arc<dyn ClusterBus>>,
    /// Grants leases. Needed by elections by lease, locks and shards.
    pub locks: Option<Arc<dyn LockBackend>>,
    /// Knows who lives. Needed by members and shards.
    pub members: Option<Arc<dyn MembershipStore>>,
    /// Keeps assignments. Needed by shards; must be in one store with `members`.
    pub assignments: Option<Arc<dyn AssignmentStore>>,
    /// Keeps checkpoints. Needed by `load` and `save` of shards.
    pub checkpoints: Option<Arc<dyn CheckpointStore>>,
    /// The clock by which leases are trusted; without one, the machine's.
    pub clock: Option<Arc<dyn Clock>>,
    /// Runs the node's tasks; without one, tokio does.
    pub executor: Option<Arc<dyn Executor>>,
    /// Makes the node's random choices repeatable; without one, they are truly random.
    pub seed: Option<u64>,
}

impl Backend {
    /// A backend that is nothing but a bus.
    pub fn from_bus(bus: impl ClusterBus) -> Self {
        Self {
            bus: Some(Arc::new(bus)),
            ..Self::default()
        }
    }

    /// A backend that is nothing but a lock backend.
    pub fn from_locks(locks: impl LockBackend) -> Self {
        Self {
            locks: Some(Arc::new(locks)),
            ..Self::default()
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("bus", &self.bus.is_some())
            .field("locks", &self.locks.as_ref().map(|part| part.store()))
            .field("members", &self.members.as_ref().map(|part| part.store()))
            .field(
                "assignments",
                &self.assignments.as_ref().map(|part| part.store()),
            )
            .field(
                "checkpoints",
                &self.checkpoints.as_ref().map(|part| part.store()),
            )
            .field("clock", &self.clock.is_some())
            .field("executor", &self.executor.is_some())
            .field("seed", &self.seed)
            .finish()
    }
}
