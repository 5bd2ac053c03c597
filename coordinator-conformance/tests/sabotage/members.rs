//! Sabotaged membership stores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_conformance::members::CHECKS;
use coordinator_core::trust::{MAX_TTL, MIN_TTL};
use coordinator_core::{
    Beat, Eviction, Group, Heartbeat, Incarnation, Instance, Join, Joined, Leave, Member, MemberId,
    MemberState, MembershipError, MembershipStore, MemoryId, Profile, Report, Snapshot, StoreId,
    Version, Versions, async_trait,
};

use crate::harness::Overlap;
use crate::support::{Harm, Stores};

crate::saboteurs! {
    "members":
    /// Breaks nothing: what rejects the others is their flaw, not the go-between.
    an_honest_go_between_is_not_rejected = Nothing => [];
    /// Does not keep what a member tells about itself.
    profiles_are_lost = LosesProfiles => [
        a_member_is_listed_from_its_join,
        too_much_metadata_is_rejected,
    ];
    /// Lets a life end before its TTL.
    lives_end_early = EndsEarly => [
        a_member_is_listed_from_its_join,
        a_member_lives_for_its_whole_ttl,
        a_ttl_out_of_bounds_is_rejected,
        random_calls_match_the_model,
    ];
    /// Prolongs by less than a TTL.
    heartbeats_prolong_too_little = BeatsForLess => [
        a_heartbeat_prolongs_to_a_whole_ttl,
        a_ttl_out_of_bounds_is_rejected,
        an_evicted_member_is_refused_and_lives_out_its_ttl,
        an_old_heartbeat_changes_nothing,
    ];
    /// Tells of the silent as if they lived.
    members_never_expire = NeverExpires => [
        a_due_name_is_free_and_leaves_a_tombstone,
        a_missing_record_is_entered_as_evicted,
        a_silent_member_is_live_no_longer,
        a_store_that_forgot_ends_nobody_at_first,
        an_evicted_member_is_refused_and_lives_out_its_ttl,
        an_expired_member_is_never_revived,
        an_old_heartbeat_changes_nothing,
        expiries_are_counted,
        leaving_touches_only_its_own_life,
        random_calls_match_the_model,
        versions_grow_with_each_change,
        versions_rest_without_changes,
    ];
    /// Says `Alive` to a life that is due.
    an_expired_member_is_revived = Revives => [
        an_expired_member_is_never_revived,
        random_calls_match_the_model,
        versions_rest_without_changes,
    ];
    /// Numbers later lives lower.
    incarnations_fall = IncarnationsFall => [
        a_due_name_is_free_and_leaves_a_tombstone,
        a_missing_record_is_entered_as_evicted,
        a_static_name_waits_for_the_end_of_the_quarantine,
        incarnations_exceed_the_floor,
        incarnations_rise,
        incarnations_rise_over_a_loss_of_memory,
        incarnations_rise_over_a_restart,
        random_calls_match_the_model,
    ];
    /// Numbers every life of a name alike.
    incarnations_repeat = IncarnationsRepeat => [
        a_due_name_is_free_and_leaves_a_tombstone,
        a_static_name_waits_for_the_end_of_the_quarantine,
        an_expired_member_is_never_revived,
        evicting_the_ended_changes_nothing,
        expiries_are_counted,
        incarnations_exceed_the_floor,
        incarnations_rise,
        incarnations_rise_over_a_loss_of_memory,
        incarnations_rise_over_a_restart,
        leaving_ends_a_life_at_once,
        leaving_touches_only_its_own_life,
        random_calls_match_the_model,
    ];
    /// Does not look at the floor.
    the_floor_is_ignored = FloorIgnored => [
        a_static_name_waits_for_the_end_of_the_quarantine,
        incarnations_exceed_the_floor,
    ];
    /// Loses its members when it restarts.
    a_restart_forgets = RestartForgets => [incarnations_rise_over_a_restart];
    /// Begins a new life at each join.
    each_join_is_a_life = EachJoinIsALife => [
        joining_twice_is_one_life,
        random_calls_match_the_model,
    ];
    /// Looks whether the name is free first, and takes it later.
    two_joins_at_once_both_win = JoinsInARace => [of_many_that_join_under_one_name_one_does];
    /// Lets a newcomer end who is live under its name.
    a_newcomer_takes_the_name = TakesOver => [
        a_live_name_is_taken,
        of_many_that_join_under_one_name_one_does,
        random_calls_match_the_model,
    ];
    /// Keeps no tombstones.
    tombstones_are_forgotten = BuriesNobody => [
        a_due_name_is_free_and_leaves_a_tombstone,
        an_evicted_member_is_refused_and_lives_out_its_ttl,
        an_expired_member_is_never_revived,
        evicting_the_ended_changes_nothing,
        expiries_are_counted,
        leaving_ends_a_life_at_once,
        tombstones_are_kept,
    ];
    /// Takes late heartbeats for new ones.
    old_heartbeats_count = OldBeatsCount => [
        an_old_heartbeat_changes_nothing,
        draining_is_taken_from_the_newest_heartbeat,
        random_calls_match_the_model,
    ];
    /// Keeps the report that came last, whatever its number.
    the_last_report_wins = LastReportWins => [
        an_old_heartbeat_changes_nothing,
        draining_is_taken_from_the_newest_heartbeat,
        random_calls_match_the_model,
        seen_never_goes_back,
    ];
    /// Says `Left`, and lets the life run out.
    a_leave_is_lost = LosesLeaves => [
        evicting_the_ended_changes_nothing,
        expiries_are_counted,
        incarnations_exceed_the_floor,
        incarnations_rise,
        incarnations_rise_over_a_restart,
        leaving_ends_a_life_at_once,
        leaving_touches_only_its_own_life,
        news_comes_when_there_is_news,
        random_calls_match_the_model,
        tombstones_are_kept,
        versions_grow_with_each_change,
    ];
    /// Ends whoever has the name.
    a_leave_is_by_name = LeavesByName => [
        leaving_touches_only_its_own_life,
        random_calls_match_the_model,
    ];
    /// Ends a life the moment it is put out.
    an_eviction_ends_at_once = EvictsAtOnce => [
        a_missing_record_is_entered_as_evicted,
        an_evicted_member_is_refused_and_lives_out_its_ttl,
    ];
    /// Takes the lack of a record for an end.
    absence_is_an_end = AbsenceIsAnEnd => [a_missing_record_is_entered_as_evicted];
    /// Says that it puts out who has ended.
    tombstones_are_evicted = EvictsTombstones => [evicting_the_ended_changes_nothing];
    /// Stays at its first version.
    versions_stand_still = VersionsStandStill => [
        news_comes_when_there_is_news,
        reports_have_a_version_of_their_own,
        versions_grow_with_each_change,
    ];
    /// Makes a new version at each heartbeat.
    each_heartbeat_is_a_change = BeatsAreChanges => [
        a_live_name_is_taken,
        news_comes_when_there_is_news,
        reports_have_a_version_of_their_own,
        versions_rest_without_changes,
    ];
    /// Makes a new version of the members when a report changes.
    reports_are_changes_of_members = ReportsAreChanges => [
        news_comes_when_there_is_news,
        reports_have_a_version_of_their_own,
    ];
    /// Sends everything in each answer.
    everything_is_news = AlwaysNews => [news_comes_when_there_is_news];
    /// Sends nothing in any answer.
    nothing_is_news = NeverNews => [news_comes_when_there_is_news];
    /// Keeps tombstones for ten minutes only.
    tombstones_are_swept_early = SweepsEarly => [
        expiries_are_counted,
        tombstones_are_kept,
    ];
    /// Counts no expiries.
    expiries_are_not_counted = CountsNothing => [expiries_are_counted];
    /// Takes upper case for lower case.
    groups_fold_case = GroupsFold => [groups_do_not_see_each_other];
    /// Keeps no namespaces apart.
    namespaces_are_one = OneNamespace => [
        connections_name_their_store,
        namespaces_do_not_see_each_other,
    ];
    /// Names each connection a store.
    each_connection_is_a_store = StoresAreConnections => [connections_name_their_store];
    /// Has one memory identity for ever.
    a_loss_of_memory_is_hidden = HidesLosses => [a_store_that_forgot_says_so];
    /// Trusts its memory though it lost it.
    a_store_that_forgot_ends_members = NoQuarantine => [
        a_static_name_waits_for_the_end_of_the_quarantine,
        a_store_that_forgot_ends_nobody_at_first,
    ];
    /// Mends malformed names.
    any_name_is_taken = TakesAnyName => [
        a_malformed_name_is_rejected,
        groups_do_not_see_each_other,
    ];
    /// Mends TTLs.
    any_ttl_is_taken = TakesAnyTtl => [a_ttl_out_of_bounds_is_rejected];
    /// Drops metadata that is too much.
    any_metadata_is_taken = TakesAnyMetadata => [too_much_metadata_is_rejected];
    /// Says `Member` to who does not fit in any more.
    a_full_group_takes_everybody = TakesEverybody => [a_full_group_takes_nobody_more];
    /// Counts the waits for a change as changes.
    a_hint_is_a_change = HintsAreChanges => [hints_change_nothing];
}

fn sabotaged(flaw: Flaw) -> Fixture<dyn MembershipStore> {
    let stores = Stores::harmed(Harm {
        trusts_empty: flaw == Flaw::NoQuarantine,
        forgets_in_restarts: flaw == Flaw::RestartForgets,
        one_namespace: flaw == Flaw::OneNamespace,
    });
    let (connections, notes) = (stores.clone(), Mutex::new(BTreeMap::new()));
    let fixture: Fixture<dyn MembershipStore> = Fixture::shared(async move |namespace: &str| {
        let mut notes = notes.lock().unwrap();
        let notes: &Arc<Notes> = notes.entry(namespace.to_owned()).or_default();
        let members: Arc<dyn MembershipStore> = Arc::new(Saboteur {
            flaw,
            inner: connections.connect(namespace).members?,
            number: notes.connections.fetch_add(1, Ordering::SeqCst),
            notes: Arc::clone(notes),
        });
        Some(members)
    });
    fixture.faults(stores).virtual_time()
}

/// What the saboteurs of one namespace know together.
#[derive(Debug, Default)]
struct Notes {
    connections: AtomicU64,
    beats: AtomicU64,
    waits: AtomicU64,
    overlap: Overlap,
    newest: Mutex<BTreeMap<(Group, MemberId, Incarnation), u64>>,
    reports: Mutex<BTreeMap<(MemberId, Incarnation), Report>>,
    first: Mutex<Option<Versions>>,
    numbers: Mutex<BTreeMap<(MemberId, Incarnation), Incarnation>>,
}

struct Saboteur {
    flaw: Flaw,
    inner: Arc<dyn MembershipStore>,
    number: u64,
    notes: Arc<Notes>,
}

/// All incarnations are below this.
const CEILING: u64 = 1 << 52;

impl Saboteur {
    /// A true incarnation, as it is told.
    fn number(&self, id: &MemberId, incarnation: Incarnation) -> Incarnation {
        let told = match self.flaw {
            Flaw::IncarnationsFall => CEILING.abs_diff(incarnation.get()),
            // All lives of a minute have one number.
            Flaw::IncarnationsRepeat => incarnation.get() - incarnation.get() % 60_000,
            _ => return incarnation,
        };
        let told = Incarnation::new(told);
        let mut numbers = self.notes.numbers.lock().unwrap();
        let newest = numbers.entry((id.clone(), told)).or_insert(incarnation);
        *newest = incarnation.max(*newest);
        told
    }

    /// The true incarnation behind a told one: the newest, where several have one number.
    fn truth(&self, id: &MemberId, told: Incarnation) -> Incarnation {
        let numbers = self.notes.numbers.lock().unwrap();
        numbers.get(&(id.clone(), told)).copied().unwrap_or(told)
    }

    fn tell_member(&self, mut member: Member) -> Member {
        let life = (member.id.clone(), member.incarnation);
        member.incarnation = self.number(&member.id, member.incarnation);
        match (self.flaw, &mut member.state) {
            (Flaw::NeverExpires, state @ MemberState::Due) => {
                *state = MemberState::Live {
                    expires_in: Duration::from_millis(1),
                    evicted: false,
                };
            }
            (Flaw::CountsNothing, MemberState::Ended { flaps, .. }) => *flaps = 0,
            (Flaw::LastReportWins, _) => {
                if let Some(last) = self.notes.reports.lock().unwrap().get(&life) {
                    member.report = last.clone();
                }
            }
            _ => {}
        }
        member
    }

    fn tell(&self, mut snapshot: Snapshot) -> Snapshot {
        let kept = |member: &Member| match (self.flaw, member.state) {
            (Flaw::BuriesNobody, MemberState::Ended { .. }) => false,
            (Flaw::SweepsEarly, MemberState::Ended { ago, .. }) => ago < Duration::from_mins(10),
            _ => true,
        };
        snapshot.members.retain(kept);
        snapshot.members = snapshot
            .members
            .into_iter()
            .map(|member| self.tell_member(member))
            .collect();
        snapshot.versions = self.tell_versions(snapshot.versions);
        snapshot
    }

    fn tell_versions(&self, mut versions: Versions) -> Versions {
        let more = match self.flaw {
            Flaw::VersionsStandStill => {
                return *self.notes.first.lock().unwrap().get_or_insert(versions);
            }
            Flaw::BeatsAreChanges => self.notes.beats.load(Ordering::SeqCst),
            Flaw::HintsAreChanges => self.notes.waits.load(Ordering::SeqCst),
            Flaw::ReportsAreChanges => versions.reports.get(),
            _ => 0,
        };
        versions.members = Version::new(versions.members.get() + more);
        versions
    }

    fn bend_ttl(&self, ttl: Duration) -> Duration {
        match self.flaw {
            Flaw::TakesAnyTtl => ttl.clamp(MIN_TTL, MAX_TTL),
            _ => ttl,
        }
    }

    fn bend_group(&self, group: &Group) -> Group {
        match self.flaw {
            Flaw::GroupsFold => Group::new(group.as_str().to_lowercase()),
            Flaw::TakesAnyName => Group::new(short(group.as_str())),
            _ => group.clone(),
        }
    }

    fn bend_profile(&self, profile: &Profile) -> Profile {
        let mut bent = profile.clone();
        let size: usize = bent
            .metadata
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let too_much = size > coordinator_core::MAX_METADATA_BYTES;
        if self.flaw == Flaw::LosesProfiles || self.flaw == Flaw::TakesAnyMetadata && too_much {
            bent.metadata.clear();
        }
        bent
    }

    fn bend_join(&self, join: &Join) -> Join {
        let mut join = join.clone();
        join.ttl = self.bend_ttl(join.ttl);
        join.group = self.bend_group(&join.group);
        join.profile = self.bend_profile(&join.profile);
        match self.flaw {
            Flaw::EndsEarly => join.ttl = join.ttl * 7 / 10,
            Flaw::FloorIgnored => join.floor = None,
            Flaw::TakesAnyName => join.id = MemberId::new(short(join.id.as_str())),
            _ => {}
        }
        join
    }

    fn told(&self, id: &MemberId, joined: Joined) -> Joined {
        match joined {
            Joined::Member {
                incarnation,
                memory,
                snapshot,
            } => Joined::Member {
                incarnation: self.number(id, incarnation),
                memory: self.name_memory(memory),
                snapshot: self.tell(snapshot),
            },
            Joined::Taken(member) => Joined::Taken(Box::new(self.tell_member(*member))),
        }
    }

    fn name_memory(&self, memory: MemoryId) -> MemoryId {
        match self.flaw {
            Flaw::HidesLosses => MemoryId::new("the one and only"),
            _ => memory,
        }
    }

    /// A made-up answer to a join that the store refused.
    fn pretend(instance: Instance) -> Joined {
        let number = u64::from(instance.to_bytes()[0]);
        Joined::Member {
            incarnation: Incarnation::new(number + 1),
            memory: MemoryId::new("none"),
            snapshot: Snapshot::default(),
        }
    }

    async fn state(&self, group: &Group, life: (&MemberId, Incarnation)) -> Option<MemberState> {
        let snapshot = self.inner.snapshot(group).await.ok()?;
        snapshot.get(life.0, life.1).map(|record| record.state)
    }
}

/// A name as short as it must be, and no emptier.
fn short(name: &str) -> String {
    let start: String = name.chars().take(200).collect();
    if start.is_empty() {
        "none".into()
    } else {
        start
    }
}

#[async_trait]
impl MembershipStore for Saboteur {
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError> {
        let join = &self.bend_join(join);
        let (joined, raced) = self.notes.overlap.race(self.inner.join(join)).await;
        let joined = match joined {
            Err(MembershipError::Rejected { .. }) if self.flaw == Flaw::TakesEverybody => {
                let fine = join.ttl <= MAX_TTL
                    && join.ttl >= MIN_TTL
                    && join.group.check().is_ok()
                    && join.id.check().is_ok()
                    && join.profile.metadata.is_empty();
                if fine {
                    Ok(Self::pretend(join.instance))
                } else {
                    joined
                }
            }
            joined => joined,
        }?;
        match (&joined, self.flaw) {
            (Joined::Taken(_), Flaw::JoinsInARace) if raced => Ok(Self::pretend(join.instance)),
            (Joined::Taken(incumbent), Flaw::TakesOver) => {
                let (id, incarnation) = (&incumbent.id, incumbent.incarnation);
                self.inner.leave(&join.group, id, incarnation).await?;
                self.inner.join(join).await
            }
            (
                Joined::Member {
                    incarnation,
                    snapshot,
                    ..
                },
                Flaw::EachJoinIsALife,
            ) => {
                let live = snapshot.get(&join.id, *incarnation);
                let old = live.is_some_and(|record| {
                    self.notes
                        .newest
                        .lock()
                        .unwrap()
                        .insert((join.group.clone(), record.id.clone(), *incarnation), 0)
                        .is_some()
                });
                if !old {
                    return Ok(joined);
                }
                self.inner
                    .leave(&join.group, &join.id, *incarnation)
                    .await?;
                self.inner.join(join).await
            }
            _ => Ok(self.told(&join.id, joined)),
        }
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError> {
        let mut beat = heartbeat.clone();
        beat.group = self.bend_group(&beat.group);
        beat.ttl = self.bend_ttl(beat.ttl);
        beat.incarnation = self.truth(&beat.id, beat.incarnation);
        beat.profile = beat
            .profile
            .as_ref()
            .map(|profile| self.bend_profile(profile));
        self.notes.beats.fetch_add(1, Ordering::SeqCst);
        if self.flaw == Flaw::BeatsForLess {
            beat.ttl = beat.ttl * 7 / 10;
        }
        let life = (beat.id.clone(), beat.incarnation);
        if self.flaw == Flaw::OldBeatsCount {
            let mut newest = self.notes.newest.lock().unwrap();
            let newest = newest
                .entry((beat.group.clone(), life.0.clone(), life.1))
                .or_default();
            beat.beat = beat.beat.max(*newest + 1);
            *newest = beat.beat;
        }
        self.notes
            .reports
            .lock()
            .unwrap()
            .insert(life.clone(), beat.report.clone());
        match self.flaw {
            Flaw::AlwaysNews => beat.known = Versions::default(),
            Flaw::BeatsAreChanges | Flaw::ReportsAreChanges | Flaw::VersionsStandStill
                if beat.known != Versions::default() =>
            {
                let snapshot = self.inner.snapshot(&beat.group).await?;
                if self.tell_versions(snapshot.versions) == beat.known {
                    beat.known = snapshot.versions;
                }
            }
            _ => {}
        }
        match self.inner.heartbeat(&beat).await? {
            Beat::Alive { memory, news } => Ok(Beat::Alive {
                memory: self.name_memory(memory),
                news: news
                    .filter(|_| self.flaw != Flaw::NeverNews)
                    .map(|news| self.tell(news)),
            }),
            Beat::Expired if self.flaw == Flaw::Revives => {
                let state = self.state(&beat.group, (&life.0, life.1)).await;
                Ok(if state == Some(MemberState::Due) {
                    Beat::Alive {
                        memory: MemoryId::new("none"),
                        news: None,
                    }
                } else {
                    Beat::Expired
                })
            }
            ended @ (Beat::Expired | Beat::Evicted) => Ok(ended),
        }
    }

    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, MembershipError> {
        let (group, incarnation) = (&self.bend_group(group), self.truth(id, incarnation));
        if self.flaw == Flaw::LosesLeaves {
            let state = self.state(group, (id, incarnation)).await;
            let live = matches!(state, Some(MemberState::Live { .. }));
            return Ok(if live { Leave::Left } else { Leave::NotLive });
        }
        let left = self.inner.leave(group, id, incarnation).await?;
        if left == Leave::NotLive && self.flaw == Flaw::LeavesByName {
            let snapshot = self.inner.snapshot(group).await?;
            for record in snapshot.live().filter(|record| record.id == *id) {
                self.inner.leave(group, id, record.incarnation).await?;
            }
        }
        Ok(left)
    }

    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, MembershipError> {
        let (group, incarnation) = (&self.bend_group(group), self.truth(id, incarnation));
        let state = self.state(group, (id, incarnation)).await;
        match (self.flaw, state) {
            (Flaw::EvictsAtOnce, Some(MemberState::Live { .. })) => {
                self.inner.leave(group, id, incarnation).await?;
                Ok(Eviction::Marked)
            }
            (Flaw::AbsenceIsAnEnd, None) => Ok(Eviction::Ended),
            (Flaw::EvictsTombstones, Some(MemberState::Ended { .. })) => Ok(Eviction::Marked),
            _ => self.inner.evict(group, id, incarnation).await,
        }
    }

    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError> {
        Ok(self.tell(self.inner.snapshot(&self.bend_group(group)).await?))
    }

    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        self.notes.waits.fetch_add(1, Ordering::SeqCst);
        self.inner.changed(&self.bend_group(group), known).await
    }

    fn store(&self) -> StoreId {
        match self.flaw {
            Flaw::StoresAreConnections => StoreId::new(format!("connection-{}", self.number)),
            _ => self.inner.store(),
        }
    }
}
