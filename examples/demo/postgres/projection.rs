//! The work on a database: what a user of the library writes. Everything else here watches it or
//! disturbs it.

use std::sync::Arc;
use std::time::Duration;

use coordinator_node::{OwnedShard, WorkResult};
use coordinator_postgres::SaveIn;
use sqlx::PgPool;
use tokio::time::sleep;

use super::books;
use super::reporter::{Reporter, Tenure};
use super::said::What;
use crate::source::Source;

/// How long it takes to fold one event: so that crashes and revocations come in mid-work.
const EFFORT: Duration = Duration::from_millis(2);

/// What the work on every shard needs.
pub(super) struct Desk {
    pub(super) pool: PgPool,
    pub(super) source: Source,
    pub(super) reporter: Reporter,
}

/// As [`project`], and tells of a failure that is not that the shard is lost: it is tried again.
pub(super) async fn project_and_tell(shard: OwnedShard, desk: Arc<Desk>) -> WorkResult {
    let (view, index) = (shard.view(), usize::from(shard.id().get()));
    let reporter = desk.reporter.clone();
    let done = project(shard, desk).await;
    if let Err(error) = &done
        && view.token().is_ok()
    {
        let why = error.to_string();
        reporter.say(What::Stumbled { shard: index, why });
    }
    done
}

/// Projects one shard's events into tables, in order, for as long as the shard is this node's.
///
/// Rows and position are one transaction, which the database refuses to an old owner: so each event
/// counts exactly once, whatever happens to the nodes.
async fn project(shard: OwnedShard, desk: Arc<Desk>) -> WorkResult {
    let tenure = Tenure::begin(&shard, &desk.reporter)?;
    let index = usize::from(shard.id().get());
    let mut tx = desk.pool.begin().await?;
    let mut place: usize = shard.load_in(&mut tx).await?.unwrap_or(0);
    tx.commit().await?;
    tenure.claimed(place);
    while let Some(batch) = shard
        .until_drain(desk.source.next_batch(index, place))
        .await
    {
        for _ in batch {
            sleep(EFFORT).await;
            tenure.folded();
        }
        let mut tx = desk.pool.begin().await?;
        books::enter(&mut tx, index, place, batch).await?;
        place += batch.len();
        shard.save_in(&mut tx, place).await?;
        tx.commit().await?;
        tenure.saved(place);
    }
    tenure.drained();
    Ok(())
}
