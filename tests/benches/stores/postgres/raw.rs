//! What can be written by hand.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// A session that ends with this.
pub(crate) struct Session {
    client: Client,
    task: AbortHandle,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A session for statements.
pub(crate) async fn session(url: &str) -> anyhow::Result<Arc<Session>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Arc::new(Session { client, task }))
}

/// A session whose commits do not wait for the disk: what carries nothing but notifications needs no
/// more.
pub(crate) async fn notifier(url: &str) -> anyhow::Result<Arc<Session>> {
    let session = session(url).await?;
    session
        .batch_execute("SET synchronous_commit = off")
        .await?;
    Ok(session)
}

/// A session that listens, and calls `on` with the payload of each notification.
pub(crate) async fn listener(
    url: &str,
    channel: &str,
    mut on: impl FnMut(&str) + Send + 'static,
) -> anyhow::Result<Session> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(told) = message {
                on(told.payload());
            }
        }
    });
    let task = task.abort_handle();
    client.batch_execute(&format!("LISTEN {channel}")).await?;
    Ok(Session { client, task })
}
