use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_node::core::{
    EndReason, Keyspace, Layout, Life, Member, MemberId, MemberState, Slot,
};

use super::{Invariant, Verdict};
use crate::sim::scene::{Scene, SeatFacts};
use crate::sim::seen::{Seen, Swap};

/// The longest penalty.
const LONGEST: Duration = Duration::from_mins(5);

/// A member that has expired again and again is given nothing new for a while, unless there is
/// nobody else.
///
/// S7. At every swap of a fixed layout: who is granted a shard that was not its own before has no
/// former life whose penalty still runs, by the store's own account of when and how often it
/// expired; or there was nobody else to give it to.
#[derive(Debug, Default)]
pub struct FlappingRests {
    /// The faults on each member, and when one last came or went.
    troubles: BTreeMap<usize, (u32, Duration)>,
}

/// For how long a life has been over that earned a penalty, and the penalty.
fn penalty(member: &Member) -> Option<(Duration, Duration)> {
    let MemberState::Ended {
        ago,
        reason: EndReason::Expired,
        flaps,
    } = member.state
    else {
        return None;
    };
    let factor = 2_u32.checked_pow(flaps).unwrap_or(u32::MAX);
    let penalty = member.ttl.saturating_mul(factor).min(LONGEST);
    (flaps > 0).then_some((ago, penalty))
}

/// Up to the planner's clock, which may run fast.
fn penalty_runs(member: &Member) -> bool {
    penalty(member).is_some_and(|(ago, penalty)| ago < penalty.mul_f64(0.99))
}

/// It may have run when the plan was made: looked, thought, and been on its way to the store.
fn penalty_ran(member: &Member) -> bool {
    penalty(member).is_some_and(|(ago, penalty)| ago < penalty + member.ttl * 2)
}

/// Who is granted something by this swap that was not its own, or meant for it, before.
fn granted(swap: &Swap) -> BTreeSet<&MemberId> {
    let Some(previous) = &swap.previous else {
        return BTreeSet::new(); // What was whose, the planner alone remembers.
    };
    let (mut granted, slots) = (BTreeSet::new(), previous.slots.iter().zip(&swap.next.slots));
    for (from, to) in slots {
        let Slot::Owned { member, token } = to else {
            continue;
        };
        let had = match from {
            Slot::Free { reserved } => *reserved,
            Slot::Owned { member, .. } => Some(*member),
            Slot::Revoking { next, .. } => *next,
        };
        let had = had.and_then(|member| previous.member(member));
        let gets = swap.next.member(*member);
        // A planner that grants to a former life has not seen its end, and knows of no penalty.
        let present = |(id, life): &Life| swap.members.get(id, *life).is_some_and(lives);
        if *token == swap.next.epoch
            && let Some((id, _)) = gets.filter(|(id, _)| had.is_none_or(|had| had.0 != *id))
            && gets.is_some_and(present)
        {
            granted.insert(id);
        }
    }
    granted
}

fn lives(member: &Member) -> bool {
    matches!(member.state, MemberState::Live { evicted: false, .. })
}

fn receives(member: &Member, keyspace: &Keyspace) -> bool {
    lives(member) && member.profile.keyspaces.contains(keyspace)
}

impl FlappingRests {
    /// Whether some other owner, who has no penalty, could have been given it: it has lived, served
    /// and been undisturbed for so long that no planner can have overlooked it (S9).
    fn has_another(&self, scene: &Scene, swap: &Swap, flapping: &BTreeSet<&MemberId>) -> bool {
        let owners = swap.previous.iter().flat_map(|previous| {
            let owners = previous.slots.iter().filter_map(Slot::owner);
            owners.filter_map(|owner| previous.member(owner))
        });
        let mut others = owners.filter(|(id, incarnation)| {
            let record = swap.members.get(id, *incarnation);
            !flapping.contains(id)
                && record.is_some_and(|it| receives(it, &swap.keyspace))
                && self.is_well(scene, id)
        });
        others.next().is_some()
    }

    fn is_well(&self, scene: &Scene, id: &MemberId) -> bool {
        let span = scene.terms.ttl * 4;
        let named = |(_, facts): &(usize, &SeatFacts)| facts.names.get(&facts.life) == Some(id);
        let Some((seat, facts)) = scene.seats.iter().enumerate().find(named) else {
            return false;
        };
        let (troubles, last) = self.troubles.get(&seat).copied().unwrap_or_default();
        let since = last.max(facts.running_since);
        facts.alive && !facts.frozen && troubles == 0 && scene.now >= since + span
    }

    fn troubled(&mut self, scene: &Scene, seat: usize, more: bool) {
        let (troubles, last) = self.troubles.entry(seat).or_default();
        *troubles = if more { *troubles + 1 } else { troubles.saturating_sub(1) };
        *last = scene.now;
    }

    fn swapped(&self, scene: &Scene, swap: &Swap) -> Verdict {
        if swap.next.layout == Layout::Dense {
            return Ok(()); // Every cut is new: who has a part keeps one.
        }
        // What this very swap has counted as ended, its planner could not know for expired.
        let known = |it: &&Member| !swap.ended.contains(&(it.id.clone(), it.incarnation));
        let those = |which: fn(&Member) -> bool| -> BTreeSet<&MemberId> {
            let members = swap.members.members.iter();
            let such = members.filter(|member| which(member)).filter(known);
            such.map(|member| &member.id).collect()
        };
        let (flapping, perhaps) = (those(penalty_runs), those(penalty_ran));
        let rewarded = granted(swap).into_iter().find(|id| flapping.contains(id));
        let Some(id) = rewarded.filter(|_| self.has_another(scene, swap, &perhaps)) else {
            return Ok(());
        };
        let keyspace = &swap.keyspace;
        Err(format!("{id} has expired lately, and is given a shard of {keyspace}"))
    }
}

impl Invariant for FlappingRests {
    fn name(&self) -> &'static str {
        "FLAPPING-RESTS"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Fault(_, Some(seat)) => self.troubled(scene, *seat, true),
            Seen::Mended(_, Some(seat)) => self.troubled(scene, *seat, false),
            Seen::Swapped(swap) => return self.swapped(scene, swap),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::{Incarnation, Instance, Profile};

    use super::super::kit::{Stage, document, swapped};
    use super::*;

    /// A swap that grants shard 0 to m0, of whom an earlier life expired so long ago.
    fn grant(expired_ago: u64, others: &[usize]) -> Seen {
        let live: Vec<usize> = others.iter().copied().chain([0]).collect();
        let mut seen = swapped(Some(document(4, &[Some((1, 3))])), document(5, &[Some((0, 5))]), &live);
        if let Seen::Swapped(swap) = &mut seen {
            for member in &mut swap.members.members {
                member.profile = Profile::new();
                member.profile.keyspaces.insert("orders".into());
            }
            let ttl = Duration::from_secs(10);
            let (id, instance) = (MemberId::from("m0"), Instance::from_bytes([1; 16]));
            let mut former = Member::new(id, Incarnation::new(0), instance, ttl);
            former.state = MemberState::Ended {
                ago: Duration::from_secs(expired_ago),
                reason: EndReason::Expired,
                flaps: 1,
            };
            swap.members.members.push(former);
        }
        seen
    }

    #[test]
    fn a_grant_to_a_member_that_expired_lately_is_a_violation() {
        let mut stage = Stage::new(FlappingRests::default());
        stage.at(60).bad(grant(5, &[1, 2]));
        stage.ok(grant(25, &[1, 2]));
    }

    #[test]
    fn where_there_is_nobody_else_it_is_none() {
        let mut stage = Stage::new(FlappingRests::default());
        stage.at(60).ok(grant(5, &[2]));
    }
}
