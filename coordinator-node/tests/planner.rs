//! Planning and handoff, end to end: whole nodes over the memory backend, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{Node, OwnedShard, ShardConfig};
use support::{Watch, builder, node, pass, within};
use tokio::task::JoinHandle;

const SHARDS: u16 = 12;

/// Who works on what, as the work itself tells it. Two at once on one shard is a failure there and
/// then (ONE-OWNER).
#[derive(Clone, Default)]
struct Floor(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    owners: BTreeMap<u16, String>,
    /// How often a shard has begun.
    begun: usize,
}

struct Working {
    floor: Floor,
    shard: u16,
}

impl Floor {
    fn begin(&self, who: &str, shard: u16) -> Working {
        let mut state = self.0.lock().unwrap();
        let before = state.owners.insert(shard, who.to_owned());
        assert_eq!(before, None, "{who} begins shard {shard}: ONE-OWNER");
        state.begun += 1;
        let floor = self.clone();
        Working { floor, shard }
    }

    fn owners(&self) -> BTreeMap<u16, String> {
        self.0.lock().unwrap().owners.clone()
    }

    fn begun(&self) -> usize {
        self.0.lock().unwrap().begun
    }

    /// How many shards each of these works on.
    fn counts(&self, names: &[&str]) -> Vec<usize> {
        let owners = self.owners();
        let count = |name: &&str| owners.values().filter(|owner| owner == name).count();
        names.iter().map(count).collect()
    }

    /// Waits until these, and nobody else, work on so many shards each.
    async fn settles(&self, names: &[&str], counts: &[usize]) {
        let everyone: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
        within(120.0, async {
            loop {
                let owners: BTreeSet<_> = self.owners().into_values().collect();
                if self.counts(names) == counts && owners.is_subset(&everyone) {
                    return;
                }
                pass(0.005).await;
            }
        })
        .await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.floor.0.lock().unwrap().owners.remove(&self.shard);
    }
}

/// A node that serves, and its service.
fn serve(node: &Node, floor: &Floor, config: ShardConfig) -> JoinHandle<()> {
    let (node, floor, who) = (node.clone(), floor.clone(), node.id().to_string());
    tokio::spawn(async move {
        let work = move |shard: OwnedShard| {
            let working = floor.begin(&who, shard.id().get());
            async move {
                shard.draining().await;
                drop(working);
                Ok(())
            }
        };
        node.run_shards(config, work).await.expect("it is served");
    })
}

fn orders() -> ShardConfig {
    ShardConfig::new("orders", SHARDS)
}

/// H1, H2: 1 → 2 → 3 members and back.
#[tokio::test(start_paused = true)]
async fn shards_are_shared_evenly_as_members_come_and_go() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let a = node(&store, "a").await;
    let watch = Watch::start();
    let serving_a = serve(&a, &floor, orders());
    floor.settles(&["a"], &[12]).await;
    assert!(watch.seconds() < 0.5, "{}", watch.seconds());
    pass(2.0).await;
    let b = node(&store, "b").await;
    let serving_b = serve(&b, &floor, orders());
    floor.settles(&["a", "b"], &[6, 6]).await;
    assert_eq!(floor.begun(), 12 + 6, "LEAST-MOVED");
    pass(2.0).await;
    let c = node(&store, "c").await;
    let serving_c = serve(&c, &floor, orders());
    floor.settles(&["a", "b", "c"], &[4, 4, 4]).await;
    assert_eq!(floor.begun(), 12 + 6 + 4, "LEAST-MOVED");
    pass(2.0).await;
    // The planner's own node goes first.
    a.shutdown().await.expect("all work ends in time");
    floor.settles(&["b", "c"], &[6, 6]).await;
    b.shutdown().await.expect("all work ends in time");
    floor.settles(&["c"], &[12]).await;
    c.shutdown().await.expect("all work ends in time");
    assert_eq!(floor.owners(), BTreeMap::new());
    for serving in [serving_a, serving_b, serving_c] {
        within(1.0, serving).await.expect("it ends with its node");
    }
}

/// H4, H5: each position in turn, the planner's included.
#[tokio::test(start_paused = true)]
async fn the_shards_of_a_cut_off_member_pass_on_after_its_ttl_without_overlap() {
    for victim in ["a", "b", "c"] {
        let (store, floor) = (MemoryStore::new(), Floor::default());
        let names = ["a", "b", "c"];
        let mut nodes = Vec::new();
        for name in names {
            let node = node(&store, name).await;
            serve(&node, &floor, orders());
            nodes.push(node);
        }
        floor.settles(&names, &[4, 4, 4]).await;
        pass(5.0).await;
        let watch = Watch::start();
        store.link(victim).cut();
        let rest: Vec<_> = names.into_iter().filter(|name| *name != victim).collect();
        floor.settles(&rest, &[6, 6]).await;
        // Its ttl, at most another one for the planner's own lease, and a round.
        assert!(watch.seconds() < 22.0, "{victim}: {}", watch.seconds());
        store.link(victim).heal();
        // H5: it comes back with nothing, and gets its share when it no longer flaps.
        floor.settles(&names, &[4, 4, 4]).await;
    }
}

/// H12: a planner that dies between revoke and grant is followed by one that goes on.
#[tokio::test(start_paused = true)]
async fn a_handoff_outlives_its_planner() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let a = node(&store, "a").await;
    serve(&a, &floor, orders());
    floor.settles(&["a"], &[12]).await;
    pass(2.0).await;
    let b = node(&store, "b").await;
    serve(&b, &floor, orders());
    // The revoke is under way: a plans, and is cut off in the middle.
    pass(0.002).await;
    store.link("a").cut();
    floor.settles(&["b"], &[12]).await;
    store.link("a").heal();
    floor.settles(&["a", "b"], &[6, 6]).await;
}

/// A member that stops serving while its node lives keeps acking, and loses nothing.
#[tokio::test(start_paused = true)]
async fn a_member_that_stops_serving_hands_its_shards_over() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let serving = serve(&a, &floor, orders());
    serve(&b, &floor, orders());
    floor.settles(&["a", "b"], &[6, 6]).await;
    pass(2.0).await;
    let watch = Watch::start();
    serving.abort();
    floor.settles(&["b"], &[12]).await;
    assert!(watch.seconds() < 1.0, "{}", watch.seconds());
    serve(&a, &floor, orders());
    floor.settles(&["a", "b"], &[6, 6]).await;
}

/// H16.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_within_the_grace_period_moves_no_shard() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let config = || orders().grace_period(Duration::from_secs(60));
    let mut nodes = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let node = node(&store, name).await;
        serve(&node, &floor, config());
        nodes.insert(name, node);
    }
    floor.settles(&["a", "b", "c"], &[4, 4, 4]).await;
    pass(5.0).await;
    let before = floor.owners();
    for name in ["a", "b", "c"] {
        let old = nodes.remove(name).expect("it runs");
        old.shutdown().await.expect("all work ends in time");
        pass(10.0).await;
        let rest: BTreeMap<_, _> = before
            .clone()
            .into_iter()
            .filter(|(_, owner)| owner != name)
            .collect();
        assert_eq!(floor.owners(), rest, "nobody takes the shards of {name}");
        let new = node(&store, name).await;
        serve(&new, &floor, config());
        nodes.insert(name, new);
        within(60.0, async {
            while floor.owners() != before {
                pass(0.01).await;
            }
        })
        .await;
    }
}

/// H10.
#[tokio::test(start_paused = true)]
async fn many_that_join_at_once_cost_few_plans() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let names: Vec<String> = (0..24).map(|at| format!("m{at:02}")).collect();
    let mut nodes = Vec::new();
    for name in &names {
        let node = node(&store, name).await;
        serve(&node, &floor, ShardConfig::new("orders", 240));
        nodes.push(node);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    floor.settles(&all, &[10; 24]).await;
    assert!(
        floor.begun() <= 240 * 3,
        "{} starts of 240 shards",
        floor.begun()
    );
}

/// L: a member of weight zero takes nothing, and twice the weight takes twice as much.
#[tokio::test(start_paused = true)]
async fn shares_follow_the_weights() {
    let (store, floor) = (MemoryStore::new(), Floor::default());
    let mut nodes = Vec::new();
    for (name, weight) in [("a", 1), ("b", 2), ("c", 0)] {
        let node = builder(&store, name).weight(weight).start().await;
        let node = node.expect("a healthy store takes every member");
        serve(&node, &floor, orders());
        nodes.push(node);
    }
    floor.settles(&["a", "b", "c"], &[4, 8, 0]).await;
}
