//! The memory backend as a fixture: one store for each namespace, with all its faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coordinator_conformance::{Fault, Faults};
use coordinator_core::{Backend, async_trait};
use coordinator_memory::{MemoryStore, Replica};

/// What payloads are limited to, so that the limit can be looked at.
const PAYLOAD_LIMIT: usize = 300_000;

/// One memory store for each namespace, made when it is first asked for.
#[derive(Clone, Default)]
pub(crate) struct Stores {
    places: Arc<Mutex<BTreeMap<String, Place>>>,
    harm: Harm,
}

/// What no store may do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Harm {
    /// A store that forgot grants at once.
    pub(crate) trusts_empty: bool,
    /// A restart loses everything.
    pub(crate) forgets_in_restarts: bool,
    /// All namespaces of a check are one.
    pub(crate) one_namespace: bool,
}

struct Place {
    store: MemoryStore,
    connections: usize,
    mark: Option<Replica>,
    losses: usize,
}

impl Stores {
    #[allow(dead_code, reason = "the memory backend's own tests do no harm")]
    pub(crate) fn harmed(harm: Harm) -> Self {
        Self {
            harm,
            ..Self::default()
        }
    }

    fn with<T>(&self, namespace: &str, act: impl FnOnce(&mut Place) -> T) -> T {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = if self.harm.one_namespace {
            namespace.trim_end_matches("_b")
        } else {
            namespace
        };
        let place = places.entry(namespace.to_owned()).or_insert_with(|| Place {
            store: MemoryStore::builder()
                .name(format!("memory/{namespace}"))
                .payload_limit(PAYLOAD_LIMIT)
                .trust_empty_store(self.harm.trusts_empty)
                .build(),
            connections: 0,
            mark: None,
            losses: 0,
        });
        act(place)
    }

    /// Each connection is a link of its own, so that each can be cut.
    pub(crate) fn connect(&self, namespace: &str) -> Backend {
        self.with(namespace, |place| {
            let name = link_name(place.connections);
            place.connections += 1;
            place.store.connect(name)
        })
    }

    /// A connection that is never cut, and that the checks do not count.
    #[allow(dead_code, reason = "the memory backend's own tests need none")]
    pub(crate) fn connect_aside(&self, namespace: &str) -> Backend {
        self.with(namespace, |place| place.store.connect("aside"))
    }

    /// How often the store has lost writes, or all its memory.
    #[allow(dead_code, reason = "the memory backend's own tests need not know")]
    pub(crate) fn losses(&self, namespace: &str) -> usize {
        self.with(namespace, |place| place.losses)
    }
}

fn link_name(connection: usize) -> String {
    format!("connection-{connection}")
}

#[async_trait]
impl Faults for Stores {
    async fn forget(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| {
            place.losses += 1;
            place.store.forget_everything();
        });
        Fault::Done
    }

    async fn restart(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| {
            if self.harm.forgets_in_restarts {
                place.store.forget_everything();
            } else {
                place.store.restart();
            }
        });
        Fault::Done
    }

    async fn mark(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| place.mark = Some(place.store.replica()));
        Fault::Done
    }

    async fn roll_back(&self, namespace: &str) -> Fault {
        self.with(namespace, |place| match place.mark.take() {
            Some(mark) => {
                place.losses += 1;
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
