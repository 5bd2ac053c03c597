//! How many messages pass in a second.

use std::slice;
use std::sync::Arc;
use std::time::Instant;

use coordinator_node::{Incoming, Node, Topic};
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Bench;
use super::raw::{Listener, connection, listener};
use crate::figure::{Figure, Target, Unit};
use crate::flow::{self, AHEAD, BYTES, Flow, ROUND, Received};
use crate::messages::{message, number, rate};
use crate::nodes::{PATIENCE, shut_down};

/// So many messages are under way on either side.
const UNDER_WAY: usize = 64;
const OURS: Flow = Flow {
    under_way: UNDER_WAY,
    step: 64,
};

/// Each message is a PUBLISH of its own, for each is of another topic than those under way with it.
pub(super) async fn unpacked(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (publisher, subscriber) = pair(bench, "bus_unpacked").await?;
    let by_hand = ByHand::start(bench, UNDER_WAY).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = by_hand.concurrently().await?;
        let ours = ours_unpacked(&publisher, &subscriber).await?;
        // The first warms up what is created once.
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(vec![Figure::paired(
        "published 64 at a time on 64 topics, 100 bytes, to 1 subscriber; raw: PUBLISH, 64 under way",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(0.5),
    )])
}

/// What waits for a round trip leaves together in the next one.
pub(super) async fn packed(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (publisher, subscriber) = pair(bench, "bus_packed").await?;
    let by_hand = ByHand::start(bench, 1).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = by_hand.concurrently().await?;
        let subscribers = slice::from_ref(&subscriber);
        let ours = OURS.concurrently(&publisher.bus(), subscribers).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(vec![Figure::paired(
        "the same on one topic, packed; raw: PUBLISH, 64 under way",
        Unit::PerSecond,
        &rounds,
        Target::RatioAtLeast(1.0),
    )])
}

/// One message after the other, each awaited.
pub(super) async fn awaited(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (publisher, subscriber) = pair(bench, "bus_awaited").await?;
    let topic: Topic<String> = Topic::named("bench");
    let mut messages = subscriber.bus().subscribe(&topic).await?;
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    let by_hand = ByHand::start(bench, 1).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = by_hand.awaited().await?;
        let ours = flow::awaited(&publisher.bus(), &topic).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    reader.await?;
    Ok(vec![Figure::paired(
        "published and awaited one at a time, 100 bytes",
        Unit::PerSecond,
        &rounds,
        Target::Nothing,
    )])
}

async fn pair(bench: &Bench, namespace: &str) -> anyhow::Result<(Node, Node)> {
    let config = bench.config(namespace);
    Ok((bench.node(config.clone()).await?, bench.node(config).await?))
}

/// PUBLISH, and one connection that listens to all channels.
struct ByHand {
    connection: MultiplexedConnection,
    channels: Vec<String>,
    received: Arc<Received>,
    _listener: Listener,
}

impl ByHand {
    async fn start(bench: &Bench, channels: usize) -> anyhow::Result<Self> {
        let channels = (0..channels).map(|number| format!("raw/{number}"));
        let channels: Vec<_> = channels.collect();
        let received = Arc::new(Received::default());
        let counted = received.clone();
        let on = move |_: &str, payload: &[u8]| {
            if payload.len() == BYTES {
                counted.add(1);
            }
        };
        Ok(Self {
            connection: connection(&bench.url()).await?,
            _listener: listener(&bench.url(), &channels, on).await?,
            channels,
            received,
        })
    }

    /// Messages in a second, until the listener has them all.
    async fn concurrently(&self) -> anyhow::Result<f64> {
        let before = self.received.count();
        let began = Instant::now();
        let publishing = (0..UNDER_WAY).map(async |which| {
            let channel = &self.channels[which % self.channels.len()];
            let mut connection = self.connection.clone();
            let mut sent = 0;
            while began.elapsed() < ROUND {
                sent += 1;
                let payload = message(sent, BYTES);
                let () = connection.publish(channel, payload).await?;
            }
            anyhow::Ok(sent)
        });
        let mut publishing: FuturesUnordered<_> = publishing.collect();
        let mut sent = 0;
        while let Some(one) = publishing.next().await {
            sent += one?;
        }
        self.received.reaches(before + sent).await?;
        Ok(rate(sent, began.elapsed()))
    }

    async fn awaited(&self) -> anyhow::Result<f64> {
        let mut connection = self.connection.clone();
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < ROUND {
            sent += 1;
            let payload = message(sent, BYTES);
            let () = connection.publish(&self.channels[0], payload).await?;
        }
        Ok(rate(sent, began.elapsed()))
    }
}

/// Messages in a second: on each topic one under way, until the subscribers have them all, in order.
async fn ours_unpacked(publisher: &Node, subscriber: &Node) -> anyhow::Result<f64> {
    let topics = (0..UNDER_WAY).map(|number| Topic::<String>::named(format!("bench/{number}")));
    let topics: Vec<_> = topics.collect();
    let (mut receiving, mut ends) = (JoinSet::new(), Vec::new());
    for topic in &topics {
        let messages = subscriber.bus().subscribe(topic);
        let mut messages = messages.capacity(2 * AHEAD).await?;
        let (end, mut ended) = tokio::sync::watch::channel(None::<u64>);
        ends.push(end);
        receiving.spawn(async move {
            let mut received = 0;
            while *ended.borrow_and_update() != Some(received) {
                let next = tokio::select! {
                    biased;
                    next = messages.next() => next,
                    _ = ended.changed() => continue,
                };
                received += 1;
                match next {
                    Some(Incoming::Message(one)) if number(&one.payload) == Some(received) => (),
                    other => anyhow::bail!("not message {received}: {other:?}"),
                }
            }
            anyhow::Ok(received)
        });
    }
    let (bus, began) = (publisher.bus(), Instant::now());
    let publishing = topics.iter().zip(&ends).map(async |(topic, end)| {
        let mut sent = 0;
        while began.elapsed() < ROUND {
            sent += 1;
            bus.publish(topic, &message(sent, BYTES)).await?;
        }
        end.send_replace(Some(sent));
        anyhow::Ok(())
    });
    let mut publishing: FuturesUnordered<_> = publishing.collect();
    while let Some(one) = publishing.next().await {
        one?;
    }
    let mut all = 0;
    while let Some(received) = timeout(PATIENCE, receiving.join_next()).await? {
        all += received??;
    }
    Ok(rate(all, began.elapsed()))
}
