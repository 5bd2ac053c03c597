//! A Postgres server, as its own statistics show it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::NAME;

const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> ''";
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM (SELECT pid, \
    row_number() OVER (ORDER BY pid) - 1 AS at, count(*) OVER () AS count FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> '') s \
    WHERE at = floor($1::float8 * count)";
const TABLES: &str = "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
    WHERE nspname = 'soak' AND relkind = 'r'";

/// One look at the server. Made anew each time: the server comes and goes.
pub(super) struct Look {
    client: Client,
}

impl Look {
    /// Once it answers.
    pub(super) async fn at(url: &str) -> Result<Self, String> {
        let connect = async {
            loop {
                if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
                    // Ends with the client.
                    tokio::spawn(connection);
                    return client;
                }
                sleep(AGAIN).await;
            }
        };
        let connected = timeout(PATIENCE, connect).await;
        connected
            .map(|client| Self { client })
            .map_err(|_| "the server does not answer".to_owned())
    }

    /// How many sessions the nodes have.
    pub(super) async fn sessions(&self) -> Result<i64, String> {
        let row = self.client.query_one(SESSIONS, &[]).await.map_err(said)?;
        Ok(row.get(0))
    }

    /// Ends one of the nodes' sessions: at that share of all.
    pub(super) async fn terminate(&self, which: f64) -> Result<(), String> {
        self.client
            .execute(TERMINATE, &[&which])
            .await
            .map(drop)
            .map_err(said)
    }

    /// How many rows each table has.
    pub(super) async fn rows(&self) -> Result<BTreeMap<String, i64>, String> {
        let mut rows = BTreeMap::new();
        for table in self.client.query(TABLES, &[]).await.map_err(said)? {
            let table: String = table.get(0);
            let count = format!("SELECT count(*) FROM {NAME}.\"{table}\"");
            let count = self.client.query_one(&count, &[]).await.map_err(said)?;
            rows.insert(table, count.get(0));
        }
        Ok(rows)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn said(error: tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
