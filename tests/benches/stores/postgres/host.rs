//! What our publishing costs the application's own transactions (B20).
//!
//! Blocks with and without publishing alternate, in pairs whose order is random; each pair gives the
//! ratio of its two rates, so that what changes slowly on the machine cancels out. Told is the mean
//! of the ratios' logarithms with its 95 % confidence interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coordinator_node::{Bus, Topic};
use coordinator_postgres::Spill;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Bench;
use super::raw::{Session, session};
use crate::figure::{Figure, Target, Unit};
use crate::messages::{message, rate};
use crate::nodes::shut_down;

/// So many sessions of the application work at once.
const SESSIONS: usize = 8;
/// How long one block is.
const BLOCK: Duration = Duration::from_millis(500);
/// After a switch nothing is counted for so long.
const SETTLE: Duration = Duration::from_millis(60);
const PAIRS: usize = 60;
/// How many messages a second are published.
const PER_SECOND: u32 = 200;
/// Of Student's t with 59 degrees of freedom, both sides, 95 %.
const T95: f64 = 2.0;

const TABLES: &str = "CREATE TABLE IF NOT EXISTS host_account (id int PRIMARY KEY, balance bigint NOT NULL) \
    WITH (fillfactor = 50); \
    CREATE TABLE IF NOT EXISTS host_entry (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
    account int NOT NULL, amount int NOT NULL); \
    INSERT INTO host_account SELECT n, 0 FROM generate_series(1, 10000) n ON CONFLICT DO NOTHING";

/// The slowdown, for an application that commits on several sessions without a pause.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let publisher = bench.node("host", Spill::Overflow).await?;
    let subscriber = bench.node("host", Spill::Overflow).await?;
    let topic: Topic<String> = Topic::named("bench");
    let mut messages = subscriber.bus().subscribe(&topic).await?;
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    session(&bench.url()).await?.batch_execute(TABLES).await?;
    let host = Host::start(&bench.url()).await?;
    let publishing = Publishing::start(publisher.bus(), topic);
    let mut random = StdRng::seed_from_u64(1);
    let mut pairs = Vec::new();
    for pair in 0..=bench.rounds(PAIRS) {
        let first = random.random::<bool>();
        let one = host.rate(&publishing, first).await;
        let other = host.rate(&publishing, !first).await;
        // What is cold at first says nothing.
        if pair > 0 {
            pairs.push(if first { (other, one) } else { (one, other) });
        }
    }
    host.end().await?;
    publishing.task.abort();
    shut_down(vec![publisher, subscriber]).await?;
    reader.await?;
    Ok(figures(&pairs))
}

/// Told for pairs of rates, without and with.
fn figures(pairs: &[(f64, f64)]) -> Vec<Figure> {
    let logs: Vec<f64> = pairs
        .iter()
        .map(|(without, with)| (with / without).ln())
        .collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let half = T95 * (variance / count).sqrt();
    let slower = |log: f64| (1.0 - log.exp()) * 100.0;
    let (least, most) = (slower(mean + half), slower(mean - half));
    let what = format!(
        "the application's own transactions, slower while we publish {PER_SECOND}/s; \
         95 % confident: {least:.1} % to {most:.1} %"
    );
    let rates = Figure::paired(
        "the application's transactions without publishing, and with",
        Unit::PerSecond,
        pairs,
        Target::Nothing,
    );
    let slowdown = Figure::alone(what, Unit::Percent, slower(mean), Target::AtMost(2.0));
    vec![rates, slowdown.judged_by(most)]
}

/// Publishes, whenever it is on.
struct Publishing {
    on: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Publishing {
    fn start(bus: Bus, topic: Topic<String>) -> Self {
        let on = Arc::new(AtomicBool::new(false));
        let is_on = on.clone();
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in 0.. {
                ticks.tick().await;
                if is_on.load(Ordering::Relaxed) {
                    // Sent in the background.
                    drop(bus.publish(&topic, &message(number, 100)));
                }
            }
        });
        Self { on, task }
    }
}

/// The application.
struct Host {
    done: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    sessions: JoinSet<anyhow::Result<()>>,
}

impl Host {
    async fn start(url: &str) -> anyhow::Result<Self> {
        let mut host = Self {
            done: Arc::default(),
            end: Arc::default(),
            sessions: JoinSet::new(),
        };
        for number in 0..SESSIONS {
            let session = session(url).await?;
            let random = StdRng::seed_from_u64(number as u64);
            let (done, end) = (host.done.clone(), host.end.clone());
            host.sessions.spawn(work(session, random, done, end));
        }
        Ok(host)
    }

    /// Transactions in a second, in one block.
    async fn rate(&self, publishing: &Publishing, on: bool) -> f64 {
        publishing.on.store(on, Ordering::Relaxed);
        sleep(SETTLE).await;
        let (before, began) = (self.done.load(Ordering::Relaxed), Instant::now());
        sleep(BLOCK).await;
        let done = self.done.load(Ordering::Relaxed) - before;
        rate(done, began.elapsed())
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.end.store(true, Ordering::Relaxed);
        while let Some(ended) = self.sessions.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Books amounts: a read, an update and an insert in one transaction.
async fn work(
    session: Arc<Session>,
    mut random: StdRng,
    done: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let read = session
        .prepare("SELECT balance FROM host_account WHERE id = $1")
        .await?;
    let update = "UPDATE host_account SET balance = balance + $2 WHERE id = $1";
    let update = session.prepare(update).await?;
    let insert = "INSERT INTO host_entry (account, amount) VALUES ($1, $2)";
    let insert = session.prepare(insert).await?;
    while !end.load(Ordering::Relaxed) {
        let account = random.random_range(1..=10_000_i32);
        session.batch_execute("BEGIN").await?;
        session.query_one(&read, &[&account]).await?;
        session.execute(&update, &[&account, &7_i64]).await?;
        session.execute(&insert, &[&account, &7_i32]).await?;
        session.batch_execute("COMMIT").await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
