//! Members of a group: who lives, with what, as a store tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use async_trait::async_trait;

use crate::errors::MembershipError;
use crate::guarantees::Guarantees;
use crate::names::{Group, Keyspace, MemberId, MemoryId, StoreId};
use crate::numbers::{Epoch, Incarnation, Instance, ShardId, Version};

/// The most members a group can have (rule S10).
pub const MAX_MEMBERS: usize = 4_096;
/// The largest metadata of a member, in bytes of keys and values together.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// How long a tombstone is kept at least.
pub const TOMBSTONE_RETENTION: Duration = Duration::from_hours(1);

/// What a member tells about itself, and may change while it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// Free text for people and programs: an address, a version, ….
    pub metadata: BTreeMap<String, String>,
    /// Where it runs. The planner spreads over zones among equals.
    pub zone: Option<String>,
    /// Its share of the shards, relative to the others'. Zero: it takes none.
    pub weight: u32,
    /// The keyspaces it serves now.
    pub keyspaces: BTreeSet<Keyspace>,
    /// The newest version of stored documents that it can read.
    pub format: u16,
}

impl Profile {
    /// No metadata, no zone, weight 1, no keyspaces, the first document format.
    pub fn new() -> Self {
        Self {
            metadata: BTreeMap::new(),
            zone: None,
            weight: 1,
            keyspaces: BTreeSet::new(),
            format: 1,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

/// How far a member's keeper has come in one keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyspaceReport {
    /// The newest epoch that the keeper has acted on. A store never lets it go back.
    pub seen: Epoch,
    /// The shards that were revoked at or before `seen` and still run.
    pub draining: BTreeSet<ShardId>,
}

/// What every heartbeat says of each keyspace the member serves, or still has shards of.
pub type Report = BTreeMap<Keyspace, KeyspaceReport>;

/// A request to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Join {
    /// The fleet to join.
    pub group: Group,
    /// The name to join under.
    pub id: MemberId,
    /// The process that joins.
    pub instance: Instance,
    /// Whether the name is the member's own for ever, also through restarts ("static").
    pub fixed: bool,
    /// How long it is live without a heartbeat, by the store's clock.
    pub ttl: Duration,
    /// What it tells about itself.
    pub profile: Profile,
    /// The highest incarnation of this name that the asker has seen (K1).
    pub floor: Option<Incarnation>,
}

impl Join {
    /// A request with an empty profile, under a name that is not static.
    pub fn new(group: Group, id: MemberId, instance: Instance, ttl: Duration) -> Self {
        Self {
            group,
            id,
            instance,
            fixed: false,
            ttl,
            profile: Profile::new(),
            floor: None,
        }
    }
}

/// The answer to [`MembershipStore::join`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It is a member.
    Member {
        /// Its incarnation: names this life of the id.
        incarnation: Incarnation,
        /// What the store remembers: see [`Beat::Alive`].
        memory: MemoryId,
        /// All members, itself included.
        snapshot: Snapshot,
    },
    /// Another instance is live under this name. Ask again after its end; if its `beat` has grown
    /// by then, it is a duplicate name.
    Taken(Box<Member>),
}

/// One sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The fleet.
    pub group: Group,
    /// The member.
    pub id: MemberId,
    /// The life it is a sign of.
    pub incarnation: Incarnation,
    /// Rises with each heartbeat. A lower one than the store has seen changes nothing.
    pub beat: u64,
    /// How long the member is live from now, by the store's clock.
    pub ttl: Duration,
    /// The versions the member knows: the answer holds a snapshot only if they are not the newest.
    pub known: Versions,
    /// Whether changes of reports are news too: planners want them, others do not.
    pub wants_reports: bool,
    /// What the member tells about itself, if that has changed since its last answered heartbeat.
    pub profile: Option<Profile>,
    /// How far its keepers have come.
    pub report: Report,
}

impl Heartbeat {
    /// A heartbeat that knows nothing and reports nothing.
    pub fn new(
        group: Group,
        id: MemberId,
        incarnation: Incarnation,
        beat: u64,
        ttl: Duration,
    ) -> Self {
        Self {
            group,
            id,
            incarnation,
            beat,
            ttl,
            known: Versions::default(),
            wants_reports: false,
            profile: None,
            report: Report::new(),
        }
    }
}

/// The answer to [`MembershipStore::heartbeat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The member lives for another TTL.
    Alive {
        /// What the store remembers. Another one than before: the store may have forgotten (S12).
        memory: MemoryId,
        /// All members, if something changed that the member wants to know.
        news: Option<Snapshot>,
    },
    /// This incarnation has ended. Join anew.
    Expired,
    /// The planner has put this incarnation out. Stop everything, then join anew.
    Evicted,
}

/// The answer to [`MembershipStore::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It has left.
    Left,
    /// This incarnation had ended already, or never was.
    NotLive,
}

/// The answer to [`MembershipStore::evict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Its heartbeats are refused from now on; it is due when its last TTL has passed.
    Marked,
    /// The store had no record of it, and has entered one that is due after `max_ttl` (G7).
    Entered,
    /// It had ended already.
    Ended,
}

/// The versions of a snapshot. Plain heartbeats change neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Versions {
    /// Grows on join, leave, tombstone, eviction and change of profile.
    pub members: Version,
    /// Grows on change of a report.
    pub reports: Version,
}

/// All members of a group, and the tombstones that are still kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Which state this is.
    pub versions: Versions,
    /// Live, due and ended members, by id and incarnation.
    pub members: Vec<Member>,
}

impl Snapshot {
    /// The members that live, by the store's clock at the answer.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| matches!(member.state, MemberState::Live { .. }))
    }

    /// The record of one life of one id.
    pub fn get(&self, id: &MemberId, incarnation: Incarnation) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.id == *id && member.incarnation == incarnation)
    }
}

/// What a store tells of one life of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub id: MemberId,
    /// Which life of that name.
    pub incarnation: Incarnation,
    /// Which process.
    pub instance: Instance,
    /// Whether the name is static.
    pub fixed: bool,
    /// Its TTL.
    pub ttl: Duration,
    /// The number of its last heartbeat.
    pub beat: u64,
    /// Whether it lives.
    pub state: MemberState,
    /// What it tells about itself.
    pub profile: Profile,
    /// How far its keepers have come.
    pub report: Report,
}

impl Member {
    /// A live member, just joined, with an empty profile.
    pub fn new(id: MemberId, incarnation: Incarnation, instance: Instance, ttl: Duration) -> Self {
        Self {
            id,
            incarnation,
            instance,
            fixed: false,
            ttl,
            beat: 0,
            state: MemberState::Live {
                expires_in: ttl,
                evicted: false,
            },
            profile: Profile::new(),
            report: Report::new(),
        }
    }
}

/// Whether a member lives, by the store's clock at the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It has a TTL left.
    Live {
        /// How much of it. Nothing marks the passing of this span: set a timer.
        expires_in: Duration,
        /// It was put out: its heartbeats are refused, so this is its last TTL.
        evicted: bool,
    },
    /// Its TTL has passed; nobody has drawn the consequence yet.
    Due,
    /// It has ended, and never comes back.
    Ended {
        /// How long ago.
        ago: Duration,
        /// How.
        reason: EndReason,
        /// How many lives of this id expired within the ten minutes before, this one included.
        flaps: u32,
    },
}

/// How a member's life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It left.
    Left,
    /// It sent no heartbeat for its TTL.
    Expired,
    /// It was put out.
    Evicted,
    /// The store saw it die.
    Died,
}

/// Who belongs to a group, with what, and who no longer does.
///
/// # Contract
/// 1. A member is live for its TTL from its join or last heartbeat, by the store's clock; then it
///    is due. A due or ended incarnation never comes back: its heartbeat is `Expired` (rule G1).
/// 2. Incarnations of one id strictly increase, through restart and loss of memory (K1).
/// 3. `join` asked twice by one (id, instance) while it lives is one life. Under a name whose
///    other instance is live it is `Taken`. Where the name is free, or its life is due, the old
///    life becomes a tombstone and the new one begins.
/// 4. A heartbeat with a `beat` no higher than the last one changes nothing. `seen` never goes
///    back; `draining` is taken only from the newest beat (S3).
/// 5. `leave` ends the life at once. It is a tombstone from then on.
/// 6. After `evict` the heartbeats of that incarnation are `Evicted`; it is due when the TTL of its
///    last accepted heartbeat has passed, not before. A missing record is entered as evicted, due
///    `max_ttl` later: absence is no end (G7).
/// 7. The versions grow as [`Versions`] says, and with nothing else; an answer holds a snapshot if,
///    and only if, what the asker knows is not the newest.
/// 8. Tombstones are kept for [`TOMBSTONE_RETENTION`] at least, with how long ago they ended, by
///    the store's own clock.
/// 9. Groups do not see each other.
/// 10. A store that lost its memory has another memory identity, and lets members join and beat
///     during its quarantine, but ends nobody (I2): who it does not know is `Expired`. A join under
///     a static name without a floor is `Quarantined`: the store may have forgotten a life of that
///     name with a higher number (K1).
/// 11. A malformed name, a TTL out of bounds, a group of over [`MAX_MEMBERS`], or metadata over
///     [`MAX_METADATA_BYTES`] is `Rejected`.
/// 12. `changed` is a hint. It may return at any time, for no reason.
///
/// # Fencing
/// A snapshot is a memory of the past. What must not overlap is decided by the swap of the
/// assignment, in the same store.
///
/// # Ordering
/// Calls on one group are linearizable. Nothing is promised across groups.
///
/// # Cancel safety
/// Not cancel safe, except for `changed` and `snapshot`: a dropped call may still take effect.
///
/// # Errors
/// An error means there was no answer.
#[async_trait]
pub trait MembershipStore: Send + Sync + 'static {
    /// `async fn join(&self, join: &Join) -> Result<Joined, MembershipError>`
    ///
    /// Begins a life.
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError>;

    /// `async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError>`
    ///
    /// Prolongs a life to a full TTL from now.
    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError>;

    /// `async fn leave(&self, group, id, incarnation) -> Result<Leave, MembershipError>`
    ///
    /// Ends a life. Sent when all work has stopped.
    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, MembershipError>;

    /// `async fn evict(&self, group, id, incarnation) -> Result<Eviction, MembershipError>`
    ///
    /// Refuses a life its further heartbeats.
    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, MembershipError>;

    /// `async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError>`
    ///
    /// Reads all members.
    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError>;

    /// `async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError>`
    ///
    /// A hint: returns when the versions may be other than `known`. Cancel safe. The default never
    /// returns. After a hint that brought nothing, the runtime listens again only when a tenth of a
    /// TTL has passed: compare before you return, wherever that costs little.
    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        let _ = (group, known);
        pending().await
    }

    /// Which store and namespace this is.
    fn store(&self) -> StoreId;

    /// What the store was found to guarantee.
    fn guarantees(&self) -> Guarantees {
        Guarantees::unknown()
    }
}
