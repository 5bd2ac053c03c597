//! What a namespace remembers: I2, I5.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, Instance, Key, LockBackend, LockError,
};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use tokio::time::{sleep, timeout};

const TTL: Duration = Duration::from_millis(500);
/// The longest TTL, and so the quarantine.
const LONGEST: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

/// In a store that is not trusted where it is empty.
async fn locks(space: &Space) -> Arc<dyn LockBackend> {
    let config = RedisConfig::new(space.url()).namespace(space.name());
    let backend = RedisBackend::connect(config.max_ttl(LONGEST)).await;
    let backend = Backend::from(backend.expect("a server that runs takes connections"));
    backend.locks.expect("locks")
}

async fn acquire(locks: &Arc<dyn LockBackend>, key: &str) -> Result<Acquisition, LockError> {
    let instance = Instance::from_bytes([7; 16]);
    let claim = Claim::new(Key::from(key), "m".into(), instance, ClaimId::new(1), TTL);
    locks.acquire(&claim).await
}

/// Says how long nothing is granted yet.
async fn quarantine(locks: &Arc<dyn LockBackend>, key: &str) -> Duration {
    match acquire(locks, key).await {
        Err(LockError::Quarantined { ends_within, .. }) => ends_within,
        other => panic!("it remembers: {other:?}"),
    }
}

async fn wait_out(locks: &Arc<dyn LockBackend>, key: &str) {
    let waited = timeout(LONG, async {
        loop {
            match acquire(locks, key).await {
                Err(LockError::Quarantined { ends_within, .. }) => sleep(ends_within).await,
                other => break other,
            }
        }
    });
    let granted = waited.await.expect("it ends").expect("an answer");
    assert!(matches!(granted, Acquisition::Granted(_)), "{granted:?}");
}

/// I2, I5: a namespace waits once, and not each of its groups, leases and processes; after a flush all wait.
#[tokio::test]
async fn a_group_that_is_new_in_a_known_namespace_starts_at_once_and_a_flush_makes_all_wait() {
    let Some(space) = fresh_space() else { return };
    let here = locks(&space).await;
    wait_out(&here, "a/lock/x").await;
    for (locks, key) in [
        (&here, "b/lock/x"),
        (&locks(&space).await, "c/lock/x"),
        (&here, "bare"),
    ] {
        let granted = acquire(locks, key).await.expect("no quarantine");
        assert!(matches!(granted, Acquisition::Granted(_)), "{granted:?}");
    }
    let mut talk = Talk::to(space.url()).expect("a connection");
    for key in space.keys().expect("keys") {
        talk.ask(&["DEL", &key]).expect("an answer");
    }
    for key in ["a/lock/x", "new/lock/x"] {
        assert!(quarantine(&here, key).await > Duration::ZERO);
    }
    wait_out(&here, "a/lock/x").await;
}
