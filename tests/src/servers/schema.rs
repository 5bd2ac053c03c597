//! A schema of its own for each test, so that tests share a server and nothing else.

use std::io::Write;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::names::fresh_name;
use super::postgres::shared;

/// How long the end of a schema may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the sessions that hold a lock on what is in the schema: the test is over, and those that it
/// has left behind serve nobody.
const END_HOLDERS: &str = "\
    SELECT pg_terminate_backend(l.pid, 5000) FROM (
        SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l
            JOIN pg_catalog.pg_class c ON c.oid = l.relation
            JOIN pg_catalog.pg_database d ON d.oid = l.database
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE d.datname = current_database() AND n.nspname = $1 AND l.pid <> pg_backend_pid()) l";

/// A schema name that nobody else uses. What is created under it is dropped with this, also when the
/// test fails.
#[derive(Debug)]
pub struct Schema {
    url: String,
    name: String,
    afterwards: Vec<String>,
}

/// A schema in the server that this run's tests share; none where there is no server. It is not
/// created yet.
///
/// # Panics
/// Where a server is required and there is none.
pub fn fresh_schema() -> Option<Schema> {
    shared().map(Schema::at)
}

impl Schema {
    /// A schema in another server, by the URL of one who may drop it.
    pub fn at(url: impl Into<String>) -> Self {
        let (url, name) = (url.into(), fresh_name());
        let afterwards = Vec::new();
        Self {
            url,
            name,
            afterwards,
        }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name: lower-case letters, digits and underscores, at most 48.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A statement that is to be run when the schema has been dropped, such as `DROP ROLE`. Those
    /// that are named later run first.
    pub fn afterwards(&mut self, statement: impl Into<String>) {
        self.afterwards.push(statement.into());
    }

    async fn remove(&self) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        let serve = tokio::spawn(connection);
        let removed = self.remove_by(&client).await;
        drop(client);
        // The connection's error is the statement's.
        drop(serve.await);
        removed
    }

    async fn remove_by(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.name);
        client
            .batch_execute("SET client_min_messages = warning; SET lock_timeout = '1s'")
            .await?;
        let mut dropped = client.batch_execute(&drop).await;
        if is_locked(&dropped) {
            client.execute(END_HOLDERS, &[&self.name]).await?;
            client.batch_execute("SET lock_timeout = '20s'").await?;
            dropped = client.batch_execute(&drop).await;
        }
        for statement in self.afterwards.iter().rev() {
            dropped = dropped.and(client.batch_execute(statement).await);
        }
        dropped
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // The test's runtime may be paused, or the one thread that runs it may be ours.
        let removed = thread::scope(|scope| {
            let removed = scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| error.to_string())?;
                let removed = runtime.block_on(async { timeout(PATIENCE, self.remove()).await });
                match removed {
                    Ok(removed) => removed.map_err(|error| said(&error)),
                    Err(_) => Err(format!("no answer within {PATIENCE:?}")),
                }
            });
            removed.join().unwrap_or_else(|_| Err("a panic".to_owned()))
        });
        if let Err(why) = removed {
            let name = &self.name;
            drop(writeln!(
                std::io::stderr(),
                "schema {name} is left behind: {why}"
            ));
        }
    }
}

fn is_locked(dropped: &Result<(), tokio_postgres::Error>) -> bool {
    let code = dropped.as_ref().err().and_then(tokio_postgres::Error::code);
    code == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// What the server has said, rather than "db error".
fn said(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
