//! Everyone publishes numbered messages, and everyone subscribes.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_node::{BusError, Incoming, Subscription, Topic};
use rand::RngExt;
use tokio::time::{sleep, timeout};

use super::super::bounds::Terms;
use super::super::faults::Class;
use super::super::scene::{Phase, Process, Scene, What};
use super::super::seen::{Outcome, Seen};
use super::draw::{ANY, BUS, Draw};
use super::{Life, Living, SeatPlan, World};

/// What the messages are: who published it, and its number.
const NEWS: Topic<String> = Topic::new("news");
/// What nobody listens to, and what must not disturb the numbers of the news (U1).
const NOISE: Topic<String> = Topic::new("noise");
/// So many messages may wait for a subscriber.
const CAPACITY: usize = 32;

/// A fleet that talks.
#[derive(Debug, Clone)]
pub(super) struct Talk {
    terms: Terms,
    latency: Duration,
    members: usize,
    reserves: usize,
    pause: Duration,
}

impl Talk {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let members = draw.members();
        let reserves = draw.reserves(members);
        let mut terms = draw.terms();
        terms.members = members + reserves;
        // The more there are, the less each says.
        let each = u64::try_from(members * members).unwrap_or(u64::MAX);
        let pause = Duration::from_millis([60, 120, 250][draw.number(0..3)] * each);
        Self {
            latency: draw.latency(),
            terms,
            members,
            reserves,
            pause,
        }
    }
}

impl World for Talk {
    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn seats(&self) -> Vec<SeatPlan> {
        let seat = |at| SeatPlan::named("g", at >= self.members);
        (0..self.members + self.reserves).map(seat).collect()
    }

    fn wanted(&self) -> BTreeSet<What> {
        BTreeSet::new()
    }

    fn faults(&self) -> Vec<(Class, u32)> {
        let own = [
            (Class::SlowDrain, 4),
            (Class::Loss, 4),
            (Class::HalfOpen, 2),
            (Class::Delay, 3),
        ];
        [&ANY[..], &BUS, &BUS, &own].concat()
    }

    fn latency(&self) -> Duration {
        self.latency
    }

    fn live(&self, mut life: Life) -> Living {
        let pause = self.pause;
        Box::pin(async move {
            let (speaker, listener) = (life.fork(), life.fork());
            tokio::join!(speak(speaker, pause), listen(listener));
        })
    }

    fn settled(&self, scene: &Scene) -> Result<(), String> {
        let heard = scene.since(scene.phase_began);
        if heard > self.terms.request * 2 {
            Ok(())
        } else {
            Err(format!("talk goes on for {heard:?} only"))
        }
    }

    /// Nobody says anything any more, and every loss comes to light.
    fn calm(&self) -> Duration {
        self.terms.told_within().total()
    }
}

fn is_over(life: &Life) -> bool {
    let phase = life.witness.ask(|scene| scene.phase);
    matches!(phase, Phase::Settled | Phase::Closing | Phase::Over)
}

async fn speak(mut life: Life, pause: Duration) {
    let (bus, draining) = (life.node.bus(), life.node.draining());
    let speech = async {
        let mut number = 0;
        while !is_over(&life) {
            let span = life.span(pause * 2);
            sleep(span).await;
            if life.random.random_bool(0.2) {
                // Whether it is heard or not is all the same.
                drop(timeout(pause, bus.publish(&NOISE, &String::new())).await);
            }
            // Some come one by one, some many at once.
            for _ in 0..[1, 1, 1, 5][life.random.random_range(0..4)] {
                number += 1;
                life.witness.see(Seen::Publishes(life.process, number));
                let process = life.process;
                let text = format!("{} {} {number}", process.seat, process.life);
                let published = bus.publish(&NEWS, &text);
                let outcome = if life.mood.is(&life.mood.cancels) {
                    let patience = life.span(Duration::from_millis(50));
                    timeout(patience, published).await.ok()
                } else {
                    Some(published.await)
                };
                let outcome = outcome.as_ref().map_or(Outcome::Untold, outcome_of);
                life.witness.see(Seen::Published(process, number, outcome));
            }
        }
    };
    tokio::select! {
        biased;
        () = draining => {}
        () = speech => {}
    }
}

fn outcome_of(published: &Result<(), BusError>) -> Outcome {
    match published {
        Ok(()) => Outcome::Out,
        Err(BusError::Indeterminate { .. }) => Outcome::Unknown,
        Err(_) => Outcome::NotSent,
    }
}

async fn listen(mut life: Life) {
    let bus = life.node.bus();
    loop {
        let draining = life.node.draining();
        let subscribed = async { bus.subscribe(&NEWS).capacity(CAPACITY).await };
        let subscription = tokio::select! {
            biased;
            () = draining => return,
            subscription = subscribed => subscription,
        };
        match subscription {
            Ok(subscription) => {
                life.witness.see(Seen::Subscribes(life.process));
                let mut part = life.fork();
                tokio::select! {
                    biased;
                    () = hear(&mut part, subscription) => return,
                    // Dropped, and made anew.
                    () = life.cancelled() => {}
                }
            }
            // Tried again: it waits by itself while the bus is away.
            Err(BusError::Unavailable { .. } | BusError::Indeterminate { .. }) => {}
            Err(error) if life.node.health().draining => return drop(error),
            Err(error) => return life.complain(format!("{error}: {error:?}")),
        }
    }
}

async fn hear(life: &mut Life, mut subscription: Subscription<String>) {
    while let Some(incoming) = subscription.next().await {
        match incoming {
            Incoming::Message(message) => match parse(&message.payload) {
                Some((origin, number)) => {
                    life.witness
                        .see(Seen::Receives(life.process, origin, number));
                }
                None => life.complain(format_args!("received `{}`", message.payload)),
            },
            Incoming::Gap(gap) => life.witness.see(Seen::Misses(life.process, gap.origin)),
            Incoming::Malformed(malformed) => life.complain(format_args!("{malformed:?}")),
        }
        // Slow to take in what it hears.
        life.drain_slowly(Duration::from_millis(400)).await;
    }
}

fn parse(text: &str) -> Option<(Process, u64)> {
    let mut parts = text.split(' ');
    let seat = parts.next()?.parse().ok()?;
    let life = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    Some((Process { seat, life }, number))
}
