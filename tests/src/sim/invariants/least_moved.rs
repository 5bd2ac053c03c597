use std::collections::BTreeMap;

use coordinator_node::core::{Document, Group, Keyspace, Layout, MemberId, Slot};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Phase, Scene};
use crate::sim::seen::Seen;

type Owners = BTreeMap<u16, MemberId>;

/// A change of members moves no more shards than balance requires.
///
/// S8; H1, H2, H3, H7. In a fleet that serves, between one document in which every shard is owned
/// and the next: the shards that have passed to another name are at most those of names that are
/// gone, and what others held above their quota.
#[derive(Debug, Default)]
pub struct LeastMoved {
    stable: BTreeMap<(Group, Keyspace), Owners>,
}

impl Invariant for LeastMoved {
    fn name(&self) -> &'static str {
        "LEAST-MOVED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Seen::Swapped(swap) = seen else {
            return Ok(());
        };
        let Some(after) = owners(&swap.next) else {
            return Ok(());
        };
        let place = (swap.group.clone(), swap.keyspace.clone());
        let before = self.stable.insert(place, after.clone());
        let Some(before) = before.filter(|_| scene.phase == Phase::Settled) else {
            return Ok(());
        };
        let moved = before
            .iter()
            .filter(|(shard, owner)| after.get(shard) != Some(owner))
            .count();
        let needed = needed(&before, &after);
        that(moved <= needed, || {
            format!("{moved} shards of {} moved, needed were {needed}", swap.keyspace)
        })
    }
}

/// Who owns what, if everything of a fixed layout is owned.
fn owners(document: &Document) -> Option<Owners> {
    if document.layout == Layout::Dense {
        return None;
    }
    let owner = |slot: &Slot| match slot {
        Slot::Owned { member, .. } => document.member(*member).map(|(id, _)| id.clone()),
        Slot::Free { .. } | Slot::Revoking { .. } => None,
    };
    document
        .numbered()
        .map(|(shard, slot)| Some((shard.get(), owner(slot)?)))
        .collect()
}

fn counts(owners: &Owners) -> BTreeMap<&MemberId, usize> {
    let mut counts = BTreeMap::new();
    for owner in owners.values() {
        *counts.entry(owner).or_default() += 1;
    }
    counts
}

/// How many must move from one to the other: all of who is gone, and what is above a quota; the
/// larger quotas go to those who hold most.
fn needed(before: &Owners, after: &Owners) -> usize {
    let (held, now) = (counts(before), counts(after));
    let (each, rest) = (after.len() / now.len().max(1), after.len() % now.len().max(1));
    let gone: usize = held
        .iter()
        .filter(|(owner, _)| !now.contains_key(*owner))
        .map(|(_, held)| *held)
        .sum();
    let mut staying: Vec<usize> = held
        .iter()
        .filter(|(owner, _)| now.contains_key(*owner))
        .map(|(_, held)| *held)
        .collect();
    staying.sort_unstable_by(|one, other| other.cmp(one));
    let quota = |place| each + usize::from(place < rest);
    let above = staying
        .iter()
        .enumerate()
        .map(|(place, held)| held.saturating_sub(quota(place)));
    gone + above.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, swapped};
    use super::*;

    fn settled() -> Stage {
        let mut stage = Stage::new(LeastMoved::default());
        let owners = [Some((0, 1)), Some((0, 1)), Some((1, 1)), Some((1, 1))];
        stage.ok(swapped(None, document(1, &owners), &[0, 1]));
        stage.ok(Seen::Settles);
        stage
    }

    #[test]
    fn a_shard_that_moves_without_need_is_a_violation() {
        let owners = [Some((2, 2)), Some((0, 1)), Some((1, 1)), Some((1, 1))];
        settled().ok(swapped(None, document(2, &owners), &[0, 1, 2]));
        let owners = [Some((1, 2)), Some((0, 1)), Some((0, 2)), Some((1, 1))];
        settled().bad(swapped(None, document(2, &owners), &[0, 1]));
    }

    #[test]
    fn all_of_who_leaves_may_move() {
        let owners = [Some((0, 1)), Some((0, 1)), Some((0, 2)), Some((0, 2))];
        settled().ok(swapped(None, document(2, &owners), &[0]));
    }
}
