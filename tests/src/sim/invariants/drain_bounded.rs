use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// Work that is asked to finish has ended by the drain timeout, whether it wants to or not.
///
/// S4, W1, W2; H8. At every look: no work of a process that runs has been asked to finish for
/// longer than [`Terms::drained_within`](crate::sim::bounds::Terms::drained_within). Work whose
/// guard the test has hidden from the runtime is left out: nothing can end that but the lease.
#[derive(Debug, Default)]
pub struct DrainBounded;

impl Invariant for DrainBounded {
    fn name(&self) -> &'static str {
        "DRAIN-BOUNDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        if !matches!(seen, Seen::Look) {
            return Ok(());
        }
        let bound = scene.terms.drained_within();
        for (_, hold) in scene.open_holds().filter(|(_, hold)| !hold.kept) {
            let Some(asked) = hold.draining else { continue };
            let waited = scene.awake_since(hold.process, asked);
            that(waited <= bound.total(), || {
                format!(
                    "{} works on {} #{} {waited:.1?} after it was asked to finish; allowed are {bound}",
                    hold.process, hold.what, hold.token
                )
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
    fn work_that_goes_on_after_its_drain_timeout_is_a_violation() {
        let mut stage = Stage::new(DrainBounded);
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.at(10).ok(Seen::Drains(hold));
        let limit = stage.scene.terms.drained_within().total().as_secs();
        stage.at(10 + limit).ok(Seen::Look);
        stage.at(10 + limit + 1).bad(Seen::Look);
    }

    #[test]
    fn a_frozen_process_is_given_its_time_again() {
        let mut stage = Stage::new(DrainBounded);
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(Seen::Drains(hold));
        stage.ok(Seen::Frozen(0));
        stage.at(100).ok(Seen::Look);
        stage.ok(Seen::Thawed(0));
        stage.at(101).ok(Seen::Look);
        stage.at(110).bad(Seen::Look);
    }
}
