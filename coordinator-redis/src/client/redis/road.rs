//! A way to a server, encrypted or not.

use std::io;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, PushInfo, RedisError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

#[cfg(feature = "tls")]
use super::cipher::Cipher;
#[cfg(feature = "tls")]
use crate::client::tls::SILENT;

/// How to connect.
#[derive(Debug, Clone)]
pub(super) struct Road {
    client: Client,
    within: Duration,
    #[cfg(feature = "tls")]
    cipher: Option<Cipher>,
}

impl Road {
    /// Each attempt may take so long.
    pub(super) fn new(client: Client, within: Duration) -> Self {
        Self {
            client,
            within,
            #[cfg(feature = "tls")]
            cipher: None,
        }
    }

    /// The same, encrypted if there is a cipher.
    #[cfg(feature = "tls")]
    pub(super) fn by(mut self, cipher: Option<Cipher>) -> Self {
        self.cipher = cipher;
        self
    }

    /// Where it leads, for people.
    pub(super) fn shown(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// A connection that all calls share, each of which may take so long.
    pub(super) async fn shared(
        &self,
        answer: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.dialled(answer, AsyncConnectionConfig::new()).await
    }

    /// The same, whose messages go to `heard`.
    pub(super) async fn hearing(
        &self,
        answer: Duration,
        heard: UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let settings = AsyncConnectionConfig::new().set_push_sender(heard);
        self.dialled(answer, settings).await
    }

    async fn dialled(
        &self,
        answer: Duration,
        settings: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let settings = settings
            .set_connection_timeout(Some(self.within))
            .set_response_timeout(Some(answer));
        #[cfg(feature = "tls")]
        if let Some(cipher) = &self.cipher {
            let login = self.client.get_connection_info().redis_settings();
            let dialled = cipher.shared(login, settings);
            return self.bounded(dialled, SILENT).await;
        }
        let dialled = self
            .client
            .get_multiplexed_async_connection_with_config(&settings);
        dialled.await
    }

    /// A connection that listens.
    pub(super) async fn listening(&self) -> Result<PubSub, RedisError> {
        #[cfg(feature = "tls")]
        if let Some(cipher) = &self.cipher {
            let login = self.client.get_connection_info().redis_settings();
            return self.bounded(cipher.listening(login), SILENT).await;
        }
        let dialled = self.client.get_async_pubsub();
        self.bounded(dialled, "no answer came in time").await
    }

    async fn bounded<T>(
        &self,
        dialled: impl Future<Output = Result<T, RedisError>>,
        silent: &'static str,
    ) -> Result<T, RedisError> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, silent);
        timeout(self.within, dialled).await.map_err(late)?
    }
}
