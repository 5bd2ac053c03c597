//! One seed, from the first start to the last end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coordinator_memory::MemoryStore;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, sleep_until};

use super::bounds::{LOOK, Terms};
use super::chaos::Chaos;
use super::faults::{Class, Fault, schedule};
use super::fleet::Fleet;
use super::invariants::{self, Invariant};
use super::panics;
use super::scene::{Phase, Scene};
use super::seen::Seen;
use super::trace::Keep;
use super::witness::{Testimony, Witness};
use super::worlds::{Encore, Kind, World};

/// The shortest run, in simulated time.
pub const AT_LEAST: Duration = Duration::from_secs(200);
/// How long faults come, at the least and the most.
const WILD: (u64, u64) = (90, 130);
/// Everything serves when it has for so long.
const STEADY: Duration = Duration::from_secs(3);
/// Tasks are counted at every so many looks.
const COUNT_EVERY: u32 = 4;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which seed.
    pub seed: u64,
    /// Which kind of world; the seed's own, if none is named.
    pub only: Option<Kind>,
    /// Only faults of these classes, as often as the world has each; all that fit the world, if
    /// none are named.
    pub classes: Option<Vec<Class>>,
    /// For how long a fault lasts, at the least and the most; as its class has it, if nothing is
    /// said.
    pub lasting: Option<(Duration, Duration)>,
    /// Which faults of the schedule, by number; all, if none are named.
    pub keep: Option<Vec<usize>>,
    /// How much of it is written down.
    pub trace: Keep,
}

impl Plan {
    /// A seed as it is.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            only: None,
            classes: None,
            lasting: None,
            keep: None,
            trace: Keep::Nothing,
        }
    }

    /// The kind of its world.
    pub fn kind(&self) -> Kind {
        self.only.unwrap_or_else(|| Kind::of(self.seed))
    }

    /// The faults that it brings about.
    pub fn schedule(&self) -> Vec<Fault> {
        let world = self.kind().world(self.seed);
        self.schedule_of(&*world)
    }

    fn schedule_of(&self, world: &dyn World) -> Vec<Fault> {
        let (terms, seats) = (world.terms(), world.seats().len());
        let classes = self.classes_of(world);
        if classes.is_empty() {
            return Vec::new();
        }
        let mut faults = schedule(self.seed, &terms, seats, wild(self.seed), &classes);
        if let Some((least, most)) = self.lasting {
            for fault in &mut faults {
                fault.lasting = fault.lasting.clamp(least, most);
            }
        }
        if let Some(keep) = &self.keep {
            faults.retain(|fault| keep.contains(&fault.number));
        }
        faults
    }

    /// Which classes come, with their weights. One that the world does not have, and that is asked
    /// for, comes as often as others do.
    fn classes_of(&self, world: &dyn World) -> Vec<(Class, u32)> {
        const WEIGHT: u32 = 3;
        let mut classes = world.faults();
        let Some(only) = &self.classes else {
            return classes;
        };
        classes.retain(|(class, _)| only.contains(class));
        for class in only {
            if classes.iter().all(|(has, _)| has != class) {
                classes.push((*class, WEIGHT));
            }
        }
        classes
    }
}

fn wild(seed: u64) -> Duration {
    let (least, most) = WILD;
    Duration::from_secs(least + seed.wrapping_mul(0x9e37_79b9) % (most - least))
}

/// Runs one seed, in a runtime of its own.
///
/// # Errors
/// The runtime could not be made.
pub fn run(plan: &Plan) -> io::Result<Testimony> {
    run_with(plan, Vec::new())
}

/// The same, with invariants of one's own besides.
///
/// # Errors
/// The runtime could not be made.
pub fn run_with(plan: &Plan, more: Vec<Box<dyn Invariant>>) -> io::Result<Testimony> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    panics::watch();
    let testimony = runtime.block_on(async {
        let mut stage = Stage::new(plan, more);
        stage.play().await;
        stage.fleet.witness.testify()
    });
    drop(runtime);
    panics::look_away();
    Ok(testimony)
}

/// Whether those run who are to, and have joined, and nobody else does.
fn all_are_there(scene: &Scene) -> Result<(), String> {
    for (at, seat) in scene.seats.iter().enumerate() {
        let joined = seat.alive && seat.names.contains_key(&seat.life);
        if seat.wanted && !joined {
            return Err(format!("m{at} is away"));
        }
        if !seat.wanted && seat.alive {
            return Err(format!("m{at} is still there"));
        }
    }
    Ok(())
}

/// Everything of one run.
struct Stage {
    world: Arc<dyn World>,
    terms: Terms,
    fleet: Fleet,
    chaos: Chaos,
    began: Instant,
    faults: std::vec::IntoIter<Fault>,
    wild: Duration,
    looks: u32,
}

impl Stage {
    fn new(plan: &Plan, more: Vec<Box<dyn Invariant>>) -> Self {
        let world = plan.kind().world(plan.seed);
        let (terms, seats) = (world.terms(), world.seats().len());
        let scene = Scene::new(terms.clone(), seats, world.wanted());
        let all = invariants::all().into_iter().chain(more).collect();
        let witness = Witness::new(scene, all, plan.trace);
        let observer = witness.clone();
        let store = MemoryStore::builder()
            .seed(plan.seed)
            .max_ttl(terms.max_ttl)
            .request_timeout(terms.request)
            .history(0)
            .observer(move |observed| observer.observe(observed))
            .build();
        let faults = plan.schedule_of(&*world);
        let fleet = Fleet::new(plan.seed, world.clone(), store, witness);
        let chaos = Chaos::new(terms.clone(), world.latency(), &fleet);
        Self {
            world,
            terms,
            fleet,
            chaos,
            began: Instant::now(),
            faults: faults.into_iter(),
            wild: wild(plan.seed),
            looks: 0,
        }
    }

    async fn play(&mut self) {
        self.be_wild().await;
        self.chaos.heal(&mut self.fleet);
        self.fleet.witness.see(Seen::Heals);
        // What the store has lost last shows within a ttl.
        self.settle(self.terms.ttl + STEADY).await;
        self.fleet.witness.see(Seen::Settles);
        let rest = AT_LEAST.saturating_sub(self.began.elapsed());
        self.pass(self.world.calm().max(rest)).await;
        self.encore().await;
        self.close().await;
        self.fleet.witness.see(Seen::Over);
    }

    fn is_over(&self) -> bool {
        self.fleet.witness.is_violated()
    }

    /// Faults begin and end, each at its moment.
    async fn be_wild(&mut self) {
        let mut next = self.faults.next();
        let mut look = Duration::ZERO;
        while self.began.elapsed() < self.wild && !self.is_over() {
            let now = self.began.elapsed();
            while let Some(fault) = next.filter(|fault| fault.at <= now) {
                self.chaos.begin(&mut self.fleet, fault);
                next = self.faults.next();
            }
            self.chaos.go_on(&mut self.fleet, now);
            if now >= look {
                self.look();
                look = now + LOOK;
            }
            self.fleet.tend(now);
            let due = [
                next.map(|fault| fault.at),
                self.chaos.next_end(),
                Some(look),
            ];
            let due = due.into_iter().flatten().min().unwrap_or(look);
            // Whoever was started has run before the next fault comes.
            sleep_until(self.began + due.max(now + Duration::from_millis(1))).await;
        }
    }

    /// Looks at everything, and lets the supervisor do its work.
    async fn step(&mut self) {
        let now = self.began.elapsed();
        self.fleet.tend(now);
        sleep(LOOK).await;
        self.look();
    }

    fn look(&mut self) {
        let witness = &self.fleet.witness;
        witness.look();
        if self.looks.is_multiple_of(COUNT_EVERY) {
            let tasks = Handle::current().metrics().num_alive_tasks();
            witness.see(Seen::Tasks(tasks));
        }
        self.looks += 1;
        if let Some(message) = panics::seen() {
            witness.see(Seen::Panics(message));
        }
    }

    async fn pass(&mut self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until && !self.is_over() {
            self.step().await;
        }
    }

    /// Waits until everything has served for so long. The invariants say when that took too long.
    async fn settle(&mut self, span: Duration) {
        let mut since = Instant::now();
        while since.elapsed() < span && !self.is_over() {
            self.step().await;
            let settled = self.fleet.witness.ask(|scene| {
                all_are_there(scene)?;
                self.world.settled(scene)
            });
            if let Err(why) = settled {
                since = Instant::now();
                self.fleet.witness.see(Seen::Waits(why));
            }
        }
    }

    async fn encore(&mut self) {
        let Some(last) = self.fleet.regulars().last().copied() else {
            return;
        };
        match self.world.encore() {
            Encore::None => {}
            Encore::LeaveAndReturn => {
                for wanted in [false, true] {
                    self.fleet.want(last, wanted);
                    self.pass(self.terms.drain + self.terms.ttl).await;
                    self.settle(STEADY).await;
                }
            }
            Encore::Rolling => {
                // A few of them will do.
                for seat in self.fleet.regulars().into_iter().take(3) {
                    self.fleet.witness.see(Seen::Rolls(seat));
                    self.fleet.ask(seat);
                    self.pass(self.terms.drain + self.terms.ttl / 2).await;
                    self.settle(STEADY).await;
                }
            }
        }
    }

    /// All shut down, and nothing is left.
    async fn close(&mut self) {
        self.fleet.witness.see(Seen::Closes);
        self.fleet.close();
        while !self.fleet.is_down() && !self.is_over() {
            sleep(LOOK).await;
            self.look();
        }
        // What the dead had asked for is still on its way.
        let rest = self.terms.request + self.terms.max_ttl + self.terms.delay * 2;
        sleep(rest).await;
        if self.fleet.witness.ask(|scene| scene.phase) == Phase::Closing {
            self.looks = 0;
            self.look();
        }
    }
}
