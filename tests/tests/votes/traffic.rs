//! What an election costs in messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::counted::{Count, Counted};
use super::fleet::{Fleet, Plan, WINDOW, names};

fn counted(seed: u64, voters: usize) -> (Fleet, Arc<Count>) {
    let (names, count) = (names(voters), Arc::<Count>::default());
    let (mut fleet, mut plan) = (Fleet::new(seed), Plan::fixed(&names));
    let counting = count.clone();
    plan.wrap = Some(Arc::new(move |name, inner| {
        Arc::new(Counted {
            inner,
            name: name.to_owned(),
            count: counting.clone(),
        })
    }));
    for name in &names {
        let link = fleet.store.link(name.as_str());
        link.delay(Duration::from_micros(200)..Duration::from_millis(3));
        fleet.start(name, &plan);
    }
    (fleet, count)
}

/// Starts so many at once; says how many messages were sent and delivered until one leads, for each
/// member.
async fn start_at_once(seed: u64, voters: usize) -> (u64, u64) {
    let (fleet, count) = counted(seed, voters);
    let leader = fleet.leader(None, Duration::from_secs(10)).await;
    let (sent, delivered) = count.so_far();
    let members = voters as u64;
    // A pre-vote, a vote and a heartbeat reach everybody, and everybody answers.
    assert!(sent <= 20 * members, "seed {seed}: {sent} messages sent");
    assert!(
        delivered <= 20 * members,
        "seed {seed}: {delivered} messages delivered"
    );
    sleep(WINDOW * 6).await;
    let now = fleet.leader(None, Duration::ZERO).await;
    assert_eq!(now.token, leader.token, "seed {seed}: E11, it stays");
    fleet.no_complaints(seed);
    (sent / members, delivered / members)
}

async fn few_messages(voters: usize) {
    let mut most = (0, 0);
    for seed in 0..4 {
        let (sent, delivered) = start_at_once(seed, voters).await;
        most = (most.0.max(sent), most.1.max(delivered));
    }
    println!(
        "{voters} members that start at once: at most {} messages sent and {} delivered per member",
        most.0, most.1
    );
}

/// E10: one leader, and messages in proportion to the members.
#[tokio::test(start_paused = true)]
async fn fifty_that_start_at_once_elect_one_leader_with_few_messages() {
    few_messages(50).await;
}

#[tokio::test(start_paused = true)]
async fn e10_three_or_ten_that_start_at_once_elect_one_leader_with_few_messages() {
    few_messages(3).await;
    few_messages(10).await;
}

/// V10: idle, at most two deliveries per member and heartbeat, of which there are three a window.
#[tokio::test(start_paused = true)]
async fn an_election_at_rest_costs_two_deliveries_per_member_and_heartbeat() {
    for voters in [3, 10, 25] {
        let (fleet, count) = counted(1, voters);
        fleet.leader(None, Duration::from_secs(10)).await;
        sleep(WINDOW * 4).await;
        let (sent, delivered) = count.so_far();
        let span = Duration::from_secs(60);
        sleep(span).await;
        let (sent, delivered) = {
            let (now_sent, now_delivered) = count.so_far();
            (now_sent - sent, now_delivered - delivered)
        };
        let members = voters as u64;
        // Every heartbeat is answered by all others.
        let heartbeats = sent / members;
        let every = 60_000 / heartbeats;
        println!(
            "{voters} members at rest: a heartbeat every {every} ms, {delivered} deliveries in a minute"
        );
        assert!(every >= 160, "a heartbeat every {every} ms");
        assert!(
            delivered <= 2 * members * (heartbeats + 1),
            "{delivered} deliveries"
        );
    }
}
