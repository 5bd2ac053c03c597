use super::{Invariant, Verdict, that};
use crate::sim::bounds::Terms;
use crate::sim::scene::{Phase, Scene};
use crate::sim::seen::Seen;

/// Every queue, table, retry and wait has a bound: so there are never more tasks than the members
/// and what they hold account for, and none when all members have ended.
///
/// U8, W6; E10, E13, B11. The runtime's count of tasks, at every second.
#[derive(Debug, Default)]
pub struct Bounded;

/// Tasks of one node beside those of its shards and claims.
const NODE: usize = 24;
/// Tasks of one shard: its work, its runs, its requests under way.
const SHARD: usize = 8;
/// What is under way from the dead, and the store's own.
const REST: usize = 64;

fn most(terms: &Terms) -> usize {
    let shards = usize::from(terms.shards) * terms.keyspaces;
    // For a moment a shard may be at work in two processes: one of them has lost it.
    terms.members * (NODE + terms.keyspaces * 4) + shards * SHARD * 2 + REST
}

impl Invariant for Bounded {
    fn name(&self) -> &'static str {
        "BOUNDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Seen::Tasks(alive) = seen else {
            return Ok(());
        };
        let over = scene.phase == Phase::Closing && scene.seats.iter().all(|seat| !seat.alive);
        let most = if over { 0 } else { most(&scene.terms) };
        that(*alive <= most, || {
            format!("there are {alive} tasks, allowed are {most}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, m};
    use super::*;

    #[test]
    fn too_many_tasks_are_a_violation() {
        let mut stage = Stage::new(Bounded);
        stage.ok(Seen::Tasks(100));
        stage.bad(Seen::Tasks(1_000));
    }

    #[test]
    fn a_task_that_outlives_all_members_is_a_violation() {
        let mut stage = Stage::new(Bounded);
        stage.ok(Seen::Closes);
        (0..3).for_each(|seat| stage.ok(Seen::Ended(m(seat))));
        stage.ok(Seen::Tasks(0));
        stage.bad(Seen::Tasks(1));
    }
}
