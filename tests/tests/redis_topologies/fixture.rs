//! Connections to namespaces in servers that end with the process, for the checks of conformance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_core::Backend;
use coordinator_redis::{ClientKind, RedisBackend, RedisConfig};
use coordinator_tests::servers::redis::wanted_clients;

/// The longest TTL of conformance's namespaces.
const MAX_TTL: Duration = Duration::from_secs(20);

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a store is used.
pub(crate) type Change = fn(RedisConfig) -> RedisConfig;

/// A namespace for each that checks name. None of the client that this run leaves out.
pub(crate) fn store(
    client: ClientKind,
    url: fn() -> Option<String>,
    change: Change,
) -> Fixture<Backend> {
    let names = Arc::<Mutex<BTreeMap<String, String>>>::default();
    let connect = async move |namespace: &str| {
        if !clients().contains(&client) {
            return None;
        }
        // Where this process starts the servers, they take a moment.
        let url = tokio::task::spawn_blocking(url).await.expect("no panic")?;
        let name = {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            let name = names.entry(namespace.to_owned());
            name.or_insert_with(fresh_name).clone()
        };
        let config = RedisConfig::new(url).client(client).namespace(name);
        let config = change(config.max_ttl(MAX_TTL).trust_empty_store(true));
        let backend = RedisBackend::connect(config).await;
        let backend = backend.expect("servers that run take connections");
        Some(Arc::new(Backend::from(backend)))
    };
    Fixture::shared(connect).max_ttl(MAX_TTL).patience(PATIENCE)
}

/// The clients of this run.
pub(crate) fn clients() -> Vec<ClientKind> {
    let clients = wanted_clients().into_iter();
    clients
        .map(|name| name.parse().expect("the name of a client"))
        .collect()
}

/// A namespace that nobody else uses.
pub(crate) fn fresh_name() -> String {
    format!("n{:032x}", rand::random::<u128>())
}
