//! What a voter sends: each message once, and none from before an outage.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Bytes, ClusterBus, Frame, Instance, MemberId, Topic};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tracing::debug;

use crate::tasks::panic_message;

/// The most messages that wait; then the oldest go, for they are worth the least.
const LIMIT: usize = 1_024;

type Sending = Pin<Box<dyn Future<Output = Vec<oneshot::Sender<()>>> + Send>>;

/// What a voter sends, past the queue of the node's other messages: nothing is repeated, and what
/// waits through an outage is dropped, so that no old claim is heard after it (V9, E16).
pub(super) struct Post {
    bus: Arc<dyn ClusterBus>,
    me: MemberId,
    instance: Instance,
    patience: Duration,
    waiting: VecDeque<Frame>,
    /// Told when all that waits now has left, or is given up.
    told: Vec<oneshot::Sender<()>>,
    sending: Option<Sending>,
    sent: u64,
}

impl Post {
    /// Messages that could not be handed to the bus within `patience` are given up.
    pub(super) fn new(
        bus: Arc<dyn ClusterBus>,
        me: MemberId,
        instance: Instance,
        patience: Duration,
    ) -> Self {
        Self {
            bus,
            me,
            instance,
            patience,
            waiting: VecDeque::new(),
            told: Vec::new(),
            sending: None,
            sent: 0,
        }
    }

    pub(super) fn send(&mut self, topic: &Topic, payload: Bytes) {
        if self.waiting.len() >= LIMIT {
            self.waiting.pop_front();
        }
        self.sent += 1;
        let frame = Frame::new(topic.clone(), self.me.clone(), self.instance, payload);
        self.waiting.push_back(frame.sequence(self.sent));
        self.set_going();
    }

    /// Tells when all that was sent so far has left, or was given up.
    pub(super) fn tell_when_sent(&mut self, sent: oneshot::Sender<()>) {
        self.told.push(sent);
        self.set_going();
    }

    /// Drops what waits: it was meant for another situation.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Sends on. Never ends while nothing is under way. Cancel safe.
    pub(super) async fn sent(&mut self) {
        let Some(sending) = &mut self.sending else {
            return pending().await;
        };
        let told = sending.await;
        self.sending = None;
        for sent in told {
            // Who asked may have given up waiting.
            sent.send(()).ok();
        }
        self.set_going();
    }

    /// One batch at a time, so that messages stay in order.
    fn set_going(&mut self) {
        if self.sending.is_some() || (self.waiting.is_empty() && self.told.is_empty()) {
            return;
        }
        let batch: Vec<_> = self.waiting.drain(..).collect();
        let told = std::mem::take(&mut self.told);
        let (bus, patience) = (self.bus.clone(), self.patience);
        self.sending = Some(Box::pin(async move {
            if !batch.is_empty() {
                // Sent once: whoever needs it is asked again by the next one.
                // A bus that panics must not take the voter along.
                let publish = AssertUnwindSafe(bus.publish(&batch)).catch_unwind();
                match tokio::time::timeout(patience, publish).await {
                    Ok(Ok(Ok(()))) => {}
                    Ok(Ok(Err(error))) => debug!(%error, "votes were not sent"),
                    Ok(Err(panic)) => {
                        let error = panic_message(&*panic);
                        debug!(error, "votes were not sent: the bus panicked");
                    }
                    Err(_) => debug!(?patience, "votes were not sent in time"),
                }
            }
            told
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use coordinator_core::{BusError, Feed, Start, async_trait};
    use tokio::sync::Semaphore;

    use super::*;

    /// Takes a batch only when it is let to.
    struct Slow {
        gate: Semaphore,
        taken: Mutex<Vec<Bytes>>,
    }

    #[async_trait]
    impl ClusterBus for Slow {
        async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
            let permit = self.gate.acquire().await.expect("it is never closed");
            permit.forget();
            let payloads = batch.iter().map(|frame| frame.payload.clone());
            self.taken.lock().expect("nobody panics").extend(payloads);
            Ok(())
        }

        async fn subscribe(&self, _: &[Topic], _: Start) -> Result<Box<dyn Feed>, BusError> {
            unreachable!("a post only sends")
        }
    }

    fn post() -> (Arc<Slow>, Post) {
        let bus = Arc::new(Slow {
            gate: Semaphore::new(0),
            taken: Mutex::default(),
        });
        let patience = Duration::from_secs(1);
        let post = Post::new(bus.clone(), "a".into(), Instance::from_random(1), patience);
        (bus, post)
    }

    fn send(post: &mut Post, payload: &'static str) {
        post.send(&Topic::new("t"), Bytes::from_static(payload.as_bytes()));
    }

    fn taken(bus: &Slow) -> Vec<Bytes> {
        bus.taken.lock().expect("nobody panics").clone()
    }

    /// E16, V9: what waited when the connection was cut is not said after it.
    #[tokio::test(start_paused = true)]
    async fn nothing_that_waited_through_an_outage_is_sent_after_it() {
        let (bus, mut post) = post();
        send(&mut post, "under way");
        send(&mut post, "waiting");
        send(&mut post, "waiting, too");
        post.clear();
        bus.gate.add_permits(8);
        post.sent().await;
        send(&mut post, "after it");
        post.sent().await;
        assert_eq!(taken(&bus), ["under way", "after it"]);
    }

    /// V9: a bus that does not answer holds nothing back for ever, and nothing is said twice.
    #[tokio::test(start_paused = true)]
    async fn what_a_bus_does_not_take_in_time_is_given_up() {
        let (bus, mut post) = post();
        send(&mut post, "lost");
        let (sent, told) = oneshot::channel();
        post.tell_when_sent(sent);
        post.sent().await;
        bus.gate.add_permits(8);
        post.sent().await;
        told.await.expect("it is told");
        send(&mut post, "next");
        post.sent().await;
        assert_eq!(taken(&bus), ["next"]);
    }

    /// BOUNDED: the oldest go first.
    #[tokio::test(start_paused = true)]
    async fn a_full_post_drops_the_oldest() {
        let (bus, mut post) = post();
        for number in 0..=LIMIT as u64 + 1 {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            post.send(&Topic::new("t"), payload);
        }
        bus.gate.add_permits(8);
        post.sent().await;
        post.sent().await;
        let taken = taken(&bus);
        assert_eq!(taken.len(), LIMIT + 1, "the first was under way");
        assert_eq!(taken[1], 2_u64.to_be_bytes().as_slice());
    }
}
