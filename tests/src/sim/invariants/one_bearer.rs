use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{Group, Incarnation, MemberId};

use super::{Invariant, Verdict, that};
use crate::sim::faults::Class;
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A name has one bearer: a life begins only when the one before it of the same name has ended.
///
/// G2, S1; M2. By the store's own account: at every join, the last life of that name has left,
/// was counted as ended, or its ttl has passed by the store's wall clock; unless somebody has
/// deleted its record, or the store has lost its memory.
#[derive(Debug, Default)]
pub struct OneBearer {
    lives: BTreeMap<(Group, MemberId), (Incarnation, Duration)>,
}

impl OneBearer {
    fn ends(&mut self, group: &Group, id: &MemberId, incarnation: Incarnation) {
        let bearer = (group.clone(), id.clone());
        if self.lives.get(&bearer).is_some_and(|life| life.0 == incarnation) {
            self.lives.remove(&bearer);
        }
    }
}

impl Invariant for OneBearer {
    fn name(&self) -> &'static str {
        "ONE-BEARER"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(Event::Joined {
                group,
                id,
                incarnation,
            }) => {
                let life = (*incarnation, scene.wall() + scene.terms.ttl);
                let last = self.lives.insert((group.clone(), id.clone()), life);
                let lives = |life: &(Incarnation, Duration)| {
                    life.0 != *incarnation && scene.wall() < life.1
                };
                let last = last.filter(lives).map(|life| life.0);
                that(last.is_none(), || {
                    let last = last.unwrap_or_default();
                    format!("{id} {incarnation} joins while {id} {last} lives")
                })
            }
            Seen::Store(Event::Beat {
                group,
                id,
                incarnation,
                ttl,
            }) => {
                let bearer = self.lives.get_mut(&(group.clone(), id.clone()));
                if let Some(life) = bearer.filter(|life| life.0 == *incarnation) {
                    life.1 = scene.wall() + *ttl;
                }
                Ok(())
            }
            Seen::Store(Event::Ended {
                group,
                id,
                incarnation,
                ..
            }) => {
                self.ends(group, id, *incarnation);
                Ok(())
            }
            Seen::Swapped(swap) => {
                for (id, incarnation) in &swap.ended {
                    self.ends(&swap.group, id, *incarnation);
                }
                Ok(())
            }
            Seen::Store(Event::MemoryLost { .. }) | Seen::Fault(Class::RecordDeleted, _) => {
                self.lives.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, beat, joined, memory_lost};
    use super::*;

    #[test]
    fn a_second_life_beside_the_first_is_a_violation() {
        let mut stage = Stage::new(OneBearer::default());
        stage.ok(joined(0, 1));
        stage.at(9).ok(beat(0, 1));
        stage.ok(joined(1, 2));
        stage.at(19).ok(joined(0, 3));
        stage.at(28).bad(joined(0, 4));
        stage.ok(memory_lost());
        stage.ok(joined(0, 5));
    }
}
