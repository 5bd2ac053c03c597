//! How long a fleet is without a leader whose leader was killed.
//!
//! `COORDINATOR_CRASHES=10000 cargo test --release -p coordinator-tests --test votes killed -- --nocapture`
//! kills ten thousand leaders, and prints how long it took to replace them.

use std::env;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, Plan, WINDOW, names};

/// All of them within this.
const ALWAYS: Duration = Duration::from_secs(3);
/// At least ninety-nine in a hundred within this.
const MOSTLY: Duration = Duration::from_secs(2);
const SIZES: [usize; 8] = [3, 4, 5, 7, 9, 12, 17, 25];

/// Kills the leader at a random moment, and says for how long there was none.
async fn kill(fleet: &mut Fleet, plan: &Plan, random: &mut StdRng) -> Duration {
    let leader = fleet.leader(None, ALWAYS * 2).await;
    sleep(WINDOW.mul_f64(random.random_range(1.0..3.0))).await;
    let now = fleet.leader(None, ALWAYS).await;
    assert_eq!(now.token, leader.token, "E11: a healthy leader stays");
    let killed = Instant::now();
    fleet.kill(&leader.member).await;
    let next = fleet.leader(Some(leader.token), ALWAYS * 2).await;
    fleet.start(&leader.member, plan);
    next.at - killed
}

/// E4, E15, V1 to V6: with a window of 500 ms, in fleets of 3 to 25.
#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_within_two_seconds_as_good_as_always() {
    let wanted = env::var("COORDINATOR_CRASHES").ok();
    let wanted = wanted.and_then(|count| count.parse().ok()).unwrap_or(80);
    let each = usize::min(wanted / SIZES.len(), 100);
    let mut leaderless: Vec<Duration> = Vec::new();
    for round in 0.. {
        if leaderless.len() >= wanted {
            break;
        }
        let names = names(SIZES[round % SIZES.len()]);
        let seed = round as u64;
        let (mut random, mut fleet) = (StdRng::seed_from_u64(seed), Fleet::new(seed));
        let plan = Plan::fixed(&names);
        for name in &names {
            let link = fleet.store.link(name.as_str());
            link.delay(Duration::from_micros(200)..Duration::from_millis(3));
            fleet.start(name, &plan);
        }
        for _ in 0..each {
            let span = kill(&mut fleet, &plan, &mut random).await;
            let voters = names.len();
            assert!(
                span <= ALWAYS,
                "seed {seed}: {span:?} without a leader among {voters}"
            );
            leaderless.push(span);
        }
        fleet.no_complaints(seed);
        // Or it would go on beside those that follow.
        for name in &names {
            fleet.kill(name).await;
        }
    }
    leaderless.sort_unstable();
    let at = |per_mille: usize| leaderless[(leaderless.len() - 1) * per_mille / 1_000];
    println!(
        "{} leaders killed: replaced within {:?} (half), {:?} (99 %), {:?} (99.9 %), {:?} (all)",
        leaderless.len(),
        at(500),
        at(990),
        at(999),
        at(1_000)
    );
    assert!(at(990) <= MOSTLY, "99 % within {:?}", at(990));
}
