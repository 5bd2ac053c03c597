//! Assignments of shards to members, stored by compare-and-swap.

use std::future::pending;

use async_trait::async_trait;
use bytes::Bytes;

use crate::errors::AssignmentError;
use crate::guarantees::Guarantees;
use crate::names::{Group, Keyspace, MemberId, StoreId};
use crate::numbers::{Epoch, FencingToken, Incarnation};

/// The largest document, in bytes (rule S10).
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// A stored document and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// The epoch that the store stamped on it.
    pub epoch: Epoch,
    /// The document, as it was swapped in.
    pub document: Bytes,
}

/// The answer to [`AssignmentStore::lead`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// Swaps of planners with a lower token are refused from now on. This is the document.
    Led(Option<StoredDocument>),
    /// A planner with a higher token leads.
    Fenced {
        /// That token.
        by: FencingToken,
    },
}

/// A request to replace the document of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swap {
    /// The fleet.
    pub group: Group,
    /// The keyspace.
    pub keyspace: Keyspace,
    /// The epoch of the document to replace; `None`: there is none yet.
    pub expected: Option<Epoch>,
    /// The highest epoch the planner has seen: the new one will be higher (K1).
    pub floor: Option<Epoch>,
    /// The planner's fencing token.
    pub token: FencingToken,
    /// The lives that the new document counts as ended. The swap checks each, and tombstones it.
    pub ended: Vec<(MemberId, Incarnation)>,
    /// The new document. The store does not read it.
    pub document: Bytes,
}

impl Swap {
    /// A first document, that counts nobody as ended.
    pub fn new(group: Group, keyspace: Keyspace, token: FencingToken, document: Bytes) -> Self {
        Self {
            group,
            keyspace,
            expected: None,
            floor: None,
            token,
            ended: Vec::new(),
            document,
        }
    }
}

/// The answer to [`AssignmentStore::swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The document is stored, under this epoch.
    Stored(Epoch),
    /// The stored document is another than expected. Nothing changed.
    Conflict {
        /// The epoch of the stored one.
        found: Option<Epoch>,
    },
    /// A planner with a higher token leads. Nothing changed.
    Fenced {
        /// That token.
        by: FencingToken,
    },
    /// These lives have not ended, or have no record. Nothing changed.
    NotEnded(Vec<(MemberId, Incarnation)>),
}

/// One document a keyspace, replaced by compare-and-swap, in the store of its members.
///
/// # Contract
/// 1. `swap` is atomic. It stores the document only if the stored epoch is `expected`, no planner
///    with a higher token has led or swapped, and each life in `ended` is left, due, or a tombstone
///    *at that moment*; it makes tombstones of the due ones. Otherwise it changes nothing.
/// 2. A life that the store has no record of is not ended (G7): `NotEnded`.
/// 3. Epochs of one keyspace strictly increase, through restart and loss of memory (K1).
/// 4. `lead` raises the planner token and reads, atomically. It makes no new epoch.
/// 5. What `load` gives is what was swapped in, byte for byte. It never goes back, unless the
///    store lost its memory.
/// 6. Keyspaces and groups do not touch each other.
/// 7. A store that lost its memory refuses `swap` until its quarantine has passed (I2).
/// 8. A document over [`MAX_DOCUMENT_BYTES`] is `Rejected`.
/// 9. `changed` is a hint. It may return at any time, for no reason.
///
/// # Fencing
/// By `token`, as clause 1 says. Two planners at once harm nothing.
///
/// # Ordering
/// Calls on one keyspace, and those on the members of its group, are linearizable together.
///
/// # Cancel safety
/// Not cancel safe, except for `load` and `changed`: a dropped call may still take effect.
///
/// # Errors
/// An error means there was no answer. After `Indeterminate`, load and compare.
#[async_trait]
pub trait AssignmentStore: Send + Sync + 'static {
    /// `async fn load(&self, group, keyspace) -> Result<Option<StoredDocument>, AssignmentError>`
    ///
    /// Reads the document.
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError>;

    /// `async fn lead(&self, group, keyspace, token) -> Result<Lead, AssignmentError>`
    ///
    /// Shuts out planners with a lower token, and reads.
    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError>;

    /// `async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError>`
    ///
    /// Replaces the document.
    async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError>;

    /// `async fn changed(&self, group, keyspace, known: Option<Epoch>) -> Result<(), AssignmentError>`
    ///
    /// A hint: returns when the epoch may be another than `known`. Cancel safe. The default never
    /// returns.
    async fn changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        let _ = (group, keyspace, known);
        pending().await
    }

    /// Which store and namespace this is.
    fn store(&self) -> StoreId;

    /// What the store was found to guarantee.
    fn guarantees(&self) -> Guarantees {
        Guarantees::unknown()
    }
}
