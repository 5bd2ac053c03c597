//! What a split bus does to elections over whoever is seen.
//!
//! `COORDINATOR_SEEDS=20 cargo test --release -p coordinator-tests --test votes splits -- --nocapture`
//! prints the figures that the documentation of `Quorum::Urgent` gives.

use std::time::Duration;

use coordinator_node::Quorum;
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, Plan, WINDOW, names};

const CUT: Duration = Duration::from_secs(30);

fn seeds() -> u64 {
    let chosen = std::env::var("COORDINATOR_SEEDS").ok();
    chosen.and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// How long the fleet had no leader, one, and more than one.
#[derive(Debug, Default)]
struct Watched {
    none: Duration,
    one: Duration,
    more: Duration,
}

async fn watch(fleet: &Fleet, span: Duration) -> Watched {
    let step = Duration::from_millis(20);
    let (mut watched, until) = (Watched::default(), Instant::now() + span);
    while Instant::now() < until {
        sleep(step).await;
        match fleet.witness().leaders().len() {
            0 => watched.none += step,
            1 => watched.one += step,
            _ => watched.more += step,
        }
    }
    watched
}

/// A fleet of five, split two against three for a while: during the cut, and after it.
async fn split(seed: u64, quorum: Quorum) -> (Watched, Watched) {
    let all = names(5);
    let (mut fleet, mut plan) = (Fleet::new(seed), Plan::fixed(&all));
    plan.locks = quorum == Quorum::Live;
    plan.quorum = quorum;
    for name in &all {
        let link = fleet.store.link(name.as_str());
        link.delay(Duration::from_micros(200)..Duration::from_millis(3));
        fleet.start(name, &plan);
    }
    // Members find each other, and the terms of before are over.
    sleep(Duration::from_secs(40)).await;
    fleet.store.partition(&all[..2], &all[2..]);
    let during = watch(&fleet, CUT).await;
    fleet.store.heal_partitions();
    let after = watch(&fleet, CUT).await;
    if plan.locks {
        fleet.no_complaints(seed);
    }
    assert_eq!(
        fleet.witness().leaders().len(),
        1,
        "seed {seed}: in the end, one"
    );
    (during, after)
}

/// The store decides: zero overlap while the bus is split and both sides reach the store.
#[tokio::test(start_paused = true)]
async fn live_never_has_two_leaders_while_the_bus_is_split() {
    for seed in 0..seeds() {
        let (during, after) = split(seed, Quorum::Live).await;
        assert_eq!(during.more + after.more, Duration::ZERO, "seed {seed}");
        // The other side asks in vain, and the leader's own side need not change.
        assert!(during.one + WINDOW * 8 > CUT, "seed {seed}: {during:?}");
    }
}

/// What `Urgent` gives up: measured, for its documentation.
#[tokio::test(start_paused = true)]
async fn urgent_has_a_leader_on_each_side_of_a_split_bus_and_one_after_it() {
    let (mut cut, mut healed, mut longest) =
        (Watched::default(), Watched::default(), Duration::ZERO);
    for seed in 0..seeds() {
        let (during, after) = split(seed, Quorum::Urgent).await;
        cut.more += during.more;
        cut.none += during.none;
        healed.more += after.more;
        longest = longest.max(after.more);
    }
    let count = u32::try_from(seeds()).expect("it is small");
    println!(
        "urgent, cut for {CUT:?}: two leaders for {:?} of it, none for {:?}; after it two for {:?}, at most {longest:?}",
        cut.more / count,
        cut.none / count,
        healed.more / count
    );
    assert!(cut.more > Duration::ZERO, "this is why it is called unsafe");
}
