//! A backend of somebody else's is tested with one line, in real time, with nothing but a closure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fmt, io};

use coordinator_core::{
    Acquisition, Claim, FencingToken, Holder, Key, LockBackend, LockError, MemberId, Release,
    Renewal, StoreId, async_trait,
};
use coordinator_memory::MemoryStore;

/// Somebody's locks: they wake nobody, and say so by saying nothing.
struct AcmeLocks(Arc<dyn LockBackend>);

impl fmt::Debug for AcmeLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcmeLocks").field(&self.0.store()).finish()
    }
}

impl AcmeLocks {
    /// Connects to the server, which all tests of this process share.
    async fn dial(namespace: &str) -> io::Result<Self> {
        static SERVER: OnceLock<Mutex<BTreeMap<String, MemoryStore>>> = OnceLock::new();
        // As a handshake would, it lets others run.
        tokio::task::yield_now().await;
        let server = SERVER.get_or_init(Mutex::default);
        let mut namespaces = server.lock().unwrap_or_else(PoisonError::into_inner);
        let store = namespaces
            .entry(namespace.to_owned())
            .or_insert_with(|| MemoryStore::builder().name(namespace).build());
        let locks = store.connect("acme").locks;
        locks
            .map(Self)
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

#[async_trait]
impl LockBackend for AcmeLocks {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        self.0.acquire(claim).await
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        self.0.renew(claim, token).await
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        self.0.release(claim, token, next).await
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        self.0.holder(key).await
    }

    fn store(&self) -> StoreId {
        self.0.store()
    }
}

coordinator_conformance::lock_backend!(acme, async |namespace: &str| AcmeLocks::dial(namespace)
    .await
    .unwrap());

/// What the backend lacks, and what its fixture cannot do, is skipped with a reason; no more.
#[test]
fn what_is_absent_is_reported_as_skipped() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let report = runtime.block_on(coordinator_conformance::lock::check_all(
        async |namespace: &str| AcmeLocks::dial(namespace).await.unwrap(),
    ));
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{failures:?}");
    let skipped: Vec<_> = report.skipped().collect();
    let checks: Vec<_> = skipped.iter().map(|(check, _)| *check).collect();
    assert_eq!(
        checks,
        [
            "lock::tokens_rise_over_a_restart",
            "lock::a_waiter_is_woken_by_a_release",
            "lock::waiters_are_served_in_order",
            "lock::a_store_that_forgot_grants_nothing_at_first",
            "lock::tokens_rise_over_a_loss_of_memory",
            "lock::a_holder_registers_again_after_a_loss_of_memory",
            "lock::an_older_holder_does_not_register_over_a_newer",
            "lock::tokens_rise_over_lost_writes",
            "lock::a_cut_client_is_not_answered",
        ]
    );
    assert!(
        skipped.iter().all(|(_, reason)| !reason.is_empty()),
        "{skipped:?}"
    );
    assert_eq!(
        report.passed().count() + skipped.len(),
        report.outcomes.len()
    );
}
