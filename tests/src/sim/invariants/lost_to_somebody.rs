use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{Key, LostCause};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Scene, Sort};
use crate::sim::seen::Seen;

/// A lease that runs is lost to nobody: its holder is told that another has it only if it has.
///
/// I6, T6, R2; E4, E20. Of each election and lock that is lost as superseded: the store has granted
/// a higher token, or the lease has run out by the store's own account. That the store has lost its
/// memory is no reason: whoever still trusts registers again.
#[derive(Debug, Default)]
pub struct LostToSomebody {
    leases: BTreeMap<Key, Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    token: u64,
    ends: Duration,
}

impl Invariant for LostToSomebody {
    fn name(&self) -> &'static str {
        "LOST-TO-SOMEBODY"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(
                Event::Granted {
                    key, token, ttl, ..
                }
                | Event::Renewed {
                    key, token, ttl, ..
                },
            ) => {
                let lease = Lease {
                    token: token.get(),
                    ends: scene.wall() + *ttl,
                };
                self.leases.insert(key.clone(), lease);
                Ok(())
            }
            Seen::Store(Event::Released { key, .. }) => {
                self.leases.remove(key);
                Ok(())
            }
            Seen::Lost(id, LostCause::Superseded) => {
                let hold = &scene.holds[*id];
                let Sort::Lease(key) = &hold.sort else {
                    return Ok(());
                };
                let own = self.leases.get(key).filter(|it| it.token == hold.token);
                let runs = own.filter(|lease| scene.wall() < lease.ends);
                that(runs.is_none(), || {
                    let (process, token) = (hold.process, hold.token);
                    format!("{process} has lost {key} #{token}, which nobody else has")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, granted, memory_lost, renewed};
    use super::*;

    #[test]
    fn a_lease_that_is_lost_to_nobody_is_a_violation() {
        let mut stage = Stage::new(LostToSomebody::default());
        stage.ok(granted(0, 1));
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.at(5).ok(renewed(0, 1));
        stage.ok(memory_lost());
        stage.at(9).bad(Seen::Lost(hold, LostCause::Superseded));
        stage.at(15).ok(Seen::Lost(hold, LostCause::Superseded));
        stage.ok(granted(1, 2));
        stage.ok(Seen::Lost(hold, LostCause::Superseded));
    }
}
