//! Shards.

use std::time::Duration;

use coordinator_node::{BoxError, Node, OwnedShard, ShardConfig};

use crate::order::Order;
use crate::reign::Reign;

/// How often the owner of a shard acts.
const EVERY: Duration = Duration::from_millis(20);

/// How the work on a shard goes.
#[derive(Debug, Clone)]
struct Pace {
    keyspace: String,
    every: Duration,
    /// How long it takes to finish, when it is asked to.
    linger: Duration,
}

/// Runs the shards that are this node's until it shuts down; settings: `drain`, `every`, `linger`.
pub(crate) async fn run(node: Node, order: Order) -> Result<(), BoxError> {
    let pace = Pace {
        keyspace: order.subject()?.to_owned(),
        every: order.span("every")?.unwrap_or(EVERY),
        linger: order.span("linger")?.unwrap_or_default(),
    };
    let config = config(&order)?;
    node.run_shards(config, move |shard| work(shard, pace.clone()))
        .await?;
    Ok(())
}

/// How the keyspace of an order is served.
pub(crate) fn config(order: &Order) -> Result<ShardConfig, BoxError> {
    let drain = order.span("drain")?.unwrap_or(Duration::from_secs(2));
    let config = ShardConfig::new(order.subject()?, order.count()?);
    Ok(config
        .drain_timeout(drain)
        .reshard_interval(Duration::from_millis(50)))
}

async fn work(shard: OwnedShard, pace: Pace) -> Result<(), BoxError> {
    let name = format!("{}/{}", pace.keyspace, shard.id());
    let Some(reign) = Reign::begin(&name, shard.view()) else {
        return Ok(());
    };
    let finished = async {
        shard.draining().await;
        tokio::time::sleep(pace.linger).await;
    };
    tokio::select! {
        () = reign.act_until_lost(pace.every, true) => {}
        () = finished => {}
    }
    Ok(())
}
