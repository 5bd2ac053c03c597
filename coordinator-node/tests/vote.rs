//! Elections by vote: over the bus alone, over the bus and a store, and over whoever is seen.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{
    AcquireError, Backend, Election, ElectionConfig, Leadership, LostCause, Node, Quorum,
};
use support::{lead, node, pass, within};
use tokio::time::Instant;

const VOTERS: [&str; 3] = ["a", "b", "c"];

/// A node of a backend that is nothing but a bus.
async fn bus_only(store: &MemoryStore, name: &str) -> Node {
    let backend = Backend {
        locks: None,
        members: None,
        assignments: None,
        checkpoints: None,
        ..store.connect(name)
    };
    let node = Node::builder("test").member(name).backend(backend);
    node.start().await.expect("it needs nothing but a bus")
}

fn fixed(node: &Node) -> Election {
    node.election(ElectionConfig::new("e").by_vote(Quorum::fixed(VOTERS)))
}

/// Waits for whoever leads first.
async fn first(elections: &[&Election]) -> (usize, Leadership) {
    let campaigns = elections
        .iter()
        .map(|election| Box::pin(election.campaign()));
    let (leads, at, others) = futures_util::future::select_all(campaigns).await;
    drop(others);
    (at, leads.expect("somebody leads"))
}

async fn three(store: &MemoryStore) -> [Node; 3] {
    let [a, b, c] = VOTERS;
    [
        bus_only(store, a).await,
        bus_only(store, b).await,
        bus_only(store, c).await,
    ]
}

/// E1, E2, E10, E17: one leads, and everybody knows who.
#[tokio::test(start_paused = true)]
async fn three_voters_elect_one_leader_over_nothing_but_a_bus() {
    let store = MemoryStore::new();
    let nodes = three(&store).await;
    let elections = nodes.each_ref().map(fixed);
    let began = Instant::now();
    let (at, leads) = first(&elections.each_ref()).await;
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(leads.term().leader, VOTERS[at].into());
    for election in &elections {
        let mut observer = election.observe();
        let term = within(3.0, observer.leader())
            .await
            .expect("somebody leads");
        assert_eq!(term, leads.term());
    }
    // It stays, as long as it lives.
    pass(60.0).await;
    assert!(leads.token().is_ok());
}

/// E3, V7: a clean resignation hands over at once.
#[tokio::test(start_paused = true)]
async fn a_resignation_hands_over_in_a_moment() {
    let store = MemoryStore::new();
    let nodes = three(&store).await;
    let elections = nodes.each_ref().map(fixed);
    let (at, leads) = first(&elections.each_ref()).await;
    let token = leads.token().expect("it leads");
    let others: Vec<_> = (0..3)
        .filter(|other| *other != at)
        .map(|other| &elections[other])
        .collect();
    let next = async {
        let began = Instant::now();
        leads.resign().await.expect("it led");
        began
    };
    let ((_, leads), began) = tokio::join!(first(&others), next);
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert!(leads.token().expect("it leads") > token, "E15");
}

/// E4, E5: the leader is cut off. It stops by its own clock, before a successor starts.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_starts() {
    let store = MemoryStore::new();
    let nodes = three(&store).await;
    let elections = nodes.each_ref().map(fixed);
    let (at, leads) = first(&elections.each_ref()).await;
    pass(5.0).await;
    store.link(VOTERS[at]).cut();
    let others: Vec<_> = (0..3)
        .filter(|other| *other != at)
        .map(|other| &elections[other])
        .collect();
    let lost = async {
        let lost = leads.lost().await;
        (lost.cause, Instant::now())
    };
    let ((_, next), (cause, ended)) = tokio::join!(first(&others), lost);
    assert_eq!(cause, LostCause::Expired);
    assert!(ended.elapsed() > Duration::ZERO, "E5: no overlap");
    assert!(next.token().is_ok());
    // Back again, it follows.
    store.link(VOTERS[at]).heal();
    pass(30.0).await;
    assert!(next.token().is_ok(), "E11");
}

/// E4: a new leader within the bound, however often the leader is killed.
#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_within_the_bound() {
    let store = MemoryStore::new();
    let mut nodes = three(&store).await.map(Some);
    for _ in 0..20 {
        let elections: Vec<_> = nodes.iter().flatten().map(fixed).collect();
        let began = Instant::now();
        let (_, leads) = first(&elections.iter().collect::<Vec<_>>()).await;
        // Promises, a time-out, and two split votes.
        assert!(
            began.elapsed() < Duration::from_secs(14),
            "{:?}",
            began.elapsed()
        );
        let leader = leads.term().leader;
        pass(3.0).await;
        store.link(leader.as_str()).crash();
        let at = VOTERS.iter().position(|name| leader == (*name).into());
        let at = at.expect("it is a voter");
        drop((leads, nodes[at].take()));
        nodes[at] = Some(bus_only(&store, VOTERS[at]).await);
    }
}

/// V7, P10: a transfer goes to whom it names.
#[tokio::test(start_paused = true)]
async fn a_transfer_goes_to_the_named_member() {
    let store = MemoryStore::new();
    let nodes = three(&store).await;
    let elections = nodes.each_ref().map(fixed);
    let (at, leads) = first(&elections.each_ref()).await;
    let (next, other) = ((at + 1) % 3, (at + 2) % 3);
    let serve = async {
        leads.draining().await;
        drop(leads);
        std::future::pending::<()>().await;
    };
    let successor = VOTERS[next].into();
    let (campaign, rival) = (elections[next].campaign(), elections[other].campaign());
    let handed_over = async {
        pass(1.0).await;
        elections[other]
            .transfer_to(&successor)
            .await
            .expect("it hands over");
    };
    tokio::select! {
        biased;
        leads = async { tokio::join!(campaign, handed_over).0 } => {
            assert_eq!(leads.expect("it leads").term().leader, successor);
        }
        _ = rival => panic!("another was named"),
        () = serve => {}
    }
}

/// Bad input says what was given, and what is allowed.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_with_its_reason() {
    let store = MemoryStore::new();
    let node = bus_only(&store, "x").await;
    let said = async |config: ElectionConfig| {
        let error = node
            .election(config)
            .campaign()
            .await
            .expect_err("it cannot be");
        let mut said = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            said = format!("{said}: {error}");
            source = error.source();
        }
        said
    };
    let e = |quorum| ElectionConfig::new("e").by_vote(quorum);
    let error = said(e(Quorum::fixed(VOTERS))).await;
    assert!(error.contains("`x` is none of its voters"), "{error}");
    let none: [&str; 0] = [];
    let error = said(e(Quorum::fixed(none))).await;
    assert!(error.contains("the list is empty"), "{error}");
    let error = said(e(Quorum::fixed(["x", "y"]))).await;
    assert!(error.contains("votes already by"), "{error}");
    let live = node
        .election(e(Quorum::Live).ttl(Duration::from_secs(3)))
        .campaign()
        .await;
    let missing = live.expect_err("there is no store");
    assert!(
        matches!(missing, AcquireError::MissingPart { part: "locks", .. }),
        "{missing}"
    );
}

/// S12's election: the store decides, so that a split bus makes no second leader.
#[tokio::test(start_paused = true)]
async fn live_has_one_leader_while_the_bus_is_split_and_both_sides_reach_the_store() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let live = ElectionConfig::new("e").by_vote(Quorum::Live);
    let (ea, eb) = (a.election(live.clone()), b.election(live));
    let (at, leads) = first(&[&ea, &eb]).await;
    let (other, name) = if at == 0 { (&eb, "b") } else { (&ea, "a") };
    store.link(name).cut_bus();
    let mut campaign = Box::pin(other.campaign());
    // The other side sees itself as the whole once the members tell so, and asks: in vain.
    let patience = tokio::time::timeout(Duration::from_secs(120), &mut campaign);
    if let Ok(next) = patience.await {
        let next = next.expect("it leads");
        assert!(leads.token().is_err(), "{next:?} leads beside {leads:?}");
    }
}

/// The store is cut off while the bus works: the leader stops, and nobody leads without a store.
#[tokio::test(start_paused = true)]
async fn live_has_no_leader_without_its_store() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let live = ElectionConfig::new("e").by_vote(Quorum::Live);
    let (ea, eb) = (a.election(live.clone()), b.election(live));
    let (_, leads) = first(&[&ea, &eb]).await;
    for name in ["a", "b"] {
        store.link(name).cut_requests();
        store.link(name).cut_replies();
    }
    within(3.0, leads.lost()).await;
    drop(leads);
    let both = [&ea, &eb];
    let nobody = tokio::time::timeout(Duration::from_secs(30), first(&both)).await;
    assert!(nobody.is_err());
    for name in ["a", "b"] {
        store.link(name).heal();
    }
    let (_, leads) = within(30.0, first(&both)).await;
    assert!(leads.token().is_ok());
}

/// E13, H17: an election by vote ends with its node, in bounded time, whatever the bus does.
#[tokio::test(start_paused = true)]
async fn a_node_that_votes_shuts_down_in_bounded_time() {
    let store = MemoryStore::new();
    let nodes = three(&store).await;
    let elections = nodes.each_ref().map(fixed);
    let (at, leads) = first(&elections.each_ref()).await;
    let run = elections[(at + 1) % 3].run(async |_| Ok(()));
    store.link(VOTERS[at]).cut();
    drop(leads);
    let end = async {
        for node in &nodes {
            within(15.0, node.shutdown()).await.ok();
        }
    };
    let (ended, ()) = tokio::join!(run, end);
    ended.expect("a shutdown is no error");
}

/// A single lease machine drives both: one campaign leads whoever asked for it first.
#[tokio::test(start_paused = true)]
async fn two_campaigns_of_one_node_take_turns() {
    let store = MemoryStore::new();
    let node = bus_only(&store, "a").await;
    let election = node.election(ElectionConfig::new("e").by_vote(Quorum::fixed(["a"])));
    let leads = lead(&election).await;
    let mut second = Box::pin(election.campaign());
    let early = tokio::time::timeout(Duration::from_secs(10), &mut second).await;
    assert!(early.is_err(), "one term at a time");
    leads.resign().await.expect("it led");
    let second = within(10.0, second).await.expect("it is its turn");
    assert!(second.token().is_ok());
}
