//! How many messages pass in a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coordinator_node::{Bus, Incoming, Node, Topic};
use coordinator_postgres::Spill;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::figure::{Figure, Target, Unit};
use crate::nodes::{PATIENCE, node};
use crate::raw::{Session, listener, message, notifier, number, rate};
use crate::run::Bench;

const CHANNEL: &str = "raw_bench";
/// So many messages of 100 bytes fit one NOTIFY.
const PACKED: u64 = 79;
const BYTES: usize = 100;
/// So many full NOTIFYs leave in one statement, and so many statements are under way.
const STATEMENT: u64 = 16;
const UNDER_WAY: usize = 3;
/// How many messages we have under way.
const OURS_UNDER_WAY: usize = 4 * 1024;
/// How far our publisher may be ahead of the slowest subscriber: no more than its queue in the backend
/// holds, for a gap is not what is measured.
const AHEAD: usize = 4 * 1024;
const ROUND: Duration = Duration::from_millis(1500);

const NOTIFY_ALL: &str = "SELECT pg_notify('raw_bench', x) FROM unnest($1::text[]) x";

/// One publishing process, one subscriber.
pub(crate) async fn one(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let rounds = concurrently(bench, "bus_one", 1, bench.rounds(7)).await?;
    Ok(vec![Figure::paired(
        "published concurrently, 100 bytes, to 1 subscriber",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.25),
    )])
}

/// One publishing process, fifty that listen.
pub(crate) async fn fifty(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let rounds = concurrently(bench, "bus_fifty", 50, bench.rounds(5)).await?;
    Ok(vec![Figure::paired(
        "the same, to 50 listening nodes",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.5),
    )])
}

async fn concurrently(
    bench: &Bench,
    schema: &str,
    listening: usize,
    rounds: usize,
) -> anyhow::Result<Vec<(f64, f64)>> {
    let publisher = node(bench, schema, Spill::Overflow).await?;
    let mut nodes = Vec::new();
    for _ in 0..listening {
        nodes.push(node(bench, schema, Spill::Overflow).await?);
    }
    let mut figures = Vec::new();
    for round in 0..=rounds {
        // The publisher's process listens as well: nodes hear doorbells.
        let raw = raw_packed(&bench.url(), listening + 1).await?;
        let ours = ours_concurrently(&publisher.bus(), &nodes).await?;
        // The first warms up what is created once.
        if round > 0 {
            figures.push((raw, ours));
        }
    }
    nodes.push(publisher);
    shut_down(nodes).await?;
    Ok(figures)
}

pub(crate) async fn shut_down(nodes: Vec<Node>) -> anyhow::Result<()> {
    let mut ending = JoinSet::new();
    for node in nodes {
        ending.spawn(async move { node.shutdown().await });
    }
    while let Some(ended) = ending.join_next().await {
        ended??;
    }
    Ok(())
}

/// What a listener has received, and who waits for it.
#[derive(Default)]
struct Received {
    count: AtomicU64,
    more: Notify,
}

impl Received {
    async fn reaches(&self, count: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.count.load(Ordering::Acquire) < count {
                self.more.notified().await;
            }
        };
        Ok(timeout(PATIENCE, reached).await?)
    }
}

/// Messages in a second: packed into full NOTIFYs by hand, until every listener has them all.
async fn raw_packed(url: &str, listening: usize) -> anyhow::Result<f64> {
    let mut sessions = Vec::new();
    let mut all = Vec::new();
    for _ in 0..listening {
        let received = Arc::new(Received::default());
        let counted = received.clone();
        let on = move |payload: &str| {
            let messages = (payload.len() / BYTES) as u64;
            counted.count.fetch_add(messages, Ordering::AcqRel);
            counted.more.notify_one();
        };
        sessions.push(listener(url, CHANNEL, on).await?);
        all.push(received);
    }
    let publisher = notifier(url).await?;
    let statement = publisher.prepare(NOTIFY_ALL).await?;
    let began = Instant::now();
    let (mut sent, mut under_way) = (0, VecDeque::new());
    while began.elapsed() < ROUND {
        if under_way.len() == UNDER_WAY
            && let Some(first) = under_way.pop_front()
        {
            let first: tokio::task::JoinHandle<Result<u64, tokio_postgres::Error>> = first;
            first.await??;
        }
        let payloads: Vec<String> = (0..STATEMENT)
            .map(|at| packed(sent + at * PACKED))
            .collect();
        sent += STATEMENT * PACKED;
        let (publisher, statement) = (publisher.clone(), statement.clone());
        under_way.push_back(tokio::spawn(async move {
            publisher.execute(&statement, &[&payloads]).await
        }));
    }
    for last in under_way {
        last.await??;
    }
    for received in &all {
        received.reaches(sent).await?;
    }
    Ok(rate(sent, began.elapsed()))
}

fn packed(first: u64) -> String {
    let mut payload = String::with_capacity(BYTES * 79);
    for one in first..first + PACKED {
        payload.push_str(&message(one, BYTES));
    }
    payload
}

/// Messages in a second: through the bus, until every subscriber has them all.
async fn ours_concurrently(bus: &Bus, nodes: &[Node]) -> anyhow::Result<f64> {
    let topic: Topic<String> = Topic::named("bench");
    let room: Arc<Vec<Semaphore>> = Arc::new(nodes.iter().map(|_| Semaphore::new(AHEAD)).collect());
    let mut receiving = JoinSet::new();
    let (end, ended) = tokio::sync::watch::channel(None::<u64>);
    for (which, node) in nodes.iter().enumerate() {
        let messages = node.bus().subscribe(&topic).capacity(2 * AHEAD).await?;
        receiving.spawn(receive(messages, which, room.clone(), ended.clone()));
    }
    let began = Instant::now();
    let (mut sent, mut under_way) = (0_u64, VecDeque::new());
    while began.elapsed() < ROUND {
        for subscriber in room.iter() {
            timeout(PATIENCE, subscriber.acquire_many(STEP))
                .await??
                .forget();
        }
        for _ in 0..STEP {
            if under_way.len() == OURS_UNDER_WAY
                && let Some(first) = under_way.pop_front()
            {
                first.await?;
            }
            sent += 1;
            under_way.push_back(bus.publish(&topic, &message(sent, BYTES)));
        }
    }
    for last in under_way {
        last.await?;
    }
    end.send_replace(Some(sent));
    while let Some(received) = timeout(PATIENCE, receiving.join_next()).await? {
        received??;
    }
    Ok(rate(sent, began.elapsed()))
}

/// Room is asked for and given back in steps.
const STEP: u32 = 256;

/// Receives every message in order, up to the last.
async fn receive(
    mut messages: coordinator_node::Subscription<String>,
    which: usize,
    room: Arc<Vec<Semaphore>>,
    mut last: tokio::sync::watch::Receiver<Option<u64>>,
) -> anyhow::Result<()> {
    let mut received = 0_u64;
    loop {
        if *last.borrow() == Some(received) {
            return Ok(());
        }
        let next = tokio::select! {
            biased;
            next = messages.next() => next,
            _ = last.changed() => continue,
        };
        match next {
            Some(Incoming::Message(one)) => {
                received += 1;
                anyhow::ensure!(number(&one.payload) == Some(received), "out of order");
            }
            other => anyhow::bail!("after {received} messages: {other:?}"),
        }
        if received.is_multiple_of(u64::from(STEP)) {
            room[which].add_permits(STEP as usize);
        }
    }
}

/// One message after the other, each awaited.
pub(crate) async fn awaited(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let publisher = node(bench, "bus_awaited", Spill::Overflow).await?;
    let subscriber = node(bench, "bus_awaited", Spill::Overflow).await?;
    let topic: Topic<String> = Topic::named("bench");
    let mut messages = subscriber.bus().subscribe(&topic).await?;
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    // As many as there are nodes: the server wakes every session that listens.
    let listening = [
        listener(&bench.url(), CHANNEL, |_| ()).await?,
        listener(&bench.url(), CHANNEL, |_| ()).await?,
    ];
    let session = notifier(&bench.url()).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_awaited(&session).await?;
        let ours = ours_awaited(&publisher.bus(), &topic).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    drop(listening);
    shut_down(vec![publisher, subscriber]).await?;
    reader.await?;
    Ok(vec![Figure::paired(
        "published and awaited one at a time, 100 bytes",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.85),
    )])
}

async fn raw_awaited(session: &Session) -> anyhow::Result<f64> {
    let statement = session.prepare("SELECT pg_notify('raw_bench', $1)").await?;
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        sent += 1;
        session
            .execute(&statement, &[&message(sent, BYTES)])
            .await?;
    }
    Ok(rate(sent, began.elapsed()))
}

async fn ours_awaited(bus: &Bus, topic: &Topic<String>) -> anyhow::Result<f64> {
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        sent += 1;
        bus.publish(topic, &message(sent, BYTES)).await?;
    }
    Ok(rate(sent, began.elapsed()))
}
