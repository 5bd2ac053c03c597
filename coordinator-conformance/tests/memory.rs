//! The memory backend passes every check, in virtual time and in real time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coordinator_conformance::{Fault, Faults, Fixture};
use coordinator_core::{Backend, async_trait};
use coordinator_memory::{MemoryStore, Replica};

/// One memory store for each namespace, made when it is first asked for.
#[derive(Clone, Default)]
struct Stores(Arc<Mutex<BTreeMap<String, Place>>>);

struct Place {
    store: MemoryStore,
    connections: usize,
    mark: Option<Replica>,
}

impl Stores {
    fn with<T>(&self, namespace: &str, act: impl FnOnce(&mut Place) -> T) -> T {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(namespace.to_owned()).or_insert_with(|| Place {
            store: MemoryStore::builder()
                .name(format!("memory/{namespace}"))
                .payload_limit(PAYLOAD_LIMIT)
                .build(),
            connections: 0,
            mark: None,
        });
        act(place)
    }

    /// Each connection is a link of its own, so that each can be cut.
    fn connect(&self, namespace: &str) -> Backend {
        self.with(namespace, |place| {
            let name = link_name(place.connections);
            place.connections += 1;
            place.store.connect(name)
        })
    }
}

const PAYLOAD_LIMIT: usize = 300_000;

fn link_name(connection: usize) -> String {
    format!("connection-{connection}")
}

#[async_trait]
impl Faults for Stores {
    async fn forget(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| place.store.forget_everything());
        Fault::Done
    }

    async fn restart(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| place.store.restart());
        Fault::Done
    }

    async fn mark(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| place.mark = Some(place.store.replica()));
        Fault::Done
    }

    async fn roll_back(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| match place.mark.take() {
            Some(mark) => {
                place.store.fail_over(mark);
                Fault::Done
            }
            None => Fault::NotOffered,
        })
    }

    async fn cut(&self, namespace: &str, connection: usize) -> Fault {
        self.with(namespace, |place| {
            place.store.link(link_name(connection)).cut();
        });
        Fault::Done
    }

    async fn heal(&self, namespace: &str, connection: usize) -> Fault {
        self.with(namespace, |place| {
            place.store.link(link_name(connection)).heal();
        });
        Fault::Done
    }
}

/// The memory backend in virtual time, with all its faults.
fn memory() -> Fixture<Backend> {
    let stores = Stores::default();
    let connections = stores.clone();
    Fixture::from(async move |namespace: &str| connections.connect(namespace))
        .faults(stores)
        .virtual_time()
}

/// The memory backend in real time, as a server would be tested: without faults.
fn memory_in_real_time() -> Fixture<Backend> {
    let stores = Stores::default();
    Fixture::from(async move |namespace: &str| stores.connect(namespace))
}

coordinator_conformance::backend!(in_virtual_time, memory());
coordinator_conformance::backend!(in_real_time, memory_in_real_time());
