//! Messages through nodes, as many as pass: our side of each measurement of throughput.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coordinator_node::{Bus, Incoming, Node, Subscription, Topic};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::messages::{message, number, rate};
use crate::nodes::PATIENCE;

/// How long each round publishes.
pub(crate) const ROUND: Duration = Duration::from_millis(1500);
pub(crate) const BYTES: usize = 100;
/// How far a publisher may be ahead of the slowest subscriber: no more than its queue in the backend
/// holds, for a gap is not what is measured.
pub(crate) const AHEAD: usize = 4 * 1024;

/// What a listener that was written by hand has received, and who waits for it.
#[derive(Default)]
pub(crate) struct Received {
    count: AtomicU64,
    more: Notify,
}

impl Received {
    pub(crate) fn add(&self, messages: u64) {
        self.count.fetch_add(messages, Ordering::AcqRel);
        self.more.notify_one();
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until it has so many.
    pub(crate) async fn reaches(&self, count: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.count() < count {
                self.more.notified().await;
            }
        };
        Ok(timeout(PATIENCE, reached).await?)
    }
}

/// How a round publishes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    /// So many messages are under way at most.
    pub(crate) under_way: usize,
    /// Subscribers give room back in steps of so many.
    pub(crate) step: u32,
}

impl Flow {
    /// Messages in a second: on one topic, until every subscriber has them all, in order.
    pub(crate) async fn concurrently(self, bus: &Bus, nodes: &[Node]) -> anyhow::Result<f64> {
        let topic: Topic<String> = Topic::named("bench");
        let all = || nodes.iter().map(|_| Semaphore::new(AHEAD));
        let room: Arc<Vec<Semaphore>> = Arc::new(all().collect());
        let mut receiving = JoinSet::new();
        let (end, ended) = watch::channel(None::<u64>);
        for (which, node) in nodes.iter().enumerate() {
            let messages = node.bus().subscribe(&topic).capacity(2 * AHEAD).await?;
            receiving.spawn(self.receive(messages, which, room.clone(), ended.clone()));
        }
        let began = Instant::now();
        let (mut sent, mut under_way) = (0_u64, VecDeque::new());
        while began.elapsed() < ROUND {
            for subscriber in room.iter() {
                let permit = timeout(PATIENCE, subscriber.acquire_many(self.step)).await??;
                permit.forget();
            }
            for _ in 0..self.step {
                if under_way.len() == self.under_way
                    && let Some(first) = under_way.pop_front()
                {
                    first.await?;
                }
                sent += 1;
                under_way.push_back(bus.publish(&topic, &message(sent, BYTES)));
            }
        }
        for last in under_way {
            last.await?;
        }
        end.send_replace(Some(sent));
        while let Some(received) = timeout(PATIENCE, receiving.join_next()).await? {
            received??;
        }
        Ok(rate(sent, began.elapsed()))
    }

    /// Receives every message in order, up to the last.
    async fn receive(
        self,
        mut messages: Subscription<String>,
        which: usize,
        room: Arc<Vec<Semaphore>>,
        mut last: watch::Receiver<Option<u64>>,
    ) -> anyhow::Result<()> {
        let mut received = 0_u64;
        loop {
            if *last.borrow_and_update() == Some(received) {
                return Ok(());
            }
            let next = tokio::select! {
                biased;
                next = messages.next() => next,
                _ = last.changed() => continue,
            };
            match next {
                Some(Incoming::Message(one)) => {
                    received += 1;
                    anyhow::ensure!(number(&one.payload) == Some(received), "out of order");
                }
                other => anyhow::bail!("after {received} messages: {other:?}"),
            }
            if received.is_multiple_of(u64::from(self.step)) {
                room[which].add_permits(self.step as usize);
            }
        }
    }
}

/// Messages in a second: one after the other, each awaited.
pub(crate) async fn awaited(bus: &Bus, topic: &Topic<String>) -> anyhow::Result<f64> {
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        sent += 1;
        bus.publish(topic, &message(sent, BYTES)).await?;
    }
    Ok(rate(sent, began.elapsed()))
}

/// Messages in a second: each of these nodes publishes one after the other.
pub(crate) async fn writers(nodes: &[Node], topic: &Topic<String>) -> anyhow::Result<f64> {
    let mut writing = JoinSet::new();
    let began = Instant::now();
    for node in nodes {
        let (bus, topic) = (node.bus(), topic.clone());
        writing.spawn(async move {
            let mut sent = 0;
            while began.elapsed() < ROUND {
                bus.publish(&topic, &message(sent, BYTES)).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        });
    }
    total(writing, began).await
}

/// What all of them have written, in a second.
pub(crate) async fn total(
    mut writing: JoinSet<anyhow::Result<u64>>,
    began: Instant,
) -> anyhow::Result<f64> {
    let mut sent = 0;
    while let Some(one) = writing.join_next().await {
        sent += one??;
    }
    Ok(rate(sent, began.elapsed()))
}
