use std::collections::BTreeMap;

use coordinator_node::core::{Document, Group, Keyspace, MemberId, Slot};

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A rolling restart of static names within the grace period moves no shard.
///
/// S5; H16. From the first restart of a fleet that serves: no shard is granted to another name than
/// the one that had it.
#[derive(Debug, Default)]
pub struct RollingMovesNothing {
    owners: BTreeMap<(Group, Keyspace), BTreeMap<u16, MemberId>>,
    rolls: bool,
}

impl Invariant for RollingMovesNothing {
    fn name(&self) -> &'static str {
        "ROLLING-MOVES-NOTHING"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Rolls(_) => {
                self.rolls = true;
                Ok(())
            }
            Seen::Leaves(_) => {
                self.rolls = false;
                Ok(())
            }
            Seen::Swapped(swap) => {
                let place = (swap.group.clone(), swap.keyspace.clone());
                let known = self.owners.entry(place).or_default();
                for (shard, owner) in owners(&swap.next) {
                    let last = known.insert(shard, owner.clone());
                    let moved = self.rolls && last.as_ref().is_some_and(|last| *last != owner);
                    that(!moved, || {
                        let last = last.map_or_else(String::new, |last| last.to_string());
                        format!("{}/{shard} moves from {last} to {owner}", swap.keyspace)
                    })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn owners(document: &Document) -> impl Iterator<Item = (u16, MemberId)> {
    document.numbered().filter_map(|(shard, slot)| match slot {
        Slot::Owned { member, .. } => {
            let (id, _) = document.member(*member)?;
            Some((shard.get(), id.clone()))
        }
        Slot::Free { .. } | Slot::Revoking { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, swapped};
    use super::*;

    #[test]
    fn a_shard_that_moves_in_a_rolling_restart_is_a_violation() {
        let mut stage = Stage::new(RollingMovesNothing::default());
        let owned = |epoch, member| swapped(None, document(epoch, &[Some((member, epoch))]), &[]);
        stage.ok(owned(1, 0));
        stage.ok(owned(2, 1));
        stage.ok(Seen::Rolls(1));
        stage.ok(swapped(None, document(3, &[None]), &[]));
        stage.ok(owned(4, 1));
        stage.bad(owned(5, 0));
    }
}
