//! When shards are shared out by weight.

use std::collections::BTreeMap;

use coordinator_node::core::{Candidate, MemberId, MemberIndex, Question, Sticky, Strategy};

use super::super::scene::{Scene, Sort};
use super::SeatPlan;

/// Where members of different weights run.
pub(super) const ZONES: [&str; 2] = ["east", "west"];

/// Whether everybody's number is within one of the exact share by weight.
pub(super) fn is_by_weight(held: &BTreeMap<usize, u32>, weights: &[u32]) -> bool {
    let (shards, all) = held.iter().fold((0, 0), |(shards, all), (seat, held)| {
        (shards + held, all + weights[*seat])
    });
    let exact = |seat: usize| shards * weights[seat];
    let within = |(seat, held): (&usize, &u32)| (held * all).abs_diff(exact(*seat)) < all;
    held.iter().all(within)
}

/// Whether the strategy would move nothing. Shares can be rounded in many ways, and a member that
/// was kept from receiving may get its part later: only then nothing changes any more.
pub(super) fn is_at_rest(scene: &Scene, seats: &[SeatPlan], shards: u16) -> bool {
    let id = |seat: usize| {
        let facts = &scene.seats[seat];
        facts.names.get(&facts.life)
    };
    let present = scene.present().filter_map(|seat| Some((id(seat)?, seat)));
    let present: BTreeMap<&MemberId, usize> = present.collect();
    let of_seats = present.iter().map(|(id, seat)| {
        let candidate = Candidate::new(id.as_str()).weight(seats[*seat].weight);
        match seats[*seat].zone {
            Some(zone) => candidate.zone(zone),
            None => candidate,
        }
    });
    let candidates: Vec<Candidate<'_>> = of_seats.collect();
    let place = |owner: usize| present.values().position(|seat| *seat == owner);
    let mut held: Vec<Option<MemberIndex>> = vec![None; usize::from(shards)];
    for (_, hold) in scene.open_holds().filter(|(_, hold)| hold.is_trusted()) {
        if let Sort::Shard { number } = hold.sort
            && let Some(held) = held.get_mut(usize::from(number))
        {
            *held = place(hold.process.seat).and_then(|at| MemberIndex::try_from(at).ok());
        }
    }
    Sticky::new().target(&Question::new(&candidates, &held)) == held
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H7.
    #[test]
    fn shares_follow_weights() {
        let held = |counts: &[u32]| counts.iter().copied().enumerate().collect();
        let weights = [1, 0, 3];
        assert!(is_by_weight(&held(&[2, 0, 6]), &weights));
        assert!(is_by_weight(&held(&[3, 0, 6]), &weights));
        assert!(!is_by_weight(&held(&[4, 0, 4]), &weights));
        assert!(!is_by_weight(&held(&[2, 1, 5]), &weights));
    }
}
