//! What the store remembers, and the requests on it. Plain data: time is an argument.

use std::time::Duration;

use coordinator_core::{
    Acquisition, Beat, Checkpoint, Claim, EndReason, Eviction, FencingToken, Group, Heartbeat,
    Incarnation, Join, Joined, Key, Keyspace, Leave, Load, MemberId, MemoryId, Moment, Release,
    Renewal, Save, ShardId, Swap, Swapped,
};

use crate::assignments::Assignments;
use crate::checkpoints::Checkpoints;
use crate::history::{Entry, Event, History};
use crate::locks::{Locks, Terms};
use crate::members::Members;
use crate::observe::{Observed, Observer};
use crate::refusal::Refusal;
use crate::time::WallClock;
use crate::turns::Turns;

/// How long a restart takes, at least.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The store itself.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) clock: WallClock,
    pub(crate) max_ttl: Duration,
    pub(crate) memory: MemoryId,
    memories: u64,
    /// The end of the quarantine, in true time: setting the wall clock does not shorten it.
    quarantine_ends: Duration,
    pub(crate) kept: Kept,
    pub(crate) turns: Turns,
    pub(crate) history: History,
    observer: Option<Observer>,
}

/// What a replica has a copy of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) locks: Locks,
    pub(crate) members: Members,
    pub(crate) assignments: Assignments,
    pub(crate) checkpoints: Checkpoints,
}

/// A copy of what the store knew at one moment: see [`MemoryStore::replica`].
///
/// [`MemoryStore::replica`]: crate::MemoryStore::replica
#[derive(Debug, Clone)]
pub struct Replica(pub(crate) Kept);

impl State {
    pub(crate) fn new(max_ttl: Duration, history: usize, observer: Option<Observer>) -> Self {
        Self {
            clock: WallClock::new(),
            max_ttl,
            memory: memory_id(1),
            memories: 1,
            quarantine_ends: Duration::ZERO,
            kept: Kept::default(),
            turns: Turns::default(),
            history: History::new(history),
            observer,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// How long the quarantine still lasts.
    pub(crate) fn quarantine(&self) -> Option<Duration> {
        let left = self.quarantine_ends.saturating_sub(self.clock.elapsed());
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms {
            now: self.now(),
            max_ttl: self.max_ttl,
            quarantine: self.quarantine(),
        }
    }

    /// Goes on with other memories than before: those of `kept`. Grants nothing for one
    /// `max_ttl`, unless the caller trusts that nobody holds what is forgotten here (I2, I5).
    pub(crate) fn remember_only(&mut self, kept: Kept, trusted: bool) {
        // It takes a moment, even if a test's clock stands: numbers that begin with the wall clock
        // rise through it.
        self.clock.forward(A_MOMENT);
        let former = std::mem::replace(&mut self.kept, kept);
        self.kept.members.succeed(&former.members, self.now());
        self.kept.locks.inherit();
        self.turns.forget();
        self.memories += 1;
        self.memory = memory_id(self.memories);
        if !trusted {
            self.quarantine_ends = self.clock.elapsed() + self.max_ttl;
        }
        self.record(Event::MemoryLost {
            memory: self.memory.clone(),
        });
    }

    pub(crate) fn record(&mut self, event: Event) {
        let at = self.clock.elapsed();
        let entry = Entry { at, event };
        if let Some(observer) = &self.observer {
            observer.tell(&Observed::new(&entry, &self.kept, self.clock.now()));
        }
        if entry.event.is_kept() {
            self.history.record(entry);
        }
    }

    /// The same, for what nobody but an observer wants to know.
    fn tell(&mut self, event: impl FnOnce() -> Event) {
        if self.observer.is_some() {
            self.record(event());
        }
    }

    pub(crate) fn acquire(&mut self, claim: &Claim) -> Result<Acquisition, Refusal> {
        let terms = self.terms();
        let before = self.kept.locks.holder(&claim.key, terms.now);
        if before.is_none() && terms.quarantine.is_none() {
            // Who stands in line is not passed by in the moment between an expiry and the look of
            // the line's keeper.
            self.turns.call(&claim.key, terms.now);
        }
        let turn = self.turns.turn(&claim.key, terms.now);
        let answer = self.kept.locks.acquire(claim, turn, terms)?;
        // Asked for twice it is one grant, and so one event.
        if let (Acquisition::Granted(token), None) = (&answer, before) {
            let token = *token;
            self.turns.granted(&claim.key);
            self.record(Event::granted(claim, token));
        }
        Ok(answer)
    }

    pub(crate) fn renew(&mut self, claim: &Claim, token: FencingToken) -> Result<Renewal, Refusal> {
        let renewal = self.kept.locks.renew(claim, token, self.terms())?;
        let event = match renewal {
            Renewal::Renewed => Event::renewed(claim, token),
            Renewal::Lost => return Ok(renewal),
        };
        self.record(event);
        Ok(renewal)
    }

    pub(crate) fn release(
        &mut self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, Refusal> {
        let terms = self.terms();
        let release = self.kept.locks.release(claim, token, terms)?;
        if release == Release::Released {
            self.turns.released(&claim.key, next, terms.now);
            self.record(Event::released(claim, token));
        }
        Ok(release)
    }

    /// The end of the present lease of a key, if it has one.
    pub(crate) fn held_until(&self, key: &Key) -> Option<Moment> {
        let now = self.now();
        let holder = self.kept.locks.holder(key, now)?;
        Some(now + holder.free_in.unwrap_or_default())
    }

    pub(crate) fn join(&mut self, join: &Join) -> Result<Joined, Refusal> {
        let known = self.kept.members.versions(&join.group);
        let terms = self.terms();
        let joined = self.kept.members.join(join, &self.memory, terms)?;
        if let Joined::Member {
            incarnation,
            snapshot,
            ..
        } = &joined
        {
            let (group, id, incarnation) = (join.group.clone(), join.id.clone(), *incarnation);
            if snapshot.versions == known {
                // The same life, asked for again: it lives for another ttl.
                let ttl = join.ttl;
                self.tell(|| Event::Beat {
                    group,
                    id,
                    incarnation,
                    ttl,
                });
            } else {
                self.record(Event::Joined {
                    group,
                    id,
                    incarnation,
                });
            }
        }
        Ok(joined)
    }

    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<Beat, Refusal> {
        let terms = self.terms();
        let members = &mut self.kept.members;
        let beat = members.heartbeat(heartbeat, &self.memory, terms)?;
        if let Beat::Alive { .. } = beat {
            self.tell(|| Event::Beat {
                group: heartbeat.group.clone(),
                id: heartbeat.id.clone(),
                incarnation: heartbeat.incarnation,
                ttl: heartbeat.ttl,
            });
        }
        Ok(beat)
    }

    pub(crate) fn leave(&mut self, group: &Group, id: &MemberId, life: Incarnation) -> Leave {
        let now = self.now();
        let leave = self.kept.members.leave(group, id, life, now);
        if leave == Leave::Left {
            self.record(Event::Ended {
                group: group.clone(),
                id: id.clone(),
                incarnation: life,
                reason: EndReason::Left,
            });
        }
        leave
    }

    pub(crate) fn evict(&mut self, group: &Group, id: &MemberId, life: Incarnation) -> Eviction {
        let eviction = self.kept.members.evict(group, id, life, self.terms());
        if eviction != Eviction::Ended {
            self.record(Event::Evicted {
                group: group.clone(),
                id: id.clone(),
                incarnation: life,
            });
        }
        eviction
    }

    pub(crate) fn swap(&mut self, swap: &Swap) -> Result<Swapped, Refusal> {
        let terms = self.terms();
        let Kept {
            members,
            assignments,
            ..
        } = &mut self.kept;
        let swapped = assignments.swap(swap, members, terms)?;
        if let Swapped::Stored(epoch) = swapped {
            self.record(Event::Swapped {
                group: swap.group.clone(),
                keyspace: swap.keyspace.clone(),
                epoch,
                ended: swap.ended.clone(),
            });
        }
        Ok(swapped)
    }

    pub(crate) fn load(
        &mut self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Load {
        let load = self.kept.checkpoints.load(group, keyspace, shard, token);
        if let Load::Loaded(position) = &load {
            self.tell(|| Event::Loaded {
                group: group.clone(),
                keyspace: keyspace.clone(),
                shard,
                token,
                position: position.clone(),
            });
        }
        load
    }

    pub(crate) fn save(&mut self, checkpoint: &Checkpoint) -> Result<Save, Refusal> {
        let save = self.kept.checkpoints.save(checkpoint)?;
        if save == Save::Saved {
            self.tell(|| Event::Saved {
                group: checkpoint.group.clone(),
                keyspace: checkpoint.keyspace.clone(),
                shard: checkpoint.shard,
                token: checkpoint.token,
                position: checkpoint.position.clone(),
            });
        }
        Ok(save)
    }
}

fn memory_id(number: u64) -> MemoryId {
    MemoryId::new(format!("memory-{number}"))
}

#[cfg(test)]
mod tests {
    use coordinator_core::{ClaimId, Instance};

    use super::*;
    use crate::turns::Entry;

    fn claim(owner: u8) -> Claim {
        let instance = Instance::from_bytes([owner; 16]);
        let name = MemberId::new(format!("m{owner}"));
        let ttl = Duration::from_secs(10);
        Claim::new(Key::from("k"), name, instance, ClaimId::new(1), ttl)
    }

    /// L3: also in the moment in which the lease has run out, and nobody was woken yet.
    #[tokio::test(start_paused = true)]
    async fn nobody_slips_in_between_an_expiry_and_the_waiter_who_is_next() {
        let mut state = State::new(Duration::from_secs(30), 16, None);
        let key = Key::from("k");
        assert!(matches!(
            state.acquire(&claim(1)),
            Ok(Acquisition::Granted(_))
        ));
        let (now, held_until) = (state.now(), state.held_until(&key));
        let entry = state.turns.enter(&claim(2), held_until, now);
        assert!(matches!(entry, Entry::Wait { .. }), "{entry:?}");
        tokio::time::advance(Duration::from_secs(10)).await;
        let passing_by = state.acquire(&claim(3)).unwrap();
        assert!(
            matches!(&passing_by, Acquisition::HeldBy(by) if by.owner.as_str() == "m2"),
            "{passing_by:?}"
        );
        assert_eq!(
            state.kept.locks.holder(&key, state.now()),
            None,
            "it is free"
        );
        assert!(matches!(
            state.acquire(&claim(2)),
            Ok(Acquisition::Granted(_))
        ));
    }

    /// One grant is one entry of the history, however often it is asked for.
    #[tokio::test(start_paused = true)]
    async fn the_history_is_bounded_and_tells_each_grant_once() {
        let mut state = State::new(Duration::from_secs(30), 2, None);
        for _ in 0..3 {
            assert!(matches!(
                state.acquire(&claim(1)),
                Ok(Acquisition::Granted(_))
            ));
        }
        assert_eq!(state.history.entries().len(), 1);
        tokio::time::advance(Duration::from_secs(10)).await;
        state.acquire(&claim(2)).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        state.acquire(&claim(3)).unwrap();
        let at: Vec<u64> = state
            .history
            .entries()
            .iter()
            .map(|entry| entry.at.as_secs())
            .collect();
        assert_eq!(at, [10, 20], "the oldest entry went");
    }
}
