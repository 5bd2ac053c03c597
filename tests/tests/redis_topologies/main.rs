//! What conformance asks of every backend, of a store of several servers: a cluster, and a primary that Sentinels know.
//!
//! Faults of the store are left to one server and to the tests of fail-over: what a check cannot have, it is skipped without.

#![allow(clippy::expect_used, reason = "a failed helper is a failed test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_core::Backend;
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_tests::servers::redis::{shared_cluster, shared_sentinels};

/// The longest TTL of conformance's namespaces.
const MAX_TTL: Duration = Duration::from_secs(20);

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace for each that checks name, in servers that end with the process.
fn store(url: fn() -> Option<String>, change: fn(RedisConfig) -> RedisConfig) -> Fixture<Backend> {
    let names = Arc::<Mutex<BTreeMap<String, String>>>::default();
    let connect = async move |namespace: &str| {
        // Where this process starts the servers, they take a moment.
        let url = tokio::task::spawn_blocking(url).await.expect("no panic")?;
        let name = {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let name = names.entry(namespace.to_owned());
            name.or_insert_with(|| format!("n{:032x}", rand::random::<u128>()))
                .clone()
        };
        let config = RedisConfig::new(url).namespace(name);
        let config = change(config.max_ttl(MAX_TTL).trust_empty_store(true));
        let backend = RedisBackend::connect(config).await;
        let backend = backend.expect("servers that run take connections");
        Some(Arc::new(Backend::from(backend)))
    };
    Fixture::shared(connect).max_ttl(MAX_TTL).patience(PATIENCE)
}

mod cluster {
    use super::{shared_cluster as url, store};

    coordinator_conformance::lock_backend! { lock_backend, store(url, |config| config).locks() }
    coordinator_conformance::membership_store! { membership_store, store(url, |config| config).members() }
    coordinator_conformance::assignment_store! { assignment_store, store(url, |config| config).planning() }
    coordinator_conformance::checkpoint_store! { checkpoint_store, store(url, |config| config).checkpoints() }
    coordinator_conformance::cluster_bus! { live_bus, store(url, |config| config).bus() }
    coordinator_conformance::cluster_bus! { durable_bus, store(url, |config| config.durable(true)).bus() }
}

mod sentinel {
    use super::{shared_sentinels as url, store};

    coordinator_conformance::lock_backend! { lock_backend, store(url, |config| config).locks() }
    coordinator_conformance::membership_store! { membership_store, store(url, |config| config).members() }
    coordinator_conformance::cluster_bus! { live_bus, store(url, |config| config).bus() }
}
