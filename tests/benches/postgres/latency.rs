//! How long a message takes, at a steady rate that does not wait for answers.
//!
//! A message's time counts from when it was due, not from when it was sent: what is late delays no
//! other's clock, and hides in no average.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use coordinator_node::{Incoming, Node, Topic};
use coordinator_postgres::Spill;
use hdrhistogram::Histogram;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::figure::{Figure, Target, Unit};
use crate::nodes::node;
use crate::raw::{Session, listener, message, notifier, number};
use crate::run::Bench;
use crate::throughput::shut_down;

const PER_SECOND: u32 = 200;
/// So many messages a round.
const MESSAGES: u64 = 400;
/// What is still under way after the last has so long to arrive.
const REST: Duration = Duration::from_millis(300);
/// The pace is kept by sleeping until so long before, and then by looking at the clock: a timer of
/// the runtime is a millisecond late.
const SPIN: Duration = Duration::from_micros(150);
/// So much of a large message fits one NOTIFY, cut by hand.
const FRAGMENT: usize = 7_900;

/// Messages of 100 bytes.
pub(crate) async fn small(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let target = Target::RatioAtMost(1.2);
    both(
        bench,
        "latency at 200/s, 100 bytes",
        "bus_latency",
        100,
        target,
    )
    .await
}

/// Messages of 20 KB, which no NOTIFY takes whole.
pub(crate) async fn large(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let target = Target::RatioAtMost(2.0);
    both(bench, "latency at 200/s, 20 KB", "bus_20kb", 20_000, target).await
}

async fn both(
    bench: &Bench,
    what: &str,
    schema: &str,
    bytes: usize,
    target: Target,
) -> anyhow::Result<Vec<Figure>> {
    let publisher = node(bench, schema, Spill::Overflow).await?;
    let subscriber = node(bench, schema, Spill::Overflow).await?;
    let session = notifier(&bench.url()).await?;
    let (mut middle, mut late) = (Vec::new(), Vec::new());
    for round in 0..=bench.rounds(7) {
        let raw = raw_round(&bench.url(), &session, bytes).await?;
        let ours = ours_round(&publisher, &subscriber, bytes).await?;
        if round > 0 {
            middle.push((raw.0, ours.0));
            late.push((raw.1, ours.1));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(vec![
        Figure::paired(&format!("{what}: p50"), Unit::Seconds, &middle, target),
        Figure::paired(
            &format!("{what}: p99"),
            Unit::Seconds,
            &late,
            Target::Nothing,
        ),
    ])
}

/// When each message is due, and how long each took.
#[derive(Clone)]
struct Times {
    first: Instant,
    taken: Arc<Mutex<Histogram<u64>>>,
}

impl Times {
    fn new() -> anyhow::Result<Self> {
        // From a microsecond to a minute, in microseconds.
        let taken = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self {
            first: Instant::now() + Duration::from_millis(50),
            taken: Arc::new(Mutex::new(taken)),
        })
    }

    fn due(&self, number: u64) -> Instant {
        self.first + Duration::from_secs(1) / PER_SECOND * u32::try_from(number).unwrap_or(0)
    }

    fn arrived(&self, message: &str) {
        if let Some(number) = number(message) {
            let took = Instant::now().saturating_duration_since(self.due(number));
            let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .saturating_record(took);
        }
    }

    /// Calls `send` for each message when it is due, on a thread of its own, inside the runtime.
    async fn keep_pace(&self, send: impl Fn(u64) + Send + 'static) -> anyhow::Result<()> {
        let (times, runtime) = (self.clone(), Handle::current());
        let (done, is_done) = oneshot::channel::<()>();
        thread::spawn(move || {
            let _inside = runtime.enter();
            for number in 0..MESSAGES {
                let due = times.due(number);
                thread::sleep(
                    due.saturating_duration_since(Instant::now())
                        .saturating_sub(SPIN),
                );
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                send(number);
            }
            drop(done);
        });
        // Ends with the thread.
        is_done.await.unwrap_or_default();
        sleep(REST).await;
        Ok(())
    }

    /// The middle and the 99th percentile, in seconds.
    fn result(&self) -> anyhow::Result<(f64, f64)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(
            taken.len() == MESSAGES,
            "{} of {MESSAGES} arrived",
            taken.len()
        );
        let seconds = |at| taken.value_at_quantile(at) as f64 / 1e6;
        Ok((seconds(0.5), seconds(0.99)))
    }
}

/// By hand: one NOTIFY, or as many fragments as it takes in one statement.
async fn raw_round(url: &str, session: &Arc<Session>, bytes: usize) -> anyhow::Result<(f64, f64)> {
    let times = Times::new()?;
    let (arriving, fragments) = (times.clone(), bytes.div_ceil(FRAGMENT));
    let mut parts: Vec<String> = Vec::new();
    let on = move |payload: &str| {
        parts.push(payload.to_owned());
        if parts.len() == fragments {
            let whole = parts.concat();
            parts.clear();
            arriving.arrived(&whole);
        }
    };
    // The server wakes every session that listens, and so does the publisher's process.
    let listening = [
        listener(url, "raw_bench", on).await?,
        listener(url, "raw_bench", |_| ()).await?,
    ];
    let one = session.prepare("SELECT pg_notify('raw_bench', $1)").await?;
    let all = "SELECT pg_notify('raw_bench', x) FROM unnest($1::text[]) x";
    let all = session.prepare(all).await?;
    let session = session.clone();
    let send = move |number| {
        let (session, one, all) = (session.clone(), one.clone(), all.clone());
        tokio::spawn(async move {
            let message = message(number, bytes);
            if fragments == 1 {
                session.execute(&one, &[&message]).await
            } else {
                session.execute(&all, &[&cut(&message, number)]).await
            }
        });
    };
    times.keep_pace(send).await?;
    drop(listening);
    times.result()
}

/// Fragments, none equal to another: the server drops equal ones.
fn cut(message: &str, number: u64) -> Vec<String> {
    let mut fragments = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (one, others) = rest.split_at(rest.len().min(FRAGMENT));
        rest = others;
        // The first begins with the number already.
        fragments.push(match fragments.len() {
            0 => one.to_owned(),
            at => format!("{number}/{at}{one}"),
        });
    }
    fragments
}

async fn ours_round(
    publisher: &Node,
    subscriber: &Node,
    bytes: usize,
) -> anyhow::Result<(f64, f64)> {
    let times = Times::new()?;
    let topic: Topic<String> = Topic::named("bench");
    let mut messages = subscriber.bus().subscribe(&topic).await?;
    let arriving = times.clone();
    let reader = tokio::spawn(async move {
        while let Some(incoming) = messages.next().await {
            if let Incoming::Message(one) = incoming {
                arriving.arrived(&one.payload);
            }
        }
    });
    let bus = publisher.bus();
    let send = move |number| {
        tokio::spawn(bus.publish(&topic, &message(number, bytes)));
    };
    times.keep_pace(send).await?;
    reader.abort();
    times.result()
}
