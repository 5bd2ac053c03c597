use super::*;
use crate::time::EPOCH;
use coordinator_core::{Epoch, Keyspace, KeyspaceReport, ShardId};

const TTL: Duration = Duration::from_secs(10);

fn terms(seconds: u64) -> Terms {
    Terms {
        now: EPOCH + Duration::from_secs(seconds),
        max_ttl: Duration::from_secs(30),
        quarantine: None,
    }
}

fn memory() -> MemoryId {
    MemoryId::from("memory-1")
}

fn group() -> Group {
    Group::from("g")
}

fn request(name: &str, instance: u8) -> Join {
    let instance = Instance::from_bytes([instance; 16]);
    Join::new(group(), name.into(), instance, TTL)
}

fn join(members: &mut Members, name: &str, instance: u8, seconds: u64) -> Incarnation {
    let request = request(name, instance);
    match members.join(&request, &memory(), terms(seconds)).unwrap() {
        Joined::Member { incarnation, .. } => incarnation,
        Joined::Taken(by) => panic!("taken by {by:?}"),
    }
}

fn heartbeat(name: &str, incarnation: Incarnation, beat: u64) -> Heartbeat {
    Heartbeat::new(group(), name.into(), incarnation, beat, TTL)
}

fn beat(members: &mut Members, heartbeat: &Heartbeat, seconds: u64) -> Beat {
    members
        .heartbeat(heartbeat, &memory(), terms(seconds))
        .unwrap()
}

fn state(members: &Members, name: &str, life: Incarnation, seconds: u64) -> MemberState {
    let snapshot = members.snapshot(&group(), terms(seconds).now);
    snapshot.get(&name.into(), life).unwrap().state
}

/// G1, M2: an expired incarnation never comes back; joining anew makes a higher one.
#[test]
fn a_due_member_is_expired_for_good_and_comes_back_as_a_new_incarnation() {
    let mut members = Members::default();
    let first = join(&mut members, "a", 1, 0);
    assert_eq!(
        state(&members, "a", first, 9),
        MemberState::Live {
            expires_in: Duration::from_secs(1),
            evicted: false
        }
    );
    assert_eq!(state(&members, "a", first, 10), MemberState::Due);
    assert_eq!(
        beat(&mut members, &heartbeat("a", first, 1), 10),
        Beat::Expired
    );
    assert_eq!(state(&members, "a", first, 11), MemberState::Due);
    let second = join(&mut members, "a", 1, 11);
    assert!(second > first);
    assert_eq!(
        state(&members, "a", first, 12),
        MemberState::Ended {
            ago: Duration::from_secs(2),
            reason: EndReason::Expired,
            flaps: 1
        }
    );
}

/// G2 and clause 3.
#[test]
fn a_live_name_is_taken_for_others_and_the_same_life_for_its_own_instance() {
    let mut members = Members::default();
    let first = join(&mut members, "a", 1, 0);
    let taken = members.join(&request("a", 2), &memory(), terms(9));
    assert!(matches!(taken.unwrap(), Joined::Taken(by) if by.incarnation == first));
    assert_eq!(join(&mut members, "a", 1, 9), first);
    // Its trust counts from the second asking.
    assert!(matches!(
        state(&members, "a", first, 18),
        MemberState::Live { .. }
    ));
    assert!(join(&mut members, "a", 2, 19) > first);
}

/// S3: reports of delayed heartbeats change nothing, and `seen` never goes back.
#[test]
fn an_older_heartbeat_changes_nothing_and_seen_never_goes_back() {
    let mut members = Members::default();
    let life = join(&mut members, "a", 1, 0);
    let report = |seen: u64, draining: &[u16]| {
        let entry = KeyspaceReport {
            seen: Epoch::new(seen),
            draining: draining.iter().copied().map(ShardId::new).collect(),
        };
        Report::from([(Keyspace::from("orders"), entry)])
    };
    let mut newer = heartbeat("a", life, 2);
    newer.report = report(7, &[]);
    beat(&mut members, &newer, 1);
    let mut older = heartbeat("a", life, 1);
    older.report = report(6, &[3]);
    beat(&mut members, &older, 5);
    let told = members.snapshot(&group(), terms(5).now).members[0].clone();
    assert_eq!((told.report, told.beat), (report(7, &[]), 2));
    assert_eq!(state(&members, "a", life, 11), MemberState::Due);
    let mut lower = heartbeat("a", life, 3);
    lower.report = report(5, &[4]);
    beat(&mut members, &lower, 6);
    let told = members.snapshot(&group(), terms(6).now).members[0].clone();
    assert_eq!(told.report, report(7, &[4]));
}

/// G3: heartbeats are no news; changes of profile are, and of reports to those who want them.
#[test]
fn versions_grow_with_changes_and_with_nothing_else() {
    let mut members = Members::default();
    let life = join(&mut members, "a", 1, 0);
    let known = members.versions(&group());
    let mut plain = heartbeat("a", life, 1);
    plain.known = known;
    assert!(matches!(
        beat(&mut members, &plain, 1),
        Beat::Alive { news: None, .. }
    ));
    assert_eq!(members.versions(&group()), known);

    let mut reporting = heartbeat("a", life, 2);
    reporting.known = known;
    reporting.report = Report::from([("orders".into(), KeyspaceReport::default())]);
    assert!(matches!(
        beat(&mut members, &reporting, 1),
        Beat::Alive { news: None, .. }
    ));
    assert!(members.versions(&group()).reports > known.reports);
    reporting.wants_reports = true;
    assert!(matches!(
        beat(&mut members, &reporting, 1),
        Beat::Alive { news: Some(_), .. }
    ));

    let mut changed = heartbeat("a", life, 3);
    changed.report = reporting.report;
    let mut profile = Profile::new();
    profile.weight = 2;
    changed.profile = Some(profile);
    beat(&mut members, &changed, 1);
    assert!(members.versions(&group()).members > known.members);
    let before = members.versions(&group());
    assert_eq!(
        members.leave(&group(), &"a".into(), life, terms(2).now),
        Leave::Left
    );
    assert!(members.versions(&group()).members > before.members);
}

/// Clauses 5 and 6, S4.
#[test]
fn an_evicted_member_is_refused_and_becomes_due_when_its_last_ttl_has_passed() {
    let mut members = Members::default();
    let life = join(&mut members, "a", 1, 0);
    let evict = |members: &mut Members, at| members.evict(&group(), &"a".into(), life, terms(at));
    assert_eq!(evict(&mut members, 5), Eviction::Marked);
    let before = members.versions(&group());
    assert_eq!(evict(&mut members, 5), Eviction::Marked);
    assert_eq!(members.versions(&group()), before);
    assert_eq!(
        beat(&mut members, &heartbeat("a", life, 1), 6),
        Beat::Evicted
    );
    // Not even its own instance gets the old life back.
    let again = members.join(&request("a", 1), &memory(), terms(6));
    assert!(matches!(again.unwrap(), Joined::Taken(_)));
    assert_eq!(state(&members, "a", life, 10), MemberState::Due);
    assert_eq!(evict(&mut members, 10), Eviction::Ended);
    join(&mut members, "a", 1, 10);
    assert!(matches!(
        state(&members, "a", life, 10),
        MemberState::Ended {
            reason: EndReason::Evicted,
            ..
        }
    ));
}

/// S7: each expiry within ten minutes counts; leaving does not.
#[test]
fn flaps_count_the_expiries_of_the_last_ten_minutes() {
    let mut members = Members::default();
    let first = join(&mut members, "a", 1, 0); // expires at 10
    let second = join(&mut members, "a", 1, 100); // expires at 110
    let third = join(&mut members, "a", 1, 650); // expires at 660
    let fourth = join(&mut members, "a", 1, 700);
    members.leave(&group(), &"a".into(), fourth, terms(700).now);
    let flaps = |life| match state(&members, "a", life, 700) {
        MemberState::Ended { flaps, .. } => flaps,
        other => panic!("{other:?}"),
    };
    assert_eq!([first, second, third, fourth].map(flaps), [1, 2, 2, 2]);
}

/// I2 and clause 10: in quarantine nobody is ended, and members may join.
#[test]
fn in_quarantine_a_due_life_stays_due_while_a_new_one_begins() {
    let mut members = Members::default();
    let first = join(&mut members, "a", 1, 0);
    let quarantined = Terms {
        quarantine: Some(Duration::from_secs(1)),
        ..terms(20)
    };
    let joined = members.join(&request("a", 2), &memory(), quarantined);
    assert!(matches!(joined.unwrap(), Joined::Member { .. }));
    assert_eq!(state(&members, "a", first, 20), MemberState::Due);
}

/// Clause 8 and BOUNDED: tombstones last an hour, then they go; incarnations rise all the same.
#[test]
fn tombstones_are_kept_for_an_hour_and_then_dropped() {
    let mut members = Members::default();
    let first = join(&mut members, "a", 1, 0);
    members.leave(&group(), &"a".into(), first, terms(1).now);
    join(&mut members, "b", 2, 3601);
    assert!(matches!(
        state(&members, "a", first, 3601),
        MemberState::Ended { reason: EndReason::Left, ago, .. } if ago == TOMBSTONE_RETENTION
    ));
    join(&mut members, "c", 3, 3661);
    let snapshot = members.snapshot(&group(), terms(3661).now);
    assert!(snapshot.get(&"a".into(), first).is_none());
    assert!(join(&mut members, "a", 1, 3661) > first);
}

/// Clause 9, M6.
#[test]
fn groups_do_not_see_each_other() {
    let mut members = Members::default();
    join(&mut members, "a", 1, 0);
    assert_eq!(
        members.snapshot(&"h".into(), terms(0).now),
        Snapshot::default()
    );
}

/// Clause 11.
#[test]
fn what_is_malformed_or_too_large_is_rejected() {
    let mut members = Members::default();
    let mut bad = vec![request("", 1), request("a", 1), request("a", 1)];
    bad[1].ttl = Duration::ZERO;
    let large = "x".repeat(coordinator_core::MAX_METADATA_BYTES);
    bad[2].profile.metadata.insert("k".into(), large);
    for join in bad {
        let answer = members.join(&join, &memory(), terms(0));
        assert!(matches!(answer, Err(Refusal::Rejected(_))), "{answer:?}");
    }
    join(&mut members, "m0", 1, 0);
    let fleet = members.groups.get_mut(&group()).unwrap();
    let (life, record) = fleet.records.pop_first().unwrap();
    for member in 0..MAX_MEMBERS {
        let name = MemberId::new(format!("m{member}"));
        fleet.records.insert((name, life.1), record.clone());
    }
    let answer = members.join(&request("one-more", 1), &memory(), terms(0));
    assert!(matches!(answer, Err(Refusal::Rejected(_))), "{answer:?}");
}
