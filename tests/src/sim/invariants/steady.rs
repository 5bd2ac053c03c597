use super::{Invariant, Verdict, that};
use crate::sim::scene::{HoldId, Phase, Scene};
use crate::sim::seen::Seen;

/// In a fleet that serves, and that nobody disturbs, nothing changes hands.
///
/// T6, W7; E11, M5. From the moment at which everything serves until the first request to leave: no
/// term and no tenure that the fleet wants begins, ends, or is lost.
#[derive(Debug, Default)]
pub struct Steady {
    disturbed: bool,
}

impl Steady {
    fn changes(&self, scene: &Scene, id: HoldId) -> Verdict {
        let hold = &scene.holds[id];
        let quiet = scene.phase == Phase::Settled && !self.disturbed && !scene.terms.restless;
        that(!quiet || !scene.wanted.contains(&hold.what), || {
            let (process, what, token) = (hold.process, &hold.what, hold.token);
            format!("{what} #{token} of {process} changes hands without a cause")
        })
    }
}

impl Invariant for Steady {
    fn name(&self) -> &'static str {
        "STEADY"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Settles => {
                self.disturbed = false;
                Ok(())
            }
            Seen::Leaves(_) | Seen::Returns(_) | Seen::Rolls(_) => {
                self.disturbed = true;
                Ok(())
            }
            Seen::Begins(id) | Seen::Lost(id, _) | Seen::Stops(id) => self.changes(scene, *id),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, lost};
    use super::*;

    #[test]
    fn a_term_that_ends_without_a_cause_is_a_violation() {
        let mut stage = Stage::new(Steady::default());
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(Seen::Settles);
        stage.ok(Seen::Look);
        stage.bad(lost(hold));
        stage.ok(Seen::Leaves(0));
        stage.ok(Seen::Stops(hold));
    }
}
