use std::time::Duration;

use coordinator_memory::Event;

use super::{Invariant, Verdict, that};
use crate::sim::faults::Class;
use crate::sim::scene::{Phase, Scene};
use crate::sim::seen::Seen;

/// Plans are few: a bounded number for each change, and none where nothing changes.
///
/// S6, S8, S11; H10. Of all swaps so far there are no more than the joins, ends and losses of
/// memory so far account for: each takes one plan, one swap for each owner whose acks it awaits,
/// and a few. So does each second in which calls are dropped: who drops its service, and serves anew,
/// is a change as well. In a fleet that serves, and that nobody leaves or joins, there is none.
#[derive(Debug, Default)]
pub struct PlansBounded {
    causes: usize,
    /// How many members drop their calls now, and until when that is counted.
    dropping: usize,
    counted: Duration,
    swaps: usize,
    disturbed: bool,
}

impl Invariant for PlansBounded {
    fn name(&self) -> &'static str {
        "PLANS-BOUNDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(
                Event::Joined { .. }
                | Event::Ended { .. }
                | Event::Evicted { .. }
                | Event::MemoryLost { .. },
            ) => {
                self.causes += 1;
                Ok(())
            }
            Seen::Settles => {
                self.disturbed = false;
                Ok(())
            }
            Seen::Leaves(_) | Seen::Returns(_) | Seen::Rolls(_) => {
                self.disturbed = true;
                Ok(())
            }
            Seen::Fault(Class::CancelledCall, _) => {
                self.dropping += 1;
                self.causes += 1;
                Ok(())
            }
            Seen::Mended(Class::CancelledCall, _) => {
                self.dropping = self.dropping.saturating_sub(1);
                Ok(())
            }
            Seen::Look if scene.now >= self.counted => {
                self.counted = scene.now + Duration::from_secs(1);
                self.causes += self.dropping;
                Ok(())
            }
            Seen::Swapped(swap) => {
                self.swaps += 1;
                self.causes += swap.ended.len();
                that(scene.phase != Phase::Settled || self.disturbed, || {
                    format!("{} is planned anew without a cause", swap.keyspace)
                })?;
                // A penalty that ends is a cause, too, and comes after an end.
                let each = scene.terms.members + 6;
                let most = 8 + self.causes * each * scene.terms.keyspaces;
                that(self.swaps <= most, || {
                    let (swaps, causes) = (self.swaps, self.causes);
                    format!("there were {swaps} swaps for {causes} changes, allowed are {most}")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, joined, swapped};
    use super::*;

    #[test]
    fn plans_without_end_are_a_violation() {
        let mut stage = Stage::new(PlansBounded::default());
        stage.ok(joined(0, 1));
        for epoch in 0..17 {
            stage.ok(swapped(None, document(epoch, &[None]), &[]));
        }
        stage.bad(swapped(None, document(17, &[None]), &[]));
    }

    #[test]
    fn a_plan_where_nothing_changes_is_a_violation() {
        let mut stage = Stage::new(PlansBounded::default());
        stage.ok(joined(0, 1));
        stage.ok(Seen::Settles);
        stage.bad(swapped(None, document(1, &[None]), &[]));
        stage.ok(Seen::Leaves(0));
        stage.ok(swapped(None, document(2, &[None]), &[]));
    }
}
