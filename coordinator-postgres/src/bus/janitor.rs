//! Deletes messages that need not be kept any more (rule U14): one process at a time, in small batches.
//! Its rhythm is the retention's, and it rests where nothing is kept: the other janitor is in
//! `src/janitor.rs`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{Cursors, PostgresConfig, Spill};
use crate::error::CallError;
use crate::janitor::pause;
use crate::names::Schema;
use crate::pool::Pool;

/// How often the log is cleaned: by its retention, within these bounds.
const LOG_RARELY: Duration = Duration::from_secs(60);
const LOG_OFTEN: Duration = Duration::from_millis(250);
/// Spilled rows live for a minute. As long as there may be some, they are looked for this often.
const SPILLED: Duration = Duration::from_secs(60);
const SPILL_EVERY: Duration = Duration::from_secs(15);
/// What one call deletes at most, or little more: a full batch is followed by another.
const BATCH: i64 = 1_000;

/// The task, as long as this lives.
#[derive(Debug)]
pub(super) struct Janitor {
    spilled: Arc<Notify>,
    _stop: DropGuard,
}

impl Janitor {
    pub(super) fn start(config: &PostgresConfig, schema: &Schema, pool: Arc<Pool>) -> Self {
        let stop = CancellationToken::new();
        let spilled = Arc::new(Notify::new());
        // What others have left behind.
        spilled.notify_one();
        let broom = Broom {
            alone: schema.advisory("janitor", ""),
            schema: schema.clone(),
            pool,
            retention: config.retention,
            clean_every: config.clean_every,
            counted: config.cursors == Cursors::Counter,
            spilled: spilled.clone(),
        };
        let (stopped, spill) = (stop.clone(), config.spill);
        tokio::spawn(async move {
            let sweep = async {
                match spill {
                    Spill::Always => broom.sweep_log().await,
                    Spill::Overflow => {
                        tokio::join!(broom.sweep_spilled(), broom.sweep_left());
                    }
                    Spill::Never => broom.sweep_left().await,
                }
            };
            stopped.run_until_cancelled(Box::pin(sweep)).await
        });
        Self {
            spilled,
            _stop: stop.drop_guard(),
        }
    }

    /// A row was spilled.
    pub(super) fn spilled(&self) {
        self.spilled.notify_one();
    }
}

struct Broom {
    alone: i64,
    schema: Schema,
    pool: Arc<Pool>,
    retention: Duration,
    clean_every: Duration,
    counted: bool,
    spilled: Arc<Notify>,
}

impl Broom {
    /// At once, too: from then on it is known how long the rows are kept.
    async fn sweep_log(&self) {
        let every = (self.retention / 4).clamp(LOG_OFTEN, LOG_RARELY);
        loop {
            self.batches(Dust::Log).await;
            pause(every).await;
        }
    }

    /// What a fleet has left behind that was durable once.
    async fn sweep_left(&self) {
        loop {
            pause(self.clean_every).await;
            self.batches(Dust::Left).await;
        }
    }

    /// Sleeps while nothing is spilled.
    async fn sweep_spilled(&self) {
        loop {
            self.spilled.notified().await;
            pause(SPILLED + SPILL_EVERY).await;
            self.batches(Dust::Spilled).await;
        }
    }

    async fn batches(&self, dust: Dust) {
        loop {
            match self.batch(dust).await {
                Ok(deleted) if deleted >= BATCH => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "cannot clean up");
                    return;
                }
            }
        }
    }

    /// Says how many rows went.
    async fn batch(&self, dust: Dust) -> Result<i64, CallError> {
        let statement = match dust {
            Dust::Log => self.schema.sql("select {schema}.log_keep($1, $2, $3)"),
            Dust::Left => self.schema.sql("select {schema}.log_clean_left($1)"),
            Dust::Spilled => self.schema.sql("select {schema}.spill_clean($1)"),
        };
        let query = sqlx::query(AssertSqlSafe(statement)).bind(self.alone);
        let query = match dust {
            Dust::Log => {
                let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
                query.bind(retention).bind(self.counted)
            }
            Dust::Left | Dust::Spilled => query,
        };
        let rows = self.pool.rows(query).await?;
        let count = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(count.map_err(CallError::from)?.unwrap_or(0))
    }
}

/// What is swept.
#[derive(Debug, Clone, Copy)]
enum Dust {
    Log,
    Left,
    Spilled,
}
