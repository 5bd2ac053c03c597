use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy as Generator, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::strategy::Candidate;

fn counts(target: &[Option<MemberIndex>], members: usize) -> Vec<usize> {
    let mut counts = vec![0; members];
    for owner in target.iter().flatten() {
        counts[usize::from(*owner)] += 1;
    }
    counts
}

fn moved(held: &[Option<MemberIndex>], target: &[Option<MemberIndex>]) -> usize {
    let lost =
        |(from, to): &(&Option<MemberIndex>, &Option<MemberIndex>)| from.is_some() && from != to;
    held.iter().zip(target).filter(lost).count()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m{at:04}")).collect()
}

/// Some members, with weights, zones and flags, and who holds each of some shards.
#[derive(Debug, Clone)]
struct World {
    names: Vec<String>,
    members: Vec<(u32, Option<usize>, bool)>,
    held: Vec<Option<MemberIndex>>,
}

const ZONES: [&str; 3] = ["east", "north", "west"];

impl World {
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let candidate = |(name, (weight, zone, receives)): (_, &(u32, Option<usize>, bool))| {
            let mut candidate = Candidate::new(name).weight(*weight);
            candidate.zone = zone.map(|at| ZONES[at]);
            candidate.receives = *receives;
            candidate
        };
        let names = self.names.iter().map(String::as_str);
        names.zip(&self.members).map(candidate).collect()
    }
}

fn world(weight: impl Generator<Value = u32> + Clone) -> impl Generator<Value = World> {
    (1..12_usize, 1..60_usize).prop_flat_map(move |(members, shards)| {
        let member = (weight.clone(), option::of(0..3_usize), Just(true));
        let holder = option::weighted(0.8, 0..u16::try_from(members).unwrap());
        (vec(member, members), vec(holder, shards)).prop_map(move |(all, held)| World {
            names: names(members),
            members: all,
            held,
        })
    })
}

/// The least number of moved shards over *all* ways to round the quotas of equal weights: tried
/// out one by one.
fn least_moved_by_trial(world: &World) -> usize {
    let held = counts(&world.held, world.members.len());
    let (base, extra) = (world.held.len() / held.len(), world.held.len() % held.len());
    let all = 1_u32 << held.len();
    let choices = (0..all).filter(|choice| choice.count_ones() as usize == extra);
    let cost = |choice: u32| -> usize {
        let quota = |at: usize| base + usize::from(choice >> at & 1 == 1);
        (0..held.len())
            .map(|at| held[at].saturating_sub(quota(at)))
            .sum()
    };
    choices.map(cost).min().unwrap_or_default()
}

proptest! {
    /// H7, LEAST-MOVED, against every possible rounding.
    #[test]
    fn equal_members_get_equal_shares_for_the_fewest_moves_possible(world in world(Just(1))) {
        let candidates = world.candidates();
        let target = Sticky.target(&Question::new(&candidates, &world.held));
        prop_assert!(target.iter().all(Option::is_some));
        let counts = counts(&target, candidates.len());
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        prop_assert_eq!(moved(&world.held, &target), least_moved_by_trial(&world));
    }

    /// H7, S8: quotas within one of the exact share, and the moves that the formula allows.
    #[test]
    fn weighted_members_get_their_share_and_only_the_excess_moves(world in world(0..6_u32)) {
        let candidates = world.candidates();
        let question = Question::new(&candidates, &world.held);
        let target = Sticky.target(&question);
        let total: u64 = world.members.iter().map(|(weight, ..)| u64::from(*weight)).sum();
        let owned = counts(&target, candidates.len());
        if total == 0 {
            prop_assert!(target.iter().all(Option::is_none), "all weights are zero");
            return Ok(());
        }
        for (owned, (weight, ..)) in owned.iter().zip(&world.members) {
            let exact = world.held.len() as u64 * u64::from(*weight);
            prop_assert!((*owned as u64 * total).abs_diff(exact) < total, "within one of the share");
        }
        let held = counts(&world.held, candidates.len());
        let excess: usize = held.iter().zip(&owned).map(|(held, quota)| held.saturating_sub(*quota)).sum();
        prop_assert_eq!(moved(&world.held, &target), excess);
    }

    #[test]
    fn the_answer_to_its_own_answer_is_the_same(
        world in world(0..6_u32),
        receives in vec(any::<bool>(), 12),
    ) {
        let mut world = world;
        for (member, receives) in world.members.iter_mut().zip(receives) {
            member.2 = receives;
        }
        let candidates = world.candidates();
        let target = Sticky.target(&Question::new(&candidates, &world.held));
        let again = Sticky.target(&Question::new(&candidates, &target));
        prop_assert_eq!(&again, &target);
        // S7, S5: who receives nothing has nothing that it did not hold.
        for (before, after) in world.held.iter().zip(&target) {
            let newly = after.filter(|after| *before != Some(*after));
            prop_assert!(newly.is_none_or(|at| candidates[usize::from(at)].receives));
        }
        // ... and as long as anyone else of weight may receive, no shard is left over.
        if candidates.iter().any(|candidate| candidate.receives && candidate.weight > 0) {
            prop_assert!(target.iter().all(Option::is_some));
        }
    }
}

/// H7.
#[test]
fn more_members_than_shards_get_one_each_or_none() {
    let names = names(10);
    let candidates: Vec<_> = names.iter().map(|name| Candidate::new(name)).collect();
    let target = Sticky.target(&Question::new(&candidates, &[None, None, Some(9)]));
    assert_eq!(target, [Some(0), Some(1), Some(9)]);
}

/// H2: who stays keeps everything that its quota allows.
#[test]
fn a_survivor_keeps_its_shards() {
    let both = [Candidate::new("a"), Candidate::new("b")];
    let target = Sticky.target(&Question::new(&both, &[Some(1), None, Some(1), None]));
    assert_eq!(target, [Some(1), Some(0), Some(1), Some(0)]);
}

#[test]
fn nobody_gets_anything_where_there_is_nobody() {
    assert_eq!(
        Sticky.target(&Question::new(&[], &[None, Some(3)])),
        [None, None]
    );
}

/// S8: zones choose among equal receivers ...
#[test]
fn the_odd_shard_goes_to_the_zone_that_has_fewer() {
    let all = [
        Candidate::new("a").zone("east"),
        Candidate::new("b").zone("east"),
        Candidate::new("c").zone("west"),
    ];
    let target = Sticky.target(&Question::new(&all, &[None; 4]));
    assert_eq!(counts(&target, 3), [1, 1, 2]);
}

/// S8: ... and only among equals: no shard moves for the sake of a zone.
#[test]
fn a_zone_moves_no_shard() {
    let all = [
        Candidate::new("a").zone("east"),
        Candidate::new("b").zone("east"),
        Candidate::new("c").zone("west"),
    ];
    let held = [Some(0), Some(0), Some(1), Some(2)];
    assert_eq!(Sticky.target(&Question::new(&all, &held)), held);
}

/// S7: the others take what a flapping member would have got.
#[test]
fn a_member_that_receives_nothing_leaves_its_share_to_the_others() {
    let all = [
        Candidate::new("a"),
        Candidate::new("b").keeps_only(),
        Candidate::new("c"),
    ];
    let target = Sticky.target(&Question::new(
        &all,
        &[Some(1), None, None, None, None, None, None],
    ));
    assert_eq!(counts(&target, 3), [3, 1, 3]);
}

/// A join at full size moves no more than its share.
#[test]
fn a_join_moves_at_most_the_share_of_the_newcomer() {
    let names = names(1_001);
    let all: Vec<_> = names.iter().map(|name| Candidate::new(name)).collect();
    let before = Sticky.target(&Question::new(&all[..1_000], &vec![None; 16_384]));
    let after = Sticky.target(&Question::new(&all, &before));
    assert!(moved(&before, &after) <= 16_384_usize.div_ceil(1_001));
    assert_eq!(counts(&after, 1_001)[1_000], moved(&before, &after));
}
