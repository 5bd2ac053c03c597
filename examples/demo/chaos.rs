//! Does to the fleet what the schedule says.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::{Instant, sleep, sleep_until};

use crate::faults::{Aim, Fault, Planned};
use crate::fleet::Fleet;
use crate::state::{Phase, Tone, counted};
use crate::witness::Hit;
use crate::world::World;

/// How long a fault waits for a victim that is in the middle of something.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks for one.
const LOOK: Duration = Duration::from_millis(5);

/// What has been broken, and is to be mended.
struct Repair {
    at: Instant,
    name: String,
    fault: Fault,
}

/// Breaks and mends.
pub(crate) struct Chaos<F> {
    world: World,
    fleet: F,
    random: StdRng,
    repairs: Vec<Repair>,
}

impl<F: Fleet> Chaos<F> {
    pub(crate) fn new(world: World, fleet: F, seed: u64) -> Self {
        Self {
            world,
            fleet,
            random: StdRng::seed_from_u64(seed),
            repairs: Vec::new(),
        }
    }

    /// Lets every fault hit at its time, and mends what can be mended. Returns the fleet whole.
    pub(crate) async fn unleash(mut self, faults: Vec<Planned>) -> F {
        for planned in faults {
            self.mend_until(self.world.moment(planned.at)).await;
            self.strike(&planned).await;
        }
        while let Some(last) = self.repairs.iter().map(|repair| repair.at).max() {
            self.mend_until(last).await;
        }
        self.fleet
    }

    async fn mend_until(&mut self, deadline: Instant) {
        loop {
            let due = |repair: &Repair| repair.at <= deadline;
            let next = self.repairs.iter().filter(|repair| due(repair));
            let Some(at) = next.map(|repair| repair.at).min() else {
                return sleep_until(deadline).await;
            };
            sleep_until(at).await;
            for repair in self.repairs.extract_if(.., |repair| repair.at <= at) {
                mend(&self.world, &mut self.fleet, &repair);
            }
        }
    }

    async fn strike(&mut self, planned: &Planned) {
        let fault = planned.fault;
        if fault == Fault::Join {
            self.fleet.start_new();
            self.count(fault, Hit::default());
            return;
        }
        self.ensure_company().await;
        let Some(name) = self.find_victim(planned.aim).await else {
            let text = format!("nobody was there for a {fault:?}");
            return self.world.tell(Tone::Bad, text);
        };
        let hit = self.hit(fault, &name);
        self.count(fault, hit);
        let (did, until) = words(fault);
        let (shards, events) = (
            counted(hit.shards, "shard"),
            counted(hit.unsaved, "unsaved event"),
        );
        let text = format!("{name} {did}: {shards}, {events}");
        self.world.tell(Tone::Bad, text);
        if until {
            let at = Instant::now() + planned.lasting;
            self.repairs.push(Repair { at, name, fault });
        }
    }

    /// Nobody is taken away from a fleet of one: somebody else joins it first.
    async fn ensure_company(&mut self) {
        let live = |world: &World| world.record().nodes_in(Phase::Live).len();
        if live(&self.world) >= 2 {
            return;
        }
        self.fleet.start_new();
        let deadline = Instant::now() + PATIENCE;
        while live(&self.world) < 2 && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    }

    /// Somebody in mid-work; failing that, somebody with shards; failing that, anybody.
    async fn find_victim(&mut self, aim: Aim) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (busy, owning, live) = self.candidates(aim);
            if let Some(name) = busy.choose(&mut self.random) {
                return Some(name.clone());
            }
            if Instant::now() >= deadline {
                let owning = owning.choose(&mut self.random);
                return owning.or(live.choose(&mut self.random)).cloned();
            }
            sleep(LOOK).await;
        }
    }

    /// Nodes with unsaved events, nodes with shards, and all that are live.
    fn candidates(&self, aim: Aim) -> (Vec<String>, Vec<String>, Vec<String>) {
        let record = self.world.record();
        let mut live = record.nodes_in(Phase::Live);
        let planner = record.planner.as_ref().map(|(name, _)| name);
        if aim == Aim::Planner && planner.is_some_and(|name| live.contains(name)) {
            live.retain(|name| Some(name) == planner);
        }
        let with = |wanted: fn(Hit) -> usize| {
            let works = |name: &&String| wanted(record.witness.at_work(name)) > 0;
            live.iter().filter(works).cloned().collect()
        };
        (
            with(|hit| hit.unsaved),
            with(|hit| hit.shards),
            live.clone(),
        )
    }

    fn hit(&mut self, fault: Fault, name: &str) -> Hit {
        let hit = self.world.record().witness.at_work(name);
        let phase = match fault {
            Fault::Join => return hit,
            Fault::Leave => Phase::Leaving,
            Fault::Crash => Phase::Crashed,
            Fault::Pause => Phase::Paused,
            Fault::Cut => Phase::Cut,
        };
        self.world.enters(name, phase);
        self.fleet.suffer(name, fault);
        hit
    }

    fn count(&self, fault: Fault, hit: Hit) {
        let mut record = self.world.record();
        let hits = record.faults.entry(fault).or_default();
        hits.times += 1;
        hits.at_work += usize::from(hit.shards > 0);
    }
}

/// What a fault does, and whether it is to be mended.
fn words(fault: Fault) -> (&'static str, bool) {
    match fault {
        Fault::Join => ("is started", false),
        Fault::Leave => ("leaves", false),
        Fault::Crash => ("crashes", true),
        Fault::Pause => ("is paused", true),
        Fault::Cut => ("is cut off", true),
    }
}

fn mend(world: &World, fleet: &mut impl Fleet, repair: &Repair) {
    let name = &repair.name;
    let what = match repair.fault {
        Fault::Join | Fault::Leave => return,
        Fault::Crash => "is started again",
        Fault::Pause => "wakes up",
        Fault::Cut => "is connected again",
    };
    if repair.fault != Fault::Crash {
        world.enters(name, Phase::Live);
    }
    world.tell(Tone::Good, format!("{name} {what}"));
    fleet.mend(name, repair.fault);
}
