//! The work on Redis: what a user of the library writes. Everything else here watches it or disturbs
//! it.

use coordinator_examples::Space;
use coordinator_node::{Backend, OwnedShard, WorkResult};
use coordinator_redis::RedisBackend;

use super::books::Keys;
use crate::on_store::{self, Setup, Tools, take_effort};

/// What the work on every shard needs.
pub(crate) struct Desk {
    redis: RedisBackend,
    client: redis::Client,
    tools: Tools,
}

impl on_store::Desk for Desk {
    async fn open(setup: &Setup, _: &str, tools: Tools) -> anyhow::Result<(Self, Backend)> {
        let space = Space::named(&setup.url, setup.ground.as_str())?;
        let redis = RedisBackend::connect(space.config()?).await?;
        let client = space.client().clone();
        let backend = redis.clone().into();
        let desk = Self {
            redis,
            client,
            tools,
        };
        Ok((desk, backend))
    }

    fn tools(&self) -> &Tools {
        &self.tools
    }

    /// What is written and how far it has come are one step on the server, which refuses it to an old
    /// owner: so each event counts exactly once, whatever happens to the nodes.
    async fn project(&self, shard: OwnedShard) -> WorkResult {
        let tenure = self.tools.begin(&shard)?;
        let index = usize::from(shard.id().get());
        let keys = Keys::of(&self.redis, index);
        // This claims the shard: what is read after it, no older owner changes any more.
        let mut place: usize = shard.load().await?.unwrap_or(0);
        let mut totals = keys.totals(&self.client).await?;
        tenure.claimed(place);
        while let Some(batch) = shard
            .until_drain(self.tools.source.next_batch(index, place))
            .await
        {
            take_effort(batch, &tenure).await;
            let upto = place + batch.len();
            let writes = self.redis.fenced_with_position(&shard, upto);
            keys.enter(writes, &mut totals, batch).apply().await?;
            place = upto;
            tenure.saved(place);
        }
        tenure.drained();
        Ok(())
    }
}
