//! The backend as a whole.

use std::sync::Arc;

use coordinator_core::{Backend, StoreId};

use crate::assignments::Assignments;
use crate::bus::RedisBus;
use crate::checkpoints::Checkpoints;
use crate::config::RedisConfig;
use crate::error::ConnectError;
use crate::hub::Hub;
use crate::locks::Locks;
use crate::members::Members;

/// A connection to one namespace of one Redis server.
///
/// Cheap to clone. Its connections end when the last clone, and every part made from it, is dropped.
#[derive(Debug, Clone)]
pub struct RedisBackend {
    pub(crate) hub: Arc<Hub>,
}

impl RedisBackend {
    /// Connects, and finds out what the server guarantees.
    ///
    /// # Errors
    /// See [`ConnectError`]: each says what to do.
    ///
    /// # Cancel safety
    /// Dropped, it closes what it has opened.
    pub async fn connect(config: impl Into<RedisConfig>) -> Result<Self, ConnectError> {
        let hub = Hub::connect(config.into()).await?;
        Ok(Self { hub })
    }

    /// Which store and namespace this is.
    pub fn store(&self) -> StoreId {
        self.hub.store.clone()
    }
}

impl From<RedisBackend> for Backend {
    fn from(backend: RedisBackend) -> Self {
        let hub = backend.hub;
        Self {
            locks: Some(Arc::new(Locks::new(hub.clone()))),
            members: Some(Arc::new(Members::new(hub.clone()))),
            assignments: Some(Arc::new(Assignments::new(hub.clone()))),
            checkpoints: Some(Arc::new(Checkpoints::new(hub.clone()))),
            bus: Some(Arc::new(RedisBus::new(hub))),
            ..Self::default()
        }
    }
}
