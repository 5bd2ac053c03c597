//! The work: what a user of the library writes. Everything else here watches it or disturbs it.

use std::sync::Arc;
use std::time::Duration;

use coordinator_node::{Lost, OwnedShard, WorkResult};
use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::witness::{TenureId, Trust};
use crate::world::World;

/// How long it takes to fold one event: so that crashes and revocations come in mid-work.
const EFFORT: Duration = Duration::from_millis(12);

/// Folds one shard's events in order, for as long as the shard is this node's.
///
/// Totals and position are one checkpoint, and the store refuses it from an old owner: so each
/// event counts exactly once, whatever happens to the nodes.
pub(crate) async fn fold(shard: OwnedShard, world: World, node: Arc<str>) -> WorkResult {
    let tenure = Tenure::begin(&shard, &world, &node)?;
    let index = usize::from(shard.id().get());
    let mut ledger = shard.load().await?.unwrap_or_else(Ledger::new);
    tenure.claimed(&ledger);
    let source = world.source();
    while let Some(batch) = shard
        .until_drain(source.next_batch(index, ledger.folded))
        .await
    {
        for timed in batch {
            sleep(EFFORT).await;
            ledger.fold(&timed.event);
            tenure.folded();
        }
        shard.save(&ledger).await?;
        tenure.saved(&ledger);
    }
    tenure.drained();
    Ok(())
}

/// Tells the witness of a tenure, its end included, however it comes.
struct Tenure<'a> {
    world: &'a World,
    node: &'a str,
    id: TenureId,
}

impl<'a> Tenure<'a> {
    fn begin(shard: &OwnedShard, world: &'a World, node: &'a str) -> Result<Self, Lost> {
        let view = shard.view();
        let token = shard.token()?;
        let index = usize::from(shard.id().get());
        let trust = Trust::Asked(Box::new(move || view.token().is_ok()));
        let now = world.now();
        let id = world
            .record()
            .witness
            .begins(now, index, node, token, trust);
        Ok(Self { world, node, id })
    }

    fn claimed(&self, ledger: &Ledger) {
        self.world.record().witness.claimed(self.id, ledger.folded);
    }

    fn folded(&self) {
        self.world.record().witness.folded(self.id);
    }

    fn saved(&self, ledger: &Ledger) {
        let mut record = self.world.record();
        record.saved(self.id, self.node, ledger.folded);
    }

    fn drained(&self) {
        self.end(true);
    }

    fn end(&self, drained: bool) {
        let now = self.world.now();
        self.world.record().witness.ended(now, self.id, drained);
    }
}

impl Drop for Tenure<'_> {
    fn drop(&mut self) {
        self.end(false);
    }
}
