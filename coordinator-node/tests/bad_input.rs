//! Bad input: each a typed error that says what was given, and what is allowed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::error::Error;
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{
    AcquireError, Backend, Guarantee, Node, NodeBuilder, Routing, RunError, ShardConfig, StartError,
};
use support::{builder, node, pass, within};

/// The whole chain of an error, as a user's log shows it.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_says_why() {
    let store = MemoryStore::new();
    let named = |group: &str| Node::builder(group).backend(store.connect("x"));
    let bad: [(NodeBuilder, &str); 10] = [
        (
            builder(&store, "a").ttl(Duration::ZERO),
            "a ttl of 0ns is not allowed: choose 200ms to",
        ),
        (
            builder(&store, "a").ttl(Duration::from_millis(60)),
            "a ttl of 60ms is not allowed",
        ),
        (
            builder(&store, "a").ttl(Duration::MAX),
            "is not allowed: choose 200ms to 30s",
        ),
        (
            builder(&store, "a").drain_timeout(Duration::ZERO),
            "a drain timeout of 0s",
        ),
        (
            builder(&store, ""),
            "the member name is empty: give it 1 to 512 bytes",
        ),
        (named(""), "the group name is empty: give it 1 to 512 bytes"),
        (
            named(&"g".repeat(513)),
            "the group name has 513 bytes, allowed are 1 to 512",
        ),
        (
            builder(&store, "a").metadata("k", "v".repeat(20_000)),
            "16384",
        ),
        (
            builder(&store, "a").url("memory:"),
            "both a backend and the url",
        ),
        (Node::builder("g"), "neither `backend` nor `url` was given"),
    ];
    for (builder, expected) in bad {
        let error = within(60.0, builder.start()).await.expect_err(expected);
        assert!(matches!(error, StartError::Rejected { .. }), "{error:?}");
        assert!(told(&error).contains(expected), "{}", told(&error));
    }
}

/// G2.
#[tokio::test(start_paused = true)]
async fn a_static_name_that_lives_elsewhere_is_refused_by_name() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let error = within(60.0, builder(&store, "a").start())
        .await
        .expect_err("it lives");
    assert!(
        matches!(&error, StartError::DuplicateName { member, .. } if member.as_str() == "a"),
        "{error:?}"
    );
    a.shutdown().await.unwrap();
    drop(node(&store, "a").await);
}

#[tokio::test(start_paused = true)]
async fn a_guarantee_that_the_store_does_not_give_says_what_was_found() {
    let store = MemoryStore::new();
    let demanding = builder(&store, "a").require([Guarantee::SurvivesCrash]);
    let error = demanding
        .start()
        .await
        .expect_err("memory survives no crash");
    let StartError::MissingGuarantee {
        guarantee,
        found,
        remedy,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(guarantee, Guarantee::SurvivesCrash);
    assert!(!found.is_empty() && !remedy.is_empty());
}

/// H11.
#[tokio::test(start_paused = true)]
async fn a_keyspace_that_is_cut_otherwise_is_refused_with_both_cuts() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let first = a.shards(ShardConfig::new("orders", 32)).await.unwrap();
    pass(5.0).await;
    let bad = [
        (ShardConfig::new("orders", 0), ["0", "1"]),
        (ShardConfig::new("", 8), ["empty", "1 to 512"]),
        (ShardConfig::new("orders", 64), ["64", "32"]),
        (
            ShardConfig::new("orders", 32).routing(Routing::Xxh3),
            ["xxh3-64", "fnv1a-64"],
        ),
    ];
    for (config, expected) in bad {
        let error = within(60.0, b.run_shards(config, |_| async { Ok(()) })).await;
        let error = error.expect_err("it is another keyspace");
        let rejected = matches!(error, RunError::Acquire(AcquireError::Rejected { .. }));
        let text = told(&error);
        assert!(
            rejected && expected.iter().all(|it| text.contains(it)),
            "{text}"
        );
    }
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_the_backend_lacks_is_named() {
    let store = MemoryStore::new();
    let bare = Backend {
        bus: store.connect("a").bus,
        ..Backend::default()
    };
    let a = Node::builder("g")
        .backend(bare)
        .start()
        .await
        .expect("a bus is a backend");
    let parts = [
        a.election("e").campaign().await.err(),
        a.lock("l").try_acquire().await.err(),
        a.shards("orders").await.err(),
    ];
    for error in parts {
        assert!(
            matches!(error, Some(AcquireError::MissingPart { .. })),
            "{error:?}"
        );
    }
    assert!(a.health().is_ready(), "it is as well as it can be");
}
