use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::Key;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Hold, Scene, Sort};
use crate::sim::seen::Seen;

/// No lease is kept alive that nobody holds: not after a cancelled call, not after a guard's end.
///
/// W4, W5, W6; E9, E19. At every renewal that the store accepts of an election or lock: its
/// guard exists, or ended at most
/// [`Terms::let_go_within`](crate::sim::bounds::Terms::let_go_within) ago; or the grant is no older
/// than that, and may be on its way.
#[derive(Debug, Default)]
pub struct NoOrphanLease {
    /// Of each key that anybody ever held: its last grant.
    granted: BTreeMap<Key, (u64, Duration)>,
    guards: BTreeMap<(Key, u64), usize>,
}

impl NoOrphanLease {
    fn renewed(&self, scene: &Scene, key: &Key, token: u64) -> Verdict {
        let guard = self.guards.get(&(key.clone(), token));
        let guard: Option<&Hold> = guard.map(|id| &scene.holds[*id]);
        let idle_since = match guard {
            Some(hold) => hold.stopped,
            None => self
                .granted
                .get(key)
                .filter(|(granted, _)| *granted == token)
                .map(|(_, at)| *at),
        };
        let Some(since) = idle_since else {
            return Ok(());
        };
        let bound = scene.terms.let_go_within();
        let idle = scene.since(since);
        that(idle <= bound.total(), || {
            format!("{key} #{token} is renewed, and nobody has held it for {idle:.1?}; allowed are {bound}")
        })
    }
}

impl Invariant for NoOrphanLease {
    fn name(&self) -> &'static str {
        "NO-ORPHAN-LEASE"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Begins(id) => {
                let hold = &scene.holds[*id];
                if let Sort::Lease(key) = &hold.sort {
                    self.guards.insert((key.clone(), hold.token), *id);
                }
                Ok(())
            }
            Seen::Store(Event::Granted { key, token, .. }) if is_guarded(key) => {
                self.granted.insert(key.clone(), (token.get(), scene.now));
                Ok(())
            }
            Seen::Store(Event::Renewed { key, token, .. }) if is_guarded(key) => {
                self.renewed(scene, key, token.get())
            }
            _ => Ok(()),
        }
    }
}

/// Planners hold leases, too, and have no guards that anybody sees.
fn is_guarded(key: &Key) -> bool {
    !key.as_str().contains("/planner/")
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, granted, renewed};
    use super::*;

    #[test]
    fn a_lease_that_is_renewed_without_a_guard_is_a_violation() {
        let mut stage = Stage::new(NoOrphanLease::default());
        stage.ok(granted(0, 5));
        stage.at(10).ok(renewed(0, 5));
        stage.at(40).bad(renewed(0, 5));
    }

    #[test]
    fn a_lease_that_is_renewed_after_its_guard_has_gone_is_a_violation() {
        let mut stage = Stage::new(NoOrphanLease::default());
        stage.ok(granted(0, 5));
        let hold = stage.leader(0, 5);
        stage.ok(Seen::Begins(hold));
        stage.at(100).ok(renewed(0, 5));
        stage.ok(Seen::Stops(hold));
        stage.at(101).ok(renewed(0, 5));
        stage.at(140).bad(renewed(0, 5));
    }
}
