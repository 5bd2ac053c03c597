//! The node: one member of a group, and everything it takes part in.

use std::fmt;
use std::sync::Arc;

use coordinator_core::{Group, Guarantees, MemberId};

use crate::builder::{NodeBuilder, guarantees};
use crate::bus::Bus;
use crate::election::{Election, ElectionConfig};
use crate::errors::ShutdownError;
use crate::health::Health;
use crate::lock::{Lock, LockConfig};
use crate::members::Members;
use crate::shared::Shared;

/// One member of a group: elections, locks, members, shards and a bus, over one backend or a mix.
///
/// A cheap clone. When the last handle and the last guard are dropped, the node shuts down in the
/// background; [`Node::shutdown`] does it visibly.
///
/// # Runtime
/// Everything runs as tokio tasks of the runtime in which the node was started.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

impl Node {
    /// Begins to describe a node of this group: the fleet whose members see each other.
    pub fn builder(group: impl Into<Group>) -> NodeBuilder {
        NodeBuilder::new(group.into())
    }

    /// This member's name.
    pub fn id(&self) -> &MemberId {
        &self.shared.context.me
    }

    /// The group's name.
    pub fn group(&self) -> &Group {
        &self.shared.context.group
    }

    /// An election among the members of the group that name it: at most one of them leads.
    pub fn election(&self, config: impl Into<ElectionConfig>) -> Election {
        Election::new(&self.shared, config.into())
    }

    /// A lock that the members of the group share: at most one of them holds it.
    pub fn lock(&self, config: impl Into<LockConfig>) -> Lock {
        Lock::new(&self.shared, config.into())
    }

    /// Messages to and from every member of the group.
    pub fn bus(&self) -> Bus {
        self.shared.bus()
    }

    /// The live members of the group, this one included.
    pub fn members(&self) -> Members {
        Members::new(&self.shared.membership)
    }

    /// How the node stands at this moment.
    pub fn health(&self) -> Health {
        Health::of(&self.shared)
    }

    /// What each part of the backend that grants leases was found to guarantee.
    pub fn guarantees(&self) -> Vec<Guarantees> {
        guarantees(&self.shared.context.backend)
    }

    /// Ends when the node is asked to shut down: for graceful shutdown of servers. Cancel safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let draining = self.shared.context.draining.clone();
        async move { draining.cancelled().await }
    }

    /// Ends everything: asks all work to finish, waits for it at most its drain timeout, releases,
    /// leaves, and stops. Idempotent: who calls again waits for the same end. Goes on in the
    /// background if dropped.
    ///
    /// # Errors
    /// What could not be finished in time. The node is down all the same, and its leases run out
    /// by themselves.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.shared.shut_down().await
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("group", self.group())
            .field("member", self.id())
            .finish_non_exhaustive()
    }
}
