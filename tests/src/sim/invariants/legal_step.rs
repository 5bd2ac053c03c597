use coordinator_node::core::{Evidence, Life, Member, MemberState, Snapshot};

use super::{Invariant, Verdict};
use crate::sim::scene::Scene;
use crate::sim::seen::{Seen, Swap};

/// Each stored assignment follows the one before it by the table of legal steps: ownership passes
/// only by an ack or an end.
///
/// S2, S4, S11; H9. At every swap, by the members as the store knows them at that moment. A planner
/// grants to who lived when it looked: so whoever ended since then counts here as living, too, and
/// whose record was deleted counts as it was last.
#[derive(Debug, Default)]
pub struct LegalStep;

impl Invariant for LegalStep {
    fn name(&self) -> &'static str {
        "LEGAL-STEP"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        let Seen::Swapped(swap) = seen else {
            return Ok(());
        };
        let Some(previous) = &swap.previous else {
            return Ok(());
        };
        let ended = ended(swap);
        let known = swap.members.members.iter().map(alive);
        let snapshot = Snapshot {
            versions: swap.members.versions,
            members: known.chain(swap.erased.iter().map(alive)).collect(),
        };
        let evidence = Evidence {
            keyspace: &swap.keyspace,
            snapshot: &snapshot,
            ended: &ended,
        };
        let followed = swap.next.follows(previous, &evidence);
        followed.map_err(|step| {
            let (from, to) = (previous.epoch, swap.next.epoch);
            format!("{}, epoch {from} to {to}: {step}", swap.keyspace)
        })
    }
}

/// Whom the swap counts as ended, and who has ended.
fn ended(swap: &Swap) -> Vec<Life> {
    let gone = swap
        .members
        .members
        .iter()
        .filter(|member| matches!(member.state, MemberState::Ended { .. }));
    let gone = gone.map(|member| (member.id.clone(), member.incarnation));
    gone.chain(swap.ended.iter().cloned()).collect()
}

fn alive(member: &Member) -> Member {
    let mut member = member.clone();
    member.state = MemberState::Live {
        expires_in: member.ttl,
        evicted: false,
    };
    member
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, swapped};
    use super::*;

    #[test]
    fn a_shard_that_passes_from_one_to_the_other_directly_is_a_violation() {
        let mut stage = Stage::new(LegalStep);
        let before = document(5, &[Some((0, 5))]);
        stage.ok(swapped(Some(before.clone()), before.clone(), &[0, 1]));
        stage.bad(swapped(Some(before), document(6, &[Some((1, 6))]), &[0, 1]));
    }
}
