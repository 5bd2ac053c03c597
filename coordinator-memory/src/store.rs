//! The store as a test sees it: where members connect, and what happens to all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coordinator_core::trust::MAX_TTL;
use coordinator_core::{Backend, Group, Key, MemberId, StoreId};

use crate::bells::Bells;
use crate::bus::BusHub;
use crate::connection::Connection;
use crate::history::Entry;
use crate::link::{Link, LinkState};
use crate::observe::{Observed, Observer};
use crate::state::{Kept, Replica, State};
use crate::sync::Shared;

/// A store in memory, for any number of members in one process. Cheap to clone.
///
/// Make it inside the runtime that the members run in: its clock is tokio's, and so a paused
/// runtime makes time virtual. See the crate's documentation for how to test with it.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    hub: Arc<Hub>,
}

/// How a [`MemoryStore`] is to be: see [`MemoryStore::builder`].
#[derive(Debug, Clone)]
pub struct MemoryStoreBuilder {
    settings: Settings,
}

/// What does not change while a store exists.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    name: StoreId,
    seed: u64,
    max_ttl: Duration,
    trust_empty_store: bool,
    history: usize,
    observer: Option<Observer>,
    pub(crate) request_timeout: Duration,
    pub(crate) payload_limit: Option<usize>,
    pub(crate) feed_frames: usize,
    pub(crate) feed_bytes: usize,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) settings: Settings,
    pub(crate) state: Shared<State>,
    pub(crate) bus: BusHub,
    pub(crate) bells: Bells,
    links: Shared<BTreeMap<MemberId, Arc<LinkState>>>,
    stopped: AtomicBool,
}

impl Hub {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn link(&self, name: MemberId) -> Arc<LinkState> {
        let seed = mix(self.settings.seed, name.as_str(), 0);
        let epoch = self.state.lock().clock.origin();
        let mut links = self.links.lock();
        links
            .entry(name.clone())
            .or_insert_with(|| Arc::new(LinkState::new(name, seed, epoch)))
            .clone()
    }

    /// All connections break, or may be made again.
    fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::Release);
        self.bus.set_stopped(stopped);
        for link in self.links.lock().values() {
            link.break_waits();
        }
    }
}

impl MemoryStore {
    /// A store with the default settings: see [`MemoryStore::builder`].
    #[expect(
        clippy::new_without_default,
        reason = "it reads the clock of the runtime that it is made in: that should be seen"
    )]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with settings of one's own.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            settings: Settings {
                name: StoreId::from("memory"),
                seed: 0,
                max_ttl: MAX_TTL,
                trust_empty_store: false,
                history: 16 * 1024,
                observer: None,
                request_timeout: Duration::from_secs(5),
                payload_limit: None,
                feed_frames: 64 * 1024,
                feed_bytes: 64 * 1024 * 1024,
            },
        }
    }

    /// One start of a member: all five parts, its clock, its executor, and a seed for its random
    /// choices. Connecting again under one name is another start of that member.
    pub fn connect(&self, name: impl Into<MemberId>) -> Backend {
        let name = name.into();
        let link = self.hub.link(name.clone());
        let (process, count) = link.start();
        let seed = mix(self.hub.settings.seed, name.as_str(), count);
        let clock = link.clock.clone();
        let parts = Arc::new(Connection::new(
            self.hub.clone(),
            link,
            process.clone(),
            self.hub.settings.name.clone(),
        ));
        Backend {
            bus: Some(parts.clone()),
            locks: Some(parts.clone()),
            members: Some(parts.clone()),
            assignments: Some(parts.clone()),
            checkpoints: Some(parts),
            clock: Some(clock),
            executor: Some(process),
            seed: Some(seed),
        }
    }

    /// The link of a member: where its faults are set. It may be asked for before the member
    /// connects.
    pub fn link(&self, name: impl Into<MemberId>) -> Link {
        Link {
            inner: self.hub.link(name.into()),
            hub: self.hub.clone(),
        }
    }

    /// The server goes down: all requests are `Unavailable` and all feeds disconnected until
    /// [`MemoryStore::start`]. Nothing is forgotten, and leases run on.
    pub fn stop(&self) {
        self.hub.set_stopped(true);
    }

    /// The server comes up again.
    pub fn start(&self) {
        self.hub.set_stopped(false);
    }

    /// The server restarts and remembers everything: all connections break, and come back.
    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// The server restarts, and has forgotten everything: leases, members, assignments and
    /// checkpoints. It has a new memory identity, and grants nothing for one `max_ttl` (rule I2),
    /// unless [`MemoryStoreBuilder::trust_empty_store`] was set.
    pub fn forget_everything(&self) {
        self.remember_only(Kept::default());
    }

    /// A copy of what the store knows now: what an asynchronous replica has received.
    pub fn replica(&self) -> Replica {
        Replica(self.hub.state.lock().kept.clone())
    }

    /// The server fails over to a replica: what was written since is lost. The store has a new
    /// memory identity, and grants nothing for one `max_ttl` (rules I2, K4).
    pub fn fail_over(&self, replica: Replica) {
        self.remember_only(replica.0);
    }

    fn remember_only(&self, kept: Kept) {
        self.stop();
        let trusted = self.hub.settings.trust_empty_store;
        self.hub.state.lock().remember_only(kept, trusted);
        self.start();
    }

    /// Sets the store's wall clock forward. Leases end so much earlier: rule A-STEP allows less
    /// than the margin that holders keep.
    pub fn step_forward(&self, span: Duration) {
        self.hub.state.lock().clock.forward(span);
        self.clock_was_set();
    }

    /// Sets the store's wall clock back. Leases last so much longer; tokens rise all the same.
    pub fn step_back(&self, span: Duration) {
        self.hub.state.lock().clock.back(span);
        self.clock_was_set();
    }

    fn clock_was_set(&self) {
        self.hub.state.lock().turns.shake();
        self.hub.bells.ring_all();
    }

    /// Takes the bus apart: no message passes between the two sides, in either direction, until
    /// [`MemoryStore::heal_partitions`]. Nobody is disconnected: only gaps tell.
    pub fn partition<N: AsRef<str>>(&self, one: &[N], other: &[N]) {
        let side = |names: &[N]| -> BTreeSet<MemberId> {
            names.iter().map(|name| name.as_ref().into()).collect()
        };
        self.hub.bus.partition(side(one), side(other));
    }

    /// Puts the bus together again.
    pub fn heal_partitions(&self) {
        self.hub.bus.heal_partitions();
    }

    /// Deletes the records of a member, as somebody with access to the store's tables may (rule
    /// G7). Answers how many there were.
    pub fn erase_member(&self, group: impl Into<Group>, id: impl Into<MemberId>) -> usize {
        let mut state = self.hub.state.lock();
        state.kept.members.erase(&group.into(), &id.into())
    }

    /// Ends a lease now, as an administrator may (rule K4): tokens rise all the same. Its holder
    /// may trust on for a while: this is a fault, not a service. Answers whether there was one.
    pub fn expire_lease(&self, key: impl Into<Key>) -> bool {
        let key = key.into();
        let expired = {
            let mut state = self.hub.state.lock();
            let now = state.now();
            let expired = state.kept.locks.expire(&key, now);
            state.turns.shake();
            expired
        };
        self.hub.bells.ring_key(&key);
        expired
    }

    /// How long the store still grants nothing, if it has lost its memory.
    pub fn quarantine(&self) -> Option<Duration> {
        self.hub.state.lock().quarantine()
    }

    /// How long the store has existed, in true time: to date what a test observes like the
    /// entries of its [`history`](Self::history).
    pub fn elapsed(&self) -> Duration {
        self.hub.state.lock().clock.elapsed()
    }

    /// What the store did, oldest first, as far back as [`MemoryStoreBuilder::history`] says.
    pub fn history(&self) -> Vec<Entry> {
        self.hub.state.lock().history.entries()
    }
}

impl MemoryStoreBuilder {
    /// The name of the store: two stores are not to be taken for one. Default: `memory`.
    pub fn name(mut self, name: impl Into<StoreId>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// What all random choices come from: delays, losses, and the seeds of the members. Default:
    /// 0. The same seed gives the same run, on a runtime with one thread and paused time.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The longest TTL that is granted, and so the length of the quarantine after a loss of
    /// memory (rule I4). Default: 30 s. A shorter one makes such tests quicker to read.
    pub fn max_ttl(mut self, max_ttl: Duration) -> Self {
        self.settings.max_ttl = max_ttl;
        self
    }

    /// Grants at once after a loss of memory, too. Unsafe on purpose: two holders of one lease
    /// are then possible. Default: false.
    pub fn trust_empty_store(mut self, trust: bool) -> Self {
        self.settings.trust_empty_store = trust;
        self
    }

    /// How long a request without an answer waits until it is `Indeterminate`. Default: 5 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// The largest payload, in bytes, that the bus takes. Default: any.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.settings.payload_limit = Some(bytes);
        self
    }

    /// How many messages, and bytes of them, wait for a slow subscriber before the newest are
    /// dropped and reported as a gap. Default: 65,536 messages, 64 MiB.
    pub fn feed_limit(mut self, messages: usize, bytes: usize) -> Self {
        self.settings.feed_frames = messages.max(1);
        self.settings.feed_bytes = bytes;
        self
    }

    /// How many of its acts the store remembers for [`MemoryStore::history`]. Default: 16,384.
    pub fn history(mut self, entries: usize) -> Self {
        self.settings.history = entries;
        self
    }

    /// Calls `observer` at each act of the store, in the order of the acts, and in the middle of
    /// them: so a test checks what holds at that very moment. It is told of more than the history
    /// keeps: every heartbeat, and what happens to positions.
    ///
    /// The store stands still meanwhile: the observer must not ask it, nor wait for anything that
    /// does. What it may want to know is in the [`Observed`].
    pub fn observer(mut self, observer: impl Fn(&Observed<'_>) + Send + Sync + 'static) -> Self {
        self.settings.observer = Some(Observer::new(observer));
        self
    }

    /// Makes the store. Its time begins now.
    pub fn build(mut self) -> MemoryStore {
        let observer = self.settings.observer.take();
        let settings = self.settings;
        let state = State::new(settings.max_ttl, settings.history, observer);
        let hub = Arc::new(Hub {
            bus: BusHub::new(&settings),
            settings,
            state: Shared::new(state),
            bells: Bells::default(),
            links: Shared::default(),
            stopped: AtomicBool::new(false),
        });
        MemoryStore { hub }
    }
}

/// A seed for one start of one name: FNV-1a over all three, stirred.
fn mix(seed: u64, name: &str, count: u64) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = seed.to_le_bytes().into_iter();
    let bytes = bytes.chain(name.bytes()).chain(count.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}
