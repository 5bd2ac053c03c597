//! Connections, and questions to the server.

use std::time::Duration;

use anyhow::Context;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub(crate) type Tested = anyhow::Result<()>;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = timeout(LONG, tokio_postgres::connect(url, NoTls)).await??;
    // Its error is the next statement's.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// The one value that a statement gives. The simple protocol goes through every pooler.
pub(crate) async fn value(client: &Client, statement: &str) -> anyhow::Result<String> {
    let messages = timeout(LONG, client.simple_query(statement)).await??;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.context("no value")?.to_owned())
}
