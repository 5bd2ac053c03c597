//! Makes everything happen: the fleet, what is done to it, and its end.

use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::chaos::Chaos;
use crate::faults::Planned;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::watch::{Store, Watch};
use crate::world::World;

/// Makes everything happen, wherever the nodes run.
pub(crate) struct Director<F, S> {
    pub(crate) world: World,
    pub(crate) fleet: F,
    pub(crate) watch: Watch<S>,
    pub(crate) seed: u64,
    /// How many nodes begin.
    pub(crate) nodes: NonZeroU16,
    pub(crate) faults: Vec<Planned>,
    /// How late the last event may be saved, before the fleet counts as stuck.
    pub(crate) deadline: Duration,
}

impl<F: Fleet, S: Store> Director<F, S> {
    /// Plays the whole run. Returns what the store holds in the end.
    pub(crate) async fn play(self) -> anyhow::Result<Vec<Ledger>> {
        let Self { world, watch, .. } = self;
        let script = async {
            let mut fleet = self.fleet;
            for _ in 0..self.nodes.get() {
                fleet.start_new();
            }
            let chaos = Chaos::new(world.clone(), fleet, self.seed);
            let fleet = chaos.unleash(self.faults).await;
            all_saved(&world, self.deadline).await;
            fleet.end().await;
        };
        tokio::select! {
            biased;
            failed = watch.run() => failed?,
            () = script => {}
        }
        watch.ledgers().await
    }
}

/// Waits until every event is saved.
async fn all_saved(world: &World, deadline: Duration) {
    while world.record().witness.saved_total() < world.source().total() {
        if Instant::now() >= world.moment(deadline) {
            let missing = world.source().total() - world.record().witness.saved_total();
            return world.violated(format!("{missing} events are not saved after {deadline:?}"));
        }
        if world.record().nobody_is_left() {
            return world.violated("no node is left to fold what is not saved".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
}
