//! How a node ends by a signal, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::Duration;

use coordinator_memory::MemoryStore;
use support::{Watch, builder, node, pass, within};

#[tokio::test(start_paused = true)]
async fn a_node_ends_by_its_signal_and_no_later_than_its_work() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let signal = tokio::time::sleep(Duration::from_secs(10));
    let b = builder(&store, "b").shutdown_on(signal);
    let b = b.start().await.expect("a healthy store takes every member");
    let watch = Watch::start();
    let election = b.election("scheduler");
    let led = election.run(async |term| {
        term.draining().await;
        pass(3.0).await;
        Ok(())
    });
    within(60.0, led).await.expect("the work ends well");
    within(60.0, b.shutdown()).await.expect("nothing overruns");
    // Ten until the signal, three for the work: the end itself waits for nothing.
    assert!(
        (12.9..13.1).contains(&watch.seconds()),
        "{}",
        watch.seconds()
    );
    pass(0.1).await;
    assert_eq!(a.members().current().len(), 1, "it has left its group");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_nobody_asks_leaves_at_its_signal_all_the_same() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let signal = tokio::time::sleep(Duration::from_secs(10));
    let b = builder(&store, "b").shutdown_on(signal);
    let b = b.start().await.expect("a healthy store takes every member");
    pass(9.9).await;
    assert_eq!(a.members().current().len(), 2);
    pass(0.2).await;
    assert_eq!(a.members().current().len(), 1);
    drop(b);
}

/// `run` and `run_shards` agree: a shutdown is no error, however early it comes.
#[tokio::test(start_paused = true)]
async fn what_would_run_on_a_node_that_shuts_down_ends_well() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    a.shutdown().await.expect("nothing is in the way");
    a.election("e")
        .run(async |_| Ok(()))
        .await
        .expect("a shutdown is no error");
    a.run_shards("orders", |_| async { Ok(()) })
        .await
        .expect("a shutdown is no error");
    a.run_dense("mail", |_| async { Ok(()) })
        .await
        .expect("a shutdown is no error");
}
