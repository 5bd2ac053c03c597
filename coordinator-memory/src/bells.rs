//! Hints: who waits for news of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator_core::{Group, Key, Keyspace};
use tokio::sync::Notify;

use crate::sync::Shared;

/// One bell for each thing that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    keys: Shared<Ring<Key>>,
    groups: Shared<Ring<Group>>,
    keyspaces: Shared<Ring<(Group, Keyspace)>>,
}

impl Bells {
    pub(crate) fn key(&self, key: &Key) -> Arc<Notify> {
        self.keys.lock().bell(key)
    }

    pub(crate) fn group(&self, group: &Group) -> Arc<Notify> {
        self.groups.lock().bell(group)
    }

    pub(crate) fn keyspace(&self, group: &Group, keyspace: &Keyspace) -> Arc<Notify> {
        let place = (group.clone(), keyspace.clone());
        self.keyspaces.lock().bell(&place)
    }

    pub(crate) fn ring_key(&self, key: &Key) {
        self.keys.lock().ring(key);
    }

    pub(crate) fn ring_group(&self, group: &Group) {
        self.groups.lock().ring(group);
    }

    pub(crate) fn ring_keyspace(&self, group: &Group, keyspace: &Keyspace) {
        let place = (group.clone(), keyspace.clone());
        self.keyspaces.lock().ring(&place);
    }

    pub(crate) fn ring_all(&self) {
        self.keys.lock().ring_all();
        self.groups.lock().ring_all();
        self.keyspaces.lock().ring_all();
    }
}

#[derive(Debug)]
struct Ring<K>(BTreeMap<K, Arc<Notify>>);

impl<K> Default for Ring<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Ring<K> {
    /// The bell of this name, new if need be. Those that nobody waits for any more go: there are
    /// never more than waiters, and one.
    fn bell(&mut self, key: &K) -> Arc<Notify> {
        self.0.retain(|_, bell| Arc::strong_count(bell) > 1);
        self.0.entry(key.clone()).or_default().clone()
    }

    fn ring(&self, key: &K) {
        if let Some(bell) = self.0.get(key) {
            bell.notify_waiters();
        }
    }

    fn ring_all(&self) {
        for bell in self.0.values() {
            bell.notify_waiters();
        }
    }
}
