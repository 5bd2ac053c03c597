//! Each event by itself, and what exactly follows; then random answers, and the rules of trust.

use rand::SeedableRng;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::since_origin(Duration::from_millis(millis))
}

/// TTL 10 s, margin 1 s.
fn outsider() -> Membership {
    Membership::new(Trust::default(), StdRng::seed_from_u64(1), at(0))
}

const TTL: Duration = Duration::from_secs(10);

fn member(request: u64, incarnation: u64, memory: &str, expires_in: Duration) -> MembershipEvent {
    MembershipEvent::JoinAnswered {
        request,
        answer: JoinAnswer::Member {
            incarnation: Incarnation::new(incarnation),
            memory: MemoryId::from(memory),
            expires_in,
        },
    }
}

fn taken(request: u64, beat: u64) -> MembershipEvent {
    MembershipEvent::JoinAnswered {
        request,
        answer: JoinAnswer::Taken {
            incarnation: Incarnation::new(5),
            beat,
            expires_in: TTL,
        },
    }
}

fn alive(request: u64, memory: &str) -> MembershipEvent {
    answered(
        request,
        BeatAnswer::Alive {
            memory: MemoryId::from(memory),
        },
    )
}

fn answered(request: u64, answer: BeatAnswer) -> MembershipEvent {
    MembershipEvent::BeatAnswered { request, answer }
}

fn beat(request: u64, number: u64) -> MembershipAction {
    MembershipAction::Beat {
        request,
        incarnation: Incarnation::new(7),
        beat: number,
    }
}

fn join(request: u64, floor: Option<u64>) -> MembershipAction {
    MembershipAction::Join {
        request,
        floor: floor.map(Incarnation::new),
    }
}

fn trusted(until: u64) -> MembershipAction {
    MembershipAction::Trusted { until: at(until) }
}

fn ended(cause: LostCause) -> MembershipAction {
    MembershipAction::Ended { cause }
}

/// Incarnation 7, asked for at 0, answered at 100 ms: trusted until 9 s.
fn insider() -> Membership {
    let mut membership = outsider();
    let asked = membership.step(at(0), MembershipEvent::Tick);
    assert_eq!(asked, [join(1, None)]);
    let entered = membership.step(at(100), member(1, 7, "a", TTL));
    assert_eq!(
        entered,
        [MembershipAction::Entered {
            incarnation: Incarnation::new(7),
            until: at(9_000),
            memory: MemoryId::from("a"),
        }]
    );
    membership
}

/// T1, T6.
#[test]
fn it_beats_every_third_of_the_ttl_and_trusts_from_the_question_on() {
    let mut membership = insider();
    let first = membership.deadline().unwrap();
    assert_eq!(first.since(at(100)), Duration::from_secs(10) / 3);
    assert_eq!(membership.step(first, MembershipEvent::Tick), [beat(2, 1)]);
    let answer = membership.step(at(5_000), alive(2, "a"));
    let until = first + Duration::from_secs(9);
    assert_eq!(answer, [MembershipAction::Trusted { until }]);
}

/// T2: the answer comes an instant too late.
#[test]
fn a_late_answer_extends_nothing() {
    let mut membership = insider();
    let _sent = membership.step(at(4_000), MembershipEvent::Tick);
    let late = membership.step(at(9_000), alive(2, "a"));
    assert_eq!(late, [ended(LostCause::Expired)]);
    assert_eq!(membership.life(), None);
}

/// T6, M5: one lost heartbeat costs nothing; a silent one is not waited for.
#[test]
fn a_silent_heartbeat_is_followed_by_the_next() {
    let mut membership = insider();
    assert_eq!(
        membership.step(at(4_000), MembershipEvent::Tick),
        [beat(2, 1)]
    );
    let next = membership.deadline().unwrap();
    assert_eq!(next.since(at(4_000)), Duration::from_secs(10) / 3);
    assert_eq!(membership.step(next, MembershipEvent::Tick), [beat(3, 2)]);
    assert_eq!(membership.step(at(7_400), alive(2, "a")), [trusted(13_000)]);
}

/// G1: neither an answer nor the store brings a life back that has ended.
#[test]
fn an_ended_life_is_never_taken_up_again() {
    let mut membership = insider();
    let end = membership.step(at(9_000), MembershipEvent::Tick);
    assert_eq!(end, [ended(LostCause::Expired)]);
    let again = membership.deadline().unwrap();
    assert!(
        again >= at(10_000),
        "not before the store's lease has ended"
    );
    assert_eq!(
        membership.step(again, MembershipEvent::Tick),
        [join(2, Some(7))]
    );
    let left = Duration::from_secs(2);
    assert_eq!(membership.step(again, member(2, 7, "a", left)), []);
    let later = membership.deadline().unwrap();
    assert_eq!(later, again + Trust::surely(left));
    assert_eq!(
        membership.step(later, MembershipEvent::Tick),
        [join(3, Some(7))]
    );
    let entered = membership.step(later, member(3, 8, "a", TTL));
    assert!(matches!(entered[..], [MembershipAction::Entered { .. }]));
}

/// G1.
#[test]
fn an_expired_or_evicted_member_stops_everything_and_joins_anew() {
    for (answer, cause) in [
        (BeatAnswer::Expired, LostCause::Expired),
        (BeatAnswer::Evicted, LostCause::Superseded),
    ] {
        let mut membership = insider();
        let _sent = membership.step(at(4_000), MembershipEvent::Tick);
        let end = membership.step(at(4_100), answered(2, answer));
        assert_eq!(end, [ended(cause)]);
        let again = membership.deadline().unwrap();
        assert!(again < at(6_000));
        assert_eq!(
            membership.step(again, MembershipEvent::Tick),
            [join(3, Some(7))]
        );
    }
}

/// G2.
#[test]
fn an_incumbent_is_waited_for_and_a_duplicate_only_if_it_beats_meanwhile() {
    let mut membership = outsider();
    let _asked = membership.step(at(0), MembershipEvent::Tick);
    assert_eq!(membership.step(at(0), taken(1, 3)), []);
    let end = membership.deadline().unwrap();
    assert!(end >= at(10_000) && end < at(10_100));
    assert_eq!(membership.step(end, MembershipEvent::Tick), [join(2, None)]);
    assert_eq!(
        membership.step(end, taken(2, 4)),
        [MembershipAction::Duplicate]
    );

    let mut restarted = outsider();
    let _asked = restarted.step(at(0), MembershipEvent::Tick);
    let _wait = restarted.step(at(0), taken(1, 3));
    let _asked = restarted.step(end, MembershipEvent::Tick);
    let entered = restarted.step(end, member(2, 6, "a", TTL));
    assert!(matches!(entered[..], [MembershipAction::Entered { .. }]));
}

/// The reply to a first join was lost: the second is the same life, and no longer than it.
#[test]
fn trust_in_a_join_asked_twice_ends_with_the_first_lease() {
    let mut membership = outsider();
    let _asked = membership.step(at(0), MembershipEvent::Tick);
    let failed = MembershipEvent::JoinAnswered {
        request: 1,
        answer: JoinAnswer::Failed(ErrorKind::Indeterminate),
    };
    let _failed = membership.step(at(3_000), failed);
    let again = membership.deadline().unwrap();
    let _asked = membership.step(again, MembershipEvent::Tick);
    let entered = membership.step(again, member(2, 7, "a", Duration::from_secs(6)));
    assert_eq!(
        entered,
        [MembershipAction::Entered {
            incarnation: Incarnation::new(7),
            until: again + Duration::from_secs(5),
            memory: MemoryId::from("a"),
        }]
    );
}

/// Acks do not wait for the pace of heartbeats.
#[test]
fn news_go_out_within_milliseconds_and_become_one_heartbeat() {
    let mut membership = insider();
    assert_eq!(membership.step(at(1_000), MembershipEvent::Urge), []);
    assert_eq!(membership.step(at(1_001), MembershipEvent::Urge), []);
    assert_eq!(membership.deadline(), Some(at(1_002)));
    assert_eq!(
        membership.step(at(1_002), MembershipEvent::Tick),
        [beat(2, 1)]
    );
    // More news while it is under way wait for its answer.
    assert_eq!(membership.step(at(1_003), MembershipEvent::Urge), []);
    assert_eq!(membership.deadline(), Some(at(2_002)));
    let answer = membership.step(at(1_010), alive(2, "a"));
    assert_eq!(answer, [trusted(10_002), beat(3, 2)]);
}

#[test]
fn an_error_is_retried_with_backoff_before_trust_ends() {
    let mut membership = insider();
    let _sent = membership.step(at(4_000), MembershipEvent::Tick);
    let error = BeatAnswer::Failed(ErrorKind::Unavailable);
    assert_eq!(membership.step(at(4_100), answered(2, error)), []);
    let retry = membership.deadline().unwrap();
    assert!(retry >= at(4_150) && retry <= at(4_200), "{retry:?}");
}

/// S12.
#[test]
fn a_new_memory_renews_trust_only_after_the_documents_were_read_under_it() {
    let mut membership = insider();
    let _sent = membership.step(at(4_000), MembershipEvent::Tick);
    let changed = membership.step(at(4_010), alive(2, "b"));
    let b = MemoryId::from("b");
    assert_eq!(changed, [MembershipAction::ReadDocuments(b.clone())]);
    assert_eq!(membership.life().unwrap().1, at(9_000));
    let _sent = membership.step(at(8_000), MembershipEvent::Tick);
    assert_eq!(membership.step(at(8_010), alive(3, "b")), []);
    let read = membership.step(at(8_500), MembershipEvent::DocumentsRead(b));
    assert_eq!(read, [trusted(17_000)]);
}

/// S12, T2.
#[test]
fn documents_that_are_not_read_in_time_cost_the_life() {
    let mut membership = insider();
    let _sent = membership.step(at(4_000), MembershipEvent::Tick);
    let _changed = membership.step(at(4_010), alive(2, "b"));
    let late = MembershipEvent::DocumentsRead(MemoryId::from("b"));
    let end = membership.step(at(9_000), late);
    assert_eq!(end, [ended(LostCause::Expired)]);
}

/// S12: the old life is left only when its work is gone.
#[test]
fn lost_swaps_end_the_life_and_it_is_left_when_its_work_has_stopped() {
    let mut membership = insider();
    let end = membership.step(at(5_000), MembershipEvent::Rejoin);
    assert_eq!(end, [ended(LostCause::StoreReset)]);
    let leave = membership.step(at(5_010), MembershipEvent::WorkGone);
    let incarnation = Incarnation::new(7);
    let request = 2;
    assert_eq!(
        leave,
        [MembershipAction::Leave {
            request,
            incarnation
        }]
    );
    let left = MembershipEvent::LeaveAnswered {
        request,
        confirmed: true,
    };
    assert_eq!(membership.step(at(5_020), left), [join(3, Some(7))]);
}

/// W1: local trust ends before the store is told.
#[test]
fn leaving_ends_trust_first_and_is_retried_until_it_is_confirmed() {
    let mut membership = insider();
    let leave = |request| MembershipAction::Leave {
        request,
        incarnation: Incarnation::new(7),
    };
    let out = membership.step(at(5_000), MembershipEvent::Leave);
    assert_eq!(out, [ended(LostCause::Released), leave(2)]);
    let answer = |request, confirmed| MembershipEvent::LeaveAnswered { request, confirmed };
    assert_eq!(membership.step(at(5_100), answer(2, false)), []);
    let retry = membership.deadline().unwrap();
    assert_eq!(membership.step(retry, MembershipEvent::Tick), [leave(3)]);
    let out = membership.step(retry, answer(3, true));
    assert_eq!(out, [MembershipAction::Left]);
    assert_eq!(membership.deadline(), None);
}

/// T1, T2, T4, G1: whatever the store answers, and whenever.
#[test]
fn trust_never_outlives_the_stores_lease_and_no_life_comes_back() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut membership = Membership::new(Trust::default(), StdRng::seed_from_u64(seed), at(0));
        let mut now = at(0);
        let mut open: Vec<(MembershipAction, Moment)> = Vec::new();
        let mut lease_end = at(0);
        let mut newest = 0;
        for _ in 0..300 {
            let rest = membership.deadline().map_or(TTL, |next| next.since(now));
            let step = random.random_range(Duration::ZERO..=rest.max(Duration::from_millis(1)));
            now = now
                + if random.random_bool(0.1) {
                    step * 3
                } else {
                    step
                };
            let event = if open.is_empty() || random.random_bool(0.5) {
                if random.random_bool(0.2) {
                    MembershipEvent::Urge
                } else {
                    MembershipEvent::Tick
                }
            } else {
                let (action, _) = open.remove(random.random_range(0..open.len()));
                match action {
                    MembershipAction::Join { request, .. } => {
                        if now >= lease_end {
                            newest += 1;
                        }
                        // The least that a store may give: the lease it gave before, if it lasts.
                        if now >= lease_end {
                            lease_end = now + TTL;
                        }
                        member(request, newest, "a", lease_end.since(now))
                    }
                    MembershipAction::Beat {
                        request,
                        incarnation,
                        ..
                    } => {
                        if incarnation.get() < newest || now >= lease_end {
                            answered(request, BeatAnswer::Expired)
                        } else {
                            lease_end = now + TTL;
                            alive(request, "a")
                        }
                    }
                    other => panic!("{other:?} needs no answer"),
                }
            };
            for action in membership.step(now, event) {
                match action {
                    MembershipAction::Join { .. } | MembershipAction::Beat { .. } => {
                        open.push((action, now));
                    }
                    MembershipAction::Entered { until, .. }
                    | MembershipAction::Trusted { until } => {
                        assert!(until < lease_end, "seed {seed}: trusted beyond the lease");
                    }
                    MembershipAction::Leave { .. }
                    | MembershipAction::Ended { .. }
                    | MembershipAction::ReadDocuments(_)
                    | MembershipAction::Duplicate
                    | MembershipAction::Left => {}
                }
            }
            assert_eq!(membership.check(now), Ok(()), "seed {seed}");
        }
        assert!(newest > 0);
    }
}
