//! The work on Postgres: what a user of the library writes. Everything else here watches it or
//! disturbs it.

use coordinator_examples::Scratch;
use coordinator_node::{Backend, OwnedShard, WorkResult};
use coordinator_postgres::{PostgresBackend, SaveIn};
use sqlx::PgPool;

use super::books;
use crate::on_store::{self, Setup, Tools, take_effort};

/// What the work on every shard needs.
pub(crate) struct Desk {
    pool: PgPool,
    tools: Tools,
}

impl on_store::Desk for Desk {
    async fn open(setup: &Setup, name: &str, tools: Tools) -> anyhow::Result<(Self, Backend)> {
        let scratch = Scratch::named(&setup.url, setup.ground.as_str())?;
        let config = scratch
            .config()?
            .migrate(false)
            .application_name(format!("coordinator demo {name}"));
        let backend = PostgresBackend::connect(config).await?;
        let pool = scratch.pool().clone();
        Ok((Self { pool, tools }, backend.into()))
    }

    fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Rows and position are one transaction, which the database refuses to an old owner: so each event
    /// counts exactly once, whatever happens to the nodes.
    async fn project(&self, shard: OwnedShard) -> WorkResult {
        let tenure = self.tools.begin(&shard)?;
        let index = usize::from(shard.id().get());
        let mut tx = self.pool.begin().await?;
        let mut place: usize = shard.load_in(&mut tx).await?.unwrap_or(0);
        tx.commit().await?;
        tenure.claimed(place);
        while let Some(batch) = shard
            .until_drain(self.tools.source.next_batch(index, place))
            .await
        {
            take_effort(batch, &tenure).await;
            let mut tx = self.pool.begin().await?;
            books::enter(&mut tx, index, place, batch).await?;
            place += batch.len();
            shard.save_in(&mut tx, place).await?;
            tx.commit().await?;
            tenure.saved(place);
        }
        tenure.drained();
        Ok(())
    }
}
