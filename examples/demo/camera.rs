//! What there is to see, at one moment after the other.

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::{ShardState, State};
use crate::world::World;

/// The time over which the rate of saved events is taken.
const RATE_OVER: Duration = Duration::from_secs(4);

/// Takes pictures of the world.
pub(crate) struct Camera {
    world: World,
    seed: u64,
    /// The pace or the place, as words.
    pace: String,
    /// How long events keep coming.
    span: Duration,
    /// When how many events were saved, of late.
    saved: VecDeque<(Duration, usize)>,
}

impl Camera {
    pub(crate) fn new(world: World, seed: u64, pace: String, span: Duration) -> Self {
        Self {
            world,
            seed,
            pace,
            span,
            saved: VecDeque::new(),
        }
    }

    /// What there is to see at this moment.
    pub(crate) fn picture(&mut self) -> State {
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
            pace: self.pace.clone(),
            now,
            span: self.span,
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
