//! The log of events that the shards' workers read: by shard, each event from its time on.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::input::Event;

/// The most events handed out at once: what may have to be folded again after a crash.
const BATCH: usize = 16;

/// All events, cut into shards. The `n`th of them all is there from its share of the span on.
#[derive(Debug)]
pub(crate) struct Source {
    began: Instant,
    /// When each of all events appears, in their order.
    times: Vec<Duration>,
    shards: Vec<Vec<Timed>>,
}

/// An event, and how long after the beginning it appears.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) event: Event,
    after: Duration,
}

impl Source {
    /// Spreads the events evenly over the span, in the order of their sequence numbers.
    pub(crate) fn new(began: Instant, span: Duration, shards: Vec<Vec<Event>>) -> Self {
        let mut order: Vec<u64> = shards.iter().flatten().map(|event| event.seq).collect();
        order.sort_unstable();
        let total = order.len().max(1);
        // In f64 a place is exact, and a span of minutes is to the nanosecond.
        #[expect(clippy::cast_precision_loss, reason = "events are fewer than 2^52")]
        let time = |place: usize| span.mul_f64(place as f64 / total as f64);
        let timed = |event: Event| Timed {
            after: time(order.partition_point(|seq| *seq < event.seq)),
            event,
        };
        let cut = |events: Vec<Event>| events.into_iter().map(timed).collect();
        Self {
            began,
            times: (0..order.len()).map(time).collect(),
            shards: shards.into_iter().map(cut).collect(),
        }
    }

    /// The shard's events from `folded` on, once there is one. After the last it waits for ever.
    /// Cancel safe: it hands out nothing that it would have to remember.
    pub(crate) async fn next_batch(&self, shard: usize, folded: usize) -> &[Timed] {
        let left = self.shards[shard].get(folded..).unwrap_or_default();
        let Some(first) = left.first() else {
            return std::future::pending().await;
        };
        sleep_until(self.began + first.after).await;
        let passed = self.began.elapsed();
        let there = left.partition_point(|timed| timed.after <= passed);
        &left[..there.min(BATCH)]
    }

    /// How many events of all shards are there by now.
    pub(crate) fn released(&self) -> usize {
        let passed = self.began.elapsed();
        self.times.partition_point(|after| *after <= passed)
    }

    /// How many events there will be.
    pub(crate) fn total(&self) -> usize {
        self.times.len()
    }

    /// How many events a shard will have in the end.
    pub(crate) fn len(&self, shard: usize) -> usize {
        self.shards[shard].len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> Event {
        Event {
            seq,
            author: "a".into(),
            files: 0,
            insertions: 0,
            deletions: 0,
        }
    }

    fn seqs(batch: &[Timed]) -> Vec<u64> {
        batch.iter().map(|timed| timed.event.seq).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_appears_at_its_time_and_stays() {
        let began = Instant::now();
        let shards = vec![vec![event(1), event(4)], vec![event(2), event(3)]];
        let source = Source::new(began, Duration::from_secs(40), shards);
        assert_eq!(seqs(source.next_batch(0, 0).await), [1]);
        assert_eq!(seqs(source.next_batch(0, 1).await), [4]);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(seqs(source.next_batch(0, 0).await), [1, 4]);
        assert_eq!(source.released(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_last_event_a_shard_waits_for_ever() {
        let source = Source::new(Instant::now(), Duration::ZERO, vec![vec![event(1)]]);
        let beyond = tokio::time::timeout(Duration::from_hours(1), source.next_batch(0, 1));
        assert!(beyond.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_bounded() {
        let events = (1..=40).map(event).collect();
        let source = Source::new(Instant::now(), Duration::ZERO, vec![events]);
        assert_eq!(source.next_batch(0, 0).await.len(), BATCH);
    }
}
