//! Step by step: one event, the exact actions; then whole electorates under random faults.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Action, Body, Config, Electorate, Event, Message, Reading, Reign, Standing, Vote};
use crate::names::MemberId;
use crate::numbers::Instance;
use crate::time::Moment;
use crate::trust::Trust;

const WINDOW: Duration = Duration::from_secs(1);
const WALL: u64 = 1_700_000_000_000;

fn at(millis: u64) -> Reading {
    let now = Moment::since_origin(Duration::from_millis(millis));
    Reading {
        now,
        steady: now,
        wall_millis: WALL + millis,
    }
}

fn instance(name: &str) -> Instance {
    Instance::from_random(u128::from(name.as_bytes()[0]))
}

fn reign(name: &str, term: u64) -> Reign {
    Reign {
        instance: instance(name),
        term,
    }
}

fn config(name: &str, voters: &[&str]) -> Config {
    Config {
        me: name.into(),
        instance: instance(name),
        electorate: Electorate::Fixed(voters.iter().map(|name| MemberId::from(*name)).collect()),
        trust: Trust::new(WINDOW).unwrap(),
        round_trip: Duration::from_millis(2),
    }
}

/// Voter `a` of a, b and c: started at 0, so that it abstains for a second.
fn voter() -> Vote {
    Vote::new(
        config("a", &["a", "b", "c"]),
        at(0),
        StdRng::seed_from_u64(1),
    )
}

fn hear(vote: &mut Vote, millis: u64, from: &str, body: Body) -> Vec<Action> {
    let message = Message {
        from: from.into(),
        instance: instance(from),
        body,
    };
    let actions = vote.step(at(millis), Event::Received(message));
    vote.check().unwrap();
    actions
}

fn heartbeat(term: u64, seq: u64) -> Body {
    Body::Heartbeat {
        term,
        seq,
        leads: false,
    }
}

fn request(term: u64) -> Body {
    let release = None;
    Body::VoteRequest { term, release }
}

/// What was answered: whether it was granted, or acked.
fn granted(actions: &[Action]) -> Option<bool> {
    actions.iter().find_map(|action| match action {
        Action::Send {
            body: Body::VoteReply { granted, .. } | Body::PreVoteReply { granted, .. },
            ..
        } => Some(*granted),
        Action::Send {
            body: Body::HeartbeatReply { acked, .. },
            ..
        } => Some(*acked),
        _ => None,
    })
}

fn ask(vote: &mut Vote, millis: u64, from: &str, body: Body) -> Option<bool> {
    granted(&hear(vote, millis, from, body))
}

/// Campaigns, and is voted for by `b`. Gives the term, and when it was asked for.
fn elect(vote: &mut Vote) -> (u64, u64) {
    drop(vote.step(at(1_000), Event::Stand { floor: None }));
    let due = vote.deadline().unwrap().as_duration().as_millis();
    let due = u64::try_from(due).unwrap() + 1;
    let actions = vote.step(at(due), Event::Tick);
    let [Action::Broadcast(Body::PreVote { term })] = actions[..] else {
        panic!("{actions:?}");
    };
    let sounded = Body::PreVoteReply {
        term,
        granted: true,
        highest: 0,
    };
    let actions = hear(vote, due, "b", sounded);
    assert_eq!(actions, [Action::Broadcast(request(term))]);
    let voted = Body::VoteReply {
        term,
        granted: true,
        highest: 0,
    };
    assert_eq!(hear(vote, due, "b", voted), [Action::Won { term }]);
    (term, due)
}

fn ack(term: u64, seq: u64) -> Body {
    Body::HeartbeatReply {
        term,
        seq,
        acked: true,
        highest: term,
    }
}

/// V2: trust is counted from when the heartbeat left, and comes from its acks alone.
#[test]
fn trust_comes_with_the_acks_of_one_heartbeat_and_counts_from_when_it_left() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    assert_eq!(vote.trusted_until(), None, "votes are no trust");
    let actions = vote.step(at(won + 10), Event::Confirm { request: 7 });
    assert_eq!(actions, [Action::Broadcast(heartbeat(term, 1))]);
    let actions = hear(&mut vote, won + 150, "b", ack(term, 1));
    let confirmed = Action::Confirmed { request: 7, term };
    assert_eq!(actions[0], confirmed);
    assert_eq!(vote.trusted_until(), Some(at(won + 10 + 900).now));
}

/// V2: acks are sets of their own for each heartbeat, and a stranger's counts for nothing.
#[test]
fn acks_of_different_heartbeats_do_not_add_up() {
    let mut vote = Vote::new(
        config("a", &["a", "b", "c", "d", "e"]),
        at(0),
        StdRng::seed_from_u64(1),
    );
    drop(vote.step(at(1_000), Event::Stand { floor: None }));
    let due = vote.deadline().unwrap();
    let due = u64::try_from(due.as_duration().as_millis()).unwrap() + 1;
    let actions = vote.step(at(due), Event::Tick);
    let [Action::Broadcast(Body::PreVote { term })] = actions[..] else {
        panic!("{actions:?}");
    };
    for name in ["b", "c"] {
        let highest = 0;
        let granted = true;
        hear(
            &mut vote,
            due,
            name,
            Body::PreVoteReply {
                term,
                granted,
                highest,
            },
        );
    }
    for name in ["b", "c"] {
        let highest = 0;
        let granted = true;
        hear(
            &mut vote,
            due,
            name,
            Body::VoteReply {
                term,
                granted,
                highest,
            },
        );
    }
    drop(vote.step(at(due), Event::Confirm { request: 1 }));
    drop(vote.step(at(due + 170), Event::Tick));
    hear(&mut vote, due + 180, "b", ack(term, 1));
    hear(&mut vote, due + 180, "x", ack(term, 1));
    hear(&mut vote, due + 180, "c", ack(term, 2));
    assert_eq!(vote.trusted_until(), None);
    hear(&mut vote, due + 190, "b", ack(term, 2));
    assert_eq!(vote.trusted_until(), Some(at(due + 170 + 900).now));
}

/// V3, T2: nothing revives a reign, not even an ack that was under way when it ended.
#[test]
fn a_reign_whose_trust_has_ended_is_over_for_good() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    drop(vote.step(at(won), Event::Confirm { request: 1 }));
    hear(&mut vote, won + 10, "b", ack(term, 1));
    drop(vote.step(at(won + 600), Event::Confirm { request: 2 }));
    let actions = hear(&mut vote, won + 900, "b", ack(term, 3));
    let refused = Action::Refused { request: 2 };
    assert_eq!(actions, [refused, Action::Deposed { term }]);
    assert_eq!(vote.trusted_until(), None);
    assert_eq!(vote.standing(at(won + 900)), Standing::Following);
}

/// V3: votes that nobody confirms are worth nothing after `T`.
#[test]
fn a_winner_that_is_not_confirmed_within_the_window_is_a_follower() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    assert_eq!(vote.deadline(), Some(at(won + 900).now));
    let actions = vote.step(at(won + 900), Event::Tick);
    assert_eq!(actions, [Action::Deposed { term }]);
}

/// V1: the promise holds against higher terms, too, and ends by itself.
#[test]
fn a_promise_binds_for_one_window_whatever_the_term_of_another() {
    let mut vote = voter();
    assert_eq!(ask(&mut vote, 2_000, "b", heartbeat(5, 1)), Some(true));
    assert_eq!(ask(&mut vote, 2_999, "c", request(9)), Some(false));
    assert_eq!(
        ask(&mut vote, 2_999, "c", Body::PreVote { term: 9 }),
        Some(false)
    );
    assert_eq!(ask(&mut vote, 2_999, "c", heartbeat(9, 1)), Some(false));
    assert_eq!(ask(&mut vote, 3_000, "c", request(9)), Some(true));
}

/// V1: a promise is judged by the clock that never runs ahead.
#[test]
fn a_clock_that_jumps_ends_no_promise_and_no_abstention() {
    let mut vote = voter();
    let jumped = |millis| Reading {
        now: at(60_000 + millis).now,
        ..at(millis)
    };
    let message = |body| {
        Event::Received(Message {
            from: "c".into(),
            instance: instance("c"),
            body,
        })
    };
    assert_eq!(
        granted(&vote.step(jumped(900), message(request(9)))),
        Some(false),
        "it abstains"
    );
    assert_eq!(ask(&mut vote, 1_000, "b", heartbeat(5, 1)), Some(true));
    let actions = vote.step(jumped(1_900), message(request(9)));
    assert_eq!(granted(&actions), Some(false), "it has promised");
    let actions = vote.step(jumped(2_000), message(request(9)));
    assert_eq!(granted(&actions), Some(true));
}

/// V4: for one window after its start, a voter neither votes nor acks, for it may have promised.
#[test]
fn a_voter_that_has_just_started_abstains_and_listens() {
    let mut vote = voter();
    let left = Duration::from_millis(1);
    assert_eq!(vote.standing(at(999)), Standing::Abstaining { left });
    assert_eq!(ask(&mut vote, 999, "b", request(5)), Some(false));
    assert_eq!(hear(&mut vote, 999, "b", heartbeat(7, 1)), []);
    assert_eq!(ask(&mut vote, 1_000, "b", request(7)), Some(true));
    assert_eq!(ask(&mut vote, 1_000, "c", heartbeat(6, 1)), Some(false));
}

/// V6.
#[test]
fn a_voter_votes_once_a_term_and_says_so_again_if_asked_again() {
    let mut vote = voter();
    assert_eq!(ask(&mut vote, 2_000, "b", request(5)), Some(true));
    assert_eq!(ask(&mut vote, 2_000, "c", request(5)), Some(false));
    assert_eq!(ask(&mut vote, 2_000, "c", request(4)), Some(false));
    assert_eq!(ask(&mut vote, 2_001, "b", request(5)), Some(true));
    assert_eq!(
        ask(&mut vote, 2_001, "c", Body::PreVote { term: 5 }),
        Some(false)
    );
    assert_eq!(ask(&mut vote, 2_001, "c", request(6)), Some(true));
}

/// V5: no lower than the wall clock, above all that was heard of, and above what was seen.
#[test]
fn terms_rise_with_the_wall_clock_and_above_whatever_was_heard() {
    let (term, won) = elect(&mut voter());
    assert_eq!(term, WALL + won);
    let mut vote = voter();
    hear(&mut vote, 10, "b", request(WALL + 50_000));
    let (term, _) = elect(&mut vote);
    assert_eq!(term, WALL + 50_001);
    let mut vote = voter();
    let floor = Some(crate::numbers::FencingToken::new(WALL + 70_000));
    drop(vote.step(at(1), Event::Stand { floor }));
    let (term, _) = elect(&mut vote);
    assert_eq!(term, WALL + 70_001);
}

/// V7: a release frees whoever promised to follow that reign, and nobody else.
#[test]
fn a_release_voids_exactly_the_promises_to_that_reign() {
    let mut vote = voter();
    assert_eq!(ask(&mut vote, 2_000, "b", heartbeat(5, 1)), Some(true));
    let resigned = |term| Body::Resigned { term, next: None };
    hear(&mut vote, 2_010, "b", resigned(4));
    hear(&mut vote, 2_010, "c", resigned(5));
    assert_eq!(ask(&mut vote, 2_011, "c", request(9)), Some(false));
    hear(&mut vote, 2_012, "b", resigned(5));
    assert_eq!(
        hear(&mut vote, 2_013, "b", heartbeat(5, 2)),
        [],
        "under way"
    );
    assert_eq!(ask(&mut vote, 2_014, "c", request(9)), Some(true));
}

/// V7: the successor's request carries the release, which may be lost otherwise.
#[test]
fn the_named_successor_asks_at_once_and_brings_the_release_along() {
    let mut vote = voter();
    drop(vote.step(at(1_500), Event::Stand { floor: None }));
    assert_eq!(ask(&mut vote, 2_000, "b", heartbeat(5, 1)), Some(true));
    let next = Some("a".into());
    let actions = hear(&mut vote, 2_100, "b", Body::Resigned { term: 5, next });
    let release = Some(reign("b", 5));
    let term = WALL + 2_100;
    assert_eq!(
        actions,
        [Action::Broadcast(Body::VoteRequest { term, release })]
    );

    let mut other = voter();
    assert_eq!(ask(&mut other, 2_000, "b", heartbeat(5, 1)), Some(true));
    let body = Body::VoteRequest { term, release };
    assert_eq!(ask(&mut other, 2_101, "c", body), Some(true));
}

/// V7: who leads says that it has stopped, once, also after a loss.
#[test]
fn a_leader_resigns_once_and_only_its_own_reign() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    drop(vote.step(at(won), Event::Confirm { request: 1 }));
    hear(&mut vote, won + 10, "b", ack(term, 1));
    let resign = |term| Event::Resign { term, next: None };
    assert_eq!(vote.step(at(won + 20), resign(term - 1)), []);
    let actions = vote.step(at(won + 20), resign(term));
    let said = Action::Broadcast(Body::Resigned { term, next: None });
    assert_eq!(actions, [Action::Deposed { term }, Action::Changed, said]);
    assert_eq!(vote.step(at(won + 21), resign(term)), []);
    assert_eq!(ask(&mut vote, won + 22, "c", request(term + 1)), Some(true));
}

/// V8, E11: a newcomer deposes nobody, whatever its term.
#[test]
fn a_newcomer_with_a_higher_term_deposes_no_leader() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    drop(vote.step(at(won), Event::Confirm { request: 1 }));
    hear(&mut vote, won + 10, "b", ack(term, 1));
    assert_eq!(
        ask(&mut vote, won + 20, "c", request(term + 99)),
        Some(false)
    );
    assert_eq!(vote.standing(at(won + 20)), Standing::Reigning { term });
    // A reject tells of it, and the next campaign goes above.
    let acked = false;
    let highest = term + 200;
    let seq = 1;
    hear(
        &mut vote,
        won + 30,
        "c",
        Body::HeartbeatReply {
            term,
            seq,
            acked,
            highest,
        },
    );
    assert_eq!(vote.standing(at(won + 30)), Standing::Reigning { term });
}

/// V9: names that are not on the list have no say; who is not on it observes.
#[test]
fn strangers_are_not_heard_and_observers_do_not_vote() {
    let mut vote = voter();
    assert_eq!(hear(&mut vote, 2_000, "x", request(5)), []);
    let mut observer = Vote::new(config("x", &["a", "b"]), at(0), StdRng::seed_from_u64(1));
    drop(observer.step(at(2_000), Event::Stand { floor: None }));
    assert_eq!(observer.standing(at(2_000)), Standing::Observing);
    assert_eq!(hear(&mut observer, 2_000, "a", request(5)), []);
    let leads = Body::Heartbeat {
        term: 5,
        seq: 2,
        leads: true,
    };
    assert_eq!(hear(&mut observer, 2_001, "a", leads), [Action::Changed]);
    assert_eq!(observer.leader(at(2_002).now).unwrap().member, "a".into());
    assert_eq!(
        observer.deadline(),
        Some(at(3_001).now),
        "E17: and when it is gone"
    );
    assert_eq!(observer.step(at(3_001), Event::Tick), [Action::Changed]);
}

/// V11: a list of one is its own quorum.
#[test]
fn a_single_voter_elects_itself() {
    let mut vote = Vote::new(config("a", &["a"]), at(0), StdRng::seed_from_u64(1));
    drop(vote.step(at(1_000), Event::Stand { floor: None }));
    let due = vote.deadline().unwrap();
    let due = u64::try_from(due.as_duration().as_millis()).unwrap() + 1;
    let actions = vote.step(at(due), Event::Tick);
    let Some(Action::Won { term }) = actions.last().cloned() else {
        panic!("{actions:?}");
    };
    let actions = vote.step(at(due), Event::Confirm { request: 1 });
    assert!(actions.contains(&Action::Confirmed { request: 1, term }));
    assert_eq!(vote.trusted_until(), Some(at(due + 900).now));
}

/// Nobody campaigns who was not asked to, and who no longer wants to lead gives way.
#[test]
fn only_who_stands_campaigns_and_who_stands_down_gives_an_unconfirmed_reign_back() {
    let mut vote = voter();
    assert_eq!(vote.step(at(60_000), Event::Tick), []);
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    let actions = vote.step(at(won + 1), Event::StandDown);
    let said = Action::Broadcast(Body::Resigned { term, next: None });
    assert_eq!(actions, [Action::Deposed { term }, said]);
}

/// Views may differ: of a seen electorate only who is seen counts, against all who are seen.
#[test]
fn a_quorum_of_a_seen_electorate_is_more_than_half_of_who_is_seen() {
    let names = |names: &[&str]| -> BTreeSet<MemberId> {
        names.iter().map(|name| MemberId::from(*name)).collect()
    };
    let mut config = config("a", &[]);
    config.electorate = Electorate::Seen(BTreeSet::new());
    let mut vote = Vote::new(config, at(0), StdRng::seed_from_u64(1));
    assert_eq!(vote.quorum(), 1);
    for (seen, quorum) in [
        (vec!["a"], 1),
        (vec!["b"], 2),
        (vec!["a", "b", "c", "d"], 3),
    ] {
        drop(vote.step(at(1), Event::Seen(names(&seen))));
        assert_eq!(vote.quorum(), quorum, "of {seen:?}");
    }
}

/// V2: with a number of its own, so that an ack of the first still counts from when that left.
#[test]
fn another_heartbeat_follows_one_without_an_answer_while_somebody_waits() {
    let mut vote = voter();
    let (term, won) = elect(&mut vote);
    drop(vote.step(at(won), Event::Confirm { request: 1 }));
    let again = vote.deadline().unwrap();
    assert_eq!(again, at(won).now + WINDOW / 6);
    let actions = vote.step(at(won + 167), Event::Tick);
    assert_eq!(actions, [Action::Broadcast(heartbeat(term, 2))]);
    let actions = hear(&mut vote, won + 200, "b", ack(term, 1));
    assert_eq!(actions[0], Action::Confirmed { request: 1, term });
    assert_eq!(vote.trusted_until(), Some(at(won + 900).now));
}
