//! What the tests of the node share: fleets on one memory store, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{Election, Leadership, Node, NodeBuilder, Term};

/// A node of the group `test`, not started yet.
pub(crate) fn builder(store: &MemoryStore, name: &str) -> NodeBuilder {
    Node::builder("test")
        .member(name)
        .backend(store.connect(name))
}

/// A node of the group `test`.
pub(crate) async fn node(store: &MemoryStore, name: &str) -> Node {
    builder(store, name)
        .start()
        .await
        .expect("a healthy store takes every member")
}

/// Virtual time passes.
pub(crate) async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// The virtual clock, in seconds.
pub(crate) struct Watch(tokio::time::Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Leads, with a deadline, so that a hang is a failure.
pub(crate) async fn lead(election: &Election) -> Leadership {
    within(120.0, election.campaign())
        .await
        .expect("waiting mends all that goes wrong here")
}

/// Waits for an event of the test, with a deadline.
pub(crate) async fn within<F: Future>(seconds: f64, f: F) -> F::Output {
    let span = Duration::from_secs_f64(seconds);
    tokio::time::timeout(span, f)
        .await
        .expect("it happens in time")
}

/// Waits until somebody leads that `wanted` accepts.
pub(crate) async fn sees_leader(election: &Election, wanted: impl Fn(&Term) -> bool) -> Term {
    let mut observer = election.observe();
    within(120.0, async {
        loop {
            if let Some(term) = observer.current().filter(&wanted) {
                return term;
            }
            assert!(observer.changed().await, "the node has not shut down");
        }
    })
    .await
}
