//! Messages that have a row.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use coordinator_node::Topic;
use coordinator_postgres::Spill;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Bench;
use super::raw::{Session, listener, notifier, session};
use crate::figure::{Figure, Target, Unit};
use crate::flow::{self, AHEAD, BYTES, Flow, ROUND};
use crate::messages::{message, rate};
use crate::nodes::{PATIENCE, shut_down};

/// So many rows in one statement, by hand; twice as many messages are under way on our side, so that
/// one batch is filled while another is written.
const ROWS: usize = 100;
const OURS: Flow = Flow {
    under_way: 2 * ROWS,
    step: 1,
};
const WRITERS: usize = 16;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS raw_log (id bigint GENERATED ALWAYS AS IDENTITY \
    PRIMARY KEY, topic text NOT NULL, payload text NOT NULL, \
    at timestamptz NOT NULL DEFAULT clock_timestamp())";
const INSERT: &str =
    "INSERT INTO raw_log (topic, payload) SELECT 'bench', x FROM unnest($1::text[]) x";
const READ: &str = "SELECT id, payload FROM raw_log WHERE topic = 'bench' AND id > $1 ORDER BY id";

/// One publisher, one subscriber: 100 rows, then one doorbell; both are awake at once.
pub(super) async fn packed(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let publisher = bench.node("durable_packed", Spill::Always).await?;
    let subscriber = bench.node("durable_packed", Spill::Always).await?;
    session(&bench.url()).await?.batch_execute(TABLE).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_packed(&bench.url()).await?;
        let ours = OURS
            .concurrently(&publisher.bus(), slice::from_ref(&subscriber))
            .await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(vec![Figure::paired(
        "durable, published concurrently to 1 subscriber; raw: 100 rows, then one doorbell",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.5),
    )])
}

/// Rows in a second, until the reader has them all.
async fn raw_packed(url: &str) -> anyhow::Result<f64> {
    let bell = Arc::new(Notify::new());
    let rung = bell.clone();
    let listening = listener(url, "raw_durable", move |_| rung.notify_one()).await?;
    let (writer, reader, ringer) = (
        session(url).await?,
        session(url).await?,
        notifier(url).await?,
    );
    writer.batch_execute("TRUNCATE raw_log").await?;
    let insert = writer.prepare(INSERT).await?;
    let (end, ended) = tokio::sync::watch::channel(None::<u64>);
    let reading = tokio::spawn(read_raw(reader, bell, ended));
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        let rows: Vec<String> = (sent..sent + ROWS as u64)
            .map(|one| message(one, BYTES))
            .collect();
        writer.execute(&insert, &[&rows]).await?;
        sent += ROWS as u64;
        let ringer = ringer.clone();
        tokio::spawn(async move { ringer.batch_execute("NOTIFY raw_durable").await });
    }
    end.send_replace(Some(sent));
    timeout(PATIENCE, reading).await???;
    drop(listening);
    Ok(rate(sent, began.elapsed()))
}

async fn read_raw(
    reader: Arc<Session>,
    bell: Arc<Notify>,
    mut last: tokio::sync::watch::Receiver<Option<u64>>,
) -> anyhow::Result<()> {
    let read = reader.prepare(READ).await?;
    let (mut cursor, mut received) = (0_i64, 0_u64);
    while *last.borrow_and_update() != Some(received) {
        let rows = reader.query(&read, &[&cursor]).await?;
        if rows.is_empty() {
            tokio::select! {
                () = bell.notified() => {}
                _ = last.changed() => {}
            }
        }
        for row in rows {
            cursor = row.get(0);
            let payload: &str = row.get(1);
            anyhow::ensure!(payload.len() == BYTES, "a row is not whole");
            received += 1;
        }
    }
    Ok(())
}

/// Sixteen that write one message after the other, independently. By hand they insert their rows
/// and tell nobody; ours tell a subscriber.
pub(super) async fn writers(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let subscriber = bench.node("durable_writers", Spill::Always).await?;
    let (mut nodes, mut sessions) = (Vec::new(), Vec::new());
    session(&bench.url()).await?.batch_execute(TABLE).await?;
    for _ in 0..WRITERS {
        nodes.push(bench.node("durable_writers", Spill::Always).await?);
        sessions.push(session(&bench.url()).await?);
    }
    let topic: Topic<String> = Topic::named("bench");
    let mut messages = subscriber
        .bus()
        .subscribe(&topic)
        .capacity(64 * AHEAD)
        .await?;
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_writers(&sessions).await?;
        let ours = flow::writers(&nodes, &topic).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    nodes.push(subscriber);
    shut_down(nodes).await?;
    reader.await?;
    Ok(vec![Figure::paired(
        "durable, 16 independent writers, each awaits its message; raw: the insert alone",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.8),
    )])
}

async fn raw_writers(sessions: &[Arc<Session>]) -> anyhow::Result<f64> {
    let mut writing = JoinSet::new();
    let began = Instant::now();
    for session in sessions {
        let session = session.clone();
        writing.spawn(async move {
            let insert = "INSERT INTO raw_log (topic, payload) VALUES ('bench', $1)";
            let insert = session.prepare(insert).await?;
            let mut sent = 0;
            while began.elapsed() < ROUND {
                session.execute(&insert, &[&message(sent, BYTES)]).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        });
    }
    flow::total(writing, began).await
}
