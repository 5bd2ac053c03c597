//! One run, from the input to the verdict.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::Context;
use coordinator_memory::MemoryStore;
use coordinator_node::core::MAX_POSITION_BYTES;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::chaos::Chaos;
use crate::faults;
use crate::fleet::{Fleet, TTL};
use crate::input::{self, Event};
use crate::ledger::{self, Ledger};
use crate::options::{Options, Speed};
use crate::screen::{Screen, Wish};
use crate::source::Source;
use crate::state::{ShardState, State};
use crate::verdict::{Evidence, Verdict};
use crate::watch::Watch;
use crate::world::World;

/// How long events keep coming.
const SPAN: Duration = Duration::from_secs(200);

/// How long the fleet may then take to fold what is left, before it counts as stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// The time over which the rate of saved events is taken.
const RATE_OVER: Duration = Duration::from_secs(4);

/// How a run came to its end.
pub(crate) enum Ended {
    Judged(Verdict),
    /// By the viewer, or by a signal.
    Interrupted,
}

/// A run that can begin.
pub(crate) struct Run {
    seed: u64,
    nodes: NonZeroU16,
    shards: NonZeroU16,
    faults: bool,
    events: Vec<Vec<Event>>,
    expected: Vec<Ledger>,
}

impl Run {
    /// Reads the input, and computes in this process what the fleet will have to arrive at.
    pub(crate) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let events = ledger::cut(input::read(&options.input)?, options.shards);
        let expected = ledger::reference(&events);
        for (shard, ledger) in expected.iter().enumerate() {
            let bytes = ledger.to_string().len();
            anyhow::ensure!(
                bytes <= MAX_POSITION_BYTES,
                "the {} authors of shard {shard} need a checkpoint of {bytes} bytes, allowed are \
                 {MAX_POSITION_BYTES}: give more --shards than {}",
                ledger.authors.len(),
                options.shards
            );
        }
        Ok(Self {
            seed: options.seed,
            nodes: options.nodes,
            shards: options.shards,
            faults: !options.no_faults,
            events,
            expected,
        })
    }

    /// Lets the fleet run, shows it, and judges it; unless `interrupted` ends first.
    pub(crate) async fn play(
        self,
        mut screen: Screen,
        speed: Speed,
        interrupted: impl Future<Output = ()>,
    ) -> anyhow::Result<Ended> {
        let began = Instant::now();
        let source = Source::new(began, SPAN, self.events);
        let world = World::new(began, source, self.shards.get());
        let store = MemoryStore::builder().seed(self.seed).build();
        let director = Director {
            world: world.clone(),
            store,
            seed: self.seed,
            nodes: self.nodes,
            shards: self.shards,
            faults: self.faults,
        };
        let mut playing = tokio::spawn(director.play());
        let mut camera = Camera::new(world.clone(), self.seed, speed);
        let found = tokio::select! {
            biased;
            () = interrupted => None,
            found = watch(&mut playing, &mut screen, &mut camera) => found?,
        };
        drop(screen);
        let Some(found) = found else {
            return Ok(Ended::Interrupted);
        };
        Ok(Ended::Judged(Verdict::of(&Evidence {
            record: &world.record(),
            expected: &self.expected,
            found: &found,
            faults: self.faults,
        })))
    }
}

/// Shows the run until it has ended. `None`: the viewer has seen enough.
async fn watch(
    playing: &mut JoinHandle<anyhow::Result<Vec<Ledger>>>,
    screen: &mut Screen,
    camera: &mut Camera,
) -> anyhow::Result<Option<Vec<Ledger>>> {
    loop {
        let ended = tokio::time::timeout(screen.step(), &mut *playing).await;
        let wish = screen.show(&camera.picture())?;
        match (ended, wish) {
            (Ok(found), _) => return found.context("the demo itself failed")?.map(Some),
            (Err(_), Wish::Quit) => return Ok(None),
            (Err(_), Wish::GoOn) => {}
        }
    }
}

/// Makes everything happen.
struct Director {
    world: World,
    store: MemoryStore,
    seed: u64,
    nodes: NonZeroU16,
    shards: NonZeroU16,
    faults: bool,
}

impl Director {
    /// Plays the whole run. Returns what the store holds in the end.
    async fn play(self) -> anyhow::Result<Vec<Ledger>> {
        let shards = usize::from(self.shards.get());
        let watch = Watch::new(self.world.clone(), self.store.connect("observer"));
        let script = self.script();
        tokio::select! {
            biased;
            failed = watch.run() => failed?,
            () = script => {}
        }
        watch.ledgers(shards).await
    }

    async fn script(&self) {
        let mut fleet = Fleet::new(self.world.clone(), self.store.clone(), self.shards);
        for _ in 0..self.nodes.get() {
            fleet.start_new();
        }
        let faults = if self.faults {
            faults::schedule(self.seed, SPAN, TTL)
        } else {
            Vec::new()
        };
        let chaos = Chaos::new(self.world.clone(), fleet, self.seed);
        let fleet = chaos.unleash(faults).await;
        self.all_saved().await;
        fleet.end().await;
    }

    /// Waits until every event is saved.
    async fn all_saved(&self) {
        let deadline = self.world.moment(SPAN + PATIENCE);
        while self.world.record().witness.saved_total() < self.world.source().total() {
            if Instant::now() >= deadline {
                let what = format!("not all events are saved {PATIENCE:?} after the last came");
                return self.world.violated(what);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Takes pictures of the world.
struct Camera {
    world: World,
    seed: u64,
    speed: Speed,
    /// When how many events were saved, of late.
    saved: VecDeque<(Duration, usize)>,
}

impl Camera {
    fn new(world: World, seed: u64, speed: Speed) -> Self {
        Self {
            world,
            seed,
            speed,
            saved: VecDeque::new(),
        }
    }

    fn picture(&mut self) -> State {
        let now = self.world.now();
        let source = self.world.source();
        let record = self.world.record();
        let figures = record.witness.figures();
        let saved = record.witness.saved_total();
        let shard = |index: usize| {
            let owner = record.witness.owner(index);
            let named = |name: &str| record.nodes.iter().position(|node| node.name == name);
            ShardState {
                owner: owner.and_then(named),
                draining: record.draining[index],
                saved: record.witness.saved_of(index),
                total: source.len(index),
            }
        };
        let state = State {
            seed: self.seed,
            speed: self.speed.to_string(),
            now,
            span: SPAN,
            released: source.released(),
            saved,
            total: source.total(),
            rate: 0.0,
            planner: record.planner.clone(),
            terms: record.terms.len(),
            hand_offs: figures.hand_offs,
            refused: figures.refused,
            overlaps: figures.overlaps,
            nodes: record.nodes.clone(),
            shards: (0..record.draining.len()).map(shard).collect(),
            log: record.log.clone(),
        };
        drop(record);
        State {
            rate: self.rate(now, saved),
            ..state
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    fn rate(&mut self, now: Duration, saved: usize) -> f64 {
        self.saved.push_back((now, saved));
        while self.saved.len() > 2 && self.saved[1].0 + RATE_OVER <= now {
            self.saved.pop_front();
        }
        let (since, before) = self.saved[0];
        let passed = now.saturating_sub(since).as_secs_f64();
        if passed > 0.0 {
            (saved - before) as f64 / passed
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use clap::Parser;

    use super::*;

    /// Plays a run with these flags, and returns what it prints and its verdict.
    async fn play(flags: &[&str]) -> (String, Verdict) {
        let words = std::iter::once("demo").chain(flags.iter().copied());
        let run = Run::prepare(&Options::try_parse_from(words).unwrap()).unwrap();
        let printed = Printed::default();
        let screen = Screen::lines(Speed::Max, printed.clone());
        let Ended::Judged(verdict) = run.play(screen, Speed::Max, pending()).await.unwrap() else {
            panic!("nobody ends the run");
        };
        let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
        (text, verdict)
    }

    #[derive(Clone, Default)]
    struct Printed(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// H15.
    #[tokio::test(start_paused = true)]
    async fn the_result_is_equal_through_all_faults() {
        let (text, verdict) = play(&["--seed", "3"]).await;
        assert!(verdict.is_equal(), "{text}{verdict}");
        assert!(
            verdict.to_string().ends_with("verdict: equal\n"),
            "{verdict}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_no_event_is_folded_again() {
        let (text, verdict) = play(&["--no-faults"]).await;
        assert!(verdict.is_equal(), "{text}{verdict}");
        let said = verdict.to_string();
        assert!(said.contains("(0 folded again"), "{said}");
    }

    #[test]
    fn a_seed_replays_its_run() {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let (text, verdict) = runtime.block_on(play(&["--seed", "11"]));
            format!("{text}{verdict}")
        };
        assert_eq!(run(), run());
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_one_shard_and_more_nodes_than_shards_are_fleets_too() {
        for flags in [
            ["--nodes", "1", "--shards", "1"],
            ["--nodes", "1", "--shards", "8"],
            ["--nodes", "6", "--shards", "3"],
        ] {
            let (text, verdict) = play(&flags).await;
            assert!(verdict.is_equal(), "{flags:?}\n{text}{verdict}");
        }
    }
}
