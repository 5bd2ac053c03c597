//! Messages that are kept in a stream.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use coordinator_node::Topic;
use coordinator_redis::RedisConfig;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, Pipeline};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::Bench;
use super::raw::{Listener, connection, listener};
use crate::figure::{Figure, Target, Unit};
use crate::flow::{self, AHEAD, BYTES, Flow, ROUND};
use crate::messages::{message, rate};
use crate::nodes::{PATIENCE, shut_down};

const UNDER_WAY: usize = 64;
const OURS: Flow = Flow {
    under_way: UNDER_WAY,
    step: 64,
};
const WRITERS: usize = 16;
const STREAM: &str = "raw/log";
const BELL: &str = "raw/bell";
/// So many entries the stream keeps, as ours does by default.
const KEPT: usize = 100_000;
/// So many entries are read at once.
const PAGE: usize = 1_000;

fn durable(bench: &Bench, namespace: &str) -> RedisConfig {
    bench.config(namespace).durable(true)
}

/// One publisher, one subscriber.
pub(super) async fn packed(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let publisher = bench.node(durable(bench, "durable_packed")).await?;
    let subscriber = bench.node(durable(bench, "durable_packed")).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_packed(&bench.url()).await?;
        let subscribers = slice::from_ref(&subscriber);
        let ours = OURS.concurrently(&publisher.bus(), subscribers).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(vec![Figure::paired(
        "durable, published 64 at a time to 1 subscriber; raw: XADD and a doorbell, 64 under way",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.5),
    )])
}

/// An entry, and a bell that rings for it.
fn entry(number: u64) -> Pipeline {
    let mut both = redis::pipe();
    let add = both
        .cmd("XADD")
        .arg(STREAM)
        .arg("MAXLEN")
        .arg("~")
        .arg(KEPT);
    add.arg("*").arg("p").arg(message(number, BYTES)).ignore();
    both.cmd("PUBLISH").arg(BELL).arg("").ignore();
    both
}

/// Who reads the stream whenever the bell rings.
struct Reader {
    _listener: Listener,
    end: watch::Sender<Option<u64>>,
    reading: JoinHandle<anyhow::Result<()>>,
}

impl Reader {
    /// Of a stream that is empty.
    async fn start(url: &str) -> anyhow::Result<Self> {
        let bell = Arc::new(Notify::new());
        let rung = bell.clone();
        let on = move |_: &str, _: &[u8]| rung.notify_one();
        let listener = listener(url, &[BELL.to_owned()], on).await?;
        let mut connection = connection(url).await?;
        let () = connection.del(STREAM).await?;
        let (end, ended) = watch::channel(None::<u64>);
        let reading = tokio::spawn(read_raw(connection, bell, ended));
        Ok(Self {
            _listener: listener,
            end,
            reading,
        })
    }

    /// Until it has so many.
    async fn has(self, count: u64) -> anyhow::Result<()> {
        self.end.send_replace(Some(count));
        timeout(PATIENCE, self.reading).await??
    }
}

/// Entries in a second, until the reader has them all.
async fn raw_packed(url: &str) -> anyhow::Result<f64> {
    let (reader, writer) = (Reader::start(url).await?, connection(url).await?);
    let began = Instant::now();
    let writing = (0..UNDER_WAY).map(async |_| {
        let mut writer = writer.clone();
        let mut sent = 0;
        while began.elapsed() < ROUND {
            sent += 1;
            let () = entry(sent).query_async(&mut writer).await?;
        }
        anyhow::Ok(sent)
    });
    let mut writing: FuturesUnordered<_> = writing.collect();
    let mut sent = 0;
    while let Some(one) = writing.next().await {
        sent += one?;
    }
    reader.has(sent).await?;
    Ok(rate(sent, began.elapsed()))
}

async fn read_raw(
    mut reader: MultiplexedConnection,
    bell: Arc<Notify>,
    mut last: watch::Receiver<Option<u64>>,
) -> anyhow::Result<()> {
    let (mut cursor, mut received) = ("-".to_owned(), 0_u64);
    while *last.borrow_and_update() != Some(received) {
        let mut range = redis::cmd("XRANGE");
        range
            .arg(STREAM)
            .arg(&cursor)
            .arg("+")
            .arg("COUNT")
            .arg(PAGE);
        let page: Vec<(String, [String; 2])> = range.query_async(&mut reader).await?;
        if page.is_empty() {
            tokio::select! {
                () = bell.notified() => {}
                _ = last.changed() => {}
            }
        }
        for (id, [_, payload]) in page {
            anyhow::ensure!(payload.len() == BYTES, "an entry is not whole");
            cursor = format!("({id}");
            received += 1;
        }
    }
    Ok(())
}

/// Sixteen that write one message after the other, independently.
pub(super) async fn writers(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let subscriber = bench.node(durable(bench, "durable_writers")).await?;
    let (mut nodes, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..WRITERS {
        nodes.push(bench.node(durable(bench, "durable_writers")).await?);
        connections.push(connection(&bench.url()).await?);
    }
    let topic: Topic<String> = Topic::named("bench");
    let messages = subscriber.bus().subscribe(&topic);
    let mut messages = messages.capacity(64 * AHEAD).await?;
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_writers(&bench.url(), &connections).await?;
        let ours = flow::writers(&nodes, &topic).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    nodes.push(subscriber);
    shut_down(nodes).await?;
    reader.await?;
    Ok(vec![Figure::paired(
        "durable, 16 independent writers, each awaits its message; raw: XADD and a doorbell",
        Unit::PerSecond,
        &rounds,
        Target::Nothing,
    )])
}

async fn raw_writers(url: &str, connections: &[MultiplexedConnection]) -> anyhow::Result<f64> {
    let reader = Reader::start(url).await?;
    let mut writing = JoinSet::new();
    let began = Instant::now();
    for connection in connections {
        let mut connection = connection.clone();
        writing.spawn(async move {
            let mut sent = 0;
            while began.elapsed() < ROUND {
                sent += 1;
                let () = entry(sent).query_async(&mut connection).await?;
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = 0;
    while let Some(one) = writing.join_next().await {
        sent += one??;
    }
    // Ours are not waited for either: what counts is what was written while it is read.
    let written = rate(sent, began.elapsed());
    reader.has(sent).await?;
    Ok(written)
}
