//! Handing elections over: to a named member, and to a higher priority.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{AcquireError, Backend, ElectionConfig, Node, TransferError};
use support::{Watch, lead, node, pass, sees_leader, within};

/// Runs the election on this node for ever, in the background.
fn run(node: &Node, config: impl Into<ElectionConfig>) {
    let election = node.election(config);
    drop(tokio::spawn(async move {
        election
            .run(async |term| {
                term.draining().await;
                Ok(())
            })
            .await
    }));
}

/// P10, W7: from any member, to any member that campaigns.
#[tokio::test(start_paused = true)]
async fn an_election_is_handed_to_the_named_member() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let (c, observer) = (node(&store, "c").await, node(&store, "d").await);
    for node in [&a, &b, &c] {
        run(node, "e");
        pass(0.1).await;
    }
    let watch = Watch::start();
    // `b` has waited for longer than `c`: the order of the queue must not decide.
    observer
        .election("e")
        .transfer_to(c.id())
        .await
        .expect("c campaigns");
    assert!(watch.seconds() < 1.0, "{}", watch.seconds());
    a.election("e")
        .transfer_to(a.id())
        .await
        .expect("asked by the successor itself");
    a.election("e")
        .transfer_to(b.id())
        .await
        .expect("asked by the leader itself");
    sees_leader(&observer.election("e"), |term| term.leader == *b.id()).await;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_cannot_be_says_why() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let error = a
        .election("e")
        .transfer_to(b.id())
        .await
        .expect_err("nobody leads");
    assert!(matches!(error, TransferError::NoLeader { .. }), "{error}");
    run(&a, "e");
    pass(1.0).await;
    let error = b
        .election("e")
        .transfer_to(&"z".into())
        .await
        .expect_err("no such member");
    assert!(
        matches!(error, TransferError::UnknownSuccessor { .. }),
        "{error}"
    );
    let error = b
        .election("e")
        .transfer_to(b.id())
        .await
        .expect_err("b does not campaign");
    assert!(matches!(error, TransferError::TimedOut { .. }), "{error}");
    let backend = Backend {
        bus: None,
        ..store.connect("c")
    };
    let c = Node::builder("test")
        .member("c")
        .backend(backend)
        .start()
        .await
        .unwrap();
    let error = c
        .election("e")
        .transfer_to(b.id())
        .await
        .expect_err("c cannot ask");
    assert!(
        matches!(error, TransferError::MissingPart { part: "bus", .. }),
        "{error}"
    );
}

/// W7, E11: priority never preempts; after 30 s of seeing a better candidate a leader hands over.
#[tokio::test(start_paused = true)]
async fn a_leader_hands_over_to_a_higher_priority_that_stays() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    run(&a, "e");
    sees_leader(&b.election("e"), |term| term.leader == *a.id()).await;
    run(&b, ElectionConfig::new("e").priority(10));
    pass(25.0).await;
    sees_leader(&b.election("e"), |term| term.leader == *a.id()).await;
    pass(15.0).await;
    let watch = Watch::start();
    sees_leader(&a.election("e"), |term| term.leader == *b.id()).await;
    assert!(watch.seconds() < 1.0);
    // It leads for good: the lower priority does not take it back.
    pass(120.0).await;
    sees_leader(&a.election("e"), |term| term.leader == *b.id()).await;
}

#[tokio::test(start_paused = true)]
async fn a_priority_without_a_bus_is_an_error_that_names_the_part() {
    let store = MemoryStore::new();
    let backend = Backend {
        bus: None,
        ..store.connect("a")
    };
    let a = Node::builder("test")
        .member("a")
        .backend(backend)
        .start()
        .await
        .unwrap();
    let error = a
        .election(ElectionConfig::new("e").priority(1))
        .campaign()
        .await;
    let error = error.expect_err("nobody could hear of the priority");
    assert!(
        matches!(error, AcquireError::MissingPart { part: "bus", .. }),
        "{error}"
    );
    drop(within(5.0, lead(&a.election("e"))).await);
    pass(Duration::from_secs(1).as_secs_f64()).await;
}

/// W7: a candidate that hears the bus but cannot reach the store could not take the lease.
#[tokio::test(start_paused = true)]
async fn nobody_steps_down_for_a_priority_that_cannot_reach_the_store() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    run(&a, "e");
    let first = sees_leader(&a.election("e"), |term| term.leader == *a.id()).await;
    run(&b, ElectionConfig::new("e").priority(10));
    pass(5.0).await;
    store.link("b").cut_requests();
    pass(300.0).await;
    assert_eq!(sees_leader(&a.election("e"), |_| true).await, first);
    store.link("b").heal();
    pass(60.0).await;
    sees_leader(&a.election("e"), |term| term.leader == *b.id()).await;
}
