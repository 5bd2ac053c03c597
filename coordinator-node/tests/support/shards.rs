//! What the tests of shards share: a planner by hand, and a log of who worked on what, and when.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{
    Acquisition, AssignmentStore, Claim, Document, Holder, Incarnation, Instance, KeyspaceReport,
    Layout, Life, LockBackend, LockError, MemberIndex, MembershipStore, Release, Renewal, Slot,
    StoreId, Swap, Swapped, async_trait,
};
use coordinator_node::{
    Backend, Epoch, FencingToken, Group, HeldShard, Key, Keyspace, LeaseView, MemberId, Node,
    Routing,
};
use tokio::time::Instant;

/// Plans by hand: says who owns what, and the store obeys.
pub(crate) struct Plan {
    backend: Backend,
    keyspace: Keyspace,
    layout: Layout,
    pub(crate) epoch: Option<Epoch>,
}

/// Gives no lease to anybody, so that no member plans: the test does.
struct NobodyLeads;

#[async_trait]
impl LockBackend for NobodyLeads {
    async fn acquire(&self, _: &Claim) -> Result<Acquisition, LockError> {
        let owner = MemberId::from("the test");
        let holder = Holder::new(owner, Instance::from_random(1), FencingToken::new(1));
        Ok(Acquisition::HeldBy(holder))
    }

    async fn renew(&self, _: &Claim, _: FencingToken) -> Result<Renewal, LockError> {
        Ok(Renewal::Lost)
    }

    async fn release(
        &self,
        _: &Claim,
        _: FencingToken,
        _: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        Ok(Release::NotHeld)
    }

    async fn holder(&self, _: &Key) -> Result<Option<Holder>, LockError> {
        Ok(None)
    }

    fn store(&self) -> StoreId {
        StoreId::from("nobody leads")
    }
}

/// A backend on which the node plans nothing.
pub(crate) fn unplanned(store: &MemoryStore, name: &str) -> Backend {
    Backend {
        locks: Some(Arc::new(NobodyLeads)),
        ..store.connect(name)
    }
}

/// A node of the group `test` that plans nothing.
pub(crate) async fn node(store: &MemoryStore, name: &str) -> Node {
    let builder = Node::builder("test").member(name);
    let started = builder.backend(unplanned(store, name)).start().await;
    started.expect("a healthy store takes every member")
}

/// What a test says of one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Say {
    Free,
    Owned(&'static str),
    /// With the epoch of the grant, as it was.
    Still(&'static str, Epoch),
    Revoking(&'static str, Epoch),
}

impl Plan {
    pub(crate) fn new(store: &MemoryStore, keyspace: &str, layout: Layout) -> Self {
        Self {
            backend: store.connect("planner"),
            keyspace: keyspace.into(),
            layout,
            epoch: None,
        }
    }

    fn members(&self) -> &Arc<dyn MembershipStore> {
        self.backend
            .members
            .as_ref()
            .expect("the memory store has members")
    }

    fn assignments(&self) -> &Arc<dyn AssignmentStore> {
        self.backend
            .assignments
            .as_ref()
            .expect("the memory store has assignments")
    }

    /// The newest lives of all members that live.
    async fn lives(&self) -> Vec<Life> {
        let snapshot = self
            .members()
            .snapshot(&Group::from("test"))
            .await
            .expect("a healthy store");
        snapshot
            .live()
            .map(|member| (member.id.clone(), member.incarnation))
            .collect()
    }

    /// The present life of a member.
    pub(crate) async fn life(&self, name: &str) -> Incarnation {
        let lives = self.lives().await;
        let found = lives.iter().find(|(id, _)| id.as_str() == name);
        found.expect("it lives").1
    }

    /// Stores a document; `ended` are lives to be counted as over.
    pub(crate) async fn swap(&mut self, said: &[Say], ended: Vec<Life>) -> Swapped {
        let mut document = Document::new(FencingToken::new(1), self.layout, Routing::Fnv1a64);
        document.members = self.lives().await;
        document.slots = said
            .iter()
            .map(|say| slot(&document.members, *say))
            .collect();
        let bytes = document.encode().expect("a legal document");
        let mut swap = Swap::new(
            "test".into(),
            self.keyspace.clone(),
            document.planner,
            bytes,
        );
        swap.expected = self.epoch;
        swap.ended = ended;
        self.assignments()
            .swap(&swap)
            .await
            .expect("a healthy store")
    }

    /// Stores a document, which the store must take.
    pub(crate) async fn say(&mut self, said: &[Say]) -> Epoch {
        match self.swap(said, Vec::new()).await {
            Swapped::Stored(epoch) => {
                self.epoch = Some(epoch);
                epoch
            }
            other => panic!("not stored: {other:?}"),
        }
    }

    /// What a member reports of the keyspace.
    pub(crate) async fn report(&self, name: &str) -> KeyspaceReport {
        let snapshot = self
            .members()
            .snapshot(&Group::from("test"))
            .await
            .expect("a healthy store");
        let member = snapshot.live().find(|member| member.id.as_str() == name);
        let report = member.and_then(|member| member.report.get(&self.keyspace).cloned());
        report.unwrap_or_default()
    }

    /// Waits until a member has acked the present document: it has seen it, and drains nothing.
    pub(crate) async fn acked(&self, name: &str) {
        let wanted = self.epoch.expect("a document was stored");
        loop {
            let report = self.report(name).await;
            if report.seen >= wanted && report.draining.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn slot(members: &[Life], say: Say) -> Slot {
    let index = |name: &str| {
        let found = members.iter().position(|(id, _)| id.as_str() == name);
        MemberIndex::try_from(found.expect("it lives")).expect("few members")
    };
    match say {
        Say::Free => Slot::Free { reserved: None },
        Say::Owned(name) => Slot::Owned {
            member: index(name),
            token: Epoch::new(0),
        },
        Say::Still(name, token) => Slot::Owned {
            member: index(name),
            token,
        },
        Say::Revoking(name, token) => Slot::Revoking {
            member: index(name),
            token,
            since: Epoch::new(0),
            next: None,
        },
    }
}

/// Some work on a shard: from when to when, by the virtual clock.
#[derive(Debug, Clone)]
pub(crate) struct Stint {
    pub(crate) member: MemberId,
    pub(crate) shard: u16,
    pub(crate) token: u64,
    pub(crate) from: Instant,
    pub(crate) to: Option<Instant>,
    /// The end of trust, as the work last saw it. A frozen process works no longer, though its
    /// stint ends only when it thaws.
    pub(crate) trusted: Instant,
}

impl Stint {
    /// When the work can have done its last effect.
    fn end(&self) -> Instant {
        self.to.map_or(self.trusted, |to| to.min(self.trusted))
    }
}

/// Who worked on what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Stint>>>);

/// Records the end of a stint when it is dropped with the work.
pub(crate) struct Working {
    log: Log,
    at: usize,
}

impl Log {
    pub(crate) fn begin(&self, node: &MemberId, shard: &impl HeldShard) -> Working {
        let token = shard.lease().expect("just granted").token.get();
        let mut stints = self.0.lock().expect("no panic under the lock");
        stints.push(Stint {
            member: node.clone(),
            shard: shard.shard().get(),
            token,
            from: Instant::now(),
            to: None,
            trusted: Instant::now(),
        });
        Working {
            log: self.clone(),
            at: stints.len() - 1,
        }
    }

    pub(crate) fn stints(&self) -> Vec<Stint> {
        self.0.lock().expect("no panic under the lock").clone()
    }

    /// Who works on a shard now.
    pub(crate) fn working(&self, shard: u16) -> Vec<String> {
        let stints = self.stints();
        let open = stints
            .iter()
            .filter(|stint| stint.shard == shard && stint.to.is_none());
        open.map(|stint| stint.member.to_string()).collect()
    }

    /// The shards that a member works on now, rising.
    pub(crate) fn held_by(&self, name: &str) -> Vec<u16> {
        let stints = self.stints();
        let open = stints
            .iter()
            .filter(|stint| stint.member.as_str() == name && stint.to.is_none());
        let mut shards: Vec<u16> = open.map(|stint| stint.shard).collect();
        shards.sort_unstable();
        shards
    }

    /// ONE-OWNER: no two stints of one shard overlap, and their tokens rise from owner to owner.
    pub(crate) fn check_one_owner(&self) {
        let mut stints = self.stints();
        stints.sort_by_key(|stint| (stint.shard, stint.from));
        for pair in stints.windows(2) {
            let [before, after] = pair else { continue };
            if before.shard == after.shard {
                let ended = before.end() <= after.from;
                assert!(ended, "two owners at once: {before:?} and {after:?}");
                assert!(before.token <= after.token, "{before:?} and {after:?}");
            }
        }
    }

    /// ONE-OWNER of a dense keyspace: no two cuts overlap.
    pub(crate) fn check_one_cut(&self) {
        let stints = self.stints();
        for one in &stints {
            for other in stints.iter().filter(|other| other.token > one.token) {
                assert!(one.end() <= other.from, "{one:?} and {other:?}");
            }
        }
    }
}

impl Working {
    fn sees(&self, trust_left: Duration) {
        let mut stints = self.log.0.lock().expect("no panic under the lock");
        stints[self.at].trusted = Instant::now() + trust_left;
    }
}

/// Works until it is asked to finish, and then takes `drain` to do so.
pub(crate) async fn work_on(view: LeaseView, working: Working, drain: Duration) {
    const STEP: Duration = Duration::from_millis(250);
    loop {
        working.sees(view.trust_left());
        if view.until_drain(tokio::time::sleep(STEP)).await.is_none() {
            break;
        }
    }
    let end = Instant::now() + drain;
    while Instant::now() < end {
        working.sees(view.trust_left());
        tokio::time::sleep(STEP.min(end - Instant::now())).await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Ok(mut stints) = self.log.0.lock() {
            stints[self.at].to = Some(Instant::now());
        }
    }
}

/// Serves a keyspace of `shards` in the background: each shard works until it is to finish, and
/// then takes `drain` to do so.
pub(crate) fn serve(
    node: &Node,
    log: &Log,
    config: coordinator_node::ShardConfig,
    drain: Duration,
) -> tokio::task::JoinHandle<Result<(), coordinator_node::RunError>> {
    let (node, log) = (node.clone(), log.clone());
    tokio::spawn(async move {
        let me = node.id().clone();
        let work = move |shard: coordinator_node::OwnedShard| {
            let working = log.begin(&me, &shard);
            async move {
                work_on(shard.view(), working, drain).await;
                drop(shard);
                Ok(())
            }
        };
        node.run_shards(config, work).await
    })
}

/// Waits for a condition of the test; virtual time passes meanwhile.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), waited)
        .await
        .expect("it happens in time");
}
