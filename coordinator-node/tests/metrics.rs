//! Each declared metric moves, and no other does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![cfg(feature = "metrics")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{Frame, Instance};
use coordinator_node::telemetry::{METRICS, MetricKind};
use coordinator_node::{
    Backend, Bytes, ElectionConfig, Node, OwnedShard, Quorum, ShardConfig, Topic,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use support::{lead, node, pass, within};

const NEWS: Topic<String> = Topic::new("news");

/// Everything that happened to each metric, and the labels that it was given.
#[derive(Default)]
struct Seen {
    moved: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    /// Histograms and gauges are taken when read: look at every phase.
    fn look(&mut self, snapshotter: &Snapshotter) {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let name = key.key().name().to_owned();
            let labels = key.key().labels().map(|label| label.key().to_owned());
            self.labels.entry(name.clone()).or_default().extend(labels);
            let moved = match value {
                DebugValue::Counter(count) => count > 0,
                DebugValue::Gauge(value) => value.0 > 0.0,
                DebugValue::Histogram(values) => !values.is_empty(),
            };
            if moved {
                self.moved.insert(name);
            }
        }
    }
}

async fn shard(shard: OwnedShard, failing: bool) -> Result<(), coordinator_node::BoxError> {
    let position: u64 = shard.load().await?.unwrap_or(0);
    shard.save(position + 1).await?;
    if failing {
        pass(5.0).await;
        return Err("a bug".into());
    }
    shard.draining().await;
    Ok(())
}

/// A day in the life of a fleet, with all that is counted in it.
async fn day(store: &MemoryStore, mut look: impl FnMut()) {
    let (a, b) = (node(store, "a").await, node(store, "b").await);

    let term = lead(&a.election("e")).await;
    pass(5.0).await;
    look();
    term.resign().await.expect("the store confirms");

    let mut messages = b
        .bus()
        .subscribe(&NEWS)
        .capacity(4)
        .await
        .expect("the bus is there");
    let raw: Topic<Bytes> = Topic::new("news");
    store.link("a").cut();
    let publish = |_| a.bus().publish(&NEWS, &"news".into());
    let publishing: Vec<_> = (0..1_000).map(publish).collect();
    pass(1.0).await;
    look();
    store.link("a").heal();
    for published in publishing {
        published.await.expect("it is sent");
    }
    a.bus()
        .publish(&raw, &Bytes::from_static(&[0xff]))
        .await
        .expect("it is sent");
    while tokio::time::timeout(Duration::from_secs(8), messages.next())
        .await
        .is_ok()
    {}
    a.bus()
        .publish(&raw, &Bytes::from_static(&[0xff]))
        .await
        .expect("it is sent");
    within(5.0, messages.next()).await.expect("the bus is open");

    let config = || ShardConfig::new("orders", 8);
    let (first, second) = (a.clone(), b.clone());
    let one = tokio::spawn(async move { first.run_shards(config(), |it| shard(it, true)).await });
    pass(20.0).await;
    look();
    let two = tokio::spawn(async move { second.run_shards(config(), |it| shard(it, false)).await });
    pass(30.0).await;
    look();
    store.link("a").cut();
    pass(40.0).await;
    store.link("a").heal();
    pass(30.0).await;
    look();
    wedge(&a, &b).await;
    look();
    vote(&a, &b).await;
    look();
    hearsay(store).await;
    look();
    let (a, b) = tokio::join!(a.shutdown(), b.shutdown());
    drop((a, b));
    one.await
        .expect("no panic")
        .expect("a shutdown is no error");
    two.await
        .expect("no panic")
        .expect("a shutdown is no error");
    look();
}

/// Two members with different lists of voters: their votes do not count for each other.
async fn vote(a: &Node, b: &Node) {
    let e = |names: &[&str]| {
        let quorum = Quorum::fixed(names.iter().copied());
        ElectionConfig::new("by-vote").by_vote(quorum)
    };
    let _watching = b.election(e(&["a", "b"])).observe();
    let term = lead(&a.election(e(&["a"]))).await;
    term.resign().await.expect("nobody is in the way");
}

/// One member never gives a shard back, and is put out (S4).
async fn wedge(a: &Node, b: &Node) {
    let config = || ShardConfig::new("wedged", 2);
    let mut shards = b.shards(config()).await.expect("nothing is in the way");
    let kept = [
        within(5.0, shards.next()).await,
        within(5.0, shards.next()).await,
    ];
    let other = a.shards(config()).await.expect("nothing is in the way");
    pass(45.0).await;
    drop((kept, other));
}

/// Nodes with nothing but a bus, two of them under one name, and a beat that is none (G6).
async fn hearsay(store: &MemoryStore) {
    let only_bus = |name: &str| {
        let backend = Backend {
            members: None,
            ..store.connect(name)
        };
        Node::builder("test").member("x").backend(backend)
    };
    let one = only_bus("x").start().await.expect("the bus is there");
    pass(1.0).await;
    let two = only_bus("twin").start().await.expect("the bus is there");
    let bus = store.connect("noise").bus.expect("it has one");
    let topic = Topic::new("test/members/beats");
    let noise = Bytes::from_static(b"noise");
    let frame = Frame::new(topic, "noise".into(), Instance::from_random(1), noise);
    pass(1.0).await;
    bus.publish(&[frame]).await.expect("the bus takes anything");
    pass(1.0).await;
    drop((one, two));
}

#[tokio::test(start_paused = true)]
async fn each_declared_metric_moves_and_has_the_labels_that_it_declares() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let mut seen = Seen::default();
    day(&MemoryStore::new(), || seen.look(&snapshotter)).await;

    for metric in METRICS {
        assert!(
            seen.moved.contains(metric.name),
            "{} never moves",
            metric.name
        );
        let declared: BTreeSet<String> = metric.labels.iter().map(ToString::to_string).collect();
        assert_eq!(
            seen.labels[metric.name], declared,
            "the labels of {}",
            metric.name
        );
        let counts = metric.name.ends_with("_total");
        assert_eq!(
            counts,
            metric.kind == MetricKind::Counter,
            "{} by its name",
            metric.name
        );
    }
    let declared: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let undeclared = seen
        .labels
        .keys()
        .filter(|name| !declared.contains(name.as_str()));
    assert_eq!(undeclared.collect::<Vec<_>>(), Vec::<&String>::new());
}
