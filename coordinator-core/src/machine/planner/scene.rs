//! What the members' records say of a document: who may hold, who may get, who has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::reign::Wake;
use super::{LEAST_REFRESH, PlannerConfig};
use crate::document::{DOCUMENT_FORMAT, Document, Life, MemberIndex, Slot};
use crate::member::{EndReason, KeyspaceReport, Member, MemberState, Snapshot};
use crate::names::MemberId;
use crate::numbers::{Epoch, Incarnation, ShardId};
use crate::time::Moment;
use crate::trust::Trust;

/// The longest time that a flapping member gets nothing new (S7).
const LONGEST_BAN: Duration = Duration::from_mins(5);
/// Acks are looked for at least so far apart.
const LEAST_POLL: Duration = Duration::from_millis(20);

/// The members, as they were read.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    /// Before the request left.
    pub(super) asked: Moment,
    /// When the answer came. What the store counted from its answer is over by this much later.
    pub(super) arrived: Moment,
}

/// What may be concluded about a life that the document names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lives.
    Live,
    /// It lives, was put out, and hears no more.
    Evicted,
    /// It has left, died or expired: a swap may count it as ended.
    Gone,
    /// It is due, but nobody is counted as ended now (G4).
    Spared,
    /// The store has no record of it. Absence is no end (G7).
    Missing,
    /// The members were read before the document was: perhaps it is new.
    Unknown,
}

/// In what way a candidate is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It lives, and can be granted shards.
    Live,
    /// It is due, and spared: what it holds stays (G4).
    Spared,
    /// It is away, and its shards are kept for its return (S5).
    Away,
}

/// A member to reckon with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) life: Life,
    pub(super) weight: u32,
    pub(super) zone: Option<String>,
    pub(super) receives: bool,
    pub(super) presence: Presence,
}

/// What a scene is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) now: Moment,
    pub(super) config: &'a PlannerConfig,
    /// The stored document.
    pub(super) document: Option<&'a Document>,
    /// When that was known.
    pub(super) known_at: Moment,
    pub(super) view: &'a View,
    /// Until when nobody is counted as ended.
    pub(super) mercy: Option<Moment>,
}

/// The document and the members, side by side.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) look: Look<'a>,
    /// Of each life in the document's table.
    standings: Vec<Standing>,
    reports: Vec<Option<&'a KeyspaceReport>>,
    /// By id, each at most once.
    pub(super) entries: Vec<Entry>,
    /// The newest format that all who must read the document announce (S10).
    pub(super) format: u16,
    /// When the members must be read again, at the latest.
    pub(super) look_at: Moment,
}

impl<'a> Scene<'a> {
    pub(super) fn new(look: Look<'a>, wake: &mut Wake) -> Self {
        let mut records: Vec<&Member> = look.view.snapshot.members.iter().collect();
        records.sort_by_key(|member| (&member.id, member.incarnation));
        let found: Vec<Option<&Member>> = look
            .members()
            .iter()
            .map(|life| find(&records, life))
            .collect();
        let keyspace = &look.config.keyspace;
        let report = |record: Option<&'a Member>| record?.report.get(keyspace);
        let mut scene = Self {
            look,
            standings: found.iter().map(|record| look.standing(*record)).collect(),
            reports: found.iter().copied().map(report).collect(),
            entries: Vec::new(),
            format: DOCUMENT_FORMAT,
            look_at: look.view.arrived + look.config.ttl,
        };
        scene.enter(&records, &found, wake);
        scene.set_format(&records);
        scene.set_look_at(&records, &found);
        scene
    }

    pub(super) fn standing(&self, member: MemberIndex) -> Standing {
        let standing = self.standings.get(usize::from(member));
        standing.copied().unwrap_or(Standing::Unknown)
    }

    /// Whether a live owner has given a revoked shard back: it has seen the revoke, and the shard
    /// is not among those it still drains.
    pub(super) fn acked(&self, shard: ShardId, member: MemberIndex, since: Epoch) -> bool {
        let report = self.reports.get(usize::from(member)).copied().flatten();
        self.standing(member) == Standing::Live
            && report.is_some_and(|it| it.seen >= since && !it.draining.contains(&shard))
    }

    /// The live owners that have not acked a revoke, each with its epoch.
    pub(super) fn waiting(&self) -> BTreeSet<(Life, Epoch)> {
        let mut waiting = BTreeSet::new();
        for (shard, slot) in self.numbered() {
            if let Slot::Revoking { member, since, .. } = slot
                && self.standing(*member) == Standing::Live
                && !self.acked(shard, *member, *since)
            {
                waiting.insert((*member, *since));
            }
        }
        let members = self.look.members();
        let life = |(member, since)| Some((members.get(usize::from(member))?.clone(), since));
        waiting.into_iter().filter_map(life).collect()
    }

    /// The lives of this standing that own a shard, in the order of the table.
    pub(super) fn owners(&self, standing: Standing) -> Vec<&'a Life> {
        let mut owns = vec![false; self.standings.len()];
        for (_, slot) in self.numbered() {
            let owner = slot
                .owner()
                .and_then(|member| owns.get_mut(usize::from(member)));
            if let Some(owns) = owner {
                *owns = true;
            }
        }
        let facts = self.standings.iter().zip(owns).zip(self.look.members());
        facts
            .filter(|((found, owns), _)| **found == standing && *owns)
            .map(|(_, life)| life)
            .collect()
    }

    fn numbered(&self) -> impl Iterator<Item = (ShardId, &Slot)> {
        self.look.document.into_iter().flat_map(Document::numbered)
    }

    /// Enters everyone to reckon with, by id.
    fn enter(&mut self, records: &[&'a Member], found: &[Option<&'a Member>], wake: &mut Wake) {
        let holders = self.holders(found);
        for lives in records.chunk_by(|one, other| one.id == other.id) {
            // One life of a name is live or due at most, and it is the last.
            let Some(last) = lives.last() else { continue };
            let serves = last.profile.keyspaces.contains(&self.look.config.keyspace);
            let entry = match last.state {
                MemberState::Live { evicted: true, .. } => None,
                MemberState::Live { evicted: false, .. } if serves => Some((*last, Presence::Live)),
                MemberState::Due if self.look.mercy.is_some() => {
                    serves.then_some((*last, Presence::Spared))
                }
                // Back already, but not serving yet, is as good as still away.
                MemberState::Live { .. } | MemberState::Due | MemberState::Ended { .. } => {
                    let holder = holders.get(&last.id);
                    let awaited = holder.filter(|member| self.look.is_awaited(member, wake));
                    awaited.map(|member| (*member, Presence::Away))
                }
            };
            let Some((member, presence)) = entry else {
                continue;
            };
            let ban = lives
                .iter()
                .filter_map(|member| self.look.ban(member))
                .max();
            let ban = ban.filter(|_| presence == Presence::Live);
            wake.at_any(ban);
            self.entries.push(Entry {
                life: (member.id.clone(), member.incarnation),
                weight: member.profile.weight,
                zone: member.profile.zone.clone(),
                receives: presence == Presence::Live && ban.is_none(),
                presence,
            });
        }
        // S7: where only flapping members are left, they are better than nobody.
        if !self
            .entries
            .iter()
            .any(|entry| entry.receives && entry.weight > 0)
        {
            for entry in &mut self.entries {
                entry.receives = entry.presence == Presence::Live;
            }
        }
    }

    /// Who owns a shard, or has one kept for it: of each name the last such life.
    fn holders(&self, found: &[Option<&'a Member>]) -> BTreeMap<&'a MemberId, &'a Member> {
        let mut holds = vec![false; found.len()];
        for (_, slot) in self.numbered() {
            let holder = match slot {
                Slot::Free { reserved } => *reserved,
                Slot::Owned { member, .. } => Some(*member),
                // It would not have kept this one.
                Slot::Revoking { .. } => None,
            };
            if let Some(holds) = holder.and_then(|member| holds.get_mut(usize::from(member))) {
                *holds = true;
            }
        }
        let mut holders: BTreeMap<&MemberId, &Member> = BTreeMap::new();
        let holding = found.iter().zip(holds).filter(|(_, holds)| *holds);
        for member in holding.filter_map(|(record, _)| *record) {
            let last = holders.entry(&member.id).or_insert(member);
            if last.incarnation < member.incarnation {
                *last = member;
            }
        }
        holders
    }

    fn set_format(&mut self, records: &[&Member]) {
        let reads = |member: &&&Member| {
            matches!(member.state, MemberState::Live { .. })
                && member
                    .profile
                    .keyspaces
                    .contains(&self.look.config.keyspace)
        };
        let announced = records
            .iter()
            .filter(reads)
            .map(|member| member.profile.format);
        self.format = announced
            .min()
            .unwrap_or(DOCUMENT_FORMAT)
            .min(DOCUMENT_FORMAT);
    }

    /// Nothing marks the passing of a TTL (G3), so the members are read again when the first one
    /// could have passed; sooner while an ack is awaited, in case no hint comes.
    fn set_look_at(&mut self, records: &[&Member], found: &[Option<&Member>]) {
        let arrived = self.look.view.arrived;
        let keyspace = &self.look.config.keyspace;
        let serve = |member: &&&Member| member.profile.keyspaces.contains(keyspace);
        let named = found.iter().flatten();
        for member in records.iter().filter(serve).chain(named) {
            if let MemberState::Live { expires_in, .. } = member.state {
                self.look_at = self.look_at.min(arrived + Trust::surely(expires_in));
            }
        }
        if !self.waiting().is_empty() {
            let poll = (self.look.config.ttl / 10).max(LEAST_POLL);
            self.look_at = self.look_at.min(arrived + poll);
        }
        if self.standings.contains(&Standing::Unknown) {
            self.look_at = arrived;
        }
        self.look_at = self.look_at.max(arrived + LEAST_REFRESH);
    }
}

impl<'a> Look<'a> {
    fn members(&self) -> &'a [Life] {
        self.document.map_or(&[], |document| &document.members)
    }

    fn standing(&self, record: Option<&Member>) -> Standing {
        match record.map(|member| member.state) {
            Some(MemberState::Live { evicted: false, .. }) => Standing::Live,
            Some(MemberState::Live { evicted: true, .. }) => Standing::Evicted,
            Some(MemberState::Due) if self.mercy.is_some() => Standing::Spared,
            Some(MemberState::Due | MemberState::Ended { .. }) => Standing::Gone,
            None if self.view.asked >= self.known_at => Standing::Missing,
            None => Standing::Unknown,
        }
    }

    /// S5: whether the shards of a member that is gone are kept for its return. By the store's
    /// own measure of how long it is gone, so that a new planner does not begin anew.
    fn is_awaited(&self, member: &Member, wake: &mut Wake) -> bool {
        let gone = match member.state {
            MemberState::Due => Duration::ZERO,
            MemberState::Ended {
                ago,
                reason: EndReason::Left | EndReason::Expired | EndReason::Died,
                ..
            } => ago,
            // The last was put out because it was stuck: nobody waits for that one.
            MemberState::Live { .. }
            | MemberState::Ended {
                reason: EndReason::Evicted,
                ..
            } => return false,
        };
        let until =
            self.view.arrived + Trust::surely(self.config.grace_period.saturating_sub(gone));
        let awaited = member.fixed && gone < self.config.grace_period && self.now < until;
        if awaited {
            wake.at(until);
        }
        awaited
    }

    /// S7: until when the k-th expiry of this name keeps it from getting anything new.
    fn ban(&self, member: &Member) -> Option<Moment> {
        let MemberState::Ended {
            ago,
            reason: EndReason::Expired,
            flaps,
        } = member.state
        else {
            return None;
        };
        let factor = 2_u32.checked_pow(flaps).unwrap_or(u32::MAX);
        let ban = member.ttl.saturating_mul(factor).min(LONGEST_BAN);
        let until = self.view.arrived + ban.saturating_sub(ago);
        (flaps > 0 && self.now < until).then_some(until)
    }
}

fn find<'a>(records: &[&'a Member], life: &Life) -> Option<&'a Member> {
    let key =
        |member: &&'a Member| -> (&'a MemberId, Incarnation) { (&member.id, member.incarnation) };
    let at = records.partition_point(|member| key(member) < (&life.0, life.1));
    records
        .get(at)
        .copied()
        .filter(|member| key(member) == (&life.0, life.1))
}
