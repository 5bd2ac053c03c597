//! The traits of a backend, each request handed to the store.

use std::sync::Arc;

use coordinator_core::{
    Acquisition, AssignmentError, AssignmentStore, Beat, Checkpoint, CheckpointError,
    CheckpointStore, Claim, Epoch, Eviction, FencingToken, Group, Guarantees, Heartbeat, Holder,
    Incarnation, Join, Joined, Key, Keyspace, Lead, Leave, Load, LockBackend, LockCapabilities,
    LockError, MemberId, MembershipError, MembershipStore, Release, Renewal, Save, ShardId,
    Snapshot, StoreId, StoredDocument, Swap, Swapped, Versions, async_trait, check_key,
    check_keyspace,
};
use tokio::time::sleep;

use crate::connection::{Connection, guarantees};
use crate::faults::Failure;
use crate::refusal::{
    Refusal, assignment_refused, checkpoint_refused, lock_refused, membership_refused,
};
use crate::store::Hub;
use crate::turns::{Entry, Ticket, Watch};

/// One part's error for a request that got no answer.
macro_rules! failed {
    ($error:ident, $operation:expr, $subject:expr) => {
        |failure: Failure| {
            if failure.may_have_happened() {
                $error::indeterminate($operation, $subject, failure)
            } else {
                $error::unavailable($operation, $subject, failure)
            }
        }
    };
}

#[async_trait]
impl LockBackend for Connection {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let (hub, asked) = (self.hub.clone(), claim.clone());
        let answer = self.request(move |state| {
            let answer = state.acquire(&asked);
            if let Ok(Acquisition::Granted(_)) = answer {
                hub.bells.ring_key(&asked.key);
            }
            answer
        });
        answer
            .await
            .map_err(failed!(LockError, "acquire", &claim.key))?
            .map_err(|refusal| lock_refused("acquire", &claim.key, refusal))
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let asked = claim.clone();
        let answer = self.request(move |state| state.renew(&asked, token));
        answer
            .await
            .map_err(failed!(LockError, "renew", &claim.key))?
            .map_err(|refusal| lock_refused("renew", &claim.key, refusal))
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let (hub, asked, next) = (self.hub.clone(), claim.clone(), next.cloned());
        let answer = self.request(move |state| {
            let answer = state.release(&asked, token, next.as_ref());
            hub.bells.ring_key(&asked.key);
            answer
        });
        answer
            .await
            .map_err(failed!(LockError, "release", &claim.key))?
            .map_err(|refusal| lock_refused("release", &claim.key, refusal))
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        let asked = key.clone();
        let answer = self.request(move |state| {
            check_key(&asked).map_err(Refusal::rejected)?;
            Ok(state.kept.locks.holder(&asked, state.now()))
        });
        answer
            .await
            .map_err(failed!(LockError, "read holder of", key))?
            .map_err(|refusal| lock_refused("read holder of", key, refusal))
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        self.hint(wait_in_line(self.hub.clone(), claim.clone()))
            .await
            .map_err(failed!(LockError, "wait for", &claim.key))
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let bell = self.hub.bells.key(key);
        let change = async {
            let rung = bell.notified();
            let held_until = {
                let state = self.hub.state.lock();
                state.held_until(key).map(|until| until.since(state.now()))
            };
            // Nothing marks the end of a lease but the clock.
            match held_until {
                Some(left) => tokio::select! {
                    biased;
                    () = rung => {}
                    () = sleep(left) => {}
                },
                None => rung.await,
            }
        };
        self.hint(change)
            .await
            .map_err(failed!(LockError, "watch", key))
    }

    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new().wakes().fair()
    }

    fn store(&self) -> StoreId {
        self.store_id()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees()
    }
}

/// Stands in line until it is this claim's turn.
async fn wait_in_line(hub: Arc<Hub>, claim: Claim) {
    let entry = {
        let mut state = hub.state.lock();
        let (now, held_until) = (state.now(), state.held_until(&claim.key));
        state.turns.enter(&claim, held_until, now)
    };
    let Entry::Wait {
        ticket,
        woken,
        unkept,
    } = entry
    else {
        return;
    };
    let mut place = Place {
        hub: hub.clone(),
        key: claim.key.clone(),
        ticket: Some(ticket),
    };
    if unkept {
        drop(tokio::spawn(keep_line(hub, claim.key)));
    }
    woken.notified().await;
    // From here on the turn is the caller's to take, or to let lapse.
    place.ticket = None;
}

/// A place in line; given up when dropped.
struct Place {
    hub: Arc<Hub>,
    key: Key,
    ticket: Option<Ticket>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.hub.state.lock().turns.leave(&self.key, ticket);
        }
    }
}

/// Attends one line while anybody waits in it: wakes the next when a lease runs out, or when a
/// turn is not taken. It belongs to the store, so that a frozen waiter holds nobody up.
async fn keep_line(hub: Arc<Hub>, key: Key) {
    loop {
        let (watch, now) = {
            let mut state = hub.state.lock();
            let (now, held_until) = (state.now(), state.held_until(&key));
            (state.turns.attend(&key, held_until, now), now)
        };
        let Watch::Until { at, moved } = watch else {
            return;
        };
        tokio::select! {
            biased;
            () = moved.notified() => {}
            () = sleep(at.since(now)) => {}
        }
    }
}

#[async_trait]
impl MembershipStore for Connection {
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError> {
        let (hub, asked) = (self.hub.clone(), join.clone());
        let answer = self.request(move |state| {
            let answer = state.join(&asked);
            hub.bells.ring_group(&asked.group);
            answer
        });
        answer
            .await
            .map_err(failed!(MembershipError, "join", &join.group))?
            .map_err(|refusal| membership_refused("join", &join.group, refusal))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError> {
        let (hub, asked) = (self.hub.clone(), heartbeat.clone());
        let answer = self.request(move |state| {
            let before = state.kept.members.versions(&asked.group);
            let answer = state.heartbeat(&asked);
            if state.kept.members.versions(&asked.group) != before {
                hub.bells.ring_group(&asked.group);
            }
            answer
        });
        answer
            .await
            .map_err(failed!(MembershipError, "beat among", &heartbeat.group))?
            .map_err(|refusal| membership_refused("beat among", &heartbeat.group, refusal))
    }

    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, MembershipError> {
        let (hub, asked, id) = (self.hub.clone(), group.clone(), id.clone());
        let answer = self.request(move |state| {
            check_member(&asked, &id)?;
            let answer = state.leave(&asked, &id, incarnation);
            hub.bells.ring_group(&asked);
            Ok(answer)
        });
        answer
            .await
            .map_err(failed!(MembershipError, "leave", group))?
            .map_err(|refusal| membership_refused("leave", group, refusal))
    }

    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, MembershipError> {
        let (hub, asked, id) = (self.hub.clone(), group.clone(), id.clone());
        let answer = self.request(move |state| {
            check_member(&asked, &id)?;
            let answer = state.evict(&asked, &id, incarnation);
            hub.bells.ring_group(&asked);
            Ok(answer)
        });
        answer
            .await
            .map_err(failed!(MembershipError, "evict from", group))?
            .map_err(|refusal| membership_refused("evict from", group, refusal))
    }

    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError> {
        let asked = group.clone();
        let answer = self.request(move |state| {
            asked.check().map_err(Refusal::rejected)?;
            Ok(state.kept.members.snapshot(&asked, state.now()))
        });
        answer
            .await
            .map_err(failed!(MembershipError, "read", group))?
            .map_err(|refusal| membership_refused("read", group, refusal))
    }

    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        let bell = self.hub.bells.group(group);
        let change = async {
            let rung = bell.notified();
            let versions = self.hub.state.lock().kept.members.versions(group);
            if versions == known {
                rung.await;
            }
        };
        self.hint(change)
            .await
            .map_err(failed!(MembershipError, "watch", group))
    }

    fn store(&self) -> StoreId {
        self.store_id()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees()
    }
}

fn check_member(group: &Group, id: &MemberId) -> Result<(), Refusal> {
    group.check().map_err(Refusal::rejected)?;
    id.check().map_err(Refusal::rejected)
}

#[async_trait]
impl AssignmentStore for Connection {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError> {
        let asked = (group.clone(), keyspace.clone());
        let answer = self.request(move |state| {
            check_keyspace(&asked.0, &asked.1).map_err(Refusal::rejected)?;
            Ok(state.kept.assignments.load(&asked.0, &asked.1))
        });
        answer
            .await
            .map_err(failed!(AssignmentError, "load", keyspace))?
            .map_err(|refusal| assignment_refused("load", keyspace, refusal))
    }

    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError> {
        let asked = (group.clone(), keyspace.clone());
        let answer = self.request(move |state| {
            check_keyspace(&asked.0, &asked.1).map_err(Refusal::rejected)?;
            Ok(state.kept.assignments.lead(&asked.0, &asked.1, token))
        });
        answer
            .await
            .map_err(failed!(AssignmentError, "lead", keyspace))?
            .map_err(|refusal| assignment_refused("lead", keyspace, refusal))
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError> {
        let (hub, asked) = (self.hub.clone(), swap.clone());
        let answer = self.request(move |state| {
            let answer = state.swap(&asked);
            if let Ok(Swapped::Stored(_)) = answer {
                hub.bells.ring_keyspace(&asked.group, &asked.keyspace);
                hub.bells.ring_group(&asked.group);
            }
            answer
        });
        answer
            .await
            .map_err(failed!(AssignmentError, "swap", &swap.keyspace))?
            .map_err(|refusal| assignment_refused("swap", &swap.keyspace, refusal))
    }

    async fn changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        let bell = self.hub.bells.keyspace(group, keyspace);
        let change = async {
            let rung = bell.notified();
            let epoch = {
                let state = self.hub.state.lock();
                state.kept.assignments.epoch(group, keyspace)
            };
            if epoch == known {
                rung.await;
            }
        };
        self.hint(change)
            .await
            .map_err(failed!(AssignmentError, "watch", keyspace))
    }

    fn store(&self) -> StoreId {
        self.store_id()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees()
    }
}

#[async_trait]
impl CheckpointStore for Connection {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, CheckpointError> {
        let asked = (group.clone(), keyspace.clone());
        let answer = self.request(move |state| {
            check_keyspace(&asked.0, &asked.1).map_err(Refusal::rejected)?;
            Ok(state.load(&asked.0, &asked.1, shard, token))
        });
        answer
            .await
            .map_err(failed!(CheckpointError, "load", keyspace))?
            .map_err(|refusal| checkpoint_refused("load", keyspace, refusal))
    }

    async fn save(&self, checkpoint: &Checkpoint) -> Result<Save, CheckpointError> {
        let (asked, keyspace) = (checkpoint.clone(), &checkpoint.keyspace);
        let answer = self.request(move |state| state.save(&asked));
        answer
            .await
            .map_err(failed!(CheckpointError, "save", keyspace))?
            .map_err(|refusal| checkpoint_refused("save", keyspace, refusal))
    }

    fn store(&self) -> StoreId {
        self.store_id()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees()
    }
}
