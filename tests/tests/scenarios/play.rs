//! Plays one scenario: some seeds of some kinds of worlds, with nothing but the faults that make
//! it, and a witness of its own beside all invariants.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_tests::sim::bounds::Terms;
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::figures::Figures;
use coordinator_tests::sim::invariants::{Invariant, Verdict};
use coordinator_tests::sim::report::command;
use coordinator_tests::sim::run::{Plan, run_with};
use coordinator_tests::sim::scene::Scene;
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::worlds::{Kind, World};

/// How often what happened, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counts {
    pub(crate) fn add(&self, what: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<&'static str, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a scenario looks at by itself: it counts what happened, and says what is wrong.
type See = Box<dyn FnMut(&Scene, &Seen, &Counts) -> Verdict + Send>;

struct Watch {
    see: See,
    counts: Counts,
}

impl Invariant for Watch {
    fn name(&self) -> &'static str {
        "THE-SCENARIO-ITSELF"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        (self.see)(scene, seen, &self.counts)
    }
}

/// For how long faults last, at the least and the most.
type Lasting = fn(&Terms) -> (Duration, Duration);

/// Which worlds, and which faults.
pub(crate) struct Scenario {
    kinds: Vec<Kind>,
    classes: Vec<Class>,
    seeds: usize,
    lasting: Option<Lasting>,
    fits: fn(&dyn World) -> bool,
}

impl Scenario {
    /// Two seeds of each kind of world, in which nothing happens but this.
    pub(crate) fn of(kinds: &[Kind], classes: &[Class]) -> Self {
        Self {
            kinds: kinds.into(),
            classes: classes.into(),
            seeds: 2,
            lasting: None,
            fits: |_| true,
        }
    }

    /// Of each kind so many seeds.
    pub(crate) fn seeds(mut self, seeds: usize) -> Self {
        self.seeds = seeds;
        self
    }

    /// For how long faults last.
    pub(crate) fn lasting(mut self, lasting: Lasting) -> Self {
        self.lasting = Some(lasting);
        self
    }

    /// Only in worlds that fit.
    pub(crate) fn fitting(mut self, fits: fn(&dyn World) -> bool) -> Self {
        self.fits = fits;
        self
    }

    /// Plays it. Whatever is violated ends the test, with the command that replays it.
    pub(crate) fn play<F>(&self, watch: impl Fn() -> F) -> Played
    where
        F: FnMut(&Scene, &Seen, &Counts) -> Verdict + Send + 'static,
    {
        let mut played = Played::default();
        for kind in &self.kinds {
            for seed in self.seeds_of(*kind) {
                self.play_one(*kind, seed, Box::new(watch()), &mut played);
            }
        }
        for class in &self.classes {
            assert!(played.faults(*class) > 0, "no {class} took effect");
        }
        let counts = played.counts.all();
        println!(
            "{} runs: {counts:?}, {:?}",
            played.runs, played.figures.faults
        );
        played
    }

    /// The first seeds whose worlds fit.
    fn seeds_of(&self, kind: Kind) -> impl Iterator<Item = u64> {
        let more = env::var("COORDINATOR_SEEDS").ok();
        let more = more.and_then(|more| more.parse().ok());
        let seeds = more.unwrap_or(0).max(self.seeds);
        let fits = self.fits;
        let fitting = (0..).filter(move |seed| fits(&*kind.world(*seed)));
        fitting.take(seeds)
    }

    fn play_one(&self, kind: Kind, seed: u64, see: See, played: &mut Played) {
        let terms = kind.world(seed).terms();
        let plan = Plan {
            only: Some(kind),
            classes: Some(self.classes.clone()),
            lasting: self.lasting.map(|lasting| lasting(&terms)),
            ..Plan::new(seed)
        };
        let counts = played.counts.clone();
        let testimony = run_with(&plan, vec![Box::new(Watch { see, counts })]).unwrap();
        if let Some(violation) = testimony.violation {
            panic!("{violation}\nreplay it: {}", command(&plan));
        }
        played.runs += 1;
        played.figures.add(&testimony.figures);
    }
}

/// What happened in all of its runs.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) runs: u64,
    pub(crate) figures: Figures,
    counts: Counts,
}

impl Played {
    /// How many faults of a class took effect.
    pub(crate) fn faults(&self, class: Class) -> u64 {
        self.figures.faults.get(&class).copied().unwrap_or(0)
    }

    /// How often the scenario's own witness counted something.
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.counts.all().get(what).copied().unwrap_or(0)
    }

    /// It has really happened, so often at least.
    pub(crate) fn at_least(&self, often: u64, what: &str) {
        let count = self.count(what);
        assert!(count >= often, "{what}: {count} times in {self:#?}");
    }
}

/// Fails unless it holds.
pub(crate) fn that(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}
