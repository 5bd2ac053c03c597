//! The backend as a whole.

use std::sync::Arc;

use coordinator_core::{Backend, LockBackend, StoreId};

use crate::assignments::Assignments;
use crate::checkpoints::Checkpoints;
use crate::config::{Leases, PostgresConfig};
use crate::error::ConnectError;
use crate::hub::Hub;
use crate::locks::AdvisoryLocks;
use crate::members::Members;

/// A connection to one schema of one Postgres database: everything that a node runs on.
///
/// Cheap to clone. Its sessions end when the last clone, and every part made from it, is dropped.
#[derive(Debug, Clone)]
pub struct PostgresBackend {
    hub: Arc<Hub>,
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
        Ok(Self { hub })
    }

    /// Which store and namespace this is.
    pub fn store(&self) -> StoreId {
        self.hub.store.clone()
    }
}

impl From<PostgresBackend> for Backend {
    fn from(backend: PostgresBackend) -> Self {
        let hub = backend.hub;
        let locks: Option<Arc<dyn LockBackend>> = match hub.config.leases {
            Leases::Advisory => Some(Arc::new(AdvisoryLocks::new(hub.clone()))),
            Leases::Row => None,
        };
        Self {
            locks,
            members: Some(Arc::new(Members::new(hub.clone()))),
            assignments: Some(Arc::new(Assignments::new(hub.clone()))),
            checkpoints: Some(Arc::new(Checkpoints::new(hub))),
            ..Self::default()
        }
    }
}
