//! Which document may follow which: the table of legal transitions, as a check.
//!
//! ONE-OWNER rests on it (rule S2): ownership passes only on a fact that cannot become false again
//! within an epoch, an ack or an end. The planner keeps to it by construction; this says it once
//! more, plainly, for tests and for whoever doubts.

use super::{Document, Layout, Life, Slot};
use crate::member::{Member, MemberState, Snapshot};
use crate::names::Keyspace;
use crate::numbers::{Epoch, ShardId};

/// What a swap may rest on.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The keyspace of the document.
    pub keyspace: &'a Keyspace,
    /// The members, read not before the previous document.
    pub snapshot: &'a Snapshot,
    /// The lives that the swap counts as ended, and the store checks.
    pub ended: &'a [Life],
}

/// A step between two documents that no rule allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} may not pass from {from:?} to {to:?}")]
#[non_exhaustive]
pub struct IllegalStep {
    /// Of which shard.
    pub shard: ShardId,
    /// What the previous document says of it. `None`: nothing.
    pub from: Option<Slot>,
    /// What the next one says.
    pub to: Option<Slot>,
}

impl Document {
    /// Whether this document, stamped or not, may replace `previous` (PROTOCOLS section 10).
    ///
    /// In the dense layout a new cut may be granted only as a whole, when nobody is left in the
    /// old one. The `immediate` handoff of that layout breaks this on purpose.
    ///
    /// # Errors
    /// The first shard whose step is illegal.
    pub fn follows(&self, previous: &Self, evidence: &Evidence<'_>) -> Result<(), IllegalStep> {
        let fresh = |epoch: Epoch| epoch.get() == 0 || epoch > previous.epoch;
        let step = Step {
            evidence,
            previous,
            next: self,
        };
        if self.layout == Layout::Dense && self.cut_anew(previous) {
            return step.new_cut(fresh);
        }
        let shards = previous.slots.len().max(self.slots.len());
        for (shard, at) in (0..=u16::MAX).map(ShardId::new).zip(0..shards) {
            let (from, to) = (previous.slots.get(at), self.slots.get(at));
            let legal = match (from, to) {
                (Some(from), Some(to)) => step.is_legal(shard, from, to, fresh),
                (None, _) | (_, None) => false,
            };
            if !legal {
                return Err(IllegalStep {
                    shard,
                    from: from.copied(),
                    to: to.copied(),
                });
            }
        }
        Ok(())
    }

    /// Whether some part was granted since `previous`.
    fn cut_anew(&self, previous: &Self) -> bool {
        let tokens = |document: &Self| document.slots.iter().find_map(Slot::token);
        self.slots.len() != previous.slots.len()
            || (self.is_stable() && tokens(self) != tokens(previous))
    }
}

struct Step<'a> {
    evidence: &'a Evidence<'a>,
    previous: &'a Document,
    next: &'a Document,
}

impl Step<'_> {
    /// The table, row by row.
    fn is_legal(
        &self,
        shard: ShardId,
        from: &Slot,
        to: &Slot,
        fresh: impl Fn(Epoch) -> bool,
    ) -> bool {
        let before = from.owner().and_then(|index| self.previous.member(index));
        let after = to.owner().and_then(|index| self.next.member(index));
        let gone = || self.may_pass(shard, from, before);
        match (from, to) {
            (Slot::Free { .. }, Slot::Free { .. }) => true,
            (Slot::Free { .. }, Slot::Owned { token, .. }) => fresh(*token) && self.lives(after),
            (Slot::Free { .. }, Slot::Revoking { .. }) => false,
            (Slot::Owned { token, .. }, Slot::Owned { token: now, .. }) => {
                (before == after && token == now) || (fresh(*now) && gone() && self.lives(after))
            }
            (
                Slot::Owned { token, .. },
                Slot::Revoking {
                    token: now, since, ..
                },
            ) => before == after && token == now && fresh(*since) && self.lives(before),
            (Slot::Owned { .. } | Slot::Revoking { .. }, Slot::Free { .. }) => gone(),
            (Slot::Revoking { .. }, Slot::Owned { token, .. }) => {
                fresh(*token) && gone() && self.lives(after)
            }
            (
                Slot::Revoking { token, since, .. },
                Slot::Revoking {
                    token: now,
                    since: still,
                    ..
                },
            ) => before == after && token == now && since == still,
        }
    }

    /// The grant of a whole dense cut.
    fn new_cut(&self, fresh: impl Fn(Epoch) -> bool) -> Result<(), IllegalStep> {
        let refuse = |shard, from, to| Err(IllegalStep { shard, from, to });
        for (shard, from) in self.previous.numbered() {
            let before = from.owner().and_then(|index| self.previous.member(index));
            if before.is_some() && !self.may_pass(shard, from, before) {
                return refuse(shard, Some(*from), None);
            }
        }
        for (shard, to) in self.next.numbered() {
            let after = to.owner().and_then(|index| self.next.member(index));
            let granted = matches!(to, Slot::Owned { token, .. } if fresh(*token));
            if !granted || !self.lives(after) {
                return refuse(shard, None, Some(*to));
            }
        }
        Ok(())
    }

    /// Whether the owner can no longer be working on the shard: it acked, or has ended.
    fn may_pass(&self, shard: ShardId, from: &Slot, owner: Option<&Life>) -> bool {
        let Some(owner) = owner else { return false };
        let ended = match self.record(owner).map(|member| member.state) {
            Some(MemberState::Ended { .. }) => true,
            Some(MemberState::Live { .. } | MemberState::Due) | None => {
                self.evidence.ended.contains(owner)
            }
        };
        ended || self.acked(shard, from, owner)
    }

    fn acked(&self, shard: ShardId, from: &Slot, owner: &Life) -> bool {
        let Slot::Revoking { since, .. } = from else {
            return false;
        };
        let report = self
            .record(owner)
            .and_then(|member| member.report.get(self.evidence.keyspace));
        report.is_some_and(|report| report.seen >= *since && !report.draining.contains(&shard))
    }

    fn lives(&self, life: Option<&Life>) -> bool {
        let record = life.and_then(|life| self.record(life));
        record.is_some_and(|member| matches!(member.state, MemberState::Live { .. }))
    }

    fn record(&self, life: &Life) -> Option<&Member> {
        self.evidence.snapshot.get(&life.0, life.1)
    }
}
