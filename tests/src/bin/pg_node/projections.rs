//! Projections: the effects of events, and how far they have come, in one transaction of the
//! application's own.

use std::time::Duration;

use coordinator_node::{BoxError, Node, OwnedShard};
use coordinator_postgres::SaveIn;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::order::Order;
use crate::{say, shards};

/// Runs the shards that are this node's. On each, again and again, it calls the function that the
/// setting `by` names, with the shard and the position that was reached, and saves the position that
/// it returns. Other settings: `pool`, the URL of the application's database; `drain`.
pub(crate) async fn run(node: Node, order: Order) -> Result<(), BoxError> {
    let url = order.text("pool").ok_or("`project` in which `pool`?")?;
    let by = order.text("by").ok_or("`project` by which function?")?;
    let step = format!("select {by}($1, $2)");
    let options = PgPoolOptions::new().max_connections(4);
    let pool = options
        .acquire_timeout(Duration::from_secs(5))
        .connect(url)
        .await?;
    let config = shards::config(&order)?.restart_at_most(Duration::from_millis(500));
    let work = move |shard| project(shard, pool.clone(), step.clone());
    node.run_shards(config, work).await?;
    Ok(())
}

async fn project(shard: OwnedShard, pool: PgPool, step: String) -> Result<(), BoxError> {
    let number = i32::from(shard.id().get());
    say(format_args!("projects {number}"));
    while shard.tick(Duration::from_millis(15)).await {
        let mut tx = pool.begin().await?;
        let from: i64 = shard.load_in(&mut tx).await?.unwrap_or(0);
        let step = sqlx::query_scalar(AssertSqlSafe(step.clone()));
        let upto: i64 = step.bind(number).bind(from).fetch_one(&mut *tx).await?;
        shard.save_in(&mut tx, upto).await?;
        tx.commit().await?;
    }
    Ok(())
}
