//! Sees everything, as nobody in a real fleet can, and shows it to the invariants.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use coordinator_memory::{Event, Observed};
use coordinator_node::LeaseView;
use coordinator_node::core::{
    Document, Group, Incarnation, Keyspace, Lost, LostCause, Member, MemberId, Snapshot,
};
use tokio::time::Instant;

use super::figures::Figures;
use super::invariants::Invariant;
use super::scene::{Hold, HoldId, Phase, Process, Scene, Sort, What};
use super::seen::{Seen, Swap};
use super::trace::{History, Keep, Trace};

/// How long a guard is looked at after its work has ended: it must stay lost.
const AFTERMATH: Duration = Duration::from_secs(3);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
    /// When, in true time.
    pub at: Duration,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invariant,
            what,
            at,
        } = self;
        write!(f, "{invariant} at {:.6} s: {what}", at.as_secs_f64())
    }
}

/// The witness of one run. Cheap to clone.
///
/// The store calls it in the midst of its acts, so it never asks the store.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Inner>>);

struct Inner {
    began: Instant,
    scene: Scene,
    eyes: BTreeMap<HoldId, Eye>,
    documents: BTreeMap<(Group, Keyspace), Document>,
    /// Every life as of its last heartbeat, also if its record was deleted since.
    records: BTreeMap<(Group, MemberId, Incarnation), Member>,
    invariants: Vec<Box<dyn Invariant>>,
    figures: Figures,
    trace: Trace,
    violation: Option<Violation>,
}

/// An eye on one guard.
struct Eye {
    view: LeaseView,
    draining: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The first cause of its loss.
    cause: Option<LostCause>,
}

impl Eye {
    fn lost(&self) -> Option<LostCause> {
        self.view.token().err().map(|lost: Lost| lost.cause)
    }

    /// Whether the work has just been asked to finish.
    fn drains(&mut self) -> bool {
        let Some(draining) = &mut self.draining else {
            return false;
        };
        let asked = draining
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready();
        if asked {
            self.draining = None;
        }
        asked
    }
}

/// What is left of a run.
#[derive(Debug)]
pub struct Testimony {
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// What was counted.
    pub figures: Figures,
    /// The trace.
    pub history: History,
}

impl Witness {
    /// Begins to watch.
    pub fn new(scene: Scene, invariants: Vec<Box<dyn Invariant>>, keep: Keep) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            began: Instant::now(),
            scene,
            eyes: BTreeMap::new(),
            documents: BTreeMap::new(),
            records: BTreeMap::new(),
            invariants,
            figures: Figures::default(),
            trace: Trace::new(keep),
            violation: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever tells of something has no more use for it"
    )]
    pub fn see(&self, seen: Seen) {
        self.lock().see(&seen);
    }

    /// Asks about the scene as it is.
    pub fn ask<T>(&self, question: impl FnOnce(&Scene) -> T) -> T {
        question(&self.lock().scene)
    }

    /// Work begins, if its guard is still trusted. What comes back is dropped when the work ends.
    pub fn begins(
        &self,
        process: Process,
        what: &What,
        sort: Sort,
        view: LeaseView,
    ) -> Option<Tenure> {
        let token = view.token().ok()?.get();
        let hold = self.lock().begin(process, what, sort, token, view);
        Some(Tenure {
            witness: self.clone(),
            hold,
        })
    }

    /// Time has passed: looks at every guard.
    pub fn look(&self) {
        let mut inner = self.lock();
        inner.look();
        inner.see(&Seen::Look);
    }

    /// The store did something.
    pub fn observe(&self, observed: &Observed<'_>) {
        self.lock().observe(observed);
    }

    /// Whether a promise was broken.
    pub fn is_violated(&self) -> bool {
        self.lock().violation.is_some()
    }

    /// Ends the watch.
    pub fn testify(&self) -> Testimony {
        let mut inner = self.lock();
        inner.eyes.clear();
        let trace = std::mem::replace(&mut inner.trace, Trace::new(Keep::Nothing));
        Testimony {
            violation: inner.violation.take(),
            figures: std::mem::take(&mut inner.figures),
            history: trace.finish(),
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// One tenure, as its own work tells of it. Dropped: the work has ended.
#[derive(Debug)]
pub struct Tenure {
    witness: Witness,
    hold: HoldId,
}

impl Tenure {
    /// Which hold it is.
    pub fn hold(&self) -> HoldId {
        self.hold
    }

    /// Its guard is kept where nobody drops it, on purpose.
    pub fn keeps_guard(&self) {
        self.witness.lock().scene.holds[self.hold].kept = true;
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.witness.see(Seen::Stops(self.hold));
    }
}

impl Inner {
    fn see(&mut self, seen: &Seen) {
        if self.violation.is_some() || self.scene.phase == Phase::Over {
            return;
        }
        self.scene.now = self.began.elapsed();
        self.scene.take(seen);
        self.figures.take(&self.scene, seen);
        if seen.is_told() {
            self.trace.write(self.scene.now, seen.line(&self.scene));
        }
        for invariant in &mut self.invariants {
            self.figures.checks += 1;
            if let Err(what) = invariant.see(&self.scene, seen) {
                self.violation = Some(Violation {
                    invariant: invariant.name(),
                    what,
                    at: self.scene.now,
                });
                return;
            }
        }
    }

    fn begin(
        &mut self,
        process: Process,
        what: &What,
        sort: Sort,
        token: u64,
        view: LeaseView,
    ) -> HoldId {
        let id = self.scene.holds.len();
        self.scene.holds.push(Hold {
            what: what.clone(),
            sort,
            process,
            token,
            began: self.began.elapsed(),
            lost: None,
            draining: None,
            stopped: None,
            stuck: None,
            claimed: false,
            kept: false,
        });
        let draining = view.draining();
        let eye = Eye {
            view,
            draining: Some(Box::pin(draining)),
            cause: None,
        };
        self.eyes.insert(id, eye);
        // Who else believes in anything, at this very moment?
        self.look();
        self.see(&Seen::Begins(id));
        id
    }

    /// Looks at every guard whose work may still do something, or ended just now.
    fn look(&mut self) {
        let now = self.began.elapsed();
        let mut news = Vec::new();
        for (id, eye) in &mut self.eyes {
            match (eye.cause, eye.lost()) {
                (None, None) => {}
                (None, Some(cause)) => {
                    eye.cause = Some(cause);
                    news.push(Seen::Lost(*id, cause));
                }
                (Some(first), cause) if cause == Some(first) => {}
                (Some(_), cause) => news.push(Seen::Relapses(*id, cause)),
            }
            if eye.drains() {
                news.push(Seen::Drains(*id));
            }
        }
        let holds = &self.scene.holds;
        let ended = |id: &HoldId| holds[*id].stopped.is_some_and(|at| at + AFTERMATH < now);
        self.eyes.retain(|id, _| !ended(id));
        for seen in news {
            self.see(&seen);
        }
    }

    /// Lives that a document names, and of which the store has no record any more, as they were.
    fn erased(
        &self,
        group: &Group,
        previous: Option<&Document>,
        next: &Document,
        members: &Snapshot,
    ) -> Vec<Member> {
        let named = previous.into_iter().chain([next]);
        let lives = named.flat_map(|document| &document.members);
        let missing = lives.filter(|(id, life)| members.get(id, *life).is_none());
        let known = missing.filter_map(|(id, life)| {
            let place = (group.clone(), id.clone(), *life);
            self.records.get(&place).cloned()
        });
        known.collect()
    }

    fn observe(&mut self, observed: &Observed<'_>) {
        let event = &observed.entry().event;
        match event {
            Event::Swapped {
                group,
                keyspace,
                ended,
                ..
            } => {
                let Some(next) = document(observed, group, keyspace) else {
                    return;
                };
                let place = (group.clone(), keyspace.clone());
                let previous = self.documents.insert(place, next.clone());
                let members = observed.members(group);
                let erased = self.erased(group, previous.as_ref(), &next, &members);
                self.look();
                self.see(&Seen::Swapped(Box::new(Swap {
                    group: group.clone(),
                    keyspace: keyspace.clone(),
                    previous,
                    next,
                    ended: ended.clone(),
                    members,
                    erased,
                })));
            }
            Event::MemoryLost { .. } => {
                let known = std::mem::take(&mut self.documents);
                for (group, keyspace) in known.into_keys() {
                    if let Some(kept) = document(observed, &group, &keyspace) {
                        self.documents.insert((group, keyspace), kept);
                    }
                }
                self.see(&Seen::Store(event.clone()));
            }
            Event::Granted { .. } => {
                self.look();
                self.see(&Seen::Store(event.clone()));
            }
            Event::Beat {
                group,
                id,
                incarnation,
                ..
            } => {
                if let Some(member) = observed.member(group, id, *incarnation) {
                    let life = (group.clone(), id.clone(), *incarnation);
                    self.records.insert(life, member);
                }
                self.see(&Seen::Store(event.clone()));
            }
            other => self.see(&Seen::Store(other.clone())),
        }
    }
}

fn document(observed: &Observed<'_>, group: &Group, keyspace: &Keyspace) -> Option<Document> {
    let stored = observed.assignment(group, keyspace)?;
    Document::decode(stored.epoch, &stored.document).ok()
}

impl Scene {
    /// What is so after this.
    pub fn take(&mut self, seen: &Seen) {
        let now = self.now;
        match seen {
            Seen::Started(process) => {
                let seat = &mut self.seats[process.seat];
                seat.life = process.life;
                seat.alive = true;
                seat.running_since = now;
            }
            Seen::Named(process, _, id) => {
                let seat = &mut self.seats[process.seat];
                seat.names.insert(process.life, id.clone());
            }
            Seen::Ended(process) | Seen::Crashed(process) => self.ends(*process),
            Seen::Frozen(seat) => self.seats[*seat].frozen = true,
            Seen::Thawed(seat) => {
                self.seats[*seat].frozen = false;
                self.seats[*seat].running_since = now;
            }
            Seen::Begins(id) => self.open.push(*id),
            Seen::Drains(id) => {
                self.holds[*id].draining.get_or_insert(now);
            }
            Seen::Lost(id, cause) => {
                self.holds[*id].lost.get_or_insert(*cause);
            }
            Seen::Loads(id, _) => self.holds[*id].claimed = true,
            Seen::Stuck(id, stuck) => self.holds[*id].stuck = stuck.then_some(now),
            Seen::Stops(id) => {
                self.holds[*id].stopped.get_or_insert(now);
                self.open.retain(|open| open != id);
            }
            Seen::WallSet(millis) => self.wall_ahead += millis,
            Seen::Store(Event::MemoryLost { .. }) => {
                self.memory_lost = Some(now);
                // A restart takes a moment of the store's clock.
                self.wall_ahead += 1;
            }
            Seen::Leaves(seat) => self.seats[*seat].wanted = false,
            Seen::Returns(seat) => self.seats[*seat].wanted = true,
            Seen::Heals => {
                self.healed = Some(now);
                self.enter(Phase::Healed);
            }
            Seen::Settles => self.enter(Phase::Settled),
            Seen::Closes => self.enter(Phase::Closing),
            Seen::Over => self.enter(Phase::Over),
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_began = self.now;
    }

    /// Whatever a process that is gone held, it does nothing with it any more.
    fn ends(&mut self, process: Process) {
        let now = self.now;
        let seat = &mut self.seats[process.seat];
        if seat.life == process.life {
            seat.alive = false;
        }
        let holds = &mut self.holds;
        self.open.retain(|id| {
            let hold = &mut holds[*id];
            if hold.process == process {
                hold.stopped.get_or_insert(now);
            }
            hold.process != process
        });
    }
}
