//! The contract of members and assignments in its plainest form, as a model.

use std::collections::BTreeMap;

use coordinator_core::machine::planner::PlannedSwap;
use coordinator_core::{
    Bytes, EndReason, Epoch, Eviction, FencingToken, Incarnation, Instance, KeyspaceReport, Lead,
    Life, Member, MemberId, MemberState, Moment, Snapshot, StoredDocument, Swapped, Versions,
};

use crate::world::{TTL, keyspace};

#[derive(Debug, Clone)]
struct Record {
    fixed: bool,
    serving: bool,
    expires_at: Moment,
    evicted: bool,
    ended: Option<(Moment, EndReason, u32)>,
    report: KeyspaceReport,
}

/// What the store remembers.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) document: Option<(Epoch, Bytes)>,
    planner: FencingToken,
    epochs: u64,
    incarnations: u64,
    members: BTreeMap<Life, Record>,
}

impl Store {
    /// Begins a life; `None` while another one of the name lives.
    pub(crate) fn join(
        &mut self,
        now: Moment,
        id: &MemberId,
        fixed: bool,
        serving: bool,
    ) -> Option<Incarnation> {
        let lives: Vec<Life> = self
            .members
            .keys()
            .filter(|life| life.0 == *id)
            .cloned()
            .collect();
        for life in lives {
            if self.is_live(now, &life) {
                return None;
            }
            self.end(now, &life);
        }
        self.incarnations += 1;
        let incarnation = Incarnation::new(self.incarnations);
        let record = Record {
            fixed,
            serving,
            expires_at: now + TTL,
            evicted: false,
            ended: None,
            report: KeyspaceReport::default(),
        };
        self.members.insert((id.clone(), incarnation), record);
        Some(incarnation)
    }

    /// Whether the life goes on.
    pub(crate) fn heartbeat(
        &mut self,
        now: Moment,
        life: &Life,
        serving: bool,
        report: &KeyspaceReport,
    ) -> bool {
        if !self.is_live(now, life) {
            return false;
        }
        let Some(record) = self.members.get_mut(life) else {
            return false;
        };
        if record.evicted {
            return false;
        }
        record.expires_at = now + TTL;
        record.serving = serving;
        let seen = record.report.seen.max(report.seen);
        record.report = KeyspaceReport {
            seen,
            draining: report.draining.clone(),
        };
        true
    }

    pub(crate) fn leave(&mut self, now: Moment, life: &Life) {
        if self.is_live(now, life)
            && let Some(record) = self.members.get_mut(life)
        {
            record.ended = Some((now, EndReason::Left, 0));
        }
    }

    pub(crate) fn evict(&mut self, now: Moment, life: &Life) -> Eviction {
        match self.members.get_mut(life) {
            Some(record) if record.ended.is_some() => Eviction::Ended,
            Some(record) => {
                record.evicted = true;
                Eviction::Marked
            }
            None => {
                let record = Record {
                    fixed: false,
                    serving: false,
                    expires_at: now + TTL,
                    evicted: true,
                    ended: None,
                    report: KeyspaceReport::default(),
                };
                self.members.insert(life.clone(), record);
                Eviction::Entered
            }
        }
    }

    /// Deletes a record by hand (G7).
    pub(crate) fn erase(&mut self, life: &Life) {
        self.members.remove(life);
    }

    pub(crate) fn lead(&mut self, token: FencingToken) -> Lead {
        if token < self.planner {
            return Lead::Fenced { by: self.planner };
        }
        self.planner = token;
        Lead::Led(self.load())
    }

    pub(crate) fn load(&self) -> Option<StoredDocument> {
        let (epoch, document) = self.document.clone()?;
        Some(StoredDocument { epoch, document })
    }

    pub(crate) fn swap(&mut self, now: Moment, swap: &PlannedSwap) -> Swapped {
        if swap.token < self.planner {
            return Swapped::Fenced { by: self.planner };
        }
        let found = self.document.as_ref().map(|(epoch, _)| *epoch);
        if swap.expected != found {
            return Swapped::Conflict { found };
        }
        let live = |life: &&Life| self.is_live(now, life) || !self.members.contains_key(life);
        let not_ended: Vec<Life> = swap.ended.iter().filter(live).cloned().collect();
        if !not_ended.is_empty() {
            return Swapped::NotEnded(not_ended);
        }
        for life in &swap.ended {
            self.end(now, life);
        }
        self.planner = swap.token;
        self.epochs += 1;
        let epoch = Epoch::new(self.epochs);
        self.document = Some((epoch, swap.document.clone()));
        Swapped::Stored(epoch)
    }

    pub(crate) fn snapshot(&self, now: Moment) -> Snapshot {
        let member = |(life, record): (&Life, &Record)| {
            let (id, incarnation) = life.clone();
            let instance = Instance::from_random(u128::from(incarnation.get()));
            let mut member = Member::new(id, incarnation, instance, TTL);
            member.fixed = record.fixed;
            if record.serving {
                member.profile.keyspaces.insert(keyspace());
            }
            member.report.insert(keyspace(), record.report.clone());
            member.state = match record.ended {
                Some((at, reason, flaps)) => MemberState::Ended {
                    ago: now.since(at),
                    reason,
                    flaps,
                },
                None if now >= record.expires_at => MemberState::Due,
                None => MemberState::Live {
                    expires_in: record.expires_at.since(now),
                    evicted: record.evicted,
                },
            };
            member
        };
        let versions = Versions::default();
        Snapshot {
            versions,
            members: self.members.iter().map(member).collect(),
        }
    }

    fn is_live(&self, now: Moment, life: &Life) -> bool {
        let live = |record: &Record| record.ended.is_none() && now < record.expires_at;
        self.members.get(life).is_some_and(live)
    }

    /// Makes a tombstone of a life that is due.
    fn end(&mut self, now: Moment, life: &Life) {
        let within = |at: Moment| now.since(at) <= std::time::Duration::from_mins(10);
        let expired = |(other, record): (&Life, &Record)| {
            other.0 == life.0
                && matches!(record.ended, Some((at, EndReason::Expired, _)) if within(at))
        };
        let before = self.members.iter().filter(|entry| expired(*entry)).count();
        if let Some(record) = self.members.get_mut(life)
            && record.ended.is_none()
        {
            let flaps = u32::try_from(before + 1).unwrap_or(u32::MAX);
            let reason = if record.evicted {
                EndReason::Evicted
            } else {
                EndReason::Expired
            };
            record.ended = Some((now, reason, flaps));
        }
    }
}
