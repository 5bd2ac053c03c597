//! A leader that runs, and can reach whom it needs, stays.

use std::time::Duration;

use coordinator_node::core::LostCause;
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::figures::is_led;
use coordinator_tests::sim::invariants::Verdict;
use coordinator_tests::sim::scene::{Hold, Phase, Scene, Sort};
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::worlds::{Kind, World};

use super::play::{Scenario, that};

/// Whether a world keeps a leader that is well: no other is better.
pub(crate) fn keeps_its_leader(world: &dyn World) -> bool {
    !world.terms().restless
}

/// Says whether a leader was deposed for no reason of its own.
#[derive(Default)]
pub(crate) struct Undisturbed {
    /// When there was no majority last that had run for a while.
    shaken: Option<Duration>,
}

impl Undisturbed {
    pub(crate) fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let patience = scene.terms.window.unwrap_or_default() * 3;
        if !has_steady_majority(scene, patience) {
            self.shaken = Some(scene.now);
        }
        let Seen::Lost(id, cause) = seen else {
            return Ok(());
        };
        let hold = &scene.holds[*id];
        // Who lets go says so.
        let deposed = *cause != LostCause::Released && is_led(&hold.what);
        if !deposed || is_over(scene) || !runs_on(scene, hold) {
            return Ok(());
        }
        let votes = scene.terms.window.is_some() || hold.sort == Sort::Vote;
        let shaken = self.shaken.is_some_and(|at| scene.since(at) <= patience);
        that(votes && shaken, || {
            let process = hold.process;
            format!("{process} runs and is deposed: {cause}")
        })
    }
}

/// Whether all are asked to end.
pub(crate) fn is_over(scene: &Scene) -> bool {
    matches!(scene.phase, Phase::Closing | Phase::Over)
}

/// Whether the process of a tenure has run all the time, and was not asked to finish.
fn runs_on(scene: &Scene, hold: &Hold) -> bool {
    let seat = &scene.seats[hold.process.seat];
    let alive = scene.is_alive(hold.process) && seat.wanted;
    alive && !seat.frozen && seat.running_since <= hold.began
}

fn has_steady_majority(scene: &Scene, patience: Duration) -> bool {
    let steady = scene.seats.iter().filter(|seat| {
        let up = scene.since(seat.running_since);
        seat.alive && !seat.frozen && up > patience
    });
    steady.count() > scene.seats.len() / 2
}

/// Cuts leaders off, and takes that for no reason to end.
fn cut_off(kind: Kind) {
    let scenario = Scenario::of(&[kind], &[Class::Partition]).fitting(keeps_its_leader);
    scenario
        .lasting(|terms| (terms.ttl * 2, terms.ttl * 3))
        .play(|| {
            let mut undisturbed = Undisturbed::default();
            move |scene, seen, _| undisturbed.see(scene, seen)
        });
}

#[test]
#[should_panic(expected = "runs and is deposed")]
fn a_leader_by_lease_that_is_deposed_is_noticed() {
    cut_off(Kind::Leases);
}

#[test]
#[should_panic(expected = "runs and is deposed")]
fn a_leader_by_vote_that_is_deposed_is_noticed() {
    cut_off(Kind::Votes);
}
