//! How many shards the planner moved, and how few would have done.

use std::collections::{BTreeMap, BTreeSet};

use coordinator_node::MemberId;
use coordinator_node::core::{Document, MemberIndex, Slot};

/// Follows the assignment from document to document.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Who has, or will get, each shard.
    targets: Vec<Target>,
    moved: usize,
    least: usize,
}

/// Where one shard is meant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Never been anybody's.
    New,
    /// Its owner has ended, and nobody is chosen yet.
    Orphan,
    /// This member's.
    Of(MemberId),
}

impl Moves {
    /// Compares the next document with the one before. By LEAST-MOVED (rule S8) a change of the
    /// members costs their excess over their quotas, and what nobody has.
    pub(crate) fn see(&mut self, document: &Document) {
        if self.targets.len() != document.slots.len() {
            self.targets = vec![Target::New; document.slots.len()];
        }
        let name = |index: MemberIndex| document.member(index).map(|(id, _)| id.clone());
        let meant = document.slots.iter().zip(&self.targets);
        let next: Vec<Target> = meant
            .map(|(slot, before)| {
                let whose = match *slot {
                    Slot::Free { reserved } => reserved.and_then(name),
                    Slot::Owned { member, .. } => name(member),
                    Slot::Revoking { next, .. } => next.and_then(name),
                };
                match (whose, before) {
                    (Some(id), _) => Target::Of(id),
                    (None, Target::New) => Target::New,
                    (None, Target::Orphan | Target::Of(_)) => Target::Orphan,
                }
            })
            .collect();
        let placed = |target: &&Target| matches!(target, Target::Of(_));
        let before = self.targets.iter().zip(&next);
        let moved = before
            .filter(|(before, next)| **before != Target::New && before != next && placed(next))
            .count();
        if moved > 0 {
            self.moved += moved;
            self.least += least(&self.targets, &next);
        }
        self.targets = next;
    }

    /// Shards that were sent from one member to another.
    pub(crate) fn moved(&self) -> usize {
        self.moved
    }

    /// How few would have done, change by change.
    pub(crate) fn least(&self) -> usize {
        self.least
    }
}

/// The least number of moves from `before` to a balance over the members of `next`.
fn least(before: &[Target], next: &[Target]) -> usize {
    let owner = |target: &Target| match target {
        Target::Of(id) => Some(id.clone()),
        Target::New | Target::Orphan => None,
    };
    let members: BTreeSet<MemberId> = next.iter().filter_map(owner).collect();
    if members.is_empty() {
        return 0;
    }
    let mut held: BTreeMap<MemberId, usize> = members.into_iter().map(|id| (id, 0)).collect();
    let mut homeless = 0;
    for (before, next) in before.iter().zip(next) {
        match owner(before).and_then(|id| held.get_mut(&id)) {
            Some(count) => *count += 1,
            // One that stays an orphan in this step is counted when it finds its place.
            None if *before != Target::New && owner(next).is_some() => homeless += 1,
            None => {}
        }
    }
    let (quota, larger) = (next.len() / held.len(), next.len() % held.len());
    // The larger quotas go to those who hold more: that moves the fewest.
    let mut counts: Vec<usize> = held.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let excess = counts.iter().enumerate().map(|(place, held)| {
        let quota = quota + usize::from(place < larger);
        held.saturating_sub(quota)
    });
    homeless + excess.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::{Incarnation, Layout};
    use coordinator_node::{Epoch, FencingToken, Routing};

    use super::*;

    /// A document in which shard `i` is the `i`th letter's; a dot is nobody's.
    fn document(owners: &str) -> Document {
        let shards = u16::try_from(owners.len()).unwrap();
        let layout = Layout::Fixed { shards };
        let mut document = Document::new(FencingToken::new(1), layout, Routing::default());
        let names: BTreeSet<char> = owners.chars().filter(|name| *name != '.').collect();
        let life = |name: &char| (MemberId::from(name.to_string()), Incarnation::new(1));
        document.members = names.iter().map(life).collect();
        let slot = |owner: char| match names.iter().position(|name| *name == owner) {
            None => Slot::Free { reserved: None },
            Some(index) => Slot::Owned {
                member: u16::try_from(index).unwrap(),
                token: Epoch::new(1),
            },
        };
        document.slots = owners.chars().map(slot).collect();
        document
    }

    fn moves(documents: &[&str]) -> (usize, usize) {
        let mut moves = Moves::default();
        for owners in documents {
            moves.see(&document(owners));
        }
        (moves.moved(), moves.least())
    }

    #[test]
    fn the_first_assignment_moves_nothing() {
        assert_eq!(moves(&["......", "aaabbb"]), (0, 0));
    }

    #[test]
    fn a_joiner_costs_its_share() {
        assert_eq!(moves(&["aaabbb", "aacbbc"]), (2, 2));
    }

    #[test]
    fn a_death_costs_what_the_dead_had_also_by_way_of_nobody() {
        assert_eq!(moves(&["aabbcc", "aabbab"]), (2, 2));
        assert_eq!(moves(&["aabbcc", "aabb..", "aabbab"]), (2, 2));
        assert_eq!(moves(&["aabbcc", "aabb..", "aabba.", "aabbab"]), (2, 2));
    }

    #[test]
    fn needless_moves_are_seen() {
        assert_eq!(moves(&["aaabbb", "bbbaaa"]), (6, 0));
        assert_eq!(moves(&["aaabbb", "bacbac"]), (4, 2));
    }
}
