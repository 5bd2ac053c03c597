//! What can be written by hand.

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};
use tokio::task::AbortHandle;

/// As the backend connects.
fn client(url: &str) -> anyhow::Result<Client> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone();
    let settings = settings.set_protocol(ProtocolVersion::RESP3);
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
    Ok(Client::open(info)?)
}

/// A connection that many calls share.
pub(super) async fn connection(url: &str) -> anyhow::Result<MultiplexedConnection> {
    Ok(client(url)?.get_multiplexed_async_connection().await?)
}

/// A connection that listens.
pub(super) async fn pubsub(url: &str) -> anyhow::Result<PubSub> {
    Ok(client(url)?.get_async_pubsub().await?)
}

/// Listens, until dropped.
pub(super) struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hears these channels, and calls `on` with the channel and the payload of each message.
pub(super) async fn listener(
    url: &str,
    channels: &[String],
    mut on: impl FnMut(&str, &[u8]) + Send + 'static,
) -> anyhow::Result<Listener> {
    let mut pubsub = pubsub(url).await?;
    for channel in channels {
        pubsub.subscribe(channel).await?;
    }
    let hearing = async move {
        let mut messages = pubsub.into_on_message();
        while let Some(message) = messages.next().await {
            on(message.get_channel_name(), message.get_payload_bytes());
        }
    };
    Ok(Listener(tokio::spawn(hearing).abort_handle()))
}
