//! E10: many members that start at once, by lease. By vote, the messages are counted in the tests of
//! votes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{
    Acquisition, Backend, Claim, Guarantees, Holder, LockBackend, LockCapabilities, LockError,
    Release, Renewal, StoreId, async_trait,
};
use coordinator_node::{ElectionConfig, FencingToken, Key, Leadership, MemberId, Node};
use tokio::time::sleep;

/// What is asked of the store.
#[derive(Debug, Default)]
struct Asked {
    requests: AtomicU64,
    terms: AtomicU64,
}

/// Counts every request for a lease.
struct Counted {
    inner: Arc<dyn LockBackend>,
    asked: Arc<Asked>,
}

impl Counted {
    fn count(&self) -> &dyn LockBackend {
        self.asked.requests.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

#[async_trait]
impl LockBackend for Counted {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        self.count().acquire(claim).await
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        self.count().renew(claim, token).await
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        self.count().release(claim, token, next).await
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        self.count().holder(key).await
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        self.count().wait_turn(claim).await
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        self.count().changed(key).await
    }

    fn capabilities(&self) -> LockCapabilities {
        self.inner.capabilities()
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }

    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
}

/// One member, which campaigns until it is dropped.
async fn campaign(store: MemoryStore, name: String, asked: Arc<Asked>) {
    let backend = store.connect(name.as_str());
    let counted = |inner| -> Arc<dyn LockBackend> {
        Arc::new(Counted {
            inner,
            asked: asked.clone(),
        })
    };
    let backend = Backend {
        locks: backend.locks.map(counted),
        ..backend
    };
    let builder = Node::builder("g").backend(backend).member(name.as_str());
    let node = builder.start().await.unwrap();
    let work = |term: Leadership| {
        asked.terms.fetch_add(1, Ordering::Relaxed);
        async move {
            while term.tick(Duration::from_secs(1)).await {}
            Ok(())
        }
    };
    let election = node.election(ElectionConfig::new("leader"));
    election.run(work).await.unwrap();
}

/// E10: one leader, and as many requests as members, times a constant.
#[tokio::test(start_paused = true)]
async fn e10_a_crowd_that_starts_at_once_elects_one_leader_with_few_requests() {
    const EACH: u64 = 8;
    for members in [3, 10, 50] {
        let store = MemoryStore::builder().seed(members).build();
        let asked = Arc::<Asked>::default();
        let name = |at| format!("m{at}");
        let campaigns: Vec<_> = (0..members)
            .map(|at| tokio::spawn(campaign(store.clone(), name(at), asked.clone())))
            .collect();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(asked.terms.load(Ordering::Relaxed), 1, "of {members}");
        let requests = asked.requests.load(Ordering::Relaxed);
        assert!(requests >= members, "all have asked");
        assert!(
            requests <= EACH * members,
            "{members} members made {requests} requests"
        );
        for campaign in campaigns {
            assert!(!campaign.is_finished(), "nobody gives up");
            campaign.abort();
        }
    }
}
