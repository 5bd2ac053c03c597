//! How long a message takes, at a steady rate that does not wait for answers.
//!
//! A message's time counts from when it was due, not from when it was sent: what is late delays no
//! other's clock, and hides in no average.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use coordinator_node::{Incoming, Node, Topic};
use hdrhistogram::Histogram;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::figure::{Figure, Target, Unit};
use crate::messages::{message, number};

const PER_SECOND: u32 = 200;
/// So many messages a round.
const MESSAGES: u64 = 400;
/// What is still under way after the last has so long to arrive.
const REST: Duration = Duration::from_millis(300);
/// The pace is kept by sleeping until so long before, and then by looking at the clock: a timer of
/// the runtime is a millisecond late.
const SPIN: Duration = Duration::from_micros(150);

/// The middle and the 99th percentile of a round, in seconds.
pub(crate) type Round = (f64, f64);

/// When each message is due, and how long each took.
#[derive(Clone)]
pub(crate) struct Times {
    first: Instant,
    taken: Arc<Mutex<Histogram<u64>>>,
}

impl Times {
    pub(crate) fn new() -> anyhow::Result<Self> {
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

    /// This message is there.
    pub(crate) fn arrived(&self, message: &str) {
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
    pub(crate) async fn keep_pace(
        &self,
        send: impl Fn(u64) + Send + 'static,
    ) -> anyhow::Result<()> {
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

    /// How it went.
    pub(crate) fn result(&self) -> anyhow::Result<Round> {
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

/// Messages of so many bytes from one node to another.
pub(crate) async fn through_nodes(
    publisher: &Node,
    subscriber: &Node,
    bytes: usize,
) -> anyhow::Result<Round> {
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

/// Of rounds, each with what was measured by hand and ours.
pub(crate) fn figures(what: &str, rounds: &[(Round, Round)], target: Target) -> Vec<Figure> {
    let middle: Vec<_> = rounds.iter().map(|(raw, ours)| (raw.0, ours.0)).collect();
    let late: Vec<_> = rounds.iter().map(|(raw, ours)| (raw.1, ours.1)).collect();
    let (p50, p99) = (format!("{what}: p50"), format!("{what}: p99"));
    vec![
        Figure::paired(&p50, Unit::Seconds, &middle, target),
        Figure::paired(&p99, Unit::Seconds, &late, Target::Nothing),
    ]
}
