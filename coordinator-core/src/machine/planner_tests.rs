//! Exact actions, one situation each. Random ones are in `tests/handoff.rs` of this crate.

use std::collections::BTreeSet;

use super::*;
use crate::document::{Evidence, Slot};
use crate::member::{EndReason, KeyspaceReport, Member, MemberState};
use crate::names::MemberId;
use crate::numbers::{Incarnation, Instance, ShardId};
use crate::strategy::Sticky;

const TTL: Duration = Duration::from_secs(10);
const TOKEN: FencingToken = FencingToken::new(7);

fn at(millis: u64) -> Moment {
    Moment::since_origin(Duration::from_millis(100_000 + millis))
}

fn keyspace() -> Keyspace {
    Keyspace::from("orders")
}

fn life(id: &str, incarnation: u64) -> Life {
    (MemberId::from(id), Incarnation::new(incarnation))
}

fn member(id: &str, incarnation: u64) -> Member {
    let (id, incarnation) = life(id, incarnation);
    let instance = Instance::from_random(u128::from(incarnation.get()));
    let mut member = Member::new(id, incarnation, instance, TTL);
    member.profile.keyspaces = BTreeSet::from([keyspace()]);
    member
}

fn in_state(id: &str, incarnation: u64, state: MemberState) -> Member {
    Member {
        state,
        ..member(id, incarnation)
    }
}

fn ended(id: &str, incarnation: u64, reason: EndReason, ago: u64, flaps: u32) -> Member {
    let ago = Duration::from_millis(ago);
    in_state(id, incarnation, MemberState::Ended { ago, reason, flaps })
}

fn acked(id: &str, incarnation: u64, seen: u64, draining: &[u16]) -> Member {
    let mut member = member(id, incarnation);
    let report = KeyspaceReport {
        seen: Epoch::new(seen),
        draining: draining.iter().copied().map(ShardId::new).collect(),
    };
    member.report.insert(keyspace(), report);
    member
}

fn config(shards: u16) -> PlannerConfig {
    let layout = Layout::Fixed { shards };
    PlannerConfig::new(keyspace(), layout, Routing::default())
}

fn dense() -> PlannerConfig {
    PlannerConfig::new(keyspace(), Layout::Dense, Routing::default())
}

/// A planner with its store played by the test, which sees every request.
struct Bench {
    planner: Planner,
    now: u64,
    epoch: u64,
    members: Vec<Member>,
    /// When they were as `members` says: who has ended then is gone for longer later.
    members_at: u64,
    /// What the next snapshots must be followed by is checked against this one.
    stored: Option<Document>,
}

impl Bench {
    /// A planner that has just become the leader.
    fn leading(config: PlannerConfig) -> Self {
        let mut bench = Self {
            planner: Planner::new(config, Arc::new(Sticky::new())),
            now: 0,
            epoch: 0,
            members: Vec::new(),
            members_at: 0,
            stored: None,
        };
        bench.beat("memory");
        bench
    }

    /// ... over these members, with this document in the store.
    fn started(
        config: PlannerConfig,
        stored: Option<Document>,
        members: Vec<Member>,
    ) -> (Self, Vec<PlannerAction>) {
        let mut bench = Self::leading(config);
        bench.members = members;
        bench.epoch = stored.as_ref().map_or(0, |document| document.epoch.get());
        bench.stored = stored;
        let actions = bench.step(PlannerEvent::Leading { token: TOKEN });
        let actions = bench.serve(actions);
        (bench, actions)
    }

    fn step(&mut self, event: PlannerEvent) -> Vec<PlannerAction> {
        self.planner.step(at(self.now), event)
    }

    fn beat(&mut self, memory: &str) -> Vec<PlannerAction> {
        let memory = MemoryId::from(memory);
        self.step(PlannerEvent::Beat { memory })
    }

    /// Answers reads from the store, as long as there are any; gives back everything else.
    fn serve(&mut self, actions: Vec<PlannerAction>) -> Vec<PlannerAction> {
        let mut rest = Vec::new();
        let mut todo = actions;
        while !todo.is_empty() {
            let action = todo.remove(0);
            let event = match action {
                PlannerAction::Lead { request, token } => {
                    assert_eq!(token, TOKEN);
                    let answer = Ok(Lead::Led(self.document()));
                    PlannerEvent::LeadAnswered { request, answer }
                }
                PlannerAction::Load { request } => {
                    let answer = Ok(self.document());
                    PlannerEvent::LoadAnswered { request, answer }
                }
                PlannerAction::ReadSnapshot { request } => {
                    let versions = crate::member::Versions::default();
                    let members = self.aged_members();
                    let answer = Ok(Arc::new(Snapshot { versions, members }));
                    PlannerEvent::SnapshotAnswered { request, answer }
                }
                other @ (PlannerAction::Swap(_)
                | PlannerAction::Evict { .. }
                | PlannerAction::Resign { .. }) => {
                    rest.push(other);
                    continue;
                }
            };
            todo.extend(self.step(event));
        }
        rest
    }

    fn aged_members(&self) -> Vec<Member> {
        let mut members = self.members.clone();
        for member in &mut members {
            if let MemberState::Ended { ago, .. } = &mut member.state {
                *ago += Duration::from_millis(self.now - self.members_at);
            }
        }
        members
    }

    fn document(&self) -> Option<StoredDocument> {
        self.stored.as_ref().map(|document| StoredDocument {
            epoch: document.epoch,
            document: document.encode().unwrap(),
        })
    }

    /// Lets time pass, with heartbeats; gives back what the planner wants besides reads.
    fn pass(&mut self, millis: u64) -> Vec<PlannerAction> {
        let end = self.now + millis;
        let mut rest = Vec::new();
        while self.now < end {
            let due = self
                .planner
                .deadline()
                .map_or(Duration::MAX, |due| due.since(at(self.now)));
            let due = u64::try_from(due.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
            self.now = self
                .now
                .saturating_add(due.max(1))
                .min(end)
                .min(self.now + 3_000);
            let beat = self.beat("memory");
            rest.extend(self.serve(beat));
            if !rest.is_empty() {
                return rest;
            }
        }
        rest
    }

    /// The members are now these, and the planner hears of it.
    fn change(&mut self, members: Vec<Member>) -> Vec<PlannerAction> {
        self.members = members;
        self.members_at = self.now;
        let hint = self.step(PlannerEvent::Changed);
        let mut actions = self.serve(hint);
        actions.extend(self.pass(6));
        actions
    }

    /// Takes the one swap among the actions, checks it, and stores it.
    fn store(&mut self, actions: &[PlannerAction]) -> (Document, Vec<PlannerAction>) {
        let swap = only_swap(actions);
        assert_eq!(
            swap.expected,
            self.stored.as_ref().map(|document| document.epoch)
        );
        self.epoch += 100;
        let document = Document::decode(Epoch::new(self.epoch), &swap.document).unwrap();
        if let Some(stored) = &self.stored {
            let snapshot = Snapshot {
                versions: crate::member::Versions::default(),
                members: self.members.clone(),
            };
            let evidence = Evidence {
                keyspace: &keyspace(),
                snapshot: &snapshot,
                ended: &swap.ended,
            };
            document.follows(stored, &evidence).unwrap();
        }
        self.stored = Some(document.clone());
        let answer = Ok(Swapped::Stored(document.epoch));
        let request = swap.request;
        let actions = self.step(PlannerEvent::SwapAnswered { request, answer });
        let actions = self.serve(actions);
        (document, actions)
    }
}

fn only_swap(actions: &[PlannerAction]) -> PlannedSwap {
    match actions {
        [PlannerAction::Swap(swap)] => swap.clone(),
        other => panic!("one swap was due, not {other:?}"),
    }
}

/// What a document says, as one letter a shard: `a` owned, `A` revoking, `.` free, `?a` reserved.
fn picture(document: &Document) -> String {
    let name = |index| document.member(index).unwrap().0.as_str().to_owned();
    let letter = |slot: &Slot| match *slot {
        Slot::Free { reserved: None } => ".".into(),
        Slot::Free {
            reserved: Some(kept),
        } => format!("?{}", name(kept)),
        Slot::Owned { member, .. } => name(member),
        Slot::Revoking { member, .. } => name(member).to_uppercase(),
    };
    document.slots.iter().map(letter).collect()
}

/// A fleet that has got its first shards.
fn settled(config: PlannerConfig, members: Vec<Member>) -> (Bench, Document) {
    let (mut bench, actions) = Bench::started(config, None, members);
    let (document, rest) = bench.store(&actions);
    assert_eq!(rest, []);
    assert_eq!(bench.pass(2_000), [], "past the interval of joins");
    (bench, document)
}

#[test]
fn a_new_leader_shuts_older_ones_out_and_reads_before_it_plans() {
    let mut bench = Bench::leading(config(4));
    let actions = bench.step(PlannerEvent::Leading { token: TOKEN });
    assert_eq!(
        actions,
        [
            PlannerAction::Lead {
                request: 1,
                token: TOKEN
            },
            PlannerAction::ReadSnapshot { request: 2 },
        ]
    );
    let answer = Ok(Arc::new(Snapshot::default()));
    assert_eq!(
        bench.step(PlannerEvent::SnapshotAnswered { request: 2, answer }),
        []
    );
}

/// H1.
#[test]
fn the_first_document_grants_everything_at_once() {
    let (_, document) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    assert_eq!(picture(&document), "abab");
    assert_eq!(document.slots[0].token(), Some(document.epoch));
}

/// S6: an empty difference is no plan.
#[test]
fn nothing_is_swapped_while_nothing_changes() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1)]);
    assert_eq!(bench.pass(60_000), []);
}

/// H8, S2: CE of Owned(m) → Owned(n) without an ack in between.
#[test]
fn a_shard_passes_on_only_after_its_owner_has_acked() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1)]);
    let actions = bench.change(vec![member("a", 1), member("b", 1)]);
    let (revoking, rest) = bench.store(&actions);
    assert_eq!(picture(&revoking), "aaAA");
    assert_eq!(rest, []);
    let since = revoking.epoch.get();
    // S2, CE of an ack not tied to `since`: a report from before the revoke acks nothing.
    assert_eq!(
        bench.change(vec![acked("a", 1, since - 1, &[]), member("b", 1)]),
        []
    );
    // S4: nor does one that still drains.
    assert_eq!(
        bench.change(vec![acked("a", 1, since, &[2, 3]), member("b", 1)]),
        []
    );
    let actions = bench.change(vec![acked("a", 1, since, &[]), member("b", 1)]);
    let (granted, _) = bench.store(&actions);
    assert_eq!(picture(&granted), "aabb");
    assert_eq!(granted.slots[2].token(), Some(granted.epoch));
    assert_eq!(granted.slots[0].token(), revoking.slots[0].token());
}

/// S6: what is acked goes out within ten milliseconds, the rest follows.
#[test]
fn acks_are_gathered_for_a_moment_and_no_longer() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1)]);
    let actions = bench.change(vec![member("a", 1), member("b", 1)]);
    let (revoking, _) = bench.store(&actions);
    let partly = vec![acked("a", 1, revoking.epoch.get(), &[3]), member("b", 1)];
    let seen_at = bench.now;
    let mut actions = bench.change(partly);
    if actions.is_empty() {
        actions = bench.pass(20);
    }
    assert!(
        (10..=16).contains(&(bench.now - seen_at)),
        "{}",
        bench.now - seen_at
    );
    let (next, _) = bench.store(&actions);
    assert_eq!(picture(&next), "aabA");
}

/// H3, S1: the swap itself names who has ended, so that the store checks it.
#[test]
fn the_shards_of_a_dead_member_are_granted_in_the_swap_that_ends_it() {
    let (mut bench, _) = settled(
        config(6),
        vec![member("a", 1), member("b", 1), member("c", 1)],
    );
    let dead = in_state("b", 1, MemberState::Due);
    let actions = bench.change(vec![member("a", 1), dead, member("c", 1)]);
    assert_eq!(only_swap(&actions).ended, [life("b", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "aacacc");
}

/// S1: by (id, incarnation).
#[test]
fn a_member_that_comes_back_is_granted_its_shards_anew() {
    let (mut bench, first) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    let actions = bench.change(vec![
        ended("a", 1, EndReason::Left, 0, 0),
        member("a", 2),
        member("b", 1),
    ]);
    assert_eq!(only_swap(&actions).ended, [life("a", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "abab");
    assert_eq!(document.owner(ShardId::new(0)), Some(&life("a", 2)));
    assert_ne!(document.slots[0].token(), first.slots[0].token());
    assert_eq!(document.slots[1].token(), first.slots[1].token());
}

#[test]
fn a_member_that_stops_serving_gives_its_shards_back_in_order() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    let mut leaving = member("a", 1);
    leaving.profile.keyspaces.clear();
    let actions = bench.change(vec![leaving.clone(), member("b", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "AbAb");
    leaving.report = acked("a", 1, document.epoch.get(), &[]).report;
    let actions = bench.change(vec![leaving, member("b", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "bbbb");
}

/// S6, H10.
#[test]
fn the_first_join_acts_at_once_and_those_right_after_become_one_plan() {
    let (mut bench, _) = settled(config(12), vec![member("a", 1)]);
    bench.pass(2_000);
    let actions = bench.change(vec![member("a", 1), member("b", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "aaaaaaAAAAAA");
    let began = bench.now;
    assert_eq!(
        bench.change(vec![member("a", 1), member("b", 1), member("c", 1)]),
        []
    );
    let four: Vec<_> = ["a", "b", "c", "d"].map(|id| member(id, 1)).into();
    assert_eq!(bench.change(four), []);
    let actions = bench.pass(2_000);
    assert!(
        (980..=1_000).contains(&(bench.now - began)),
        "{}",
        bench.now - began
    );
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "aaaAAAAAAAAA");
}

/// S6.
#[test]
fn a_death_does_not_wait_for_the_interval() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    let actions = bench.change(vec![member("a", 1), ended("b", 1, EndReason::Died, 0, 0)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "aaaa");
}

/// G3: nothing marks the passing of a TTL, so the planner looks when one could have passed.
#[test]
fn a_silent_death_is_looked_for_when_the_ttl_has_passed() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    bench.members[1].state = MemberState::Due;
    let actions = bench.pass(20_000);
    assert!((10_000..10_040).contains(&bench.now), "{}", bench.now);
    assert_eq!(only_swap(&actions).ended, [life("b", 1)]);
}

fn fixed(mut member: Member) -> Member {
    member.fixed = true;
    member
}

fn with_grace(shards: u16) -> PlannerConfig {
    PlannerConfig {
        grace_period: Duration::from_secs(30),
        ..config(shards)
    }
}

/// S5, H16.
#[test]
fn a_rolling_restart_within_the_grace_period_moves_no_shard() {
    let both = vec![fixed(member("a", 1)), fixed(member("b", 1))];
    let (mut bench, first) = settled(with_grace(4), both);
    let gone = fixed(ended("b", 1, EndReason::Left, 0, 0));
    let actions = bench.change(vec![fixed(member("a", 1)), gone.clone()]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "a?ba?b");
    assert_eq!(bench.pass(20_000), []);
    let actions = bench.change(vec![fixed(member("a", 1)), gone, fixed(member("b", 2))]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "abab");
    assert_eq!(document.slots[0], first.slots[0]);
}

/// S5: a process is a member before it serves.
#[test]
fn who_is_back_and_does_not_serve_yet_is_still_waited_for() {
    let both = vec![fixed(member("a", 1)), fixed(member("b", 1))];
    let (mut bench, _) = settled(with_grace(4), both);
    let gone = fixed(ended("b", 1, EndReason::Left, 0, 0));
    let mut back = fixed(member("b", 2));
    back.profile.keyspaces.clear();
    let actions = bench.change(vec![fixed(member("a", 1)), gone, back]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "a?ba?b");
}

/// S5, CE: the store measures, so that the grace period does not begin anew with a new planner.
#[test]
fn the_grace_period_ends_by_the_stores_measure() {
    let both = vec![fixed(member("a", 1)), fixed(member("b", 1))];
    let (mut bench, _) = settled(with_grace(4), both);
    let gone = |ago| {
        vec![
            fixed(member("a", 1)),
            fixed(ended("b", 1, EndReason::Left, ago, 0)),
        ]
    };
    let actions = bench.change(gone(0));
    let (reserved, _) = bench.store(&actions);
    let (mut successor, actions) = Bench::started(with_grace(4), Some(reserved), gone(29_000));
    assert_eq!(actions, []);
    let actions = successor.pass(3_000);
    assert!((1_000..1_050).contains(&successor.now), "{}", successor.now);
    let (document, _) = successor.store(&actions);
    assert_eq!(picture(&document), "aaaa");
}

/// S5: only for static names, and not for one that was put out because it was stuck.
#[test]
fn no_grace_for_made_up_names_nor_for_the_evicted() {
    for gone in [
        ended("b", 1, EndReason::Left, 0, 0),
        fixed(ended("b", 1, EndReason::Evicted, 0, 0)),
    ] {
        let (mut bench, _) = settled(with_grace(4), vec![member("a", 1), member("b", 1)]);
        let actions = bench.change(vec![member("a", 1), gone]);
        let (document, _) = bench.store(&actions);
        assert_eq!(picture(&document), "aaaa");
    }
}

/// S7.
#[test]
fn a_flapping_member_gets_nothing_new_for_a_while() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1)]);
    let flapping = vec![
        member("a", 1),
        ended("b", 1, EndReason::Expired, 500, 2),
        member("b", 2),
    ];
    assert_eq!(bench.change(flapping), []);
    let began = bench.now;
    // The second expiry within ten minutes: 2² · ttl from it.
    let actions = bench.pass(60_000);
    assert!(
        (39_000..39_520).contains(&(bench.now - began)),
        "{}",
        bench.now - began
    );
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "aaAA");
}

/// S7.
#[test]
fn a_flapping_member_that_is_the_only_one_gets_everything() {
    let flapping = vec![ended("b", 1, EndReason::Expired, 500, 3), member("b", 2)];
    let (_, document) = settled(config(2), flapping);
    assert_eq!(picture(&document), "bb");
}

/// S4: CE of one wedged task that holds a shard for ever.
#[test]
fn a_member_that_does_not_ack_in_time_is_put_out_and_waited_for() {
    let (mut bench, _) = settled(config(2), vec![member("a", 1)]);
    let actions = bench.change(vec![member("a", 1), member("b", 1)]);
    let (document, _) = bench.store(&actions);
    let revoked_at = bench.now;
    let actions = bench.pass(60_000);
    let (life, cause) = (life("a", 1), EvictCause::Overran);
    assert_eq!(
        actions,
        [PlannerAction::Evict {
            life: life.clone(),
            cause
        }]
    );
    let waited = bench.now - revoked_at;
    assert!(
        (20_000..20_100).contains(&waited),
        "drain_timeout + ttl: {waited}"
    );
    let (expires_in, evicted) = (TTL, true);
    bench.members[0].state = MemberState::Live {
        expires_in,
        evicted,
    };
    // CE: granting at the deadline, while a blocked member may still trust.
    let event = PlannerEvent::EvictAnswered {
        life,
        answer: Ok(Eviction::Marked),
    };
    let actions = bench.step(event);
    assert_eq!(bench.serve(actions), []);
    assert_eq!(bench.pass(5_000), []);
    assert_eq!(picture(&document), "aA");
    let actions = bench.change(vec![in_state("a", 1, MemberState::Due), member("b", 1)]);
    let (document, _) = bench.store(&actions);
    assert_eq!(picture(&document), "bb");
}

/// G7: absence is no end.
#[test]
fn a_member_without_a_record_is_evicted_and_nothing_of_its_is_granted() {
    let (mut bench, _) = settled(config(2), vec![member("a", 1), member("b", 1)]);
    let actions = bench.change(vec![member("b", 1)]);
    let (life, cause) = (life("a", 1), EvictCause::Missing);
    assert_eq!(actions, [PlannerAction::Evict { life, cause }]);
}

/// G7: a member that joined after the snapshot was read is not missing.
#[test]
fn an_older_snapshot_proves_no_absence() {
    let (_, document) = settled(config(2), vec![member("a", 1), member("b", 1)]);
    let mut bench = Bench::leading(config(2));
    bench.epoch = document.epoch.get();
    bench.stored = Some(document);
    let actions = bench.step(PlannerEvent::Leading { token: TOKEN });
    // The members are read first, and know only one of the two; then the document is.
    bench.members = vec![member("a", 1)];
    bench.now += 1;
    let [lead, read] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(bench.serve(vec![read.clone()]), []);
    bench.now += 1;
    bench.members = vec![member("a", 1), member("b", 1)];
    assert_eq!(bench.serve(vec![lead.clone()]), []);
    assert_eq!(bench.pass(100), []);
}

/// G4: CE of the first to reconnect, who sees all others due and takes every shard.
#[test]
fn after_an_outage_of_its_own_nobody_is_counted_as_ended_for_one_ttl() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    bench.members[1].state = MemberState::Due;
    bench.now += 10_000;
    let actions = bench.beat("memory");
    assert_eq!(bench.serve(actions), []);
    let back_at = bench.now;
    let actions = bench.pass(60_000);
    assert!(
        (10_000..10_100).contains(&(bench.now - back_at)),
        "{}",
        bench.now - back_at
    );
    assert_eq!(only_swap(&actions).ended, [life("b", 1)]);
}

/// G4: a planner that is younger than the outage knows of it from its process.
#[test]
fn a_planner_that_began_after_an_outage_of_its_process_spares_the_others_too() {
    let (before, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    let mut bench = Bench::leading(config(4));
    bench.stored = before.stored;
    bench.epoch = before.epoch;
    bench.members = vec![member("a", 1), in_state("b", 1, MemberState::Due)];
    bench.planner.came_back(at(bench.now));
    let back_at = bench.now;
    let actions = bench.step(PlannerEvent::Leading { token: TOKEN });
    assert_eq!(bench.serve(actions), []);
    let actions = bench.pass(60_000);
    let waited = bench.now - back_at;
    assert!((10_000..10_100).contains(&waited), "{waited}");
    assert_eq!(only_swap(&actions).ended, [life("b", 1)]);
}

/// G4: before the first heartbeat is answered again, too.
#[test]
fn during_an_outage_of_its_own_nobody_is_counted_as_ended() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    bench.members[1].state = MemberState::Due;
    bench.now += 10_100;
    let actions = bench.step(PlannerEvent::Tick);
    assert_eq!(bench.serve(actions), []);
}

/// G4: and after the store lost its memory.
#[test]
fn a_new_memory_identity_spares_everybody_for_one_ttl_and_the_old_plan_is_the_start() {
    let (mut bench, first) = settled(config(4), vec![member("a", 1), member("b", 1)]);
    bench.now += 1_000;
    bench.stored = None;
    bench.members = vec![member("b", 5)];
    bench.members.push(in_state("a", 4, MemberState::Due));
    bench.step(PlannerEvent::Lost);
    bench.beat("another");
    let actions = bench.step(PlannerEvent::Leading { token: TOKEN });
    let actions = bench.serve(actions);
    let swap = only_swap(&actions);
    assert_eq!(swap.expected, None);
    assert_eq!(swap.floor, Some(first.epoch), "K1");
    assert_eq!(swap.ended, []);
    let document = Document::decode(Epoch::new(900), &swap.document).unwrap();
    // Shards 1 and 3 were b's; those of a wait for it.
    assert_eq!(picture(&document), ".b.b");
}

/// S9.
#[test]
fn a_planner_that_cannot_finish_a_round_resigns() {
    let (mut bench, _) = settled(config(4), vec![member("a", 1)]);
    let mut actions = vec![];
    // The members were read at the beginning, and never again.
    while bench.planner.is_leading() && bench.now < 60_000 {
        bench.now += 1_000;
        actions = bench.beat("memory");
    }
    assert_eq!(bench.now, 30_000);
    let (cool_down, cause) = (TTL * 3, ResignCause::Stuck);
    assert_eq!(actions, [PlannerAction::Resign { cool_down, cause }]);
}

#[test]
fn a_planner_with_a_lower_token_resigns_at_once() {
    let mut bench = Bench::leading(config(4));
    bench.step(PlannerEvent::Leading { token: TOKEN });
    let by = FencingToken::new(8);
    let answer = Ok(Lead::Fenced { by });
    let (cool_down, cause) = (TTL / 3, ResignCause::Superseded { by });
    assert_eq!(
        bench.step(PlannerEvent::LeadAnswered { request: 1, answer }),
        [PlannerAction::Resign { cool_down, cause }]
    );
}

/// H11.
#[test]
fn another_shard_count_than_the_stored_one_is_refused_and_both_are_named() {
    let (_, document) = settled(config(4), vec![member("a", 1)]);
    let (_, actions) = Bench::started(config(8), Some(document), vec![member("a", 1)]);
    let [PlannerAction::Resign { cause, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        cause.to_string(),
        "the keyspace is fixed(4) by fnv1a-64, not fixed(8) by fnv1a-64"
    );
}

#[test]
fn a_swap_of_unknown_outcome_is_followed_by_a_read() {
    let (mut bench, actions) = Bench::started(config(4), None, vec![member("a", 1)]);
    let request = only_swap(&actions).request;
    let answer = Err(ErrorKind::Indeterminate);
    let actions = bench.step(PlannerEvent::SwapAnswered { request, answer });
    assert!(
        matches!(actions[..], [PlannerAction::Load { .. }]),
        "{actions:?}"
    );
    // A late, second answer changes nothing.
    let answer = Ok(Swapped::Stored(Epoch::new(3)));
    assert_eq!(
        bench.step(PlannerEvent::SwapAnswered { request, answer }),
        []
    );
}

#[test]
fn a_refused_end_is_looked_at_again_before_the_next_swap() {
    let (mut bench, _) = settled(config(2), vec![member("a", 1), member("b", 1)]);
    let actions = bench.change(vec![member("a", 1), in_state("b", 1, MemberState::Due)]);
    let request = only_swap(&actions).request;
    bench.members = vec![member("a", 1), member("b", 1)];
    let answer = Ok(Swapped::NotEnded(vec![life("b", 1)]));
    let actions = bench.step(PlannerEvent::SwapAnswered { request, answer });
    assert!(
        matches!(actions[..], [PlannerAction::ReadSnapshot { .. }]),
        "{actions:?}"
    );
    assert_eq!(bench.serve(actions), []);
}

/// S10.
#[test]
fn nothing_is_written_that_a_live_member_cannot_read() {
    let mut old = member("b", 1);
    old.profile.format = 0;
    let (_, actions) = Bench::started(config(2), None, vec![member("a", 1), old]);
    let [PlannerAction::Resign { cause, .. }] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(
        *cause,
        ResignCause::Document(BadDocument::Format { found: 0 })
    );
}

/// S11.
#[test]
fn a_dense_keyspace_is_cut_anew_only_when_every_part_was_given_back() {
    let (mut bench, first) = settled(dense(), vec![member("a", 1), member("b", 1)]);
    assert_eq!(picture(&first), "ab");
    let three = |a: Member, b: Member| vec![a, b, member("c", 1)];
    let actions = bench.change(three(member("a", 1), member("b", 1)));
    let (barrier, _) = bench.store(&actions);
    assert_eq!(picture(&barrier), "AB");
    let since = barrier.epoch.get();
    // CE of S2 in this layout: one ack grants nothing.
    assert_eq!(
        bench.change(three(acked("a", 1, since, &[]), member("b", 1))),
        []
    );
    // A joiner during the barrier counts, and does not begin it anew.
    let mut all = three(acked("a", 1, since, &[]), member("b", 1));
    all.insert(0, member("Z", 1));
    assert_eq!(bench.change(all.clone()), []);
    all[2] = acked("b", 1, since, &[]);
    let actions = bench.change(all);
    let (cut, _) = bench.store(&actions);
    assert_eq!(picture(&cut), "Zabc");
    assert!(cut.is_stable());
    assert!(cut.slots.iter().all(|slot| slot.token() == Some(cut.epoch)));
}

/// S11: a dead owner is no hole in the barrier.
#[test]
fn a_dense_barrier_ends_when_its_last_owner_has_died() {
    let (mut bench, _) = settled(dense(), vec![member("a", 1), member("b", 1)]);
    let actions = bench.change(vec![member("a", 1), in_state("b", 1, MemberState::Due)]);
    assert_eq!(only_swap(&actions).ended, [life("b", 1)]);
    let (barrier, _) = bench.store(&actions);
    assert_eq!(picture(&barrier), "A.");
    let since = barrier.epoch.get();
    let actions = bench.change(vec![
        acked("a", 1, since, &[]),
        ended("b", 1, EndReason::Expired, 0, 1),
    ]);
    let (cut, _) = bench.store(&actions);
    assert_eq!(picture(&cut), "a");
}

/// S11.
#[test]
fn the_immediate_handoff_skips_the_barrier() {
    let config = PlannerConfig {
        handoff: Handoff::Immediate,
        ..dense()
    };
    let (mut bench, _) = settled(config, vec![member("a", 1)]);
    let actions = bench.change(vec![member("a", 1), member("b", 1)]);
    let swap = only_swap(&actions);
    let document = Document::decode(Epoch::new(900), &swap.document).unwrap();
    assert_eq!(picture(&document), "ab");
}

/// S8, LEAST-MOVED.
#[test]
fn a_join_revokes_no_more_than_the_newcomers_share() {
    let names: Vec<String> = (0..9).map(|at| format!("m{at}")).collect();
    let fleet = |count: usize| {
        names[..count]
            .iter()
            .map(|id| member(id, 1))
            .collect::<Vec<_>>()
    };
    let (mut bench, _) = settled(config(100), fleet(8));
    let actions = bench.change(fleet(9));
    let swap = only_swap(&actions);
    assert!(swap.summary.revoked <= 100_usize.div_ceil(9));
    assert_eq!(swap.summary.granted + swap.summary.freed, 0);
}

/// Idle ticks cost nothing and ask for nothing.
#[test]
fn a_planner_that_does_not_lead_does_nothing() {
    let mut planner = Planner::new(config(4), Arc::new(Sticky::new()));
    assert_eq!(planner.step(at(0), PlannerEvent::Tick), []);
    assert_eq!(planner.step(at(1), PlannerEvent::Changed), []);
    assert_eq!(planner.deadline(), None);
}
