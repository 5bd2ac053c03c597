//! Membership: one task that joins, shows that the node lives, and carries what its keepers report;
//! or, where there is a bus and no store, one that beats and listens.

mod driver;
mod ear;
mod handle;
mod roster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator_core::{
    Incarnation, Keyspace, KeyspaceReport, LostCause, MemoryId, Moment, Profile, Report, Snapshot,
};
use tokio::sync::{Notify, oneshot};

pub(crate) use handle::check_metadata;
pub use handle::{BadMetadata, MemberSource, Members};

use crate::context::Context;
use crate::errors::StartError;
use crate::watch;
use driver::Driver;
use ear::Ear;

/// Where the membership stands. The newest state is all that counts: who reads late misses nothing
/// that it could still act upon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The present life, and the end of trust in it.
    pub(crate) life: Option<(Incarnation, Moment)>,
    /// How the last life ended.
    pub(crate) cause: Option<LostCause>,
    /// The store's memory, as the newest answer named it, verified or not (S12).
    pub(crate) memory: Option<MemoryId>,
    /// The end: no life will follow.
    pub(crate) left: bool,
    /// Where there is only a bus: it brings nothing, not even our own beats.
    pub(crate) isolated: bool,
    /// When the last outage ended that was longer than a ttl, by this process's clock.
    pub(crate) back_since: Option<Moment>,
}

/// The node's membership. Cheap to clone. A node without a `members` part has one that knows who is
/// heard on the bus; without a bus as well, one that stands for nothing.
#[derive(Clone)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    desk: Mutex<Desk>,
    /// Something was laid on the desk.
    told: Notify,
    standing: watch::Sender<Standing>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    roster: watch::Sender<roster::Roster>,
}

/// What the driver is to carry to the store, and what it is asked to do.
#[derive(Debug, Default)]
struct Desk {
    profile: Profile,
    /// Counts the changes of the profile.
    edition: u64,
    keepers: BTreeMap<Keyspace, KeeperDesk>,
    /// How many planners of this node want to hear of reports.
    planners: usize,
    wishes: BTreeSet<Wish>,
}

/// What the driver is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Somebody looks at the roster, so silent deaths must be found out. Stays.
    Watch,
    /// Send a heartbeat soon.
    Urge,
    /// End this life, and begin another (S12).
    Rejoin,
    /// Leave for good. Stays.
    Leave,
}

/// What one keeper told.
#[derive(Debug, Default)]
struct KeeperDesk {
    /// The life that the report speaks of: it is sent in no other.
    life: Option<Incarnation>,
    report: KeyspaceReport,
    /// The memory under which the keeper has read its document.
    verified: Option<MemoryId>,
    /// Whether any work of its shards is left.
    busy: bool,
}

impl Membership {
    /// Joins, and goes on beating until `stopping` or [`Self::leave`].
    ///
    /// An incumbent of the same static name is waited for, up to its TTL.
    ///
    /// # Errors
    /// `DuplicateName` if that incumbent lives on; `Rejected` if the store refuses the name or the
    /// profile; `Unavailable` if the store does not answer for a TTL.
    pub(crate) async fn start(
        context: &Arc<Context>,
        profile: Profile,
    ) -> Result<Self, StartError> {
        let desk = Desk {
            profile,
            ..Desk::default()
        };
        let shared = Arc::new(Shared {
            context: context.clone(),
            desk: Mutex::new(desk),
            told: Notify::new(),
            standing: watch::Sender::default(),
            snapshot: watch::Sender::default(),
            roster: watch::Sender::default(),
        });
        let membership = Self {
            shared: shared.clone(),
        };
        let Some(store) = context.backend.members.clone() else {
            return membership.listen();
        };
        let (started, outcome) = oneshot::channel();
        // It ends by itself: with `stopping`, or when it has left.
        drop(
            context
                .tasks
                .spawn(Driver::new(shared, store, started).run()),
        );
        match outcome.await {
            Ok(outcome) => outcome.map(|()| membership),
            Err(_) => Err(StartError::Unavailable {
                group: context.group.clone(),
                waited: std::time::Duration::ZERO,
                source: "the node is shutting down".into(),
            }),
        }
    }

    /// Goes by what the bus brings, if there is one: who is there is found out in the background.
    fn listen(self) -> Result<Self, StartError> {
        let context = &self.shared.context;
        let Some(bus) = context.backend.bus.clone() else {
            return Ok(self);
        };
        let profile = self.desk().profile.clone();
        self.check_room(&profile)
            .map_err(|error| StartError::Rejected {
                group: context.group.clone(),
                what: "the metadata, which the bus must carry",
                source: error.into(),
            })?;
        let ear = Ear::new(self.shared.clone(), bus);
        // It ends by itself: with `stopping`, or when it has left.
        drop(context.tasks.spawn(ear.run()));
        Ok(self)
    }

    /// Where the view of the members comes from.
    pub(crate) fn source(&self) -> MemberSource {
        let backend = &self.shared.context.backend;
        match (&backend.members, &backend.bus) {
            (Some(_), _) => MemberSource::Store,
            (None, Some(_)) => MemberSource::Bus,
            (None, None) => MemberSource::Nothing,
        }
    }

    /// Whether what is told about this node reaches the others: a bus may take less than a store.
    fn check_room(&self, profile: &Profile) -> Result<(), BadMetadata> {
        let excess = match self.source() {
            MemberSource::Bus => ear::excess(&self.shared, profile),
            MemberSource::Store | MemberSource::Nothing => 0,
        };
        let given = handle::weight(&profile.metadata);
        match excess {
            0 => Ok(()),
            _ => Err(BadMetadata {
                given,
                most: given.saturating_sub(excess),
            }),
        }
    }

    /// Follows where the membership stands.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// The present life, if it is trusted now.
    pub(crate) fn trusted(&self) -> Option<(Incarnation, Moment)> {
        let life = self.shared.standing.borrow().life;
        life.filter(|(_, until)| self.shared.context.now() < *until)
    }

    /// While the guard lives, changes of reports are news, too.
    pub(crate) fn want_reports(&self) -> WantsReports {
        self.tell(|desk| {
            desk.planners += 1;
            desk.wish(Wish::Urge);
        });
        WantsReports(self.clone())
    }

    /// This node serves the keyspace now, or no longer.
    pub(crate) fn serve(&self, keyspace: &Keyspace, serving: bool) {
        self.change_profile(|profile| {
            if serving {
                profile.keyspaces.insert(keyspace.clone());
            } else {
                profile.keyspaces.remove(keyspace);
            }
        });
    }

    /// Replaces the metadata.
    pub(crate) fn announce(&self, metadata: BTreeMap<String, String>) -> Result<(), BadMetadata> {
        let mut told = self.desk().profile.clone();
        told.metadata.clone_from(&metadata);
        self.check_room(&told)?;
        self.change_profile(|profile| profile.metadata = metadata);
        Ok(())
    }

    /// A keeper begins. It has read nothing yet, and so can miss nothing.
    pub(crate) fn enlist(&self, keyspace: &Keyspace) {
        let verified = self.shared.standing.borrow().memory.clone();
        self.tell(|desk| {
            let keeper = desk.keepers.entry(keyspace.clone()).or_default();
            keeper.verified = verified;
        });
    }

    /// What every heartbeat of this life says of the keyspace. The next one leaves soon.
    pub(crate) fn report(&self, keyspace: &Keyspace, life: Incarnation, report: KeyspaceReport) {
        self.tell(|desk| {
            let keeper = desk.keepers.entry(keyspace.clone()).or_default();
            keeper.life = Some(life);
            keeper.report = report;
            desk.wish(Wish::Urge);
        });
    }

    /// The keeper has read its document under this memory, and misses nothing (S12).
    pub(crate) fn verified(&self, keyspace: &Keyspace, memory: MemoryId) {
        self.tell(|desk| {
            let keeper = desk.keepers.entry(keyspace.clone()).or_default();
            keeper.verified = Some(memory);
        });
    }

    /// Whether any work of the keyspace's shards is left.
    pub(crate) fn busy(&self, keyspace: &Keyspace, busy: bool) {
        self.tell(|desk| {
            let keeper = desk.keepers.entry(keyspace.clone()).or_default();
            keeper.busy = busy;
        });
    }

    /// The store forgot what a keeper acted upon: end this life, and begin another (S12).
    pub(crate) fn rejoin(&self) {
        self.tell(|desk| desk.wish(Wish::Rejoin));
    }

    /// Leaves, all work having stopped. Whether the store confirmed it, before it would have let
    /// the membership run out by itself.
    pub(crate) async fn leave(&self) -> bool {
        if self.source() == MemberSource::Nothing {
            return true;
        }
        self.tell(|desk| desk.wish(Wish::Leave));
        let mut standing = self.standing();
        let left = standing.wait_for(|standing| standing.left);
        let context = &self.shared.context;
        tokio::select! {
            biased;
            left = left => left.is_ok(),
            () = context.stopping.cancelled() => false,
            () = tokio::time::sleep(context.trust.ttl()) => false,
        }
    }

    fn change_profile(&self, change: impl FnOnce(&mut Profile)) {
        self.tell(|desk| {
            let before = desk.profile.clone();
            change(&mut desk.profile);
            if desk.profile != before {
                desk.edition += 1;
                desk.wish(Wish::Urge);
            }
        });
    }

    fn tell(&self, what: impl FnOnce(&mut Desk)) {
        what(&mut self.desk());
        self.shared.told.notify_one();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.shared.desk()
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn wish(&mut self, wish: Wish) {
        self.wishes.insert(wish);
    }

    /// What the keepers report of this life.
    fn report_of(&self, life: Incarnation) -> Report {
        let told = self.keepers.iter();
        told.filter(|(_, keeper)| keeper.life == Some(life))
            .map(|(keyspace, keeper)| (keyspace.clone(), keeper.report.clone()))
            .collect()
    }

    fn all_verified(&self, memory: &MemoryId) -> bool {
        let mut keepers = self.keepers.values();
        keepers.all(|keeper| keeper.verified.as_ref() == Some(memory))
    }

    fn all_idle(&self) -> bool {
        self.keepers.values().all(|keeper| !keeper.busy)
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("standing", &*self.shared.standing.borrow())
            .finish_non_exhaustive()
    }
}

/// While it lives, heartbeats ask for changes of reports.
#[derive(Debug)]
pub(crate) struct WantsReports(Membership);

impl Drop for WantsReports {
    fn drop(&mut self) {
        self.0
            .tell(|desk| desk.planners = desk.planners.saturating_sub(1));
    }
}
