//! What an idle fleet costs its store: BOUNDED, and no hot loop anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/shards.rs"]
mod fleet;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{
    AssignmentError, AssignmentStore, Beat, Eviction, Heartbeat, Incarnation, Join, Joined, Lead,
    Leave, MembershipError, MembershipStore, Snapshot, StoreId, StoredDocument, Swap, Swapped,
    Versions, async_trait,
};
use coordinator_node::{
    Backend, Epoch, FencingToken, Group, Keyspace, MemberId, Node, ShardConfig,
};
use fleet::{Log, serve, until};
use support::{pass, within};

/// Counts what passes to the store.
#[derive(Default)]
struct Counts {
    heartbeats: AtomicU32,
    snapshots: AtomicU32,
    loads: AtomicU32,
    swaps: AtomicU32,
}

impl Counts {
    fn take(&self) -> [u32; 4] {
        let all = [&self.heartbeats, &self.snapshots, &self.loads, &self.swaps];
        all.map(|count| count.swap(0, Ordering::Relaxed))
    }
}

struct Counting<T: ?Sized> {
    inner: Arc<T>,
    counts: Arc<Counts>,
}

#[async_trait]
impl MembershipStore for Counting<dyn MembershipStore> {
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError> {
        self.inner.join(join).await
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError> {
        self.counts.heartbeats.fetch_add(1, Ordering::Relaxed);
        self.inner.heartbeat(heartbeat).await
    }

    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, MembershipError> {
        self.inner.leave(group, id, incarnation).await
    }

    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, MembershipError> {
        self.inner.evict(group, id, incarnation).await
    }

    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError> {
        self.counts.snapshots.fetch_add(1, Ordering::Relaxed);
        self.inner.snapshot(group).await
    }

    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        self.inner.changed(group, known).await
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }
}

#[async_trait]
impl AssignmentStore for Counting<dyn AssignmentStore> {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError> {
        self.counts.loads.fetch_add(1, Ordering::Relaxed);
        self.inner.load(group, keyspace).await
    }

    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError> {
        self.inner.lead(group, keyspace, token).await
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError> {
        self.counts.swaps.fetch_add(1, Ordering::Relaxed);
        self.inner.swap(swap).await
    }

    async fn changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        self.inner.changed(group, keyspace, known).await
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }
}

async fn counted(store: &MemoryStore, name: &str, counts: &Arc<Counts>) -> Node {
    let backend = store.connect(name);
    let (inner, counts) = (backend.members.clone().unwrap(), counts.clone());
    let members = Counting {
        inner,
        counts: counts.clone(),
    };
    let inner = backend.assignments.clone().unwrap();
    let assignments = Counting { inner, counts };
    let backend = Backend {
        members: Some(Arc::new(members)),
        assignments: Some(Arc::new(assignments)),
        ..backend
    };
    let builder = Node::builder("test").member(name).backend(backend);
    builder
        .start()
        .await
        .expect("a healthy store takes every member")
}

/// T6, G3, H10: heartbeats at their pace and slow reads, when nothing happens; no swap at all. And
/// a member that joins costs each of the others a few requests.
#[tokio::test(start_paused = true)]
async fn an_idle_fleet_sends_heartbeats_at_their_pace_and_little_else() {
    let (store, counts, log) = (MemoryStore::new(), Arc::default(), Log::default());
    let config = || ShardConfig::new("orders", 60);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let node = counted(&store, name, &counts).await;
        drop(serve(&node, &log, config(), Duration::ZERO));
        nodes.push(node);
    }
    let shares =
        |names: &[&str], share: usize| names.iter().all(|name| log.held_by(name).len() == share);
    within(30.0, until(|| shares(&["a", "b", "c"], 20))).await;
    let members = nodes[0].members();
    pass(30.0).await;
    counts.take();
    pass(100.0).await;
    let [heartbeats, snapshots, loads, swaps] = counts.take();
    assert!(
        (85..=100).contains(&heartbeats),
        "3 members, every 3.3 s: {heartbeats}"
    );
    assert!(snapshots <= 60, "{snapshots}");
    assert!(loads <= 130, "{loads}");
    assert_eq!(swaps, 0);
    let fourth = counted(&store, "d", &counts).await;
    drop(serve(&fourth, &log, config(), Duration::ZERO));
    within(30.0, until(|| shares(&["a", "b", "c", "d"], 15))).await;
    let [heartbeats, snapshots, loads, swaps] = counts.take();
    let all = [heartbeats, snapshots, loads, swaps];
    assert!(
        heartbeats <= 40 && snapshots <= 40 && loads <= 40 && swaps <= 6,
        "{all:?}"
    );
    drop(members);
}
