//! What a voter sends: each message once, and none from before an outage.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Bytes, ClusterBus, Frame, Instance, MemberId, Topic};
use tokio::sync::oneshot;
use tracing::debug;

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
                match tokio::time::timeout(patience, bus.publish(&batch)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "votes were not sent"),
                    Err(_) => debug!(?patience, "votes were not sent in time"),
                }
            }
            told
        }));
    }
}
