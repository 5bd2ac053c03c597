use super::{Invariant, Verdict, that};
use crate::sim::scene::{Phase, Scene};
use crate::sim::seen::Seen;

/// When faults have stopped, the fleet comes within a bounded time to where it should be: all is
/// served, and no member has two shards more than another.
///
/// S7, S8; H1, H7. From the last fault on: the world says at every look what is not as it should
/// be; that ends within [`Terms::balanced_within`](crate::sim::bounds::Terms::balanced_within).
#[derive(Debug, Default)]
pub struct Balanced;

impl Invariant for Balanced {
    fn name(&self) -> &'static str {
        "BALANCED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match (seen, scene.phase) {
            (Seen::Waits(why), Phase::Healed | Phase::Settled) => {
                let bound = scene.terms.balanced_within();
                let waited = scene.since(scene.phase_began);
                that(waited <= bound.total(), || {
                    format!("after {waited:.1?} still {why}; allowed are {bound}")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn a_fleet_that_does_not_settle_is_a_violation() {
        let mut stage = Stage::new(Balanced);
        stage.ok(Seen::Heals);
        let limit = stage.scene.terms.balanced_within().total().as_secs();
        stage.at(limit).ok(Seen::Waits("lopsided".into()));
        stage.at(limit + 1).bad(Seen::Waits("lopsided".into()));
    }
}
