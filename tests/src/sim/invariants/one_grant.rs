use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::Key;

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// The store grants a lease only when the last one was released or has run out, and renews none
/// that has.
///
/// R1, R2, I2; L2. By the store's own account and its wall clock: at every grant the last lease
/// of the key has ended; at every renewal it has not, unless the store has lost its memory since
/// and brings it back (I6).
#[derive(Debug, Default)]
pub struct OneGrant {
    leases: BTreeMap<Key, Lease>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    token: u64,
    ends: Duration,
}

impl Invariant for OneGrant {
    fn name(&self) -> &'static str {
        "ONE-GRANT"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let now = scene.wall();
        match seen {
            Seen::Store(Event::Granted {
                key, token, ttl, ..
            }) => {
                let lease = Lease {
                    token: token.get(),
                    ends: now + *ttl,
                };
                let last = self.leases.insert(key.clone(), lease);
                let held = last.filter(|last| last.ends > now);
                that(held.is_none(), || {
                    let last = held.map_or(0, |last| last.token);
                    format!("{key} #{token} is granted while #{last} runs")
                })
            }
            Seen::Store(Event::Renewed {
                key, token, ttl, ..
            }) => {
                let lease = Lease {
                    token: token.get(),
                    ends: now + *ttl,
                };
                let last = self.leases.insert(key.clone(), lease);
                // What an older holder had sent before it gave up may arrive first, and must give way.
                let gives_way =
                    |last: &Lease| scene.is_quarantined() && last.token < token.get();
                let ended = last.filter(|last| last.ends <= now || last.token != token.get());
                let ended = ended.filter(|last| !gives_way(last));
                that(ended.is_none(), || {
                    let last = ended.map_or(0, |last| last.token);
                    format!("{key} #{token} is renewed after the end of #{last}")
                })
            }
            Seen::Store(Event::Released { key, .. }) => {
                self.leases.remove(key);
                Ok(())
            }
            Seen::Store(Event::MemoryLost { .. }) => {
                self.leases.clear();
                Ok(())
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
    fn a_grant_while_a_lease_runs_is_a_violation() {
        let mut stage = Stage::new(OneGrant::default());
        stage.ok(granted(0, 5));
        stage.at(10).ok(granted(1, 6));
        stage.at(19).bad(granted(2, 7));
    }

    #[test]
    fn a_renewal_of_a_lease_that_has_run_out_is_a_violation() {
        let mut stage = Stage::new(OneGrant::default());
        stage.ok(granted(0, 5));
        stage.at(9).ok(renewed(0, 5));
        stage.at(19).bad(renewed(0, 5));
        stage.ok(memory_lost());
        stage.ok(renewed(0, 5));
        stage.ok(renewed(1, 6));
        stage.bad(renewed(0, 5));
    }
}
