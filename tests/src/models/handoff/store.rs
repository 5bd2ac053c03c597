//! The contracts of members and of assignments, in their plainest form.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use coordinator_core::machine::planner::PlannedSwap;
use coordinator_core::{
    Document, EndReason, Epoch, ErrorKind, Eviction, FencingToken, Incarnation, Instance,
    KeyspaceReport, Lead, Life, Member, MemberId, MemberState, Moment, Snapshot, StoredDocument,
    Swapped, Versions,
};

use super::{Defect, TTL, keyspace};
use crate::models::clock::span;
use crate::models::outline::Fork;

/// After so many units nobody asks how long ago a life ended.
const LONG_AGO: u32 = 2 * TTL;

#[derive(Debug, Clone)]
struct Record {
    expires: Moment,
    evicted: bool,
    ended: Option<(Moment, EndReason)>,
    report: KeyspaceReport,
}

/// What the store remembers. That its numbers rise through a loss of memory is the work of wall
/// time (K1).
#[derive(Clone)]
pub(super) struct Store {
    defect: Option<Defect>,
    pub(super) document: Option<Document>,
    pub(super) bytes: Option<StoredDocument>,
    planner: FencingToken,
    epoch: u64,
    incarnation: u64,
    members: BTreeMap<Life, Record>,
    /// The end of the quarantine, if there is one (I2).
    silent_until: Moment,
}

/// What of it makes a difference.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("document", &self.document)
            .field("planner", &self.planner)
            .field("members", &self.members)
            .field("silent_until", &self.silent_until)
            .finish_non_exhaustive()
    }
}

impl Fork for Store {
    fn fork(&self) -> Self {
        self.clone()
    }
}

impl Store {
    pub(super) fn new(defect: Option<Defect>) -> Self {
        Self {
            defect,
            document: None,
            bytes: None,
            planner: FencingToken::default(),
            epoch: 0,
            incarnation: 0,
            members: BTreeMap::new(),
            silent_until: Moment::ZERO,
        }
    }

    /// The memory is gone.
    pub(super) fn forget(&mut self, now: Moment) {
        self.document = None;
        self.bytes = None;
        self.planner = FencingToken::default();
        self.members.clear();
        self.silent_until = now + span(TTL);
    }

    /// Whether there is something that nobody can ask for any more.
    pub(super) fn is_untidy(&self, now: Moment) -> bool {
        self.members.iter().any(|member| self.is_stale(now, member))
    }

    /// What nobody can ask for any more is gone.
    pub(super) fn tidy(&mut self, now: Moment) {
        let stale: Vec<Life> = (self.members.iter())
            .filter(|member| self.is_stale(now, *member))
            .map(|(life, _)| life.clone())
            .collect();
        for life in stale {
            self.members.remove(&life);
        }
    }

    fn is_stale(&self, now: Moment, (life, record): (&Life, &Record)) -> bool {
        let named = self
            .document
            .as_ref()
            .is_some_and(|it| it.members.contains(life));
        let ended = record.ended;
        !named && ended.is_some_and(|(at, _)| now >= at + span(LONG_AGO))
    }

    /// Begins a life; `None` while another one of the name lasts.
    pub(super) fn join(&mut self, now: Moment, id: &MemberId) -> Option<Incarnation> {
        let lives: Vec<Life> = self
            .members
            .keys()
            .filter(|it| it.0 == *id)
            .cloned()
            .collect();
        for life in lives {
            if self.is_live(now, &life) {
                return None;
            }
            if now >= self.silent_until {
                self.end(now, &life);
            }
        }
        self.incarnation += 1;
        let incarnation = Incarnation::new(self.incarnation);
        let record = Record {
            expires: self.expiry(now),
            evicted: false,
            ended: None,
            report: KeyspaceReport::default(),
        };
        self.members.insert((id.clone(), incarnation), record);
        Some(incarnation)
    }

    /// Whether the life goes on.
    pub(super) fn heartbeat(&mut self, now: Moment, life: &Life, report: &KeyspaceReport) -> bool {
        let (live, expires) = (self.is_live(now, life), self.expiry(now));
        let newest = Epoch::new(self.epoch);
        let untied = self.defect == Some(Defect::UntiedAck);
        let Some(record) = self.members.get_mut(life) else {
            return false;
        };
        if record.evicted || !live {
            return false;
        }
        record.expires = expires;
        let seen = if untied { newest } else { report.seen };
        record.report = KeyspaceReport {
            seen: record.report.seen.max(seen),
            draining: report.draining.clone(),
        };
        true
    }

    pub(super) fn evict(&mut self, now: Moment, life: &Life) -> Eviction {
        let expires = now + span(TTL);
        if let Some(record) = self.members.get_mut(life) {
            if record.ended.is_some() {
                return Eviction::Ended;
            }
            record.evicted = true;
            return Eviction::Marked;
        }
        let record = Record {
            expires,
            evicted: true,
            ended: None,
            report: KeyspaceReport::default(),
        };
        self.members.insert(life.clone(), record);
        Eviction::Entered
    }

    pub(super) fn lead(&mut self, token: FencingToken) -> Lead {
        if token < self.planner {
            return Lead::Fenced { by: self.planner };
        }
        self.planner = token;
        Lead::Led(self.bytes.clone())
    }

    /// Stores the document that `swap` holds, if all is as its planner thinks.
    pub(super) fn swap(&mut self, now: Moment, swap: &PlannedSwap) -> Result<Swapped, ErrorKind> {
        let unchecked = self.defect == Some(Defect::UncheckedSwap);
        if swap.token < self.planner && !unchecked {
            return Ok(Swapped::Fenced { by: self.planner });
        }
        let found = self.bytes.as_ref().map(|stored| stored.epoch);
        if swap.expected != found && !unchecked {
            return Ok(Swapped::Conflict { found });
        }
        if now < self.silent_until {
            return Err(ErrorKind::Quarantined {
                ends_within: self.silent_until.since(now),
            });
        }
        let lasts = |life: &&Life| self.is_live(now, life) || !self.members.contains_key(*life);
        let not_ended: Vec<Life> = swap.ended.iter().filter(lasts).cloned().collect();
        if !not_ended.is_empty() {
            return Ok(Swapped::NotEnded(not_ended));
        }
        for life in &swap.ended {
            self.end(now, life);
        }
        self.planner = swap.token;
        self.epoch += 1;
        let epoch = Epoch::new(self.epoch);
        self.document = Document::decode(epoch, &swap.document).ok();
        self.bytes = Some(StoredDocument {
            epoch,
            document: swap.document.clone(),
        });
        Ok(Swapped::Stored(epoch))
    }

    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let member = |(life, record): (&Life, &Record)| {
            let (id, incarnation) = life.clone();
            let mut member = Member::new(id, incarnation, Instance::from_random(0), span(TTL));
            member.profile.keyspaces.insert(keyspace());
            member.report.insert(keyspace(), record.report.clone());
            member.state = match record.ended {
                Some((at, reason)) => MemberState::Ended {
                    ago: now.since(at).min(span(LONG_AGO)),
                    reason,
                    flaps: 0,
                },
                None if now >= record.expires => MemberState::Due,
                None => MemberState::Live {
                    expires_in: record.expires.since(now).min(span(LONG_AGO)),
                    evicted: record.evicted,
                },
            };
            member
        };
        Snapshot {
            versions: Versions::default(),
            members: self.members.iter().map(member).collect(),
        }
    }

    fn expiry(&self, now: Moment) -> Moment {
        match self.defect {
            Some(Defect::NeverDue) => Moment::since_origin(Duration::MAX),
            Some(Defect::ShortLife) => now + span(TTL / 2),
            Some(Defect::UncheckedSwap | Defect::UntiedAck) | None => now + span(TTL),
        }
    }

    fn is_live(&self, now: Moment, life: &Life) -> bool {
        let live = |record: &Record| record.ended.is_none() && now < record.expires;
        self.members.get(life).is_some_and(live)
    }

    /// Makes a tombstone of a life that is due.
    fn end(&mut self, now: Moment, life: &Life) {
        if let Some(record) = self.members.get_mut(life)
            && record.ended.is_none()
        {
            let reason = if record.evicted {
                EndReason::Evicted
            } else {
                EndReason::Expired
            };
            record.ended = Some((now, reason));
        }
    }
}
