//! A join that was given up, and takes effect behind the one that was answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::sync::Arc;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{
    Beat, Eviction, Heartbeat, Incarnation, Join, Joined, Leave, MembershipError, MembershipStore,
    Profile, Snapshot, StoreId, Versions, async_trait,
};
use coordinator_node::{Backend, Group, MemberId, Node};
use support::{node, within};

/// Every join is followed by an older one of the same process, from when it had nothing to tell.
struct LateJoins(Arc<dyn MembershipStore>);

#[async_trait]
impl MembershipStore for LateJoins {
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError> {
        let answer = self.0.join(join).await;
        let mut late = join.clone();
        late.profile = Profile::new();
        drop(self.0.join(&late).await);
        answer
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError> {
        self.0.heartbeat(heartbeat).await
    }

    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        life: Incarnation,
    ) -> Result<Leave, MembershipError> {
        self.0.leave(group, id, life).await
    }

    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        life: Incarnation,
    ) -> Result<Eviction, MembershipError> {
        self.0.evict(group, id, life).await
    }

    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError> {
        self.0.snapshot(group).await
    }

    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        self.0.changed(group, known).await
    }

    fn store(&self) -> StoreId {
        self.0.store()
    }
}

/// G3. Found by the simulation: a member whose word that it serves a keyspace was overwritten so got
/// no shard of it, for ever.
#[tokio::test(start_paused = true)]
async fn what_a_late_join_has_overwritten_is_announced_again() {
    let store = MemoryStore::new();
    let b = node(&store, "b").await;
    let mut backend = store.connect("a");
    let members = backend.members.take().expect("it has all five parts");
    let backend = Backend {
        members: Some(Arc::new(LateJoins(members))),
        ..backend
    };
    let a = Node::builder("test").member("a").backend(backend);
    let _a = a.metadata("port", "8080").start().await.expect("it joins");
    let mut members = b.members();
    within(15.0, async {
        loop {
            let current = members.current();
            let a = current.iter().find(|it| it.id == MemberId::from("a"));
            if a.is_some_and(|it| it.profile.metadata.contains_key("port")) {
                return;
            }
            assert!(members.changed().await, "the node is there");
        }
    })
    .await;
}
