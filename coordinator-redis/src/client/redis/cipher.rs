//! Encrypted connections. The library's own would need a provider that the application installs, and would read the system's
//! certificates at each attempt; so it is handed connections that are encrypted already.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::tls;

/// The other end is given up that has shown no sign of life for so long.
const SILENCE: Duration = Duration::from_secs(10);

/// Who is to be reached, and what encrypts the way.
#[derive(Debug, Clone)]
pub(super) struct Cipher {
    config: Arc<ClientConfig>,
    name: String,
    port: u16,
}

impl Cipher {
    pub(super) fn new(config: Arc<ClientConfig>, name: String, port: u16) -> Self {
        Self { config, name, port }
    }

    pub(super) async fn shared(
        &self,
        login: &RedisConnectionInfo,
        settings: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let stream = self.stream().await?;
        let made = MultiplexedConnection::new_with_config(login, stream, settings).await;
        let (connection, driver) = made?;
        // It ends with the last clone of the connection.
        tokio::spawn(driver);
        Ok(connection)
    }

    pub(super) async fn listening(
        &self,
        login: &RedisConnectionInfo,
    ) -> Result<PubSub, RedisError> {
        PubSub::new(login, self.stream().await?).await
    }

    async fn stream(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.name.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        attentive(&stream)?;
        tls::over(stream, &self.config, &self.name).await
    }
}

#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn attentive(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(SILENCE))
}

/// Elsewhere the time limit of each call, and the probe of a listener, have to do.
#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn attentive(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}
