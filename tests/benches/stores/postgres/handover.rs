//! What a change of leaders costs at least: a lock that passes on, and one commit, by hand.

use std::time::Duration;

use anyhow::Context;
use coordinator_tests::servers::process::now;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::raw::{Session, session};
use crate::nodes::PATIENCE;

/// How the holder goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// It gives the lock back.
    Unlocks,
    /// Its connection is closed, as the kernel does for a process that is killed.
    Vanishes,
}

const WAITERS: usize = 2;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS raw_terms (token bigint NOT NULL)";
const LOCK: &str = "SELECT pg_advisory_lock(4711)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(4711)";
/// A term is on disk before its leader acts.
const BEGIN: &str = "INSERT INTO raw_terms (token) VALUES (1)";
const WAITING: &str = "SELECT count(*) FROM pg_locks \
    WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
const LOOK: Duration = Duration::from_millis(5);

/// From the holder's end until the first who waited has committed.
pub(super) async fn by_hand(url: &str, way: Way) -> anyhow::Result<Duration> {
    let holder = session(url).await?;
    holder.batch_execute(TABLE).await?;
    holder.batch_execute(LOCK).await?;
    let (tell, mut begun) = mpsc::unbounded_channel();
    let mut waiters = JoinSet::new();
    for _ in 0..WAITERS {
        let (waiter, tell) = (session(url).await?, tell.clone());
        let begin = waiter.prepare(BEGIN).await?;
        waiters.spawn(async move {
            waiter.batch_execute(LOCK).await?;
            waiter.execute(&begin, &[]).await?;
            // Who waits no longer has its answer.
            tell.send(now()).ok();
            anyhow::Ok(())
        });
    }
    all_wait(&*session(url).await?).await?;
    let end = now();
    match way {
        Way::Unlocks => holder.batch_execute(UNLOCK).await?,
        Way::Vanishes => drop(holder),
    }
    let first = timeout(PATIENCE, begun.recv()).await?;
    let span = first.context("nobody waited")?.saturating_sub(end);
    while let Some(ended) = timeout(PATIENCE, waiters.join_next()).await? {
        ended??;
    }
    Ok(span)
}

async fn all_wait(look: &Session) -> anyhow::Result<()> {
    let waiting = async {
        loop {
            let row = look.query_one(WAITING, &[]).await?;
            if usize::try_from(row.get::<_, i64>(0))? == WAITERS {
                return anyhow::Ok(());
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, waiting).await?
}
