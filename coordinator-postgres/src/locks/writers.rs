//! Fenced transactions that hold a take-over up: who they are, and their end where that is asked for (F3).

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use coordinator_core::{BoxError, Key};
use tokio::time::sleep;
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::hub::Hub;
use crate::session::{Session, no_inbox};

/// After nine tenths of a TTL, says which sessions the one of that process waits for; ends them, where that is
/// asked for. Cancel safe.
pub(super) async fn look(hub: &Hub, key: &Key, pid: i32, ttl: Duration) -> Infallible {
    sleep(ttl * 9 / 10).await;
    tell(hub, key, pid).await;
    pending().await
}

/// The same, for a lease whose start waits in no session: again and again, a session waits for the fence row in
/// its stead, and gives it up as soon as it has it. Not over C: heartbeats would wait behind it. Cancel safe.
pub(super) async fn look_by_row(hub: &Hub, key: &Key, fence: Uuid, ttl: Duration) -> Infallible {
    loop {
        sleep(ttl * 9 / 10).await;
        if let Err(error) = wait_in_its_stead(hub, key, fence).await {
            debug!(%key, %error, "who holds the start up is not known");
        }
    }
}

/// How long the session waits: for the server to see it wait, and to answer who for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How soon after it began to wait it is asked who for.
const A_MOMENT: Duration = Duration::from_millis(50);

async fn wait_in_its_stead(hub: &Hub, key: &Key, fence: Uuid) -> Result<(), BoxError> {
    let session = hub.target.dial(None, no_inbox()).await?;
    // In one transaction, so that a pooler leaves it where it is.
    let begin = format!(
        "begin; set local statement_timeout = {}",
        PATIENCE.as_millis()
    );
    session.client().batch_execute(&begin).await?;
    let pid = own_pid(&session).await?;
    let statement = hub.sql("select from {schema}.fence where id = $1 for update");
    let fence: [(&(dyn ToSql + Sync), Type); 1] = [(&fence, Type::UUID)];
    let wait = session.client().query_typed(&statement, &fence);
    let told = async {
        sleep(A_MOMENT).await;
        tell(hub, key, pid).await;
    };
    // The wait is of no use in itself: it ends by its timeout, or with the row, which goes back at once.
    drop(tokio::join!(wait, told));
    session.client().batch_execute("rollback").await?;
    Ok(())
}

async fn own_pid(session: &Session) -> Result<i32, BoxError> {
    let asked = "select pg_catalog.pg_backend_pid()";
    let rows = session.client().query_typed(asked, &[]).await?;
    let row = rows.first().ok_or("the server told no process")?;
    Ok(row.try_get(0)?)
}

async fn tell(hub: &Hub, key: &Key, pid: i32) {
    let blocking = "select coalesce(pg_catalog.array_agg(writer), '{}') \
        from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) as writer";
    let asked = hub.call(blocking, &[(&pid, Type::INT4)]).await;
    let writers: Vec<i32> = match asked {
        Ok(rows) => rows.first().map(|row| row.get(0)).unwrap_or_default(),
        Err(error) => {
            debug!(%error, "who holds the start up is not known");
            return;
        }
    };
    if writers.is_empty() {
        return;
    }
    let evicted = hub.config.evict_writers;
    warn!(%key, ?writers, evicted, "fenced transactions hold a take-over up");
    if evicted {
        evict(hub, &writers).await;
    }
}

async fn evict(hub: &Hub, writers: &[i32]) {
    let end = "select pg_catalog.pg_terminate_backend(writer) from pg_catalog.unnest($1) as writer";
    let ended = hub.call(end, &[(&writers, Type::INT4_ARRAY)]).await;
    if let Err(error) = ended {
        warn!(%error, "a fenced transaction could not be ended");
    }
}
