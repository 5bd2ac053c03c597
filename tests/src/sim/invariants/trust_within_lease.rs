use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{Key, MemberId};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Hold, Scene, Sort};
use crate::sim::seen::Seen;

/// Trust in a lease ends before the lease does, by true time and the store's wall clock.
///
/// T1, T2, T3, T4, T5, S3, I6; E5, E12, H5, M4. At every beginning of work and every look: of each
/// guard that is trusted, the lease that the store last granted or renewed under its token has not
/// run out; for shards it is the membership of their owner, and its last heartbeat. What the store
/// has forgotten since changes nothing of that.
#[derive(Debug, Default)]
pub struct TrustWithinLease {
    leases: BTreeMap<(Key, u64), Duration>,
    members: BTreeMap<MemberId, Duration>,
}

impl TrustWithinLease {
    fn end_of(&self, scene: &Scene, hold: &Hold) -> Option<Duration> {
        match &hold.sort {
            Sort::Lease(key) => self.leases.get(&(key.clone(), hold.token)).copied(),
            Sort::Shard { .. } | Sort::Part { .. } => {
                let process = hold.process;
                let name = scene.seats[process.seat].names.get(&process.life)?;
                self.members.get(name).copied()
            }
            Sort::Vote => Some(Duration::MAX),
        }
    }

    fn check(&self, scene: &Scene) -> Verdict {
        let wall = scene.wall();
        for (_, hold) in scene.open_holds().filter(|(_, hold)| hold.is_trusted()) {
            let ends = self.end_of(scene, hold);
            that(ends.is_some_and(|ends| wall < ends), || {
                let over = ends.map_or(Duration::MAX, |ends| wall.saturating_sub(ends));
                let (process, what, token) = (hold.process, &hold.what, hold.token);
                format!("{process} trusts {what} #{token}, whose lease ended {over:?} ago")
            })?;
        }
        Ok(())
    }
}

impl Invariant for TrustWithinLease {
    fn name(&self) -> &'static str {
        "TRUST-WITHIN-LEASE"
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
                let place = (key.clone(), token.get());
                self.leases.insert(place, scene.wall() + *ttl);
                Ok(())
            }
            Seen::Store(Event::Joined { id, .. }) => {
                self.members
                    .insert(id.clone(), scene.wall() + scene.terms.ttl);
                Ok(())
            }
            Seen::Store(Event::Beat { id, ttl, .. }) => {
                self.members.insert(id.clone(), scene.wall() + *ttl);
                Ok(())
            }
            Seen::Begins(_) | Seen::Look => self.check(scene),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, beat, granted, joined, lost, renewed};
    use super::*;

    #[test]
    fn a_leader_that_trusts_on_is_a_violation() {
        let mut stage = Stage::new(TrustWithinLease::default());
        stage.ok(granted(0, 1));
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.at(9).ok(renewed(0, 1));
        stage.at(18).ok(Seen::Look);
        stage.at(19).bad(Seen::Look);
        stage.ok(lost(hold));
        stage.ok(Seen::Look);
    }

    #[test]
    fn an_owner_that_trusts_longer_than_its_membership_is_a_violation() {
        let mut stage = Stage::new(TrustWithinLease::default());
        stage.ok(joined(0, 1));
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.at(9).ok(beat(0, 1));
        stage.at(18).ok(Seen::Look);
        stage.ok(Seen::WallSet(2_000));
        stage.bad(Seen::Look);
    }
}
