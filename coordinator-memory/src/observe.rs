//! What a test can see of the store while it works: each act at its moment.

use std::fmt;
use std::sync::Arc;

use coordinator_core::{
    Group, Holder, Incarnation, Key, Keyspace, Member, MemberId, MemberState, Moment, Snapshot,
    StoredDocument,
};

use crate::history::Entry;
use crate::state::Kept;

/// One act of the store, and what the store knows right after it: see
/// [`MemoryStoreBuilder::observer`](crate::MemoryStoreBuilder::observer).
pub struct Observed<'a> {
    entry: &'a Entry,
    kept: &'a Kept,
    now: Moment,
}

impl<'a> Observed<'a> {
    pub(crate) fn new(entry: &'a Entry, kept: &'a Kept, now: Moment) -> Self {
        Self { entry, kept, now }
    }

    /// The act.
    pub fn entry(&self) -> &'a Entry {
        self.entry
    }

    /// All members of a group, the ended ones included.
    pub fn members(&self, group: &Group) -> Snapshot {
        self.kept.members.snapshot(group, self.now)
    }

    /// One life of one member. `None`: there is no record of it.
    pub fn member(&self, group: &Group, id: &MemberId, incarnation: Incarnation) -> Option<Member> {
        self.kept.members.record(group, id, incarnation, self.now)
    }

    /// Whether one life of one member has not ended. `None`: there is no record of it.
    pub fn lives(&self, group: &Group, id: &MemberId, incarnation: Incarnation) -> Option<bool> {
        let record = self.member(group, id, incarnation)?;
        Some(matches!(record.state, MemberState::Live { .. }))
    }

    /// The assignment of a keyspace.
    pub fn assignment(&self, group: &Group, keyspace: &Keyspace) -> Option<StoredDocument> {
        self.kept.assignments.load(group, keyspace)
    }

    /// Who holds a lease.
    pub fn holder(&self, key: &Key) -> Option<Holder> {
        self.kept.locks.holder(key, self.now)
    }
}

impl fmt::Debug for Observed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observed").field(self.entry).finish()
    }
}

/// Who is told of each act.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(&Observed<'_>) + Send + Sync>);

impl Observer {
    pub(crate) fn new(observer: impl Fn(&Observed<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observer))
    }

    pub(crate) fn tell(&self, observed: &Observed<'_>) {
        (self.0)(observed);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
