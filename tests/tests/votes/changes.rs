//! Voters that come and go, and releases of two versions side by side.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::counted::Later;
use super::fleet::{Fleet, Plan, WINDOW, names};

const SEEDS: u64 = 12;
const BOUND: Duration = Duration::from_secs(10);
const AT_ONCE: Duration = Duration::ZERO;

/// Something goes wrong now and then, while the fleet changes.
async fn disturb(fleet: &mut Fleet, names: &[String], random: &mut StdRng) {
    let at = random.random_range(0..names.len());
    let link = fleet.store.link(names[at].as_str());
    match random.random_range(0..6) {
        0 => link.cut_bus(),
        1 => link.bus_loss(0.2),
        2 => link.delay(Duration::from_millis(random.random_range(0..800))),
        3 => link.pause(),
        4 => link.clock_jump(Duration::from_millis(random.random_range(0..2_000))),
        _ => {}
    }
    sleep(WINDOW.mul_f64(random.random_range(0.0..3.0))).await;
    link.clear();
    link.resume();
}

/// Starts every member anew with another plan, in a random order, one after the other. Each is away
/// for so long.
async fn roll(
    fleet: &mut Fleet,
    names: &[String],
    plan: &Plan,
    away: Duration,
    random: &mut StdRng,
) {
    let mut order: Vec<_> = names.to_vec();
    while !order.is_empty() {
        let name = order.swap_remove(random.random_range(0..order.len()));
        if random.random_bool(0.5) {
            fleet.stop(&name).await;
        } else {
            fleet.kill(&name).await;
        }
        sleep(away).await;
        fleet.start(&name, plan);
        disturb(fleet, names, random).await;
    }
}

/// V9: one name at a time, from three voters to five and back, under faults: never two leaders, and
/// one whenever the lists agree. Two names at once would make two majorities.
#[tokio::test(start_paused = true)]
async fn a_list_of_voters_that_changes_by_one_name_at_a_time_has_one_leader() {
    for seed in 0..SEEDS {
        let (mut fleet, mut random) = (Fleet::new(seed), StdRng::seed_from_u64(seed));
        let all = names(5);
        let mut running = 3;
        let plan = Plan::fixed(&all[..3]);
        all[..3].iter().for_each(|name| fleet.start(name, &plan));
        let mut leader = fleet.leader(None, BOUND).await;
        for voters in [4, 5, 4, 3] {
            let plan = Plan::fixed(&all[..voters]);
            if voters > running {
                fleet.start(&all[running], &plan);
            }
            roll(&mut fleet, &all[..voters], &plan, AT_ONCE, &mut random).await;
            if voters < running {
                fleet.stop(&all[voters]).await;
            }
            running = voters;
            let known = fleet.leader(None, BOUND).await;
            sleep(WINDOW * 8).await;
            let now = fleet.leader(None, BOUND).await;
            assert!(
                now.token >= known.token && now.token > leader.token,
                "seed {seed}: E15"
            );
            assert_eq!(
                fleet.witness().leaders().len(),
                1,
                "seed {seed}: with {voters} voters"
            );
            leader = now;
        }
        fleet.no_complaints(seed);
    }
}

/// V9: half of the fleet speaks a later version, with fields that the other half does not know.
#[tokio::test(start_paused = true)]
async fn two_versions_of_the_messages_elect_together_through_a_rolling_upgrade() {
    for seed in 0..SEEDS {
        let (mut fleet, mut random) = (Fleet::new(seed), StdRng::seed_from_u64(seed));
        let all = names(3 + 2 * usize::try_from(seed % 3).expect("it is small"));
        let old = Plan::fixed(&all);
        let new = Plan {
            wrap: Some(Arc::new(|_, bus| Arc::new(Later(bus)))),
            ..old.clone()
        };
        for name in &all {
            fleet.start(name, &old);
        }
        fleet.leader(None, BOUND).await;
        for plan in [&new, &old] {
            roll(&mut fleet, &all, plan, AT_ONCE, &mut random).await;
            sleep(WINDOW * 8).await;
            assert_eq!(fleet.witness().leaders().len(), 1, "seed {seed}");
        }
        fleet.no_complaints(seed);
    }
}

/// V4, V9: a window becomes longer by a rolling restart, and shorter by one in which each process is
/// away for the older window, so that no promise of its former life still holds.
#[tokio::test(start_paused = true)]
async fn a_window_may_grow_by_a_rolling_restart_and_shrink_by_a_slow_one() {
    for seed in 0..SEEDS {
        let (mut fleet, mut random) = (Fleet::new(seed), StdRng::seed_from_u64(seed));
        let all = names(3);
        let short = Plan::fixed(&all);
        let long = short.clone().window(WINDOW * 6);
        for name in &all {
            fleet.start(name, &short);
        }
        fleet.leader(None, BOUND).await;
        for (plan, away) in [(&long, AT_ONCE), (&short, long.window)] {
            roll(&mut fleet, &all, plan, away, &mut random).await;
            sleep(long.window * 8).await;
            assert_eq!(fleet.witness().leaders().len(), 1, "seed {seed}");
        }
        fleet.no_complaints(seed);
    }
}

/// V4: why it must be a slow one. Whoever comes back abstains for its own window, and the leader
/// trusts for a longer one what was promised to it.
#[tokio::test(start_paused = true)]
async fn a_window_that_shrinks_by_a_quick_restart_makes_two_leaders() {
    let mut fleet = Fleet::new(1);
    let all = names(3);
    let short = Plan::fixed(&all);
    let long = short.clone().window(WINDOW * 6);
    for name in &all {
        fleet.start(name, &long);
    }
    let leader = fleet.leader(None, BOUND).await;
    sleep(long.window * 2).await;
    for name in all.iter().filter(|name| **name != leader.member) {
        fleet.stop(name).await;
        fleet.start(name, &short);
    }
    sleep(long.window * 2).await;
    assert!(
        !fleet.witness().complaints.is_empty(),
        "then the documents warn of nothing"
    );
}
