use coordinator_node::core::{Document, Life, MemberState, Slot};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Hold, Scene, Sort};
use crate::sim::seen::{Seen, Swap};

/// A shard is granted to another only when the work of its owner has really stopped, or its owner's
/// life has ended.
///
/// S1, S2, S3, S4, S11, G7; H8, M3. At every swap that takes a shard from an owner: either no work
/// goes on under the grant that is taken, or the store counts that owner's life as ended.
#[derive(Debug, Default)]
pub struct AckBeforeGrant;

impl Invariant for AckBeforeGrant {
    fn name(&self) -> &'static str {
        "ACK-BEFORE-GRANT"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Seen::Swapped(swap) = seen else {
            return Ok(());
        };
        let Some(previous) = &swap.previous else {
            return Ok(());
        };
        for (shard, slot) in previous.numbered() {
            let now = swap.next.slots.get(usize::from(shard.get()));
            let (Some(token), Some(life)) = (slot.token(), owner(previous, slot)) else {
                continue;
            };
            if now.and_then(Slot::token) == Some(token) || has_ended(swap, life) {
                continue;
            }
            let working = at_work(scene, swap, shard.get(), token.get());
            that(working.is_none(), || {
                let process = working.map(|hold| hold.process.to_string());
                format!(
                    "{}/{shard} is taken from {} #{token}, whose work goes on in {}",
                    swap.keyspace,
                    life.0,
                    process.unwrap_or_default()
                )
            })?;
        }
        Ok(())
    }
}

fn owner<'a>(document: &'a Document, slot: &Slot) -> Option<&'a Life> {
    document.member(slot.owner()?)
}

fn has_ended(swap: &Swap, life: &Life) -> bool {
    let record = swap.members.get(&life.0, life.1);
    // Absence is no end (G7).
    record.is_some_and(|record| !matches!(record.state, MemberState::Live { .. }))
}

/// Who still works under this grant.
fn at_work<'a>(scene: &'a Scene, swap: &Swap, shard: u16, token: u64) -> Option<&'a Hold> {
    let keyspace = format!("{}/{}", swap.group, swap.keyspace);
    let fixed = format!("{keyspace}/{shard}");
    let mut open = scene.open_holds().map(|(_, hold)| hold);
    open.find(|hold| {
        let this = match hold.sort {
            Sort::Lease(_) | Sort::Vote => false,
            Sort::Shard { .. } => *hold.what == *fixed,
            Sort::Part { index, .. } => *hold.what == *keyspace && index == shard,
        };
        this && hold.token == token
    })
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, swapped};
    use super::*;

    fn taken(live: &[usize]) -> Seen {
        let before = document(5, &[Some((0, 5))]);
        swapped(Some(before), document(6, &[Some((1, 6))]), live)
    }

    #[test]
    fn a_grant_while_the_owner_lives_and_works_is_a_violation() {
        let mut stage = Stage::new(AckBeforeGrant);
        let hold = stage.owner(0, 5);
        stage.ok(Seen::Begins(hold));
        stage.bad(taken(&[0, 1, 2]));
    }

    #[test]
    fn a_grant_after_its_work_or_its_life_has_ended_is_none() {
        let mut stage = Stage::new(AckBeforeGrant);
        let hold = stage.owner(0, 5);
        stage.ok(Seen::Begins(hold));
        stage.ok(taken(&[1, 2]));
        stage.ok(Seen::Stops(hold));
        stage.ok(taken(&[0, 1, 2]));
    }
}
