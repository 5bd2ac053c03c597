use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_node::core::{
    EndReason, Keyspace, Layout, Member, MemberId, MemberState, Slot,
};

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::{Seen, Swap};

/// The longest penalty.
const LONGEST: Duration = Duration::from_mins(5);

/// A member that has expired again and again is given nothing new for a while, unless there is
/// nobody else.
///
/// S7. At every swap of a fixed layout: who is granted a shard has no former life whose
/// penalty still runs, by the store's own account of when and how often it expired; or all who
/// live, and serve the keyspace, have one.
#[derive(Debug, Default)]
pub struct FlappingRests;

fn penalty_runs(member: &Member) -> bool {
    let MemberState::Ended {
        ago,
        reason: EndReason::Expired,
        flaps,
    } = member.state
    else {
        return false;
    };
    let factor = 2_u32.checked_pow(flaps).unwrap_or(u32::MAX);
    // Up to the planner's clock, which may run fast, and the way of its swap.
    let penalty = member.ttl.saturating_mul(factor).min(LONGEST);
    flaps > 0 && ago < penalty.mul_f64(0.99)
}

/// Who is granted something by this swap.
fn granted(swap: &Swap) -> BTreeSet<&MemberId> {
    let fresh = swap.next.slots.iter().filter_map(|slot| match slot {
        Slot::Owned { member, token } if *token == swap.next.epoch => Some(*member),
        _ => None,
    });
    fresh
        .filter_map(|member| swap.next.member(member))
        .map(|(id, _)| id)
        .collect()
}

fn receives(member: &Member, keyspace: &Keyspace) -> bool {
    let lives = matches!(member.state, MemberState::Live { evicted: false, .. });
    lives && member.profile.keyspaces.contains(keyspace)
}

impl Invariant for FlappingRests {
    fn name(&self) -> &'static str {
        "FLAPPING-RESTS"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        let Seen::Swapped(swap) = seen else {
            return Ok(());
        };
        if swap.next.layout == Layout::Dense {
            return Ok(()); // Every cut is new: who has a part keeps one.
        }
        let members = &swap.members.members;
        let flapping: BTreeSet<&MemberId> = members
            .iter()
            .filter(|member| penalty_runs(member))
            .map(|member| &member.id)
            .collect();
        let rewarded = granted(swap).into_iter().find(|id| flapping.contains(id));
        let mut others = members.iter().filter(|it| receives(it, &swap.keyspace));
        let alone = !others.any(|member| !flapping.contains(&member.id));
        that(rewarded.is_none() || alone, || {
            let id = rewarded.map_or("nobody", |id| id.as_str());
            format!("{id} has expired lately, and is given a shard of {}", swap.keyspace)
        })
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
        let mut seen = swapped(None, document(5, &[Some((0, 5))]), &live);
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
        let mut stage = Stage::new(FlappingRests);
        stage.bad(grant(5, &[1, 2]));
        stage.ok(grant(25, &[1, 2]));
    }

    #[test]
    fn where_there_is_nobody_else_it_is_none() {
        let mut stage = Stage::new(FlappingRests);
        stage.ok(grant(5, &[]));
    }
}
