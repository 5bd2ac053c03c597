//! The members of a world: their processes, which start, end, and are started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use coordinator_memory::{Link, MemoryStore};
use coordinator_node::core::{Group, MemberId};
use coordinator_node::{Node, ShutdownError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::bounds::SUPERVISOR;
use super::scene::Process;
use super::seen::Seen;
use super::witness::Witness;
use super::worlds::{Life, SeatPlan, World};

/// How the work of one member behaves at this moment. Each is a count of the faults that want it.
#[derive(Debug, Default)]
pub struct Mood {
    /// Calls are dropped before they return.
    pub cancels: AtomicU32,
    /// Work is stuck.
    pub wedged: AtomicU32,
    /// Work takes long to finish.
    pub slow: AtomicU32,
    /// Work fails, or panics.
    pub fails: AtomicU32,
    /// Told of each change.
    pub changed: Notify,
    /// Told when a leader is to be asked to hand over.
    pub transfer: Notify,
}

impl Mood {
    /// Whether any fault wants this.
    pub fn is(&self, what: &AtomicU32) -> bool {
        what.load(Ordering::Relaxed) > 0
    }

    /// One fault more, or less, wants this.
    pub fn want(&self, what: &AtomicU32, more: bool) {
        if more {
            what.fetch_add(1, Ordering::Relaxed);
        } else {
            what.fetch_sub(1, Ordering::Relaxed);
        }
        self.changed.notify_waiters();
    }
}

/// One member.
struct Seat {
    plan: SeatPlan,
    /// Its machine, and its name if it has one of its own.
    name: String,
    life: u32,
    running: Option<Running>,
    wanted: bool,
    not_before: Duration,
    /// Whether its next start has a name of its own for ever; the plan's word, if nothing is said.
    fixed: Option<bool>,
    frozen: bool,
    mood: Arc<Mood>,
}

struct Running {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
    process: Process,
}

/// All members.
pub struct Fleet {
    /// Where they meet.
    pub store: MemoryStore,
    /// Who sees it all.
    pub witness: Witness,
    world: Arc<dyn World>,
    seats: Vec<Seat>,
    seed: u64,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("seats", &self.seats.len())
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// Nobody runs yet.
    pub fn new(seed: u64, world: Arc<dyn World>, store: MemoryStore, witness: Witness) -> Self {
        let seat = |(at, plan): (usize, SeatPlan)| Seat {
            wanted: !plan.reserve,
            plan,
            name: format!("m{at}"),
            life: 0,
            running: None,
            not_before: Duration::ZERO,
            fixed: None,
            frozen: false,
            mood: Arc::default(),
        };
        let seats: Vec<Seat> = world.seats().into_iter().enumerate().map(seat).collect();
        for (at, seat) in seats.iter().enumerate().filter(|(_, seat)| seat.wanted) {
            drop(seat.mood.clone());
            witness.see(Seen::Returns(at));
        }
        Self {
            store,
            witness,
            world,
            seats,
            seed,
        }
    }

    /// How many members there are, those included that only join for a while.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The name of a member's machine.
    pub fn name(&self, seat: usize) -> &str {
        &self.seats[seat].name
    }

    /// The group of a member.
    pub fn group(&self, seat: usize) -> &Group {
        &self.seats[seat].plan.group
    }

    /// The link of a member's machine.
    pub fn link(&self, seat: usize) -> Link {
        self.store.link(self.name(seat))
    }

    /// The mood of a member's work.
    pub fn mood(&self, seat: usize) -> &Mood {
        &self.seats[seat].mood
    }

    /// The members that are there but for a while.
    pub fn reserves(&self) -> Vec<usize> {
        self.numbers(|seat| seat.plan.reserve)
    }

    /// The members that belong to the fleet.
    pub fn regulars(&self) -> Vec<usize> {
        self.numbers(|seat| !seat.plan.reserve)
    }

    fn numbers(&self, which: impl Fn(&Seat) -> bool) -> Vec<usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| which(seat))
            .map(|(at, _)| at)
            .collect()
    }

    /// The name under which a member's present process takes part, as it would say itself.
    pub fn id(&self, seat: usize) -> Option<MemberId> {
        let life = self.seats[seat].life;
        self.witness
            .ask(|scene| scene.seats[seat].names.get(&life).cloned())
    }

    /// Whether a process of this member runs.
    pub fn is_running(&self, seat: usize) -> bool {
        let running = self.seats[seat].running.as_ref();
        running.is_some_and(|running| !running.task.is_finished())
    }

    /// Starts whoever is to run and does not, as a supervisor does.
    pub fn tend(&mut self, now: Duration) {
        for at in 0..self.seats.len() {
            let finished = self.seats[at].running.is_some() && !self.is_running(at);
            let seat = &mut self.seats[at];
            if finished {
                seat.running = None;
                seat.not_before = seat.not_before.max(now + SUPERVISOR);
            }
            if seat.wanted && seat.running.is_none() && now >= seat.not_before {
                self.start(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.life += 1;
        let process = Process {
            seat: at,
            life: seat.life,
        };
        let fixed = seat.fixed.take().unwrap_or(seat.plan.fixed);
        let stop = Arc::new(Notify::new());
        let backend = self.world.backend(self.store.connect(seat.name.as_str()));
        let link = self.store.link(seat.name.as_str());
        let terms = self.world.terms();
        let mut builder = Node::builder(seat.plan.group.clone())
            .backend(backend)
            .ttl(terms.ttl)
            .drain_timeout(terms.drain)
            .weight(seat.plan.weight);
        if let Some(zone) = seat.plan.zone {
            builder = builder.zone(zone);
        }
        if fixed {
            builder = builder.member(seat.name.as_str());
        }
        let (world, witness, mood) = (self.world.clone(), self.witness.clone(), seat.mood.clone());
        let seed =
            self.seed ^ (u64::from(seat.life) << 32) ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9);
        let (stopped, group) = (stop.clone(), seat.plan.group.clone());
        witness.see(Seen::Started(process));
        let told = witness.clone();
        let whole = async move {
            // One attempt: whoever could not start is started again, as by a supervisor.
            let Ok(node) = builder.start().await else {
                return;
            };
            witness.see(Seen::Named(process, group.clone(), node.id().clone()));
            let life = Life {
                node: node.clone(),
                process,
                group,
                witness: witness.clone(),
                mood,
                random: StdRng::seed_from_u64(seed),
            };
            tokio::join!(world.live(life), shut_down(node, process, stopped, witness));
        };
        let task = tokio::spawn(async move {
            link.run(Box::pin(whole)).await;
            told.see(Seen::Ended(process));
        });
        seat.running = Some(Running {
            task,
            stop,
            process,
        });
    }

    /// Kills a member's process; it is started again not before `back`.
    pub fn crash(&mut self, at: usize, back: Duration) -> bool {
        let was_running = self.is_running(at);
        self.thaw(at);
        let seat = &mut self.seats[at];
        seat.not_before = seat.not_before.max(back);
        if let Some(running) = seat.running.take() {
            self.store.link(seat.name.as_str()).crash();
            self.witness.see(Seen::Crashed(running.process));
        }
        was_running
    }

    /// The next start of a member is under a name of its own for ever, or under a fresh one.
    pub fn rename(&mut self, at: usize, fixed: bool) {
        self.seats[at].fixed = Some(fixed);
    }

    /// Whether a member is to run. One that runs and is not to is asked to shut down.
    pub fn want(&mut self, at: usize, wanted: bool) {
        let seat = &mut self.seats[at];
        if seat.wanted == wanted {
            return;
        }
        seat.wanted = wanted;
        self.witness.see(if wanted {
            Seen::Returns(at)
        } else {
            Seen::Leaves(at)
        });
        if !wanted {
            self.ask(at);
        }
    }

    /// Asks a member's process to shut down. If the member is wanted, it is started again.
    pub fn ask(&self, at: usize) -> bool {
        let running = self.seats[at].running.as_ref();
        running.is_some_and(|running| {
            running.stop.notify_one();
            true
        })
    }

    /// Freezes a member.
    pub fn freeze(&mut self, at: usize) -> bool {
        if !self.is_running(at) {
            return false;
        }
        self.link(at).pause();
        self.seats[at].frozen = true;
        self.witness.see(Seen::Frozen(at));
        true
    }

    /// Lets a member run again.
    pub fn thaw(&mut self, at: usize) {
        if std::mem::take(&mut self.seats[at].frozen) {
            self.link(at).resume();
            self.witness.see(Seen::Thawed(at));
        }
    }

    /// All are asked to shut down, and none is started again.
    pub fn close(&mut self) {
        for seat in &mut self.seats {
            seat.wanted = false;
            if let Some(running) = &seat.running {
                running.stop.notify_one();
            }
        }
    }

    /// Whether nothing runs any more.
    pub fn is_down(&self) -> bool {
        (0..self.seats.len()).all(|at| !self.is_running(at))
    }
}

/// Waits for the request to stop, and stops.
async fn shut_down(node: Node, process: Process, stop: Arc<Notify>, witness: Witness) {
    stop.notified().await;
    witness.see(Seen::Asked(process));
    let ended = node.shutdown().await;
    let clean = !matches!(ended, Err(ShutdownError::Overran { .. }));
    witness.see(Seen::ShutDown(process, clean));
}
