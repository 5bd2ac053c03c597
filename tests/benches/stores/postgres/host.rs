//! What our publishing costs the application's own transactions (B20).
//!
//! Blocks without publishing, with ours, and with as many notifications by hand alternate, in rounds
//! whose order is random; each round gives the ratios of its rates, so that what changes slowly on the
//! machine cancels out. Told is the mean of the ratios' logarithms with its 95 % confidence interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coordinator_node::{Bus, Topic};
use coordinator_postgres::Spill;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Bench;
use super::raw::{Session, listener, notifier, session};
use crate::figure::{Figure, Target, Unit};
use crate::messages::{message, rate};
use crate::nodes::shut_down;

/// So many sessions of the application work at once.
const SESSIONS: usize = 8;
/// How long one block is.
const BLOCK: Duration = Duration::from_millis(500);
/// After a switch nothing is counted for so long.
const SETTLE: Duration = Duration::from_millis(60);
const ROUNDS: usize = 60;
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
    let by_hand = By::Hand(notifier(&bench.url()).await?);
    let listening = listener(&bench.url(), RAW, |_| {}).await?;
    let host = Host::start(&bench.url()).await?;
    let publishing = Publishing::start([By::Ours(publisher.bus(), topic), by_hand]);
    let mut random = StdRng::seed_from_u64(1);
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(ROUNDS) {
        let mut order = [Who::Nobody, Who::Hand, Who::Ours];
        order.shuffle(&mut random);
        let mut rates = Rates::default();
        for who in order {
            *rates.of(who) = host.rate(&publishing, who).await;
        }
        // What is cold at first says nothing.
        if round > 0 {
            rounds.push(rates);
        }
    }
    host.end().await?;
    publishing.end().await;
    drop(listening);
    shut_down(vec![publisher, subscriber]).await?;
    reader.await?;
    Ok(figures(&rounds))
}

const RAW: &str = "raw_host";

/// Who publishes in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Ours,
    Hand,
}

/// Transactions in a second, beside each of them.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    alone: f64,
    ours: f64,
    hand: f64,
}

impl Rates {
    fn of(&mut self, who: Who) -> &mut f64 {
        match who {
            Who::Nobody => &mut self.alone,
            Who::Ours => &mut self.ours,
            Who::Hand => &mut self.hand,
        }
    }
}

/// By how many percent the second of each pair is lower: the mean, and between what it lies.
fn slower(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64, f64) {
    let logs: Vec<f64> = pairs.map(|(without, with)| (with / without).ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let half = T95 * (variance / count).sqrt();
    let percent = |log: f64| (1.0 - log.exp()) * 100.0;
    (percent(mean), percent(mean + half), percent(mean - half))
}

fn figures(rounds: &[Rates]) -> Vec<Figure> {
    let between = |pairs: &mut dyn Iterator<Item = (f64, f64)>, what: &str, target| {
        let (mean, least, most) = slower(pairs);
        let what = format!("{what}; 95 % confident: {least:.1} % to {most:.1} %");
        Figure::alone(what, Unit::Percent, mean, target).judged_by(most)
    };
    let rounds = || rounds.iter();
    vec![
        between(
            &mut rounds().map(|rates| (rates.alone, rates.hand)),
            &format!(
                "the application's own transactions, slower beside {PER_SECOND} NOTIFY/s by hand"
            ),
            Target::Nothing,
        ),
        between(
            &mut rounds().map(|rates| (rates.alone, rates.ours)),
            &format!("the application's own transactions, slower while we publish {PER_SECOND}/s"),
            Target::AtMost(2.0),
        ),
        between(
            &mut rounds().map(|rates| (rates.hand, rates.ours)),
            "the same, beside those by hand",
            Target::Nothing,
        ),
    ]
}

/// How a message is published.
enum By {
    Ours(Bus, Topic<String>),
    Hand(Arc<Session>),
}

/// Publishes, whenever it is on.
struct Publishing {
    who: watch::Sender<Who>,
    tasks: JoinSet<()>,
}

impl Publishing {
    fn start(ways: [By; 2]) -> Self {
        let who = watch::Sender::new(Who::Nobody);
        let mut tasks = JoinSet::new();
        for way in ways {
            tasks.spawn(publish(way, who.subscribe()));
        }
        Self { who, tasks }
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// At an even pace, while it is this one's turn; each is sent in the background.
async fn publish(way: By, mut who: watch::Receiver<Who>) {
    let own = match way {
        By::Ours(..) => Who::Ours,
        By::Hand(_) => Who::Hand,
    };
    let mut number = 0;
    while who.wait_for(|who| *who == own).await.is_ok() {
        let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while *who.borrow_and_update() == own {
            ticks.tick().await;
            number += 1;
            let text = message(number, 100);
            match &way {
                By::Ours(bus, topic) => drop(bus.publish(topic, &text)),
                By::Hand(session) => {
                    let session = session.clone();
                    tokio::spawn(async move {
                        let notify = format!("NOTIFY {RAW}, '{text}'");
                        drop(session.batch_execute(&notify).await);
                    });
                }
            }
        }
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
    async fn rate(&self, publishing: &Publishing, who: Who) -> f64 {
        publishing.who.send_replace(who);
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
