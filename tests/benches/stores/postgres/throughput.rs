//! How many messages pass in a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use coordinator_node::{Node, Topic};
use coordinator_postgres::Spill;

use super::Bench;
use super::raw::{Session, listener, notifier};
use crate::figure::{Figure, Target, Unit};
use crate::flow::{self, BYTES, Flow, ROUND, Received};
use crate::messages::{message, rate};
use crate::nodes::shut_down;

const CHANNEL: &str = "raw_bench";
/// So many messages of 100 bytes fit one NOTIFY.
const PACKED: u64 = 79;
/// So many full NOTIFYs leave in one statement, and so many statements are under way.
const STATEMENT: u64 = 16;
const UNDER_WAY: usize = 3;
/// How our side publishes.
const OURS: Flow = Flow {
    under_way: 4 * 1024,
    step: 256,
};

const NOTIFY_ALL: &str = "SELECT pg_notify('raw_bench', x) FROM unnest($1::text[]) x";

/// One publishing process, one subscriber.
pub(super) async fn one(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let rounds = concurrently(bench, "bus_one", 1, bench.rounds(7)).await?;
    Ok(vec![Figure::paired(
        "published concurrently, 100 bytes, to 1 subscriber",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.25),
    )])
}

/// One publishing process, fifty that listen.
pub(super) async fn fifty(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
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
    let publisher = bench.node(schema, Spill::Overflow).await?;
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..listening {
        nodes.push(bench.node(schema, Spill::Overflow).await?);
    }
    let mut figures = Vec::new();
    for round in 0..=rounds {
        // The publisher's process listens as well: nodes hear doorbells.
        let raw = raw_packed(&bench.url(), listening + 1).await?;
        let ours = OURS.concurrently(&publisher.bus(), &nodes).await?;
        // The first warms up what is created once.
        if round > 0 {
            figures.push((raw, ours));
        }
    }
    nodes.push(publisher);
    shut_down(nodes).await?;
    Ok(figures)
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
            counted.add(messages);
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

/// One message after the other, each awaited.
pub(super) async fn awaited(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let publisher = bench.node("bus_awaited", Spill::Overflow).await?;
    let subscriber = bench.node("bus_awaited", Spill::Overflow).await?;
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
        let ours = flow::awaited(&publisher.bus(), &topic).await?;
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
