//! A key as the server knows it.

use coordinator_core::{FencingToken, Key};
use uuid::Uuid;

use crate::names::{Schema, id_of};

/// A key, what its rows are found by, and the session lock that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) key: Key,
    pub(super) id: Uuid,
    pub(super) lock: i64,
}

impl Name {
    pub(super) fn new(schema: &Schema, key: &Key) -> Self {
        Self {
            key: key.clone(),
            id: id_of("lock", key.as_str()),
            lock: schema.advisory("lock", key.as_str()),
        }
    }

    /// The session lock that stands for one term (P6).
    pub(super) fn term(&self, schema: &Schema, token: FencingToken) -> i64 {
        schema.advisory("term", &format!("{}/{}", self.key.as_str(), token.get()))
    }

    /// What its bell is called.
    pub(super) fn bell(&self) -> String {
        self.id.to_string()
    }
}
