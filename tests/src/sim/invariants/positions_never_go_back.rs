use std::collections::BTreeMap;

use coordinator_memory::Event;
use coordinator_node::core::{Group, Keyspace, ShardId};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Scene, What};
use crate::sim::seen::Seen;

/// The position of a shard never goes back, and whoever takes a shard over begins where the last
/// one came to.
///
/// C1, C2; H14. By the store's own account: no position is stored that is lower than the last one;
/// a claim reads the last one. By the work: it was never told that a position is stored which the
/// store has not, and it loads what the store has read. A store that loses its memory forgets
/// positions, too.
#[derive(Debug, Default)]
pub struct PositionsNeverGoBack {
    stored: BTreeMap<What, u64>,
    /// Never forgotten.
    highest: BTreeMap<What, u64>,
}

impl PositionsNeverGoBack {
    fn saved(&mut self, what: &What, position: u64) -> Verdict {
        let highest = self.highest.entry(what.clone()).or_default();
        *highest = position.max(*highest);
        let last = self.stored.insert(what.clone(), position);
        that(last.is_none_or(|last| last <= position), || {
            format!("{what} is at {position} after {}", last.unwrap_or(0))
        })
    }

    fn loaded(&self, what: &What, position: Option<u64>) -> Verdict {
        let last = self.stored.get(what).copied();
        that(last.is_none() || position == last, || {
            format!("{what} is read as {position:?}, stored is {last:?}")
        })
    }
}

impl Invariant for PositionsNeverGoBack {
    fn name(&self) -> &'static str {
        "POSITIONS-NEVER-GO-BACK"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(Event::Saved {
                group,
                keyspace,
                shard,
                position,
                ..
            }) => {
                let what = what(group, keyspace, *shard);
                number(position.as_str()).map_or(Ok(()), |position| self.saved(&what, position))
            }
            Seen::Store(Event::Loaded {
                group,
                keyspace,
                shard,
                position,
                ..
            }) => {
                let position = position.as_ref().and_then(|it| number(it.as_str()));
                self.loaded(&what(group, keyspace, *shard), position)
            }
            Seen::Saves(id, position) => {
                let what = &scene.holds[*id].what;
                let highest = self.highest.get(what).copied().unwrap_or(0);
                that(*position <= highest, || {
                    format!("{what} is told to be at {position}, stored was at most {highest}")
                })
            }
            Seen::Store(Event::MemoryLost { .. }) => {
                self.stored.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn what(group: &Group, keyspace: &Keyspace, shard: ShardId) -> What {
    format!("{group}/{keyspace}/{shard}").into()
}

fn number(position: &str) -> Option<u64> {
    position.parse().ok()
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::{FencingToken, Position};

    use super::super::kit::{Stage, memory_lost};
    use super::*;

    fn saved(position: u64) -> Seen {
        Seen::Store(Event::Saved {
            group: "g".into(),
            keyspace: "orders".into(),
            shard: ShardId::new(0),
            token: FencingToken::new(1),
            position: Position::new(position.to_string()),
        })
    }

    fn loaded(position: u64) -> Seen {
        Seen::Store(Event::Loaded {
            group: "g".into(),
            keyspace: "orders".into(),
            shard: ShardId::new(0),
            token: FencingToken::new(1),
            position: Some(Position::new(position.to_string())),
        })
    }

    #[test]
    fn a_position_that_goes_back_is_a_violation() {
        let mut stage = Stage::new(PositionsNeverGoBack::default());
        stage.ok(saved(4));
        stage.ok(saved(5));
        stage.bad(saved(3));
        stage.ok(memory_lost());
        stage.ok(saved(1));
    }

    #[test]
    fn a_claim_that_reads_another_position_is_a_violation() {
        let mut stage = Stage::new(PositionsNeverGoBack::default());
        stage.ok(saved(4));
        stage.ok(loaded(4));
        stage.bad(loaded(3));
    }

    #[test]
    fn an_answer_to_a_save_that_never_was_is_a_violation() {
        let mut stage = Stage::new(PositionsNeverGoBack::default());
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(saved(4));
        stage.ok(Seen::Saves(hold, 4));
        stage.bad(Seen::Saves(hold, 5));
    }
}
