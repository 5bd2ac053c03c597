//! Planning for 1,000 members and 16,384 shards, and routing: what one step costs, answers decoded
//! and documents encoded.

#![allow(
    missing_docs,
    reason = "criterion's macros write undocumented functions"
)]
#![allow(
    clippy::expect_used,
    reason = "a benchmark of something else is no benchmark"
)]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::planner::{
    PlannedSwap, Planner, PlannerAction, PlannerConfig, PlannerEvent,
};
use coordinator_core::{
    Epoch, FencingToken, Incarnation, Instance, Keyspace, Layout, Lead, Member, MemberId, MemoryId,
    Moment, Question, Rendezvous, Routing, Snapshot, Sticky, Strategy, Swapped, Versions,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MEMBERS: usize = 1_000;
const SHARDS: u16 = 16_384;
const TTL: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Moment {
    Moment::since_origin(Duration::from_secs(100 + seconds))
}

fn fleet(members: usize) -> Arc<Snapshot> {
    let keyspaces = BTreeSet::from([Keyspace::from("orders")]);
    let member = |number: usize| {
        let bits = number as u128;
        let instance = Instance::from_random(bits);
        let id = MemberId::new(format!("member-{number:08x}-65aa-42ec-a945-5fd21dec0538"));
        let mut member = Member::new(id, Incarnation::new(1), instance, TTL);
        member.profile.keyspaces.clone_from(&keyspaces);
        member
    };
    Arc::new(Snapshot {
        versions: Versions::default(),
        members: (0..members).map(member).collect(),
    })
}

/// A planner that leads, knows that there is no document, and awaits the members.
fn leading() -> (Planner, u64) {
    let layout = Layout::Fixed { shards: SHARDS };
    let config = PlannerConfig::new(Keyspace::from("orders"), layout, Routing::default());
    let mut planner = Planner::new(config, Arc::new(Sticky::new()));
    let memory = MemoryId::from("memory");
    drop(planner.step(at(0), PlannerEvent::Beat { memory }));
    let token = FencingToken::new(1);
    let actions = planner.step(at(0), PlannerEvent::Leading { token });
    let mut snapshot = 0;
    for action in actions {
        match action {
            PlannerAction::Lead { request, .. } => {
                let answer = Ok(Lead::Led(None));
                drop(planner.step(at(0), PlannerEvent::LeadAnswered { request, answer }));
            }
            PlannerAction::ReadSnapshot { request } => snapshot = request,
            _ => {}
        }
    }
    (planner, snapshot)
}

fn told(
    planner: &mut Planner,
    now: Moment,
    request: u64,
    members: &Arc<Snapshot>,
) -> Vec<PlannerAction> {
    let answer = Ok(members.clone());
    planner.step(now, PlannerEvent::SnapshotAnswered { request, answer })
}

fn swap(actions: Vec<PlannerAction>) -> PlannedSwap {
    let swap = actions.into_iter().find_map(|action| match action {
        PlannerAction::Swap(swap) => Some(swap),
        _ => None,
    });
    swap.expect("there is something to plan")
}

/// A planner whose first plan is stored, and that has asked for the members again.
fn settled(members: &Arc<Snapshot>) -> (Planner, u64) {
    let (mut planner, request) = leading();
    let plan = swap(told(&mut planner, at(0), request, members));
    let (request, answer) = (plan.request, Ok(Swapped::Stored(Epoch::new(100))));
    drop(planner.step(at(0), PlannerEvent::SwapAnswered { request, answer }));
    let memory = MemoryId::from("memory");
    drop(planner.step(at(5), PlannerEvent::Beat { memory }));
    let actions = planner.step(at(5), PlannerEvent::Changed);
    let request = actions.iter().find_map(|action| match action {
        PlannerAction::ReadSnapshot { request } => Some(*request),
        _ => None,
    });
    (planner, request.expect("a hint leads to a read"))
}

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan 1000 members x 16384 shards");
    let fleets = [MEMBERS, MEMBERS + 1, MEMBERS - 1].map(fleet);
    let [all, joined, left] = &fleets;
    group.bench_function("from scratch", |bench| {
        let step = |(mut planner, request)| {
            let plan = swap(told(&mut planner, at(0), request, all));
            assert_eq!(plan.summary.granted, usize::from(SHARDS));
            (planner, plan)
        };
        bench.iter_batched(leading, step, BatchSize::PerIteration);
    });
    group.bench_function("one join", |bench| {
        let step = |(mut planner, request)| {
            let plan = swap(told(&mut planner, at(5), request, joined));
            assert!(plan.summary.revoked <= usize::from(SHARDS).div_ceil(MEMBERS + 1));
            (planner, plan)
        };
        bench.iter_batched(|| settled(all), step, BatchSize::PerIteration);
    });
    group.bench_function("one leave", |bench| {
        let mut gone = Snapshot::clone(left);
        let mut last = all.members[MEMBERS - 1].clone();
        last.state = coordinator_core::MemberState::Due;
        gone.members.push(last);
        let gone = Arc::new(gone);
        let step = |(mut planner, request)| {
            let plan = swap(told(&mut planner, at(5), request, &gone));
            assert!(plan.summary.granted <= usize::from(SHARDS).div_ceil(MEMBERS));
            (planner, plan)
        };
        bench.iter_batched(|| settled(all), step, BatchSize::PerIteration);
    });
    group.finish();
}

fn strategies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target 1000 members x 16384 shards");
    let names: Vec<String> = (0..MEMBERS)
        .map(|number| format!("member-{number:08x}"))
        .collect();
    let candidates: Vec<_> = names
        .iter()
        .map(|name| coordinator_core::Candidate::new(name))
        .collect();
    let held = vec![None; usize::from(SHARDS)];
    let question = Question::new(&candidates, &held);
    group.bench_function("sticky", |bench| {
        bench.iter(|| Sticky::new().target(black_box(&question)));
    });
    group.bench_function("rendezvous", |bench| {
        bench.iter(|| Rendezvous::new().target(black_box(&question)));
    });
    group.finish();
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("planner steps");
    group.throughput(Throughput::Elements(1));
    let (mut planner, _) = settled(&fleet(MEMBERS));
    group.bench_function("tick before its time", |bench| {
        bench.iter(|| planner.step(black_box(at(5)), PlannerEvent::Tick));
    });
    let memory = MemoryId::from("memory");
    group.bench_function("heartbeat", |bench| {
        bench.iter(|| {
            let memory = memory.clone();
            planner.step(black_box(at(5)), PlannerEvent::Beat { memory })
        });
    });
    group.finish();
}

fn routing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_of");
    let shards = NonZeroU16::new(SHARDS).expect("there are shards");
    for length in [8, 32, 256] {
        let key = vec![b'k'; length];
        group.throughput(Throughput::Bytes(length as u64));
        for routing in [Routing::Fnv1a64, Routing::Fnv1a32, Routing::Xxh3] {
            group.bench_function(format!("{routing}/{length}"), |bench| {
                bench.iter(|| routing.shard_of(black_box(&key), shards));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, plan, strategies, steps, routing);
criterion_main!(benches);
