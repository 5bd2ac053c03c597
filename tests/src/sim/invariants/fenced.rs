use std::collections::BTreeMap;

use coordinator_memory::Event;
use coordinator_node::core::{Group, Keyspace, ShardId};

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A write that carries a token lower than the highest claimed is refused by the store.
///
/// C1, C2; H8, H14. By the store's own account: neither a claim nor a save is accepted under a
/// lower token than one before it on the same shard. A store that loses its memory forgets its
/// fences, too.
#[derive(Debug, Default)]
pub struct Fenced {
    fences: BTreeMap<(Group, Keyspace, ShardId), u64>,
}

impl Fenced {
    fn write(&mut self, place: &(Group, Keyspace, ShardId), token: u64) -> Verdict {
        let fence = self.fences.entry(place.clone()).or_default();
        let highest = *fence;
        *fence = highest.max(token);
        that(token >= highest, || {
            let (group, keyspace, shard) = place;
            format!("{group} {keyspace}/{shard} takes a write of #{token} after #{highest}")
        })
    }
}

impl Invariant for Fenced {
    fn name(&self) -> &'static str {
        "FENCED"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(
                Event::Loaded {
                    group,
                    keyspace,
                    shard,
                    token,
                    ..
                }
                | Event::Saved {
                    group,
                    keyspace,
                    shard,
                    token,
                    ..
                },
            ) => self.write(&(group.clone(), keyspace.clone(), *shard), token.get()),
            Seen::Store(Event::MemoryLost { .. }) => {
                self.fences.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::{FencingToken, Position};

    use super::super::kit::{Stage, memory_lost};
    use super::*;

    fn saved(token: u64) -> Seen {
        Seen::Store(Event::Saved {
            group: "g".into(),
            keyspace: "orders".into(),
            shard: ShardId::new(0),
            token: FencingToken::new(token),
            position: Position::new("1"),
        })
    }

    #[test]
    fn an_older_write_that_is_taken_is_a_violation() {
        let mut stage = Stage::new(Fenced::default());
        stage.ok(saved(2));
        stage.ok(saved(2));
        stage.bad(saved(1));
    }

    #[test]
    fn a_store_that_forgot_everything_takes_any_write() {
        let mut stage = Stage::new(Fenced::default());
        stage.ok(saved(2));
        stage.ok(memory_lost());
        stage.ok(saved(1));
    }
}
