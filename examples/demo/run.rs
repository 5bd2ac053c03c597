//! One run, from the input to the verdict.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::Context;
use coordinator_memory::MemoryStore;
use coordinator_node::core::MAX_POSITION_BYTES;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::camera::Camera;
use crate::director::Director;
use crate::faults::{self, Fault, Planned};
use crate::fleet::Fleet;
use crate::input::{self, Event};
use crate::ledger::{self, Ledger};
use crate::memory::{Checkpoints, TTL, Tasks};
use crate::options::{Options, Speed};
use crate::screen::{Screen, Wish};
use crate::source::Source;
use crate::verdict::{Evidence, Verdict};
use crate::watch::{Store, Watch};
use crate::world::World;

/// How long events keep coming.
const SPAN: Duration = Duration::from_secs(200);

/// How long the fleet may then take to fold what is left, before it counts as stuck.
const PATIENCE: Duration = Duration::from_mins(10);

/// How often the observer looks at what nobody tells it.
const LOOK: Duration = Duration::from_millis(10);

/// How a run came to its end.
pub(crate) enum Ended {
    Judged(Verdict),
    /// By the viewer, or by a signal.
    Interrupted,
}

/// A run that can begin.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) nodes: NonZeroU16,
    pub(crate) shards: NonZeroU16,
    faults: bool,
    pub(crate) events: Vec<Vec<Event>>,
    /// What the fleet will have to arrive at, shard by shard.
    pub(crate) expected: Vec<Ledger>,
}

impl Run {
    /// Reads the input, and computes in this process what the fleet will have to arrive at.
    pub(crate) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let events = ledger::cut(input::read(&options.input)?, options.shards);
        Ok(Self {
            seed: options.seed,
            nodes: options.nodes,
            shards: options.shards,
            faults: !options.no_faults,
            expected: ledger::reference(&events),
            events,
        })
    }

    /// The kinds of faults to play, of those that a fleet can suffer.
    pub(crate) fn kinds(&self, all: &'static [Fault]) -> &'static [Fault] {
        if self.faults { all } else { &[] }
    }

    /// When which of them hits.
    pub(crate) fn schedule(&self, kinds: &[Fault], span: Duration, ttl: Duration) -> Vec<Planned> {
        faults::schedule(self.seed, kinds, span, ttl)
    }

    /// Lets a fleet run in this process, shows it, and judges it; unless `interrupted` ends first.
    pub(crate) async fn play(
        self,
        screen: Screen,
        speed: Speed,
        interrupted: impl Future<Output = ()>,
    ) -> anyhow::Result<Ended> {
        self.check_checkpoints()?;
        let kinds = self.kinds(&Fault::ALL);
        let faults = self.schedule(kinds, SPAN, TTL);
        let began = Instant::now();
        let source = Source::new(began, SPAN, self.events);
        let world = World::new(began, source, self.shards.get());
        let store = MemoryStore::builder().seed(self.seed).build();
        let watch = Watch::new(world.clone(), Checkpoints::of(&store), LOOK);
        let director = Director {
            world: world.clone(),
            fleet: Tasks::new(world.clone(), store, self.shards),
            watch,
            seed: self.seed,
            nodes: self.nodes,
            faults,
            deadline: SPAN + PATIENCE,
        };
        let camera = Camera::new(world.clone(), self.seed, format!("speed {speed}"), SPAN);
        let stage = Stage {
            world,
            camera,
            screen,
            expected: self.expected,
            kinds,
        };
        stage.play(director, interrupted).await
    }

    /// Here a shard's totals are its checkpoint.
    fn check_checkpoints(&self) -> anyhow::Result<()> {
        for (shard, ledger) in self.expected.iter().enumerate() {
            let bytes = ledger.to_string().len();
            anyhow::ensure!(
                bytes <= MAX_POSITION_BYTES,
                "the {} authors of shard {shard} need a checkpoint of {bytes} bytes, allowed are \
                 {MAX_POSITION_BYTES}: give more --shards than {}",
                ledger.authors.len(),
                self.shards
            );
        }
        Ok(())
    }
}

/// Where a run is seen and judged.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) camera: Camera,
    pub(crate) screen: Screen,
    pub(crate) expected: Vec<Ledger>,
    /// The kinds of faults that are played.
    pub(crate) kinds: &'static [Fault],
}

impl Stage {
    /// Plays a run to its verdict, or until `interrupted`. Nothing of it is left running.
    pub(crate) async fn play<F: Fleet, S: Store>(
        mut self,
        director: Director<F, S>,
        interrupted: impl Future<Output = ()>,
    ) -> anyhow::Result<Ended> {
        let mut playing = tokio::spawn(director.play());
        let found = tokio::select! {
            biased;
            () = interrupted => Ok(None),
            found = self.watch(&mut playing) => found,
        };
        drop(self.screen);
        if !playing.is_finished() {
            playing.abort();
            // It was told to stop: that it did is all there is to know.
            playing.await.ok();
        }
        let Some(found) = found? else {
            return Ok(Ended::Interrupted);
        };
        Ok(Ended::Judged(Verdict::of(&Evidence {
            record: &self.world.record(),
            expected: &self.expected,
            found: &found,
            faults: self.kinds,
        })))
    }

    /// Shows the run until it has ended. `None`: the viewer has seen enough.
    async fn watch(
        &mut self,
        playing: &mut JoinHandle<anyhow::Result<Vec<Ledger>>>,
    ) -> anyhow::Result<Option<Vec<Ledger>>> {
        loop {
            let ended = tokio::time::timeout(self.screen.step(), &mut *playing).await;
            let wish = self.screen.show(&self.camera.picture())?;
            match (ended, wish) {
                (Ok(found), _) => return found.context("the demo itself failed")?.map(Some),
                (Err(_), Wish::Quit) => return Ok(None),
                (Err(_), Wish::GoOn) => {}
            }
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
