//! The members of all groups: their lives, and how they ended.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_core::{
    Beat, EndReason, Eviction, Group, Heartbeat, Incarnation, Instance, Join, Joined, Leave,
    MAX_MEMBERS, Member, MemberId, MemberState, MemoryId, Moment, Profile, Report, Snapshot,
    TOMBSTONE_RETENTION, Version, Versions, next_number,
};

use crate::locks::Terms;
use crate::refusal::{Refusal, numbers_ended};
use crate::time::millis;

/// Expiries within this span count as flapping (S7).
const FLAP_SPAN: Duration = Duration::from_mins(10);
/// The last incarnation of a name is kept so long (K3): then the clock alone makes the next higher.
const INCARNATION_RETENTION: Duration = Duration::from_hours(7 * 24);
/// How often a group is swept, at most.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// All groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members {
    groups: BTreeMap<Group, Fleet>,
    /// Above all versions that were told before the last loss of memory.
    floor: Version,
}

/// One group.
#[derive(Debug, Clone)]
struct Fleet {
    versions: Versions,
    records: BTreeMap<(MemberId, Incarnation), Record>,
    /// The last incarnation of each name, which outlives its records.
    last: BTreeMap<MemberId, Incarnation>,
    swept: Moment,
}

/// One life of one name.
#[derive(Debug, Clone)]
struct Record {
    instance: Instance,
    fixed: bool,
    ttl: Duration,
    beat: u64,
    expires: Moment,
    evicted: bool,
    end: Option<End>,
    profile: Profile,
    report: Report,
}

/// A tombstone.
#[derive(Debug, Clone, Copy)]
struct End {
    at: Moment,
    /// When the tombstone was set: its retention counts from here.
    buried: Moment,
    reason: EndReason,
    flaps: u32,
}

impl Record {
    fn is_live(&self, now: Moment) -> bool {
        self.end.is_none() && self.expires > now
    }

    fn is_due(&self, now: Moment) -> bool {
        self.end.is_none() && self.expires <= now
    }

    fn state(&self, now: Moment) -> MemberState {
        match self.end {
            Some(end) => MemberState::Ended {
                ago: now.since(end.at),
                reason: end.reason,
                flaps: end.flaps,
            },
            None if self.expires <= now => MemberState::Due,
            None => MemberState::Live {
                expires_in: self.expires.since(now),
                evicted: self.evicted,
            },
        }
    }

    fn member(&self, id: &MemberId, incarnation: Incarnation, now: Moment) -> Member {
        let mut member = Member::new(id.clone(), incarnation, self.instance, self.ttl);
        member.fixed = self.fixed;
        member.beat = self.beat;
        member.state = self.state(now);
        member.profile = self.profile.clone();
        member.report = self.report.clone();
        member
    }
}

/// K1: a static name may have had a life that the store has forgotten, with a number above its clock.
/// A name that was drawn at random has not, and who asks with a floor knows its number.
fn refuse_in_quarantine(join: &Join, terms: Terms) -> Result<(), Refusal> {
    match terms.quarantine {
        Some(left) if join.fixed && join.floor.is_none() => Err(Refusal::Quarantined(left)),
        Some(_) | None => Ok(()),
    }
}

impl Members {
    /// Begins a life, or finds the one that the same instance has begun before.
    pub(crate) fn join(
        &mut self,
        join: &Join,
        memory: &MemoryId,
        terms: Terms,
    ) -> Result<Joined, Refusal> {
        join.check(terms.max_ttl).map_err(Refusal::rejected)?;
        let now = terms.now;
        let fleet = self.fleet(&join.group, now);
        let incarnation = match fleet.incumbent(&join.id, now) {
            // An evicted life does not come back, not for its own instance either: who was told
            // to stop must not hold shards again under the old life.
            Some((incarnation, record)) if record.instance == join.instance && !record.evicted => {
                fleet.rejoin(join, incarnation, now);
                incarnation
            }
            Some((incarnation, record)) => {
                let incumbent = record.member(&join.id, incarnation, now);
                return Ok(Joined::Taken(Box::new(incumbent)));
            }
            None => {
                refuse_in_quarantine(join, terms)?;
                fleet.begin(join, terms)?
            }
        };
        Ok(Joined::Member {
            incarnation,
            memory: memory.clone(),
            snapshot: fleet.snapshot(now),
        })
    }

    /// The life that a name has now.
    pub(crate) fn life_of(&self, group: &Group, id: &MemberId, now: Moment) -> Option<Incarnation> {
        let incumbent = self.groups.get(group)?.incumbent(id, now)?;
        Some(incumbent.0)
    }

    /// How long a life still lasts without a heartbeat.
    pub(crate) fn ends_in(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
        now: Moment,
    ) -> Option<Duration> {
        let fleet = self.groups.get(group)?;
        let record = fleet.records.get(&(id.clone(), incarnation))?;
        Some(record.expires.since(now))
    }

    /// The record of one life.
    pub(crate) fn record(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
        now: Moment,
    ) -> Option<Member> {
        let fleet = self.groups.get(group)?;
        let record = fleet.records.get(&(id.clone(), incarnation))?;
        Some(record.member(id, incarnation, now))
    }

    /// Prolongs a life.
    pub(crate) fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        memory: &MemoryId,
        terms: Terms,
    ) -> Result<Beat, Refusal> {
        beat.check(terms.max_ttl).map_err(Refusal::rejected)?;
        let now = terms.now;
        let Some(fleet) = self.groups.get_mut(&beat.group) else {
            return Ok(Beat::Expired);
        };
        let life = (beat.id.clone(), beat.incarnation);
        let Some(record) = fleet.records.get_mut(&life) else {
            return Ok(Beat::Expired);
        };
        if record.evicted {
            return Ok(Beat::Evicted);
        }
        if !record.is_live(now) {
            return Ok(Beat::Expired);
        }
        if beat.beat > record.beat {
            record.beat = beat.beat;
            record.ttl = beat.ttl;
            record.expires = now + beat.ttl;
            let (profile, report) = record.hear(beat);
            fleet.versions.grow(profile, report);
        }
        Ok(Beat::Alive {
            memory: memory.clone(),
            news: fleet.news(beat.known, beat.wants_reports, now),
        })
    }

    /// Ends a life, as its member asks.
    pub(crate) fn leave(
        &mut self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
        now: Moment,
    ) -> Leave {
        let life = (id.clone(), incarnation);
        let Some(fleet) = self.groups.get_mut(group) else {
            return Leave::NotLive;
        };
        if !fleet
            .records
            .get(&life)
            .is_some_and(|record| record.is_live(now))
        {
            return Leave::NotLive;
        }
        fleet.bury(&life, EndReason::Left, now, now);
        Leave::Left
    }

    /// Refuses a life its further heartbeats.
    pub(crate) fn evict(
        &mut self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
        terms: Terms,
    ) -> Eviction {
        let now = terms.now;
        let fleet = self.fleet(group, now);
        let Some(record) = fleet.records.get_mut(&(id.clone(), incarnation)) else {
            fleet.enter_evicted(id, incarnation, terms);
            return Eviction::Entered;
        };
        if !record.is_live(now) {
            return Eviction::Ended;
        }
        if !std::mem::replace(&mut record.evicted, true) {
            fleet.versions.grow(true, false);
        }
        Eviction::Marked
    }

    /// Reads all members.
    pub(crate) fn snapshot(&self, group: &Group, now: Moment) -> Snapshot {
        let fleet = self.groups.get(group);
        fleet.map_or_else(Snapshot::default, |fleet| fleet.snapshot(now))
    }

    /// Which state a group is in.
    pub(crate) fn versions(&self, group: &Group) -> Versions {
        self.groups
            .get(group)
            .map_or_else(Versions::default, |fleet| fleet.versions)
    }

    /// Those of the lives that have not ended, for the swap of an assignment.
    pub(crate) fn not_ended(
        &self,
        group: &Group,
        lives: &[(MemberId, Incarnation)],
        now: Moment,
    ) -> Vec<(MemberId, Incarnation)> {
        let fleet = self.groups.get(group);
        // A life without a record is not ended: absence is no end (G7).
        let ended = |life: &(MemberId, Incarnation)| {
            fleet
                .and_then(|fleet| fleet.records.get(life))
                .is_some_and(|record| !record.is_live(now))
        };
        lives.iter().filter(|life| !ended(life)).cloned().collect()
    }

    /// Makes tombstones of those that are due.
    pub(crate) fn bury_due(
        &mut self,
        group: &Group,
        lives: &[(MemberId, Incarnation)],
        now: Moment,
    ) {
        let Some(fleet) = self.groups.get_mut(group) else {
            return;
        };
        for life in lives {
            fleet.bury_if_due(life, now);
        }
    }

    /// Deletes all records of a name, as somebody with access to the store's tables can (G7, M3).
    pub(crate) fn erase(&mut self, group: &Group, id: &MemberId) -> usize {
        let Some(fleet) = self.groups.get_mut(group) else {
            return 0;
        };
        let before = fleet.records.len();
        fleet.records.retain(|(name, _), _| name != id);
        before - fleet.records.len()
    }

    /// Takes over from what was known before a loss of memory: the versions go on above all that
    /// were ever told, the lost ones, too. A member that knows a lost one must hear the news.
    pub(crate) fn succeed(&mut self, former: &Self, now: Moment) {
        let told = former.groups.values().flat_map(|fleet| {
            let Versions { members, reports } = fleet.versions;
            [members, reports]
        });
        let told = told.max().unwrap_or_default().max(former.floor);
        self.floor = Version::new((told.get() + 1).max(millis(now)));
        for fleet in self.groups.values_mut() {
            fleet.versions.members = fleet.versions.members.max(self.floor);
            fleet.versions.reports = fleet.versions.reports.max(self.floor);
        }
    }

    /// The group, new if need be. Its versions begin at the wall clock, so that a store which came
    /// back empty never tells a version that it told before.
    fn fleet(&mut self, group: &Group, now: Moment) -> &mut Fleet {
        let version = Version::new(millis(now)).max(self.floor);
        self.groups.entry(group.clone()).or_insert_with(|| Fleet {
            versions: Versions {
                members: version,
                reports: version,
            },
            records: BTreeMap::new(),
            last: BTreeMap::new(),
            swept: now,
        })
    }
}

impl Fleet {
    /// The live record of a name, if its newest one is.
    fn incumbent(&self, id: &MemberId, now: Moment) -> Option<(Incarnation, &Record)> {
        self.lives(id)
            .next_back()
            .filter(|(_, record)| record.is_live(now))
    }

    /// All records of a name, oldest first.
    fn lives(&self, id: &MemberId) -> impl DoubleEndedIterator<Item = (Incarnation, &Record)> {
        let first = (id.clone(), Incarnation::new(0));
        let last = (id.clone(), Incarnation::new(u64::MAX));
        self.records
            .range(first..=last)
            .map(|((_, incarnation), record)| (*incarnation, record))
    }

    /// The same instance asks again: its answer was lost. It counts its trust from the new asking,
    /// so its life must last from there.
    fn rejoin(&mut self, join: &Join, incarnation: Incarnation, now: Moment) {
        if let Some(record) = self.records.get_mut(&(join.id.clone(), incarnation)) {
            record.ttl = join.ttl;
            record.expires = record.expires.max(now + join.ttl);
            // A request that was held up tells nothing newer than the first heartbeat did.
            if record.beat == 0 && record.profile != join.profile {
                record.profile = join.profile.clone();
                self.versions.grow(true, false);
            }
        }
    }

    fn begin(&mut self, join: &Join, terms: Terms) -> Result<Incarnation, Refusal> {
        let now = terms.now;
        self.sweep(terms);
        let present = self.records.values().filter(|record| record.end.is_none());
        if present.count() >= MAX_MEMBERS {
            return Err(Refusal::rejected(format!(
                "the group has {MAX_MEMBERS} members already, and no more are allowed"
            )));
        }
        let last = self.last.get(&join.id).map(|last| last.get());
        let floor = join.floor.map(Incarnation::get);
        let number = next_number(last, millis(now), floor).ok_or_else(numbers_ended)?;
        let incarnation = Incarnation::new(number);
        if terms.quarantine.is_none() {
            self.bury_former(&join.id, now);
        }
        self.last.insert(join.id.clone(), incarnation);
        self.records
            .insert((join.id.clone(), incarnation), Record::of(join, now));
        self.versions.grow(true, false);
        Ok(incarnation)
    }

    /// Makes tombstones of all due lives of a name.
    fn bury_former(&mut self, id: &MemberId, now: Moment) {
        let former: Vec<Incarnation> = self.lives(id).map(|(life, _)| life).collect();
        for incarnation in former {
            self.bury_if_due(&(id.clone(), incarnation), now);
        }
    }

    fn bury_if_due(&mut self, life: &(MemberId, Incarnation), now: Moment) {
        let Some(record) = self.records.get(life) else {
            return;
        };
        if record.is_due(now) {
            let reason = if record.evicted {
                EndReason::Evicted
            } else {
                EndReason::Expired
            };
            let at = record.expires;
            self.bury(life, reason, at, now);
        }
    }

    /// Makes a tombstone of a life that ended `at`.
    fn bury(&mut self, life: &(MemberId, Incarnation), reason: EndReason, at: Moment, now: Moment) {
        let earlier = self.lives(&life.0).filter(|(_, record)| {
            record.end.is_some_and(|end| {
                end.reason == EndReason::Expired && at.since(end.at) <= FLAP_SPAN && end.at <= at
            })
        });
        let mut flaps = u32::try_from(earlier.count()).unwrap_or(u32::MAX);
        if reason == EndReason::Expired {
            flaps = flaps.saturating_add(1);
        }
        if let Some(record) = self.records.get_mut(life) {
            record.end = Some(End {
                at,
                buried: now,
                reason,
                flaps,
            });
            self.versions.grow(true, false);
        }
    }

    /// G7: a record that is missing is entered as evicted; its member may trust for `max_ttl` yet.
    fn enter_evicted(&mut self, id: &MemberId, incarnation: Incarnation, terms: Terms) {
        let record = Record {
            instance: Instance::from_bytes([0; 16]),
            fixed: false,
            ttl: terms.max_ttl,
            beat: 0,
            expires: terms.now + terms.max_ttl,
            evicted: true,
            end: None,
            profile: Profile::new(),
            report: Report::new(),
        };
        self.records.insert((id.clone(), incarnation), record);
        let last = self.last.entry(id.clone()).or_insert(incarnation);
        *last = incarnation.max(*last);
        self.versions.grow(true, false);
    }

    /// Keeps the group bounded: who is due for an hour becomes a tombstone, and tombstones go
    /// when their retention has passed.
    fn sweep(&mut self, terms: Terms) {
        let now = terms.now;
        if now.since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        if terms.quarantine.is_none() {
            let forgotten = |record: &Record| {
                record.is_due(now) && now.since(record.expires) > TOMBSTONE_RETENTION
            };
            let due = self.records.iter().filter(|(_, record)| forgotten(record));
            let due: Vec<_> = due.map(|(life, _)| life.clone()).collect();
            for life in due {
                self.bury_if_due(&life, now);
            }
        }
        self.records.retain(|_, record| {
            record
                .end
                .is_none_or(|end| now.since(end.buried) <= TOMBSTONE_RETENTION)
        });
        let oldest = millis(now - INCARNATION_RETENTION);
        let records = &self.records;
        self.last
            .retain(|id, last| last.get() >= oldest || records.contains_key(&(id.clone(), *last)));
    }

    fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            versions: self.versions,
            members: self
                .records
                .iter()
                .map(|((id, incarnation), record)| record.member(id, *incarnation, now))
                .collect(),
        }
    }

    fn news(&self, known: Versions, reports: bool, now: Moment) -> Option<Snapshot> {
        let stale = known.members != self.versions.members
            || (reports && known.reports != self.versions.reports);
        stale.then(|| self.snapshot(now))
    }
}

impl Record {
    fn of(join: &Join, now: Moment) -> Self {
        Self {
            instance: join.instance,
            fixed: join.fixed,
            ttl: join.ttl,
            beat: 0,
            expires: now + join.ttl,
            evicted: false,
            end: None,
            profile: join.profile.clone(),
            report: Report::new(),
        }
    }

    /// Takes what the newest heartbeat tells. Answers whether profile and report are news.
    fn hear(&mut self, beat: &Heartbeat) -> (bool, bool) {
        let mut report = beat.report.clone();
        for (keyspace, said) in &mut report {
            if let Some(known) = self.report.get(keyspace) {
                said.seen = said.seen.max(known.seen);
            }
        }
        let news = (
            beat.profile
                .as_ref()
                .is_some_and(|new| *new != self.profile),
            report != self.report,
        );
        self.report = report;
        if let Some(profile) = &beat.profile {
            self.profile = profile.clone();
        }
        news
    }
}

/// Grows the versions that a change is news for.
trait Grow {
    fn grow(&mut self, members: bool, reports: bool);
}

impl Grow for Versions {
    fn grow(&mut self, members: bool, reports: bool) {
        self.members = Version::new(self.members.get() + u64::from(members));
        self.reports = Version::new(self.reports.get() + u64::from(reports));
    }
}

#[cfg(test)]
mod tests;
