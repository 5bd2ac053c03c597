//! What an election costs the server while nothing happens, counted by the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use coordinator_node::{Backend, ElectionConfig, Node, Quorum};
use coordinator_redis::RedisBackend;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Bench;
use super::raw::{connection, pubsub};
use crate::figure::{Figure, Target, Unit};
use crate::nodes::{PATIENCE, shut_down};

const VOTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const TTL: Duration = Duration::from_secs(2);
/// How long it is counted.
const WATCHED: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_secs(4);
/// The start is over by then.
const SETTLE: Duration = Duration::from_secs(3);

impl Bench {
    fn watched(&self) -> Duration {
        if self.effort.is_quick { QUICK } else { WATCHED }
    }
}

/// Five voters, one of whom leads.
pub(super) async fn by_vote(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut nodes = Vec::new();
    let mut campaigns = JoinSet::new();
    for name in VOTERS {
        // No store: what is heard is the election's, and who is there.
        let backend = RedisBackend::connect(bench.config("idle_vote")).await?;
        let mut bus = Backend::default();
        bus.bus = Backend::from(backend).bus;
        let node = Node::builder("g").member(name).backend(bus).start().await?;
        let mut config = ElectionConfig::new("e");
        config.ttl = Some(TTL);
        config.by_vote = Some(Quorum::fixed(VOTERS));
        let election = node.election(config);
        campaigns.spawn(async move { election.campaign().await });
        nodes.push(node);
    }
    let leads = timeout(PATIENCE, campaigns.join_next()).await?;
    let leads = leads.context("nobody campaigns")???;
    sleep(SETTLE).await;
    let told = count_told(bench, "idle_vote:g/").await?;
    campaigns.abort_all();
    drop(leads);
    shut_down(nodes).await?;
    // The leader's heartbeats go to all; what is said to one alone is an answer.
    let heartbeats = told.get("{idle_vote:g/votes/e}:bus:");
    let heartbeats = heartbeats.context("no heartbeat was heard")?.messages;
    let (beats, votes): (Vec<_>, Vec<_>) = told
        .iter()
        .partition(|(channel, _)| channel.contains("/members/"));
    let deliveries = |told: &[(&String, &Told)]| -> u64 {
        let delivered = told.iter().map(|(_, told)| told.messages * told.hearers);
        delivered.sum()
    };
    let all = heartbeats * VOTERS.len() as u64;
    let seconds = bench.watched().as_secs_f64();
    Ok(vec![
        Figure::alone(
            "an election of 5 by vote, at rest: deliveries for each member and heartbeat",
            Unit::Count,
            deliveries(&votes) as f64 / all as f64,
            Target::AtMost(2.0),
        ),
        Figure::alone(
            "the same: what members add who know each other from the bus alone",
            Unit::Count,
            deliveries(&beats) as f64 / all as f64,
            Target::Nothing,
        ),
        Figure::alone(
            "the same: heartbeats in a window of 2 s",
            Unit::Count,
            heartbeats as f64 / seconds * TTL.as_secs_f64(),
            Target::Nothing,
        ),
    ])
}

/// What was told on one channel.
#[derive(Default)]
struct Told {
    messages: u64,
    /// How many hear it.
    hearers: u64,
}

/// What is told for a while on all channels whose names have that in them.
async fn count_told(bench: &Bench, part: &str) -> anyhow::Result<BTreeMap<String, Told>> {
    let mut ear = pubsub(&bench.url()).await?;
    ear.psubscribe(format!("*{part}*")).await?;
    let told = Arc::<Mutex<BTreeMap<String, Told>>>::default();
    let counted = told.clone();
    let hearing = tokio::spawn(async move {
        let mut messages = ear.into_on_message();
        while let Some(message) = messages.next().await {
            let channel = message.get_channel_name().to_owned();
            let mut told = counted.lock().unwrap_or_else(PoisonError::into_inner);
            told.entry(channel).or_default().messages += 1;
        }
    });
    sleep(bench.watched()).await;
    hearing.abort();
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let mut look = connection(&bench.url()).await?;
    let mut all = BTreeMap::new();
    for (channel, one) in told {
        let mut ask = redis::cmd("PUBSUB");
        ask.arg("NUMSUB").arg(&channel);
        let (_, hearers): (String, u64) = ask.query_async(&mut look).await?;
        eprintln!("  {channel}: {} × {hearers}", one.messages);
        all.insert(channel, Told { hearers, ..one });
    }
    Ok(all)
}

/// A leader by lease: alone, and with one who waits.
pub(super) async fn by_lease(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let leader = locks_only(bench, "idle_lease").await?;
    let election = leader.election(lease());
    let leads = timeout(PATIENCE, election.campaign()).await??;
    let mut look = connection(&bench.url()).await?;
    sleep(SETTLE).await;
    let alone = count_calls(bench, &mut look).await?;
    let candidate = locks_only(bench, "idle_lease").await?;
    let election = candidate.election(lease());
    let waiting = tokio::spawn(async move { election.campaign().await.map(drop) });
    sleep(SETTLE).await;
    let both = count_calls(bench, &mut look).await?;
    waiting.abort();
    drop(leads);
    shut_down(vec![leader, candidate]).await?;
    Ok(vec![
        Figure::alone(
            "a leader by lease, at rest: calls in each ttl",
            Unit::Count,
            alone,
            Target::AtMost(3.0),
        ),
        Figure::alone(
            "the slow polls of one who waits: calls in each ttl of 2 s",
            Unit::Count,
            both - alone,
            Target::Nothing,
        ),
    ])
}

fn lease() -> ElectionConfig {
    let mut config = ElectionConfig::new("e");
    config.ttl = Some(TTL);
    config
}

/// Scripts in each TTL.
async fn count_calls(bench: &Bench, look: &mut MultiplexedConnection) -> anyhow::Result<f64> {
    let before = calls(look).await?;
    sleep(bench.watched()).await;
    let made = calls(look).await? - before;
    Ok(made as f64 / bench.watched().as_secs_f64() * TTL.as_secs_f64())
}

/// How many scripts the server has run.
async fn calls(look: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let mut ask = redis::cmd("INFO");
    let said: String = ask.arg("commandstats").query_async(look).await?;
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let count = line.and_then(|line| line.split(',').next());
    Ok(count.context("no script was counted")?.parse()?)
}

/// A node that can do nothing but hold leases.
async fn locks_only(bench: &Bench, namespace: &str) -> anyhow::Result<Node> {
    let backend = Backend::from(RedisBackend::connect(bench.config(namespace)).await?);
    let mut locks = Backend::default();
    locks.locks = backend.locks;
    Ok(Node::builder("g").backend(locks).start().await?)
}
