//! Deletes what nobody can need any more of leases, members, groups and keyspaces (rule K3): one process
//! at a time, in small batches, by the rules of `sql/0001/60_janitor.sql`.
//!
//! Every process has one, and all of them together do one round in [`PostgresConfig::clean_every`]. It goes
//! over the pool: nothing that lives waits for it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::PostgresConfig;
use crate::error::CallError;
use crate::names::Schema;
use crate::pool::Pool;

/// The bounds of the rhythm.
const OFTEN: Duration = Duration::from_millis(100);
const RARELY: Duration = Duration::from_hours(30 * 24);

/// The task, as long as this lives.
#[derive(Debug)]
pub(crate) struct Janitor {
    _stop: DropGuard,
}

impl Janitor {
    pub(crate) fn start(config: &PostgresConfig, schema: &Schema, pool: Arc<Pool>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let rounds = Rounds {
            alone: schema.advisory("janitor", "rows"),
            every: config.clean_every.clamp(OFTEN, RARELY),
            statement: schema.sql("select gone, more from {schema}.sweep($1, $2)"),
            pool,
        };
        tokio::spawn(async move { stopped.run_until_cancelled(rounds.run()).await });
        Self {
            _stop: stop.drop_guard(),
        }
    }
}

struct Rounds {
    alone: i64,
    every: Duration,
    statement: String,
    pool: Arc<Pool>,
}

impl Rounds {
    async fn run(&self) {
        // Anywhere within the first span: also where no process lives for that long, some get there.
        let first = self.every.mul_f64(rand::rng().random::<f64>());
        sleep(first).await;
        loop {
            self.round().await;
            pause(self.every).await;
        }
    }

    async fn round(&self) {
        loop {
            match self.part().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "cannot clean up");
                    return;
                }
            }
        }
    }

    /// Says whether there is more to do.
    async fn part(&self) -> Result<bool, CallError> {
        let every = i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query(AssertSqlSafe(self.statement.as_str()))
            .bind(self.alone)
            .bind(every);
        let rows = self.pool.rows(query).await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let gone: i64 = row.try_get(0).map_err(CallError::from)?;
        if gone > 0 {
            tracing::debug!(gone, "rows that nobody needs are deleted");
        }
        row.try_get(1).map_err(CallError::from)
    }
}

/// Spread over the processes: between this and a quarter more.
pub(crate) async fn pause(span: Duration) {
    let more = (span / 4).mul_f64(rand::rng().random::<f64>());
    sleep(span + more).await;
}
