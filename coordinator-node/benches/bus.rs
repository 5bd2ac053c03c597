//! The typed bus on the memory backend, beside what the machine gives at most: the same messages
//! through tokio's own channels.
//!
//! One iteration publishes a fixed number of messages and ends when the slowest subscriber has
//! received the last one, none missing. The publisher is never further ahead than a window, which is
//! less than a subscriber's queue holds.

#![allow(
    missing_docs,
    reason = "criterion's macros write undocumented functions"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that meets anything unexpected measures nothing"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_memory::MemoryStore;
use coordinator_node::core::Bytes;
use coordinator_node::{Bus, Incoming, Node, Topic};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;

const TOPIC: Topic = Topic::new("bench");

/// How far the publisher may be ahead of the slowest subscriber.
const WINDOW: usize = 8 * 1024;

/// How many messages are queued before the first of them is awaited.
const PIPELINE: usize = 1024;

fn payload() -> Bytes {
    Bytes::from_static(b"sixteen bytes ok")
}

/// Room for the publisher to run ahead. Each subscriber gives back what it has received.
struct Credit(Vec<Semaphore>);

impl Credit {
    fn new(subscribers: usize) -> Arc<Self> {
        let full = || Semaphore::new(WINDOW);
        Arc::new(Self((0..subscribers).map(|_| full()).collect()))
    }

    async fn take(&self, count: usize) {
        let count = u32::try_from(count).expect("a window is small");
        for subscriber in &self.0 {
            let permit = subscriber.acquire_many(count).await;
            permit.expect("never closed").forget();
        }
    }

    fn give(&self, subscriber: usize, count: usize) {
        self.0[subscriber].add_permits(count);
    }
}

/// Publishes `messages`, pipelined; ends when all subscribers have them all.
async fn through_the_bus(publisher: &Bus, buses: &[Bus], messages: usize) -> Duration {
    let credit = Credit::new(buses.len());
    let mut subscribers = JoinSet::new();
    for (index, bus) in buses.iter().enumerate() {
        let inbox = bus.subscribe(&TOPIC).capacity(2 * WINDOW).await;
        let mut inbox = inbox.expect("the memory bus is there");
        let credit = credit.clone();
        subscribers.spawn(async move {
            for number in 1..=messages {
                match inbox.next().await {
                    Some(Incoming::Message(message)) => drop(black_box(message)),
                    other => panic!("message {number} of {messages}: {other:?}"),
                }
                if number % PIPELINE == 0 {
                    credit.give(index, PIPELINE);
                }
            }
        });
    }
    // What was published before is older than the subscriptions.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let began = Instant::now();
    let mut left = messages;
    let mut sent = Vec::with_capacity(PIPELINE);
    while left > 0 {
        let count = left.min(PIPELINE);
        credit.take(count).await;
        sent.extend((0..count).map(|_| publisher.publish(&TOPIC, &payload())));
        for accepted in sent.drain(..) {
            accepted.await.expect("the memory bus takes it");
        }
        left -= count;
    }
    subscribers.join_all().await;
    began.elapsed()
}

async fn through_mpsc(messages: usize) -> Duration {
    let (send, mut receive) = mpsc::channel(WINDOW);
    let began = Instant::now();
    let subscriber = tokio::spawn(async move {
        while let Some(message) = receive.recv().await {
            drop::<Bytes>(black_box(message));
        }
    });
    for _ in 0..messages {
        send.send(payload()).await.expect("it listens");
    }
    drop(send);
    subscriber.await.expect("it ends");
    began.elapsed()
}

async fn through_broadcast(subscribers: usize, messages: usize) -> Duration {
    let (send, _) = broadcast::channel(2 * WINDOW);
    let credit = Credit::new(subscribers);
    let mut tasks = JoinSet::new();
    for index in 0..subscribers {
        let (mut receive, credit) = (send.subscribe(), credit.clone());
        tasks.spawn(async move {
            for number in 1..=messages {
                let message: Bytes = receive.recv().await.expect("none is missing");
                drop(black_box(message));
                if number % PIPELINE == 0 {
                    credit.give(index, PIPELINE);
                }
            }
        });
    }
    let began = Instant::now();
    let mut left = messages;
    while left > 0 {
        let count = left.min(PIPELINE);
        credit.take(count).await;
        for _ in 0..count {
            send.send(payload()).expect("they listen");
        }
        left -= count;
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    began.elapsed()
}

/// The same member, started once: its bus is what is measured.
fn node(runtime: &Runtime, store: &MemoryStore, name: &str) -> Node {
    let start = Node::builder("bench")
        .member(name)
        .backend(store.connect(name));
    runtime.block_on(start.start()).expect("the node starts")
}

fn repeat(times: u64, mut once: impl FnMut() -> Duration) -> Duration {
    (0..times).map(|_| once()).sum()
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let store = MemoryStore::builder().trust_empty_store(true).build();
    let (publisher, subscriber) = {
        let _inside = runtime.enter();
        (node(&runtime, &store, "p"), node(&runtime, &store, "s"))
    };
    let mut group = criterion.benchmark_group("bus");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));

    let (one, fifty): (usize, usize) = (100_000, 20_000);
    group.throughput(Throughput::Elements(one as u64));
    group.bench_function("1_subscriber", |bench| {
        let buses = [subscriber.bus()];
        bench.iter_custom(|times| {
            let once = || runtime.block_on(through_the_bus(&publisher.bus(), &buses, one));
            repeat(times, once)
        });
    });
    group.bench_function("limit_tokio_mpsc_to_1", |bench| {
        bench.iter_custom(|times| repeat(times, || runtime.block_on(through_mpsc(one))));
    });

    group.throughput(Throughput::Elements(fifty as u64));
    group.bench_function("50_subscribers", |bench| {
        let buses = vec![subscriber.bus(); 50];
        bench.iter_custom(|times| {
            let once = || runtime.block_on(through_the_bus(&publisher.bus(), &buses, fifty));
            repeat(times, once)
        });
    });
    group.bench_function("limit_tokio_broadcast_to_50", |bench| {
        bench.iter_custom(|times| repeat(times, || runtime.block_on(through_broadcast(50, fifty))));
    });
    group.finish();
}

criterion_group!(bus, benches);
criterion_main!(bus);
