//! Each event by itself, and what exactly follows; then events at random, beside a plain model.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::document::Life;
use crate::numbers::FencingToken;
use crate::routing::Routing;

const DRAIN: Duration = Duration::from_secs(10);
const DRAIN_ALL: KeeperEvent = KeeperEvent::Drain { within: DRAIN };

fn at(seconds: u64) -> Moment {
    Moment::since_origin(Duration::from_secs(seconds))
}

fn shard(number: u16) -> ShardId {
    ShardId::new(number)
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number)
}

fn memory() -> MemoryId {
    MemoryId::from("first")
}

fn keeper() -> Keeper {
    let mut keeper = Keeper::new(MemberId::from("me"));
    assert_eq!(
        keeper.step(at(0), KeeperEvent::Serve(Terms::new(DRAIN))),
        []
    );
    keeper
}

/// A keeper of incarnation 7, trusted until second 9.
fn member() -> Keeper {
    let mut keeper = keeper();
    assert_eq!(keeper.step(at(0), joined(7, 9)), [KeeperAction::Read]);
    keeper
}

fn joined(incarnation: u64, until: u64) -> KeeperEvent {
    KeeperEvent::Joined {
        incarnation: Incarnation::new(incarnation),
        until: at(until),
    }
}

/// A document of lives `me/7`, `other/3` and `me/6`, in this order.
fn document(number: u64, layout: Layout, slots: Vec<Slot>) -> Document {
    let mut document = Document::new(FencingToken::new(1), layout, Routing::Fnv1a64);
    document.members = vec![life("me", 7), life("other", 3), life("me", 6)];
    document.slots = slots;
    document.stamped(epoch(number))
}

fn life(id: &str, incarnation: u64) -> Life {
    (MemberId::from(id), Incarnation::new(incarnation))
}

fn fixed(number: u64, slots: Vec<Slot>) -> KeeperEvent {
    let shards = u16::try_from(slots.len()).unwrap();
    read(document(number, Layout::Fixed { shards }, slots))
}

fn dense(number: u64, slots: Vec<Slot>) -> KeeperEvent {
    read(document(number, Layout::Dense, slots))
}

fn read(document: Document) -> KeeperEvent {
    KeeperEvent::Read {
        document: Some(Box::new(document)),
        under: memory(),
    }
}

fn owned(member: MemberIndex, token: u64) -> Slot {
    let token = epoch(token);
    Slot::Owned { member, token }
}

fn revoking(member: MemberIndex, token: u64, since: u64) -> Slot {
    Slot::Revoking {
        member,
        token: epoch(token),
        since: epoch(since),
        next: Some(1),
    }
}

const FREE: Slot = Slot::Free { reserved: None };

fn start(number: u16, token: u64, count: u16) -> KeeperAction {
    KeeperAction::Start {
        shard: shard(number),
        token: epoch(token),
        count,
    }
}

fn drain(number: u16, token: u64, deadline: u64) -> KeeperAction {
    KeeperAction::Drain {
        shard: shard(number),
        token: epoch(token),
        deadline: at(deadline),
    }
}

fn cancelled(number: u16, token: u64, cause: LostCause) -> KeeperAction {
    KeeperAction::Cancel {
        shard: shard(number),
        token: epoch(token),
        cause,
    }
}

fn report(seen: u64, draining: &[u16]) -> KeeperAction {
    KeeperAction::Report(KeyspaceReport {
        seen: epoch(seen),
        draining: draining.iter().copied().map(shard).collect(),
    })
}

fn ended(number: u16, token: u64) -> KeeperEvent {
    KeeperEvent::Ended {
        shard: shard(number),
        token: epoch(token),
    }
}

/// S1, S3.
#[test]
fn it_starts_what_is_granted_to_this_very_life_and_nothing_else() {
    let mut keeper = member();
    let event = fixed(20, vec![owned(0, 0), owned(1, 0), owned(2, 0), FREE]);
    assert_eq!(
        keeper.step(at(1), event),
        [start(0, 20, 4), report(20, &[])]
    );
}

/// S3: neither before it is a member, nor a moment after trust has ended.
#[test]
fn it_starts_nothing_without_trust() {
    let mut stranger = keeper();
    assert_eq!(stranger.step(at(1), fixed(20, vec![owned(0, 0)])), []);
    let mut late = member();
    assert_eq!(late.step(at(9), fixed(20, vec![owned(0, 0)])), []);
}

/// S3, H9.
#[test]
fn a_late_older_document_is_ignored() {
    let mut keeper = member();
    let newer = keeper.step(at(1), fixed(20, vec![owned(1, 0)]));
    assert_eq!(newer, [report(20, &[])]);
    assert_eq!(keeper.step(at(2), fixed(19, vec![owned(0, 0)])), []);
    assert_eq!(keeper.step(at(2), fixed(20, vec![owned(0, 0)])), []);
}

/// S3, S4, H8: the ack, `seen` without the shard in `draining`, comes when the work is gone.
#[test]
fn a_revoked_shard_is_drained_and_acked_only_when_its_work_is_gone() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    let told = keeper.step(at(2), fixed(21, vec![revoking(0, 20, 0)]));
    assert_eq!(told, [drain(0, 20, 12), report(21, &[0])]);
    assert_eq!(keeper.step(at(3), ended(0, 20)), [report(21, &[])]);
    assert!(keeper.is_idle());
}

/// S4: cancelled at the deadline, and still not acked before it is really gone.
#[test]
fn a_drain_that_overruns_is_cancelled_and_acked_when_it_is_gone() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    drop(keeper.step(at(2), fixed(21, vec![revoking(0, 20, 0)])));
    drop(keeper.step(at(8), KeeperEvent::Trusted(at(17))));
    assert_eq!(keeper.deadline(), Some(at(12)));
    assert_eq!(keeper.step(at(11), KeeperEvent::Tick), []);
    let overrun = keeper.step(at(12), KeeperEvent::Tick);
    assert_eq!(overrun, [cancelled(0, 20, LostCause::Overran)]);
    assert_eq!(keeper.deadline(), Some(at(17)));
    assert_eq!(keeper.step(at(14), ended(0, 20)), [report(21, &[])]);
}

/// S3: without a revocation in between, as after a lost store.
#[test]
fn a_shard_that_another_owns_is_stopped_at_once() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0), owned(0, 0)])));
    let stopped = keeper.step(at(2), fixed(21, vec![owned(1, 0), FREE]));
    let superseded = LostCause::Superseded;
    assert_eq!(
        stopped,
        [
            cancelled(0, 20, superseded),
            cancelled(1, 20, superseded),
            report(21, &[])
        ]
    );
}

/// T1, S3.
#[test]
fn the_end_of_trust_cancels_everything_at_once() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0), owned(0, 0)])));
    assert_eq!(keeper.deadline(), Some(at(9)));
    let expired = LostCause::Expired;
    assert_eq!(
        keeper.step(at(9), KeeperEvent::Tick),
        [cancelled(0, 20, expired), cancelled(1, 20, expired)]
    );
}

/// T2: a heartbeat answered too late revives nothing.
#[test]
fn a_late_renewal_extends_nothing() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    let late = keeper.step(at(9), KeeperEvent::Trusted(at(18)));
    assert_eq!(late, [cancelled(0, 20, LostCause::Expired)]);
    assert_eq!(keeper.step(at(10), fixed(21, vec![owned(0, 20)])), []);
}

/// S1, H5.
#[test]
fn a_member_that_comes_back_holds_nothing_until_it_is_granted_anew() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(2, 20), owned(0, 20)])));
    drop(keeper.step(at(9), KeeperEvent::Tick));
    let back = keeper.step(at(12), joined(8, 21));
    assert_eq!(back, [KeeperAction::Read]);
    let stale = keeper.step(at(12), fixed(20, vec![owned(2, 20), owned(0, 20)]));
    assert_eq!(stale, [report(20, &[])]);
}

/// The keeper was told too late of a renewal that came in time: it stops, and starts again.
#[test]
fn a_life_that_lasts_after_all_goes_on_where_it_stopped() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    let expired = cancelled(0, 20, LostCause::Expired);
    assert_eq!(keeper.step(at(9), KeeperEvent::Trusted(at(15))), [expired]);
    assert!(!keeper.is_member());
    assert_eq!(keeper.step(at(9), joined(7, 15)), [KeeperAction::Read]);
    assert_eq!(keeper.step(at(10), fixed(19, vec![FREE])), [], "never back");
    let again = keeper.step(at(10), fixed(20, vec![owned(0, 20)]));
    assert_eq!(again, [], "the old work is not gone yet");
    assert_eq!(keeper.step(at(11), ended(0, 20)), [start(0, 20, 1)]);
}

/// S1, S4: the old life's work stands in the way of the new life's.
#[test]
fn a_new_life_starts_a_shard_only_when_its_old_work_is_gone() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    drop(keeper.step(at(9), KeeperEvent::Tick));
    drop(keeper.step(at(12), joined(8, 21)));
    let mut granted = document(30, Layout::Fixed { shards: 1 }, vec![owned(0, 0)]);
    granted.members[0] = life("me", 8);
    let granted = keeper.step(at(13), read(granted.stamped(epoch(30))));
    assert_eq!(granted, [report(30, &[])]);
    assert_eq!(keeper.step(at(14), ended(0, 20)), [start(0, 30, 1)]);
}

/// S4: and if it is revoked before, the ack waits for it all the same.
#[test]
fn work_of_an_old_life_holds_back_the_ack_of_the_new_one() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    drop(keeper.step(at(9), KeeperEvent::Tick));
    drop(keeper.step(at(12), joined(8, 21)));
    let mut revoked = document(31, Layout::Fixed { shards: 1 }, vec![revoking(0, 30, 0)]);
    revoked.members[0] = life("me", 8);
    assert_eq!(keeper.step(at(13), read(revoked)), [report(31, &[0])]);
    assert_eq!(keeper.step(at(14), ended(0, 20)), [report(31, &[])]);
}

/// The keyspace is served no longer while the member lives: it drains, and goes on acking.
#[test]
fn a_keyspace_that_is_no_longer_served_is_drained_and_acked() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0), FREE])));
    assert_eq!(keeper.step(at(2), DRAIN_ALL), [drain(0, 20, 12)]);
    assert_eq!(keeper.step(at(3), ended(0, 20)), []);
    let granted = keeper.step(at(4), fixed(21, vec![owned(0, 20), owned(0, 0)]));
    assert_eq!(granted, [report(21, &[])], "nothing new is begun");
    let revoked = keeper.step(
        at(5),
        fixed(22, vec![revoking(0, 20, 0), revoking(0, 21, 0)]),
    );
    assert_eq!(revoked, [report(22, &[])]);
}

#[test]
fn a_keyspace_that_is_served_again_starts_what_is_still_granted() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    drop(keeper.step(at(2), DRAIN_ALL));
    assert_eq!(
        keeper.step(at(2), KeeperEvent::Serve(Terms::new(DRAIN))),
        []
    );
    assert_eq!(keeper.step(at(3), ended(0, 20)), [start(0, 20, 1)]);
}

/// S12.
#[test]
fn a_store_that_forgot_an_epoch_we_have_seen_ends_the_life() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    let other = MemoryId::from("second");
    let changed = keeper.step(at(2), KeeperEvent::MemoryChanged(other.clone()));
    assert_eq!(changed, [KeeperAction::Read]);
    let forgotten = KeeperEvent::Read {
        document: None,
        under: other,
    };
    assert_eq!(
        keeper.step(at(3), forgotten),
        [
            cancelled(0, 20, LostCause::StoreReset),
            KeeperAction::LeaveAndRejoin
        ]
    );
}

/// S12: what was read before the change was known, proves nothing.
#[test]
fn a_new_memory_is_verified_by_a_read_under_it_that_is_not_older() {
    let mut keeper = member();
    drop(keeper.step(at(1), fixed(20, vec![owned(0, 0)])));
    let other = MemoryId::from("second");
    drop(keeper.step(at(2), KeeperEvent::MemoryChanged(other.clone())));
    assert_eq!(keeper.step(at(3), fixed(20, vec![owned(0, 20)])), []);
    let same = document(20, Layout::Fixed { shards: 1 }, vec![owned(0, 20)]);
    let reread = KeeperEvent::Read {
        document: Some(Box::new(same)),
        under: other.clone(),
    };
    assert_eq!(keeper.step(at(4), reread), [KeeperAction::Verified(other)]);
}

/// S11.
#[test]
fn a_dense_cut_starts_when_it_is_whole_and_our_old_one_has_ended() {
    let mut keeper = member();
    let first = keeper.step(at(1), dense(20, vec![owned(0, 0), owned(1, 0)]));
    assert_eq!(first, [start(0, 20, 2), report(20, &[])]);
    let barrier = keeper.step(at(2), dense(21, vec![revoking(0, 20, 0), FREE]));
    assert_eq!(barrier, [drain(0, 20, 12), report(21, &[0])]);
    let half = keeper.step(at(3), dense(22, vec![FREE, owned(0, 0)]));
    assert_eq!(
        half,
        [cancelled(0, 20, LostCause::Superseded), report(22, &[])]
    );
    let whole = keeper.step(at(4), dense(23, vec![owned(1, 0), owned(0, 0)]));
    assert_eq!(whole, [report(23, &[])], "the old part may overlap the new");
    assert_eq!(keeper.step(at(5), ended(0, 20)), [start(1, 23, 2)]);
}

/// S11, `immediate`.
#[test]
fn with_overlap_the_new_cut_starts_while_the_old_one_drains() {
    let mut terms = Terms::new(DRAIN);
    terms.overlap = true;
    let mut keeper = Keeper::new(MemberId::from("me"));
    drop(keeper.step(at(0), KeeperEvent::Serve(terms)));
    drop(keeper.step(at(0), joined(7, 9)));
    drop(keeper.step(at(1), dense(20, vec![owned(0, 0)])));
    let cut = keeper.step(at(2), dense(21, vec![owned(0, 0), owned(1, 0)]));
    assert_eq!(cut, [drain(0, 20, 12), start(0, 21, 2), report(21, &[])]);
}

/// What a reader of sections S1 to S4 would write down, without the machine's economy.
#[derive(Default)]
struct Model {
    trusted_until: Option<Moment>,
    incarnation: u64,
    seen: Epoch,
    document: Option<Document>,
    /// Work that was started and has not ended; whether it was cancelled.
    works: BTreeMap<(ShardId, Epoch), bool>,
    reported: KeyspaceReport,
}

impl Model {
    fn perform(&mut self, now: Moment, action: &KeeperAction) {
        match action {
            KeeperAction::Start { shard, token, .. } => {
                assert!(self.trusted_until.is_some_and(|until| now < until), "trust");
                let document = self.document.as_ref().expect("a document was read");
                let Slot::Owned {
                    member,
                    token: granted,
                } = document.slots[usize::from(shard.get())]
                else {
                    panic!("started a shard that nobody owns");
                };
                assert_eq!(granted, *token);
                let owner = document.member(member).expect("the table names it");
                assert_eq!(*owner, life("me", self.incarnation), "S1");
                let same = self.works.keys().filter(|(other, _)| other == shard);
                assert_eq!(same.count(), 0, "two works of one shard");
                self.works.insert((*shard, *token), false);
            }
            KeeperAction::Cancel { shard, token, .. } => {
                let cancelled = self.works.insert((*shard, *token), true);
                assert_eq!(cancelled, Some(false), "cancelled once, and only what runs");
            }
            KeeperAction::Drain { shard, token, .. } => {
                assert_eq!(self.works.get(&(*shard, *token)), Some(&false));
            }
            KeeperAction::Report(report) => {
                assert!(report.seen >= self.reported.seen, "seen goes back");
                self.reported = report.clone();
            }
            KeeperAction::Read | KeeperAction::Verified(_) | KeeperAction::LeaveAndRejoin => {}
        }
    }

    fn check(&self, now: Moment) {
        let trusted = self.trusted_until.is_some_and(|until| now < until);
        if !trusted {
            assert!(self.works.values().all(|cancelled| *cancelled), "T1");
        }
        let Some(document) = self.document.as_ref().filter(|_| trusted) else {
            return;
        };
        for (index, slot) in (0..).zip(&document.slots) {
            if let Slot::Revoking { member, since, .. } = slot
                && document.member(*member) == Some(&life("me", self.incarnation))
                && self.reported.seen >= *since
                && !self.reported.draining.contains(&ShardId::new(index))
            {
                let left = self.works.keys().any(|(shard, _)| shard.get() == index);
                assert!(!left, "S4: acked before the end");
            }
        }
    }
}

fn any_slot(random: &mut StdRng, number: u64) -> Slot {
    let member = random.random_range(0..3);
    let token = random.random_range(number.saturating_sub(2)..=number);
    match random.random_range(0..4) {
        0 => FREE,
        1 | 2 => owned(member, token),
        _ => revoking(member, token, number),
    }
}

/// S1 to S4: random events, legal or not, against the plain model.
#[test]
fn no_shard_runs_without_trust_none_is_acked_before_its_end_and_seen_never_goes_back() {
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut keeper = keeper();
        let mut model = Model::default();
        let mut now = Moment::ZERO;
        let mut number = 10;
        for _ in 0..200 {
            now = now + Duration::from_millis(random.random_range(0..3_000));
            if model.trusted_until.is_some_and(|until| now >= until) {
                model.trusted_until = None;
            }
            let event = match random.random_range(0..12) {
                0 => {
                    if model.trusted_until.is_none() {
                        model.incarnation += 1;
                        model.trusted_until = Some(now + Duration::from_secs(9));
                        model.seen = Epoch::default();
                        model.document = None;
                        model.reported = KeyspaceReport::default();
                    }
                    KeeperEvent::Joined {
                        incarnation: Incarnation::new(model.incarnation),
                        until: model.trusted_until.unwrap_or(now),
                    }
                }
                1 | 2 => {
                    let until = now + Duration::from_secs(9);
                    model.trusted_until = model.trusted_until.map(|old| old.max(until));
                    KeeperEvent::Trusted(until)
                }
                3..=6 => {
                    number += random.random_range(0..3);
                    let given = random.random_range(number - 2..=number);
                    let slots = (0..6).map(|_| any_slot(&mut random, given)).collect();
                    let mut document = document(given, Layout::Fixed { shards: 6 }, slots);
                    document.members[0].1 = Incarnation::new(model.incarnation);
                    document.members[2].1 = Incarnation::new(model.incarnation.saturating_sub(1));
                    if model.trusted_until.is_some() && document.epoch > model.seen {
                        model.seen = document.epoch;
                        model.document = Some(document.clone());
                    }
                    read(document)
                }
                7 | 8 => {
                    let count = model.works.len().max(1);
                    let which = model.works.keys().nth(random.random_range(0..count));
                    let Some((shard, token)) = which.copied() else {
                        continue;
                    };
                    // What has ended by now may still be cancelled, if trust ends in the same step.
                    for action in keeper.step(now, KeeperEvent::Tick) {
                        model.perform(now, &action);
                    }
                    model.works.remove(&(shard, token));
                    KeeperEvent::Ended { shard, token }
                }
                9 => DRAIN_ALL,
                10 => KeeperEvent::Serve(Terms::new(DRAIN)),
                _ => KeeperEvent::Tick,
            };
            for action in keeper.step(now, event) {
                model.perform(now, &action);
            }
            assert_eq!(keeper.check(now), Ok(()), "seed {seed}");
            model.check(now);
        }
    }
}
