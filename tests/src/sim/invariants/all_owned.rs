use std::collections::BTreeMap;
use std::time::Duration;

use super::{Invariant, Verdict, that};
use crate::sim::bounds::Bound;
use crate::sim::figures::is_led;
use crate::sim::scene::{Phase, Scene, What};
use crate::sim::seen::Seen;

/// When faults have stopped and a member lives, every shard is at work within a bounded time, and
/// is never without work for longer again.
///
/// S2 to S7, S9, S11, S12, G4, G7; H4, H5, H12. From the last fault on, at every look: no shard and
/// no dense keyspace has been without a trusted owner that runs for longer than
/// [`Terms::owned_within`](crate::sim::bounds::Terms::owned_within).
#[derive(Debug, Default)]
pub struct AllOwned(Idle);

impl Invariant for AllOwned {
    fn name(&self) -> &'static str {
        "ALL-OWNED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        self.0.see(scene, seen, |what| !is_led(what), || {
            scene.terms.owned_within()
        })
    }
}

/// What nobody serves, and since when.
#[derive(Debug, Default)]
pub(super) struct Idle {
    since: BTreeMap<What, Duration>,
}

impl Idle {
    pub(super) fn see(
        &mut self,
        scene: &Scene,
        seen: &Seen,
        whose: impl Fn(&str) -> bool,
        bound: impl Fn() -> Bound,
    ) -> Verdict {
        let healed = matches!(scene.phase, Phase::Healed | Phase::Settled);
        if !matches!(seen, Seen::Look) || !healed || scene.present().next().is_none() {
            return Ok(());
        }
        let limit = bound().total();
        for what in scene.wanted.iter().filter(|what| whose(what)) {
            if scene.is_served(what) {
                self.since.remove(what);
                continue;
            }
            let since = *self.since.entry(what.clone()).or_insert(scene.now);
            let idle = scene.since(since);
            that(idle <= limit, || {
                format!("nobody serves {what} for {idle:.1?}, allowed are {}", bound())
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn a_shard_without_an_owner_for_too_long_is_a_violation() {
        let mut stage = Stage::new(AllOwned::default());
        stage.at(500).ok(Seen::Look);
        stage.ok(Seen::Heals);
        stage.ok(Seen::Look);
        let limit = stage.scene.terms.owned_within().total().as_secs();
        stage.at(500 + limit).ok(Seen::Look);
        stage.at(500 + limit + 1).bad(Seen::Look);
    }

    #[test]
    fn a_shard_that_is_owned_now_and_then_is_none() {
        let mut stage = Stage::new(AllOwned::default());
        stage.ok(Seen::Heals);
        let limit = stage.scene.terms.owned_within().total().as_secs();
        stage.at(1).ok(Seen::Look);
        let hold = stage.owner(0, 1);
        stage.at(limit).ok(Seen::Begins(hold));
        stage.ok(Seen::Look);
        stage.at(limit + 9).ok(Seen::Stops(hold));
        stage.at(limit + 10).ok(Seen::Look);
    }
}
