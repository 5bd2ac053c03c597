use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{FencingToken, Group, Incarnation, MemberId};

use super::{Invariant, Verdict};
use crate::sim::faults::Class;
use crate::sim::scene::Scene;
use crate::sim::seen::{Seen, Swap};

/// After an outage of the store nobody is counted as ended for one ttl: members return first.
///
/// G4; M7. At every swap within a ttl of an outage that was longer than a ttl, by a planner that has
/// lived through it: none of the lives that it counts as ended was live when the outage began, unless
/// it has left since, or another life of its name has begun. A planner whose clock jumps during the
/// outage, or after it, is excused: it thinks that its ttl has passed.
#[derive(Debug, Default)]
pub struct MercyKept {
    /// The present life of each name, and when it expires by the store's wall clock.
    lives: BTreeMap<(Group, MemberId), (Incarnation, Duration)>,
    planners: BTreeMap<FencingToken, MemberId>,
    outage: Option<Outage>,
    /// When the clock of each member last jumped.
    jumped: BTreeMap<usize, Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    began: Duration,
    /// By the store's wall clock.
    wall: Duration,
    ended: Option<Duration>,
}

impl MercyKept {
    /// Whether a planner of this swap must spare who was live when the outage began.
    fn spares(&self, scene: &Scene, swap: &Swap) -> Option<Outage> {
        let outage = self.outage?;
        let (ended, ttl) = (outage.ended?, scene.terms.ttl);
        let long = ended.saturating_sub(outage.began) >= ttl.mul_f64(1.01);
        let recent = scene.now < ended + ttl.mul_f64(0.99);
        let planner = self.planners.get(&swap.next.planner)?;
        let mut seats = scene.seats.iter().enumerate();
        let (at, seat) =
            seats.find(|(_, facts)| facts.names.get(&facts.life) == Some(planner))?;
        let jumped = self.jumped.get(&at).is_some_and(|when| *when >= outage.began);
        let lived_through = seat.alive && seat.running_since < outage.began && !jumped;
        (long && recent && lived_through).then_some(outage)
    }

    fn swapped(&self, scene: &Scene, swap: &Swap) -> Verdict {
        let Some(outage) = self.spares(scene, swap) else {
            return Ok(());
        };
        for (id, incarnation) in &swap.ended {
            let life = self.lives.get(&(swap.group.clone(), id.clone()));
            if life.is_some_and(|(life, expires)| life == incarnation && *expires > outage.wall) {
                return Err(format!("{id} is counted as ended right after an outage"));
            }
        }
        Ok(())
    }

    fn take(&mut self, scene: &Scene, event: &Event) {
        match event {
            Event::Granted { key, owner, token, .. } if key.as_str().contains("/planner/") => {
                self.planners.insert(*token, owner.clone());
            }
            Event::Joined { group, id, incarnation } => {
                let life = (*incarnation, scene.wall() + scene.terms.ttl);
                self.lives.insert((group.clone(), id.clone()), life);
            }
            Event::Beat { group, id, incarnation, ttl } => {
                let life = self.lives.get_mut(&(group.clone(), id.clone()));
                if let Some(life) = life.filter(|life| life.0 == *incarnation) {
                    life.1 = scene.wall() + *ttl;
                }
            }
            Event::Ended { group, id, incarnation, .. } => {
                let name = (group.clone(), id.clone());
                if self.lives.get(&name).is_some_and(|life| life.0 == *incarnation) {
                    self.lives.remove(&name);
                }
            }
            Event::MemoryLost { .. } => self.lives.clear(),
            _ => {}
        }
    }
}

impl Invariant for MercyKept {
    fn name(&self) -> &'static str {
        "MERCY-KEPT"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Fault(Class::StoreOutage, _) => {
                let going_on = self.outage.is_some_and(|outage| outage.ended.is_none());
                if !going_on {
                    self.outage = Some(Outage {
                        began: scene.now,
                        wall: scene.wall(),
                        ended: None,
                    });
                }
            }
            Seen::Mended(Class::StoreOutage, _) => {
                if let Some(outage) = &mut self.outage {
                    outage.ended = Some(scene.now);
                }
            }
            Seen::Fault(Class::ClockJump, Some(seat)) => {
                self.jumped.insert(*seat, scene.now);
            }
            Seen::Store(event) => self.take(scene, event),
            Seen::Swapped(swap) => return self.swapped(scene, swap),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, joined, swapped};
    use super::*;

    /// `m0` plans, and counts `m1` as ended some seconds after an outage of 12.
    fn burial(after: u64) -> (Stage, Seen) {
        let mut stage = Stage::new(MercyKept::default());
        stage.ok(joined(1, 1));
        stage.ok(Seen::Store(Event::Granted {
            key: "g/planner/orders".into(),
            owner: MemberId::from("m0"),
            instance: coordinator_node::core::Instance::from_bytes([1; 16]),
            token: FencingToken::new(1),
            ttl: Duration::from_secs(10),
        }));
        stage.at(5).ok(Seen::Fault(Class::StoreOutage, None));
        stage.at(17).ok(Seen::Mended(Class::StoreOutage, None));
        stage.at(17 + after);
        let mut seen = swapped(None, document(5, &[Some((0, 5))]), &[0]);
        if let Seen::Swapped(swap) = &mut seen {
            swap.ended.push((MemberId::from("m1"), Incarnation::new(1)));
        }
        (stage, seen)
    }

    #[test]
    fn who_was_live_before_an_outage_and_is_counted_as_ended_after_it_is_a_violation() {
        let (mut stage, seen) = burial(1);
        stage.bad(seen);
        let (mut later, seen) = burial(11);
        later.ok(seen);
    }

    #[test]
    fn who_has_begun_another_life_is_no_violation() {
        let (mut stage, seen) = burial(1);
        stage.ok(joined(1, 2));
        stage.ok(seen);
    }
}
