//! Deaths that are seen (G5): what the lives of this process put up, and whom it watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{Group, Heartbeat, Incarnation, Join, MemberId};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::stake::{Stake, silence_borne};
use super::watch;
use crate::hub::Hub;
use crate::session::lock;

/// More lives of one process, or groups, put up nothing, or watch nobody: the server's table of locks is
/// everyone's, and so are its sessions.
const MOST_STAKES: usize = 64;
const MOST_WATCHES: usize = 8;
/// How long a join waits for its locks at most.
const PATIENCE: Duration = Duration::from_millis(500);

type Life = (Group, MemberId, Incarnation);

/// The stakes of this process, by life.
#[derive(Debug, Clone, Default)]
pub(super) struct Stakes(Arc<Mutex<BTreeMap<Life, Arc<Stake>>>>);

impl Stakes {
    /// The names of this process in a group.
    pub(super) fn names(&self, group: &Group) -> Vec<MemberId> {
        let stakes = lock(&self.0);
        let own = stakes.keys().filter(|(of, _, _)| of == group);
        own.map(|(_, id, _)| id.clone()).collect()
    }

    fn get(&self, life: &Life) -> Option<Arc<Stake>> {
        lock(&self.0).get(life).cloned()
    }
}

/// Dropped, it watches nobody any more.
#[derive(Debug)]
pub(super) struct Deaths {
    hub: Arc<Hub>,
    stakes: Stakes,
    watches: Mutex<BTreeMap<Group, Watch>>,
}

#[derive(Debug)]
struct Watch {
    task: tokio::task::JoinHandle<()>,
    _stop: DropGuard,
}

impl Deaths {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            stakes: Stakes::default(),
            watches: Mutex::default(),
        }
    }

    fn may_stake(&self, ttl: Duration) -> bool {
        self.hub.config.fast_death
            && self.hub.witness().is_some()
            && ttl <= silence_borne(self.hub.config.connect_timeout)
    }

    /// A life has begun, or is known anew: takes its locks, and watches another.
    pub(super) async fn begin(&self, join: &Join, life: Incarnation) {
        self.forget(&join.group, &join.id, |known| known != life);
        if !self.may_stake(join.ttl) {
            return;
        }
        let key = (join.group.clone(), join.id.clone(), life);
        let stake = {
            let mut stakes = lock(&self.stakes.0);
            if stakes.len() >= MOST_STAKES {
                return;
            }
            let new = || Stake::new(&self.hub, &join.group, &join.id, life);
            stakes.entry(key).or_insert_with(new).clone()
        };
        // If it takes longer, the heartbeats say when it is there.
        let _late = timeout(PATIENCE, self.take(stake)).await;
        self.watch(&join.group);
    }

    /// Not dropped half-way.
    fn take(&self, stake: Arc<Stake>) -> tokio::task::JoinHandle<()> {
        let hub = self.hub.clone();
        tokio::spawn(async move { stake.take(&hub).await })
    }

    /// What a heartbeat says of the lock. What is lost is denied at once, and taken again meanwhile.
    pub(super) fn told(&self, beat: &Heartbeat) -> Option<String> {
        if !self.may_stake(beat.ttl) {
            return None;
        }
        let stake = self.stakes.get(&life(beat))?;
        if stake.lacks(&self.hub) {
            drop(self.take(stake.clone()));
        }
        stake.evidence(&self.hub)
    }

    /// A heartbeat that denied all evidence was answered.
    pub(super) fn denied(&self, beat: &Heartbeat) {
        if let Some(stake) = self.stakes.get(&life(beat)) {
            stake.let_go_of_former(&self.hub);
        }
    }

    /// The store has said that a life is over, which is so whatever its lock says. Not of one that was
    /// evicted: its last TTL runs, and with it its work.
    pub(super) fn end(&self, group: &Group, id: &MemberId, life: Incarnation) {
        self.forget(group, id, |known| known == life);
    }

    fn forget(&self, group: &Group, id: &MemberId, which: impl Fn(Incarnation) -> bool) {
        let mut over = Vec::new();
        lock(&self.stakes.0).retain(|(of, name, life), stake| {
            let goes = of == group && name == id && which(*life);
            if goes {
                over.push(stake.clone());
            }
            !goes
        });
        if !over.is_empty() {
            tokio::spawn(async move {
                for stake in over {
                    stake.free().await;
                }
            });
        }
    }

    fn watch(&self, group: &Group) {
        let mut watches = lock(&self.watches);
        watches.retain(|_, watch| !watch.task.is_finished());
        if watches.contains_key(group) || watches.len() >= MOST_WATCHES {
            return;
        }
        let stop = CancellationToken::new();
        let (stopped, hub) = (stop.clone(), self.hub.clone());
        let (stakes, of) = (self.stakes.clone(), group.clone());
        let task = tokio::spawn(async move {
            let watching = watch::watch(hub, stakes, of);
            stopped.run_until_cancelled(watching).await;
        });
        let watch = Watch {
            task,
            _stop: stop.drop_guard(),
        };
        watches.insert(group.clone(), watch);
    }
}

fn life(beat: &Heartbeat) -> Life {
    (beat.group.clone(), beat.id.clone(), beat.incarnation)
}
