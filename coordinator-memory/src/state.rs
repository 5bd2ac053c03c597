//! What the store remembers, and the requests on it. Plain data: time is an argument.

use std::time::Duration;

use coordinator_core::{
    Acquisition, Beat, Claim, EndReason, Eviction, FencingToken, Group, Heartbeat, Incarnation,
    Join, Joined, Key, Leave, MemberId, MemoryId, Moment, Release, Renewal, Swap, Swapped,
};

use crate::assignments::Assignments;
use crate::checkpoints::Checkpoints;
use crate::history::{Event, History};
use crate::locks::{Locks, Terms};
use crate::members::Members;
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
    pub(crate) fn new(max_ttl: Duration, history: usize) -> Self {
        Self {
            clock: WallClock::new(),
            max_ttl,
            memory: memory_id(1),
            memories: 1,
            quarantine_ends: Duration::ZERO,
            kept: Kept::default(),
            turns: Turns::default(),
            history: History::new(history),
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
        self.history.record(self.clock.elapsed(), event);
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
            && snapshot.versions != known
        {
            self.record(Event::Joined {
                group: join.group.clone(),
                id: join.id.clone(),
                incarnation: *incarnation,
            });
        }
        Ok(joined)
    }

    pub(crate) fn heartbeat(&mut self, heartbeat: &Heartbeat) -> Result<Beat, Refusal> {
        let terms = self.terms();
        self.kept.members.heartbeat(heartbeat, &self.memory, terms)
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
            });
        }
        Ok(swapped)
    }
}

fn memory_id(number: u64) -> MemoryId {
    MemoryId::new(format!("memory-{number}"))
}
