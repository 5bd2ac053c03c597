//! Messages that travel by reference: their payload is fetched once for all of this process (U7).

use std::sync::{Arc, Weak};
use std::time::Duration;

use coordinator_core::Bytes;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{sleep, timeout};

use super::router::{Fetch, Router, Wanted};
use crate::error::{CallError, Outcome};
use crate::names::Schema;
use crate::pool::Pool;

/// U7: so long a reference holds back what follows it.
const WITHIN: Duration = Duration::from_secs(1);
/// After a failure of the pool.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads rows through the pool, each on a task of its own.
pub(super) fn fetcher(schema: &Schema, pool: Arc<Pool>) -> Fetch {
    let statement: Arc<str> = schema
        .sql("select payload from {schema}.spill where id = $1")
        .into();
    Box::new(move |router, wanted| {
        let (statement, pool) = (statement.clone(), pool.clone());
        tokio::spawn(settle(router, wanted, statement, pool));
    })
}

async fn settle(router: Weak<Router>, wanted: Wanted, statement: Arc<str>, pool: Arc<Pool>) {
    let fetched = timeout(WITHIN, async {
        // The pool may hand out connections that ended with the last server.
        loop {
            match fetch(&wanted, &statement, &pool).await {
                Err(error) if error.outcome == Outcome::NothingHappened => {
                    tracing::debug!(%error, "a spilled message is not there yet");
                    sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    });
    let payload = match fetched.await {
        Ok(Ok(Some(payload))) => Some(payload),
        Ok(Ok(None)) => lost(&wanted, "its row is gone"),
        Ok(Err(error)) => lost(&wanted, &error.to_string()),
        Err(_) => lost(&wanted, "the pool gave no answer in time"),
    };
    if let Some(router) = router.upgrade() {
        router.fetched(&wanted, payload);
    }
}

async fn fetch(wanted: &Wanted, statement: &str, pool: &Pool) -> Result<Option<Bytes>, CallError> {
    let query = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(wanted.reference.row);
    let rows = pool.rows(query).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let payload: Vec<u8> = row.try_get(0).map_err(CallError::from)?;
    let whole = payload.len() as u64 == wanted.reference.bytes;
    Ok(whole.then(|| Bytes::from(payload)))
}

fn lost(wanted: &Wanted, error: &str) -> Option<Bytes> {
    tracing::warn!(
        row = wanted.reference.row,
        error,
        "a spilled message cannot be fetched"
    );
    None
}
