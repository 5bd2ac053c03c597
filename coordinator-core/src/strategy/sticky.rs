//! The default strategy: balanced by weight, and nothing moves that need not (rule S8).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::{Question, Strategy, index};
use crate::document::MemberIndex;

/// Gives every member its quota by weight, and moves as few shards as that takes (rule S8).
///
/// The quota is the member's share `N·w/Σw`, rounded by largest remainder; among equal remainders
/// those come first that hold more. Then only what a member holds above its quota moves, and what
/// nobody holds: `Σ max(0, held − quota)` shards, which is the least (LEAST-MOVED). Zones choose
/// among members that are equal in all that: the ones in the zone with the fewest shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sticky;

impl Sticky {
    /// The strategy; it has no settings.
    pub const fn new() -> Self {
        Self
    }

    /// How many shards each candidate should own, in their order.
    pub fn quotas(question: &Question<'_>) -> Vec<usize> {
        let mut held = vec![0; question.candidates.len()];
        for at in question
            .held
            .iter()
            .filter_map(|held| question.holder(*held))
        {
            held[at] += 1;
        }
        Quotas::new(question, held).settle()
    }
}

impl Strategy for Sticky {
    fn target(&self, question: &Question<'_>) -> Vec<Option<MemberIndex>> {
        let mut left = Self::quotas(question);
        // First everyone keeps what fits its quota, the lowest shards first ...
        let mut target: Vec<Option<MemberIndex>> = question
            .held
            .iter()
            .map(|held| {
                let at = question.holder(*held)?;
                left[at] = left[at].checked_sub(1)?;
                index(at)
            })
            .collect();
        // ... then the rest is dealt out in turn, so that neighbouring shards go to several hands.
        let mut receivers: VecDeque<usize> = (0..left.len()).filter(|at| left[*at] > 0).collect();
        for open in target.iter_mut().filter(|owner| owner.is_none()) {
            let Some(at) = receivers.pop_front() else {
                break;
            };
            *open = index(at);
            left[at] -= 1;
            if left[at] > 0 {
                receivers.push_back(at);
            }
        }
        target
    }
}

/// The computation of quotas.
struct Quotas<'a> {
    question: &'a Question<'a>,
    held: Vec<usize>,
    settled: Vec<usize>,
}

impl<'a> Quotas<'a> {
    fn new(question: &'a Question<'a>, held: Vec<usize>) -> Self {
        Self {
            question,
            settled: vec![0; held.len()],
            held,
        }
    }

    fn settle(mut self) -> Vec<usize> {
        let (receivers, keepers): (Vec<_>, Vec<_>) = (0..self.held.len())
            .filter(|at| self.weight(*at) > 0)
            .partition(|at| self.question.candidates[*at].receives);
        if receivers.is_empty() {
            // Nobody could take what they would give up.
            for at in keepers {
                self.settled[at] = self.held[at];
            }
            return self.settled;
        }
        let kept = self.settle_keepers(&receivers, &keepers);
        self.share_out(self.question.held.len() - kept, &receivers);
        self.settled
    }

    /// Settles those that receive nothing: their share, rounded up, but no more than they hold.
    /// Returns how many shards they keep.
    fn settle_keepers(&mut self, receivers: &[usize], keepers: &[usize]) -> usize {
        let mut shards = self.question.held.len() as u128;
        let mut weights: u128 = receivers
            .iter()
            .chain(keepers)
            .map(|at| self.weight(*at))
            .sum();
        let mut open = keepers.to_vec();
        // Who holds no more than its share keeps it all. That leaves more for the others, so it
        // may be true of yet another one; each round settles one at least.
        loop {
            let before = open.len();
            open.retain(|at| {
                let (weight, held) = (self.weight(*at), self.held[*at] as u128);
                let keeps_all = held * weights <= shards * weight;
                if keeps_all {
                    self.settled[*at] = self.held[*at];
                    shards -= held;
                    weights -= weight;
                }
                !keeps_all
            });
            if open.len() == before {
                break;
            }
        }
        for at in open {
            let share = (shards * self.weight(at)).div_ceil(weights);
            self.settled[at] =
                usize::try_from(share).map_or(self.held[at], |share| share.min(self.held[at]));
        }
        keepers.iter().map(|at| self.settled[*at]).sum()
    }

    /// Shares `shards` out among these, by largest remainder.
    fn share_out(&mut self, shards: usize, among: &[usize]) {
        let total: u128 = among.iter().map(|at| self.weight(*at)).sum();
        let mut left = shards;
        let mut remainders = Vec::with_capacity(among.len());
        for at in among {
            let share = shards as u128 * self.weight(*at);
            let whole = usize::try_from(share / total).unwrap_or(shards);
            self.settled[*at] = whole;
            left -= whole;
            let above = self.held[*at].saturating_sub(whole);
            remainders.push((Reverse(share % total), Reverse(above), *at));
        }
        remainders.sort_unstable();
        for equals in remainders.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            if left == 0 {
                return;
            }
            left -= self.round_up(left, equals.iter().map(|(.., at)| *at));
        }
    }

    /// Gives one more shard to at most `left` of these equals, always the next by id of the zone
    /// that has the fewest shards. Returns how many got one.
    fn round_up(&mut self, left: usize, equals: impl Iterator<Item = usize>) -> usize {
        let equals: Vec<usize> = equals.collect();
        if equals.len() <= left {
            for at in &equals {
                self.settled[*at] += 1;
            }
            return equals.len();
        }
        let totals = self.zone_totals();
        let mut zones: BTreeMap<Option<&str>, VecDeque<usize>> = BTreeMap::new();
        for at in equals {
            zones.entry(self.zone(at)).or_default().push_back(at);
        }
        let total = |zone: Option<&str>| totals.get(&zone).copied().unwrap_or_default();
        let mut poorest: BinaryHeap<_> = zones
            .iter()
            .map(|(zone, members)| Reverse((total(*zone), members.front().copied(), *zone)))
            .collect();
        for _ in 0..left {
            let Some(Reverse((shards, _, zone))) = poorest.pop() else {
                break;
            };
            let Some(members) = zones.get_mut(&zone) else {
                continue;
            };
            if let Some(at) = members.pop_front() {
                self.settled[at] += 1;
            }
            if let Some(next) = members.front() {
                poorest.push(Reverse((shards + 1, Some(*next), zone)));
            }
        }
        left
    }

    fn zone_totals(&self) -> BTreeMap<Option<&'a str>, usize> {
        let mut totals = BTreeMap::new();
        for (at, quota) in self.settled.iter().enumerate() {
            *totals.entry(self.zone(at)).or_default() += quota;
        }
        totals
    }

    fn weight(&self, at: usize) -> u128 {
        u128::from(self.question.candidates[at].weight)
    }

    fn zone(&self, at: usize) -> Option<&'a str> {
        self.question.candidates[at].zone
    }
}

#[cfg(test)]
mod tests;
