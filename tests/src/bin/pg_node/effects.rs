//! Effects in Redis: of events, and how far they have come, in one step that only the owner of the
//! shard can take.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_node::{BoxError, Node, OwnedShard};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::effects::{Effect, key};

use crate::order::Order;
use crate::{say, shards};

/// So many events a shard has.
const EVENTS: u64 = 2_000;

/// Runs the shards that are this node's, and applies the events of each, a few at a time, to the hash
/// that the setting `to` names. Other settings: `store`, the URL of the application's own way to the
/// server; `drain`.
pub(crate) async fn run(node: Node, order: Order) -> Result<(), BoxError> {
    let store = order.text("store").ok_or("`effects` in which `store`?")?;
    let target = Target {
        url: store.to_owned(),
        hash: order
            .text("to")
            .ok_or("`effects` `to` which hash?")?
            .to_owned(),
        backend: RedisBackend::connect(RedisConfig::from_url(store)?).await?,
    };
    let config = shards::config(&order)?.restart_at_most(Duration::from_millis(500));
    node.run_shards(config, move |shard| apply(shard, target.clone()))
        .await?;
    Ok(())
}

/// Where effects go.
#[derive(Debug, Clone)]
struct Target {
    url: String,
    hash: String,
    backend: RedisBackend,
}

async fn apply(shard: OwnedShard, target: Target) -> Result<(), BoxError> {
    let number = shard.id().get();
    say(format_args!("applies {number}"));
    // This claims: from here on nobody who owned it before changes what is read next.
    let mut reached: u64 = shard.load().await?.unwrap_or(0);
    let mut effects = target.read().await?;
    while reached < EVENTS && shard.tick(Duration::from_millis(15)).await {
        let upto = (reached + 3).min(EVENTS);
        let mut changed = BTreeMap::new();
        for event in reached + 1..=upto {
            let key = key(number, event);
            let effect = effects.entry(key.clone()).or_default();
            *effect = effect.and(event);
            changed.insert(key, effect.to_string());
        }
        shard.token()?;
        let writes = target.backend.fenced_with_position(&shard, upto);
        writes.hset(&target.hash, changed).apply().await?;
        reached = upto;
    }
    shard.draining().await;
    Ok(())
}

impl Target {
    /// All effects that there are.
    async fn read(&self) -> Result<BTreeMap<String, Effect>, BoxError> {
        let (url, hash) = (self.url.clone(), self.hash.clone());
        let read = move || Talk::to(&url)?.ask(&["HGETALL", &hash]);
        let found = tokio::task::spawn_blocking(read).await??;
        let pairs = found.list().chunks_exact(2);
        let read = pairs.map(|pair| Ok((pair[0].text(), pair[1].text().parse()?)));
        read.collect()
    }
}
