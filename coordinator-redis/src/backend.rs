//! The backend as a whole.

use std::sync::Arc;

use coordinator_core::{Backend, StoreId};

use crate::assignments::Assignments;
use crate::bus::RedisBus;
use crate::checkpoints::Checkpoints;
use crate::client;
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

    /// Connects by a client that the application has made: to the server that it names, with its login, TLS and TCP settings.
    /// The URL of the configuration is not looked at.
    ///
    /// It makes connections of its own by that client and shares none: a lease's renewal must not wait behind an
    /// application's blocking command or large reply. The client is of one server, which must be the primary; who wants Sentinel
    /// or Cluster names them in the URL.
    ///
    /// # Errors
    /// See [`ConnectError`]: each says what to do.
    ///
    /// # Cancel safety
    /// Dropped, it closes what it has opened.
    pub async fn connect_with(
        client: redis::Client,
        config: impl Into<RedisConfig>,
    ) -> Result<Self, ConnectError> {
        let config = config.into();
        let login = client.get_connection_info().redis_settings();
        let user = login.username().unwrap_or_default().to_owned();
        let hub = Hub::by(client::given(client, &config), &user, config).await?;
        Ok(Self { hub })
    }

    /// The same by a client of the `fred` crate: to the server, Sentinels or Cluster of its configuration, with its login and
    /// TLS. It need not be connected.
    ///
    /// # Errors
    /// See [`ConnectError`]: each says what to do.
    ///
    /// # Cancel safety
    /// Dropped, it closes what it has opened.
    #[cfg(feature = "client-fred")]
    pub async fn connect_with_fred(
        client: &fred::clients::Client,
        config: impl Into<RedisConfig>,
    ) -> Result<Self, ConnectError> {
        let config = config.into();
        let (endpoint, dial) = client::FredDial::like(client, &config)?;
        let user = endpoint.login.user.clone().unwrap_or_default();
        let client = client::connect(&endpoint, Arc::new(dial), config.listen_bytes).await?;
        let hub = Hub::by(client, &user, config).await?;
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
