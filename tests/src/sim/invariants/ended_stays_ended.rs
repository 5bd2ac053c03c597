use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{Group, Incarnation, MemberId};

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

type Life = (Group, MemberId, Incarnation);

/// A life of a member that has ended never comes back.
///
/// G1, G2, G7, S1; M2, M3. By the store's own account: no heartbeat is accepted of a life that has
/// left, that a swap has counted as ended, or whose last ttl has passed by the store's wall clock.
#[derive(Debug, Default)]
pub struct EndedStaysEnded {
    ended: BTreeSet<Life>,
    expires: BTreeMap<Life, Duration>,
}

impl Invariant for EndedStaysEnded {
    fn name(&self) -> &'static str {
        "ENDED-STAYS-ENDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(Event::Joined {
                group,
                id,
                incarnation,
            }) => {
                let life = (group.clone(), id.clone(), *incarnation);
                self.expires.insert(life, scene.wall() + scene.terms.ttl);
                Ok(())
            }
            Seen::Store(Event::Ended {
                group,
                id,
                incarnation,
                ..
            }) => {
                self.ended.insert((group.clone(), id.clone(), *incarnation));
                Ok(())
            }
            Seen::Swapped(swap) => {
                let lives = swap.ended.iter().cloned();
                self.ended
                    .extend(lives.map(|(id, life)| (swap.group.clone(), id, life)));
                Ok(())
            }
            Seen::Store(Event::Beat {
                group,
                id,
                incarnation,
                ttl,
            }) => {
                let life = (group.clone(), id.clone(), *incarnation);
                let name = || format!("{id} {incarnation}");
                that(!self.ended.contains(&life), || {
                    format!("{} had ended, and its heartbeat is accepted", name())
                })?;
                let expired = self.expires.insert(life, scene.wall() + *ttl);
                that(expired.is_none_or(|at| scene.wall() < at), || {
                    format!("{} had expired, and its heartbeat is accepted", name())
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::EndReason;

    use super::super::kit::{Stage, beat, joined};
    use super::*;

    #[test]
    fn a_heartbeat_of_a_life_that_has_left_is_a_violation() {
        let mut stage = Stage::new(EndedStaysEnded::default());
        stage.ok(joined(0, 1));
        stage.ok(beat(0, 1));
        stage.ok(Seen::Store(Event::Ended {
            group: "g".into(),
            id: "m0".into(),
            incarnation: Incarnation::new(1),
            reason: EndReason::Left,
        }));
        stage.bad(beat(0, 1));
    }

    #[test]
    fn a_heartbeat_that_revives_an_expired_life_is_a_violation() {
        let mut stage = Stage::new(EndedStaysEnded::default());
        stage.ok(joined(0, 1));
        stage.at(9).ok(beat(0, 1));
        stage.at(18).ok(beat(0, 1));
        stage.at(28).bad(beat(0, 1));
    }
}
