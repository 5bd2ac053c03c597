use super::all_owned::Idle;
use super::{Invariant, Verdict};
use crate::sim::figures::is_led;
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// When faults have stopped and a member lives, somebody leads within a bounded time, and nobody
/// leads for longer never again.
///
/// I2, T6, W2, W4, P10; E4, E7, E8, E9, E13. From the last fault on, at every look: no election has
/// been without a trusted leader that runs for longer than
/// [`Terms::led_within`](crate::sim::bounds::Terms::led_within).
#[derive(Debug, Default)]
pub struct LeaderlessBounded(Idle);

impl Invariant for LeaderlessBounded {
    fn name(&self) -> &'static str {
        "LEADERLESS-BOUNDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        self.0.see(scene, seen, is_led, || scene.terms.led_within())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn an_election_without_a_leader_for_too_long_is_a_violation() {
        let mut stage = Stage::new(LeaderlessBounded::default());
        stage.ok(Seen::Heals);
        stage.ok(Seen::Look);
        let limit = stage.scene.terms.led_within().total().as_secs();
        stage.at(limit).ok(Seen::Look);
        stage.at(limit + 1).bad(Seen::Look);
    }

    #[test]
    fn a_leader_that_is_frozen_is_none() {
        let mut stage = Stage::new(LeaderlessBounded::default());
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(Seen::Frozen(0));
        stage.ok(Seen::Heals);
        stage.ok(Seen::Look);
        let limit = stage.scene.terms.led_within().total().as_secs();
        stage.at(limit + 1).bad(Seen::Look);
    }
}
