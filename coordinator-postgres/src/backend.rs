//! The backend as a whole.

use std::sync::Arc;

use coordinator_core::{Backend, ClusterBus, Group, LockBackend, MemberId, StoreId};

use crate::assignments::Assignments;
use crate::bus::{Outbox, PostgresBus};
use crate::checkpoints::Checkpoints;
use crate::config::{Leases, PostgresConfig};
use crate::error::ConnectError;
use crate::hub::Hub;
use crate::locks::{AdvisoryLocks, RowLeases};
use crate::members::Members;

/// A connection to one schema of one Postgres database: everything that a node runs on.
///
/// Cheap to clone. Its sessions end when the last clone, and every part made from it, is dropped.
#[derive(Debug, Clone)]
pub struct PostgresBackend {
    hub: Arc<Hub>,
    /// None behind a pooler: nobody can listen there.
    bus: Option<Arc<PostgresBus>>,
}

impl PostgresBackend {
    /// Connects, and creates or upgrades the schema unless [`PostgresConfig::migrate`] forbids it.
    ///
    /// # Errors
    /// See [`ConnectError`]: each says what to do.
    ///
    /// # Cancel safety
    /// Dropped, it closes what it has opened. A migration is one transaction.
    pub async fn connect(config: impl Into<PostgresConfig>) -> Result<Self, ConnectError> {
        let hub = Hub::connect(config.into()).await?;
        let bus = match hub.witness() {
            Some(_) => Some(Arc::new(PostgresBus::new(hub.clone()).await?)),
            None => None,
        };
        Ok(Self { hub, bus })
    }

    /// Publishes within the caller's own transactions, to the topics of a group and in the name of a
    /// member: what a node's own subscribers to these topics get. `None` behind a pooler in transaction
    /// mode, where there is no bus.
    pub fn outbox(&self, group: impl Into<Group>, origin: impl Into<MemberId>) -> Option<Outbox> {
        let bus = self.bus.clone()?;
        Some(Outbox::new(bus, group.into(), origin.into()))
    }

    /// Which store and namespace this is.
    pub fn store(&self) -> StoreId {
        self.hub.store.clone()
    }
}

impl From<PostgresBackend> for Backend {
    fn from(backend: PostgresBackend) -> Self {
        let hub = backend.hub;
        let locks: Arc<dyn LockBackend> = match hub.config.leases {
            Leases::Advisory => Arc::new(AdvisoryLocks::new(hub.clone())),
            Leases::Row => Arc::new(RowLeases::new(hub.clone())),
        };
        Self {
            bus: backend.bus.map(|bus| bus as Arc<dyn ClusterBus>),
            locks: Some(locks),
            members: Some(Arc::new(Members::new(hub.clone()))),
            assignments: Some(Arc::new(Assignments::new(hub.clone()))),
            checkpoints: Some(Arc::new(Checkpoints::new(hub))),
            ..Self::default()
        }
    }
}
