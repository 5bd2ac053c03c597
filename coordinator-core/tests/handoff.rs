//! Planners and keepers against a plain model of the store, under random faults: who owns what
//! never overlaps (ONE-OWNER), every swap is legal (S2), and when the faults stop every shard is
//! owned, evenly (ALL-OWNED). A failure prints the seed that replays it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed check is a failed test"
)]

#[path = "handoff/store.rs"]
mod store;
#[path = "handoff/world.rs"]
mod world;

use std::time::Duration;

use coordinator_core::machine::planner::PlannerConfig;
use coordinator_core::{Layout, Routing};
use world::{World, keyspace};

/// Runs one world per seed: first faults, then peace.
fn walk(seeds: std::ops::Range<u64>, config: impl Fn(u64) -> PlannerConfig, fixed_names: bool) {
    for seed in seeds {
        let mut world = World::new(seed, config(seed), fixed_names);
        for _ in 0..1_500 {
            world.step(true);
        }
        world.heal();
        // Until everybody has told what it serves.
        for _ in 0..100 {
            world.step(false);
        }
        for _ in 0..40_000 {
            world.step(false);
            if world.has_converged() {
                break;
            }
        }
        assert!(
            world.has_converged(),
            "seed {seed}: ALL-OWNED within {:?}: {}",
            world.now(),
            world.picture()
        );
        // Nothing moves any more.
        let epoch = world.epoch();
        for _ in 0..100 {
            world.step(false);
        }
        assert_eq!(world.epoch(), epoch, "seed {seed}: plans without a cause");
    }
}

fn config(layout: Layout, grace: Duration) -> PlannerConfig {
    let mut config = PlannerConfig::new(keyspace(), layout, Routing::default());
    config.ttl = world::TTL;
    config.drain_timeout = Duration::from_millis(800);
    config.reshard_interval = Duration::from_millis(300);
    config.grace_period = grace;
    config
}

#[test]
fn fixed_shards_never_have_two_owners_and_all_have_one_in_the_end() {
    walk(
        0..30,
        |seed| {
            let shards = [1, 3, 8, 21][usize::try_from(seed % 4).unwrap_or_default()];
            config(Layout::Fixed { shards }, Duration::ZERO)
        },
        false,
    );
}

#[test]
fn shards_kept_for_static_names_never_have_two_owners_and_all_have_one_in_the_end() {
    walk(
        0..30,
        |_| config(Layout::Fixed { shards: 8 }, Duration::from_secs(3)),
        true,
    );
}

#[test]
fn dense_cuts_never_overlap_and_always_end_in_a_grant() {
    walk(0..30, |_| config(Layout::Dense, Duration::ZERO), false);
}
