//! What every part of a node needs: who it is, its clock, its tasks, and its two signals to end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_core::trust::Trust;
use coordinator_core::{Backend, ClaimId, Clock, Group, Guarantee, Instance, MemberId, Moment};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::builder::guarantees;
use crate::clock::Steady;
use crate::tasks::Tasks;

/// What every part of a node needs.
pub(crate) struct Context {
    pub(crate) group: Group,
    pub(crate) me: MemberId,
    /// Whether `me` was chosen by the user, and so is the node's through restarts ("static").
    pub(crate) fixed: bool,
    pub(crate) instance: Instance,
    pub(crate) backend: Backend,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same, but for its jumps.
    pub(crate) steady: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// The membership's ttl and margin; the default of elections and locks.
    pub(crate) trust: Trust,
    /// How long work has to finish, unless it says otherwise.
    pub(crate) drain_timeout: Duration,
    /// What the stores must give, or nothing new is granted.
    pub(crate) required: Vec<Guarantee>,
    /// First signal: finish what is begun, begin nothing.
    pub(crate) draining: CancellationToken,
    /// Second signal: all work has ended; tasks of the node itself end.
    pub(crate) stopping: CancellationToken,
    /// The work in progress. Shutdown waits for it, as long as each may take.
    pub(crate) work: Work,
    /// Last words to the stores: releases that wait for their answer. Shutdown waits a little.
    pub(crate) closing: Work,
    claims: AtomicU64,
    random: Mutex<StdRng>,
}

/// The parts of a [`Context`] that a builder decides.
pub(crate) struct Parts {
    pub(crate) group: Group,
    pub(crate) me: Option<MemberId>,
    pub(crate) backend: Backend,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) trust: Trust,
    pub(crate) drain_timeout: Duration,
    pub(crate) required: Vec<Guarantee>,
    pub(crate) random: StdRng,
}

impl Context {
    pub(crate) fn new(mut parts: Parts) -> Self {
        let instance = Instance::from_random(parts.random.random());
        let fixed = parts.me.is_some();
        let me = parts
            .me
            .unwrap_or_else(|| MemberId::new(format!("member-{instance}")));
        Self {
            group: parts.group,
            me,
            fixed,
            instance,
            backend: parts.backend,
            steady: Arc::new(Steady(parts.clock.clone())),
            clock: parts.clock,
            tasks: parts.tasks,
            trust: parts.trust,
            drain_timeout: parts.drain_timeout,
            required: parts.required,
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            work: Work::default(),
            closing: Work::default(),
            claims: AtomicU64::new(1),
            random: Mutex::new(parts.random),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// An id that no other attempt of this instance has.
    pub(crate) fn next_claim(&self) -> ClaimId {
        ClaimId::new(self.claims.fetch_add(1, Ordering::Relaxed))
    }

    /// A guarantee that was demanded, and that a store does not give (any more).
    pub(crate) fn missing_guarantee(&self) -> Option<Guarantee> {
        let found = guarantees(&self.backend);
        let given = |guarantee: &Guarantee| found.iter().all(|part| part.has(*guarantee));
        self.required
            .iter()
            .find(|guarantee| !given(guarantee))
            .copied()
    }

    /// A generator of its own for one machine or driver.
    pub(crate) fn fork_random(&self) -> StdRng {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        StdRng::seed_from_u64(random.next_u64())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("group", &self.group)
            .field("me", &self.me)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// All work in progress, by name: terms, held locks, shards.
#[derive(Default)]
pub(crate) struct Work {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    next: AtomicU64,
    ended: Arc<Notify>,
}

struct Entry {
    name: String,
    within: Duration,
}

impl Work {
    /// Work of this name is in progress until the ticket is dropped. Asked to finish, it does so
    /// `within` this time.
    pub(crate) fn begin(&self, name: impl Into<String>, within: Duration) -> WorkTicket {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.entries).insert(
            id,
            Entry {
                name: name.into(),
                within,
            },
        );
        WorkTicket {
            id,
            entries: self.entries.clone(),
            ended: self.ended.clone(),
        }
    }

    /// What is in progress now.
    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.entries)
            .values()
            .map(|entry| entry.name.clone())
            .collect()
    }

    /// How long all that is in progress may take to finish.
    pub(crate) fn patience(&self) -> Duration {
        lock(&self.entries)
            .values()
            .map(|entry| entry.within)
            .max()
            .unwrap_or_default()
    }

    /// Waits until nothing is in progress.
    pub(crate) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if lock(&self.entries).is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Some work in progress.
pub(crate) struct WorkTicket {
    id: u64,
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    ended: Arc<Notify>,
}

impl Drop for WorkTicket {
    fn drop(&mut self) {
        lock(&self.entries).remove(&self.id);
        self.ended.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
