//! Steps of the machines a second, in the state in which they spend their lives.
#![allow(
    missing_docs,
    reason = "criterion's macros write a main without documentation"
)]

use std::hint::black_box;
use std::time::Duration;

use coordinator_node::core::machine::keeper::{Keeper, KeeperEvent, Terms};
use coordinator_node::core::machine::lease::{Action, Config, Event, Lease, Patience};
use coordinator_node::core::machine::membership::{
    BeatAnswer, JoinAnswer, Membership, MembershipAction, MembershipEvent,
};
use coordinator_node::core::machine::stream::{Publisher, Receiver};
use coordinator_node::core::machine::vote;
use coordinator_node::core::trust::Trust;
use coordinator_node::core::{
    Bytes, Claim, ClaimId, FencingToken, Incarnation, Instance, MemberId, MemoryId, Moment, Topic,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Renewals, heartbeats or messages in one iteration.
const ROUNDS: u64 = 1_000;

fn at(round: u64) -> Moment {
    Moment::since_origin(Duration::from_secs(round * 4))
}

fn random() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// A leader who renews: a tick that asks, and the answer. Returns how often it asked.
fn lead() -> u64 {
    let trust = Trust::default();
    let instance = Instance::from_random(1);
    let claim = Claim::new(
        "key".into(),
        "a".into(),
        instance,
        ClaimId::new(1),
        trust.ttl(),
    );
    let patience = Patience::Wait;
    let config = Config {
        claim,
        trust,
        patience,
        wakes: true,
        stall_limit: None,
    };
    let mut asked = 0;
    let mut lease = Lease::new(config, at(0), random());
    for round in 0..ROUNDS {
        for action in lease.step(at(round), Event::Tick) {
            let answer = match action {
                Action::Acquire { request, .. } => Event::Granted {
                    request,
                    token: FencingToken::new(1),
                },
                Action::Renew { request, .. } => Event::Renewed { request },
                _ => continue,
            };
            asked += 1;
            black_box(lease.step(at(round), answer));
        }
    }
    asked
}

/// A member that beats: a tick that asks, and the answer. Returns how often it asked.
fn beat() -> u64 {
    let memory = MemoryId::from("memory");
    let mut asked = 0;
    let mut membership = Membership::new(Trust::default(), random(), at(0));
    for round in 0..ROUNDS {
        for action in membership.step(at(round), MembershipEvent::Tick) {
            let memory = memory.clone();
            let answer = match action {
                MembershipAction::Join { request, .. } => {
                    let (incarnation, expires_in) = (Incarnation::new(1), Duration::from_secs(10));
                    let answer = JoinAnswer::Member {
                        incarnation,
                        memory,
                        expires_in,
                    };
                    MembershipEvent::JoinAnswered { request, answer }
                }
                MembershipAction::Beat { request, .. } => {
                    let answer = BeatAnswer::Alive { memory };
                    MembershipEvent::BeatAnswered { request, answer }
                }
                _ => continue,
            };
            asked += 1;
            black_box(membership.step(at(round), answer));
        }
    }
    asked
}

/// A keeper whose member beats: news of trust, and a tick.
fn keep() {
    let terms = Terms::new(Duration::from_secs(10));
    let mut keeper = Keeper::new(MemberId::from("me"));
    black_box(keeper.step(at(0), KeeperEvent::Serve(terms)));
    let (incarnation, until) = (Incarnation::new(1), at(3));
    black_box(keeper.step(at(0), KeeperEvent::Joined { incarnation, until }));
    for round in 1..ROUNDS {
        black_box(keeper.step(at(round), KeeperEvent::Trusted(at(round + 3))));
        black_box(keeper.step(at(round), KeeperEvent::Tick));
    }
}

/// A voter that follows: a heartbeat, which it acks, and a tick. Returns how often it acked.
fn follow() -> u64 {
    let names = ["a", "b", "c", "d", "e"].map(MemberId::from);
    let config = vote::Config {
        me: names[0].clone(),
        instance: Instance::from_random(1),
        electorate: vote::Electorate::Fixed(names.iter().cloned().collect()),
        trust: Trust::default(),
        round_trip: Duration::from_millis(5),
    };
    let reading = |round| vote::Reading {
        now: at(round),
        steady: at(round),
        wall_millis: 0,
    };
    let mut voter = vote::Vote::new(config, reading(0), random());
    let mut acked = 0;
    for round in 3..ROUNDS + 3 {
        let body = vote::Body::Heartbeat {
            term: 1,
            seq: round,
            leads: true,
        };
        let heartbeat = vote::Message {
            from: names[1].clone(),
            instance: Instance::from_random(2),
            body,
        };
        let actions = voter.step(reading(round), vote::Event::Received(heartbeat));
        let acks = |action: &vote::Action| {
            let vote::Action::Send { body, .. } = action else {
                return false;
            };
            matches!(body, vote::Body::HeartbeatReply { acked: true, .. })
        };
        acked += actions.iter().filter(|action| acks(action)).count() as u64;
        black_box(voter.step(reading(round), vote::Event::Tick));
    }
    acked
}

/// A message that is numbered here and counted there.
fn count(topic: &Topic) {
    let mut publisher = Publisher::new(MemberId::from("me"), Instance::from_random(1));
    let mut receiver = Receiver::new(at(0));
    for _ in 0..ROUNDS {
        let frame = publisher.stamp(at(0), topic, Bytes::from_static(b"payload"));
        black_box(receiver.accept(at(0), &frame));
    }
}

fn machines(criterion: &mut Criterion) {
    assert_eq!((lead(), beat()), (ROUNDS, ROUNDS), "each tick asks once");
    assert_eq!(follow(), ROUNDS, "each heartbeat is acked");
    let topic: Topic = Topic::new("topic");
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(2 * ROUNDS));
    group.bench_function("lease_renews", |bench| bench.iter(lead));
    group.bench_function("membership_beats", |bench| bench.iter(beat));
    group.bench_function("voter_follows", |bench| bench.iter(follow));
    group.bench_function("keeper_is_trusted", |bench| bench.iter(keep));
    group.bench_function("stream_stamps_and_counts", |bench| {
        bench.iter(|| count(&topic));
    });
    group.finish();
}

criterion_group!(benches, machines);
criterion_main!(benches);
