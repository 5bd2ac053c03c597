//! The one task that publishes: strictly one batch after another (rule U2).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::stream::{After, Publisher, Retry};
use coordinator_core::{BusError, ClusterBus, ErrorKind, Frame, FrameKind, Moment, Topic};
use futures_util::FutureExt;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::timeout;
use tracing::{debug, trace, warn};

use super::outgoing::{Entry, Failure, Next, Outcome, Outgoing, QUEUED_FOR, QueueFull, Round};
use crate::context::Context;
use crate::tasks::{panic_message, sleep_until};
use crate::telemetry;

/// A beacon that could not be sent is tried again after so long.
const BEACON_RETRY: Duration = Duration::from_secs(1);

/// An attempt may take half of the time that is left, so that there is a second one; but not less
/// than this.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// The clock may jump ahead of the runtime's timers: look again this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Sends what is queued, and the beacons that follow it.
pub(super) struct Flusher {
    context: Arc<Context>,
    bus: Arc<dyn ClusterBus>,
    outgoing: Arc<Outgoing>,
    publisher: Publisher,
    /// A durable bus finds its own gaps (U11): beacons would be rows that nobody needs.
    beacons: bool,
    random: StdRng,
}

impl Flusher {
    pub(super) fn new(
        context: Arc<Context>,
        bus: Arc<dyn ClusterBus>,
        outgoing: Arc<Outgoing>,
    ) -> Self {
        Self {
            publisher: Publisher::new(context.me.clone(), context.instance),
            beacons: !bus.capabilities().durable,
            random: context.fork_random(),
            context,
            bus,
            outgoing,
        }
    }

    /// Runs until the queue is closed and empty, or the node stops.
    pub(super) async fn run(mut self) {
        let stopping = self.context.stopping.clone();
        // Whatever is in flight is dropped when the node stops, and its publishers are told.
        stopping.run_until_cancelled(self.flush()).await;
    }

    async fn flush(&mut self) {
        loop {
            match self.outgoing.next() {
                Next::Round(round) => self.send_round(round).await,
                Next::Closed => return self.send_last_beacons().await,
                Next::Idle => self.wait().await,
            }
        }
    }

    /// Waits for messages; sends the beacons that fall due meanwhile.
    async fn wait(&mut self) {
        let deadline = self.publisher.deadline().filter(|_| self.beacons);
        let context = self.context.clone();
        tokio::select! {
            biased;
            () = self.outgoing.arrived() => {}
            () = sleep_until(&*context.steady, deadline, LOOK_EVERY) => {
                let beacons = self.due_beacons(context.steady.now());
                self.send_beacons(beacons).await;
            }
        }
    }

    fn due_beacons(&mut self, now: Moment) -> Vec<Frame> {
        match self.publisher.deadline() {
            Some(due) if self.beacons && due <= now => self.publisher.beacons(now),
            Some(_) | None => Vec::new(),
        }
    }

    /// Messages that wait no longer for an answer are not sent at all: after an outage nothing old
    /// passes for new (E16).
    async fn send_round(&mut self, mut round: Round) {
        let now = self.context.steady.now();
        let waited = now.since(round.opened);
        let entries = round.take_entries();
        let count = entries.len();
        self.note_queue(count);
        let outcome = if waited > QUEUED_FOR {
            Outcome::all(count, &Failure::unavailable(QueueFull))
        } else {
            let entries = entries.into_iter();
            let stamp = |entry: Entry| self.publisher.stamp(now, &entry.topic, entry.payload);
            let mut frames: Vec<_> = entries.map(stamp).collect();
            frames.extend(self.due_beacons(now));
            self.send(&frames, count).await
        };
        self.report(count, &outcome, now);
        self.outgoing.settle(&round, outcome);
    }

    fn report(&self, count: usize, outcome: &Outcome, began: Moment) {
        let failed = match outcome {
            Outcome::Sent => 0,
            Outcome::Mixed(each) => each.iter().filter(|failure| failure.is_some()).count(),
            Outcome::Unknown => count,
        };
        let (sent, failed) = ((count - failed) as u64, failed as u64);
        if sent > 0 {
            telemetry::count(telemetry::BUS_PUBLISHED, sent, &[("outcome", "sent")]);
        }
        if failed > 0 {
            telemetry::count(telemetry::BUS_PUBLISHED, failed, &[("outcome", "failed")]);
        }
        let took = self.context.steady.now().since(began).as_secs_f64();
        telemetry::observe(telemetry::BUS_PUBLISH_SECONDS, took, &[]);
        self.note_queue(0);
        trace!(group = %self.context.group, sent, failed, "published");
    }

    fn note_queue(&self, in_flight: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge for people to read")]
        let depth = (self.outgoing.depth() + in_flight) as f64;
        telemetry::gauge(telemetry::BUS_PUBLISH_QUEUE, depth, &[]);
    }

    /// Sends a batch, the first `messages` of which somebody waits for; again under the same
    /// sequences while its outcome is unknown.
    async fn send(&mut self, frames: &[Frame], messages: usize) -> Outcome {
        let mut retry = Retry::new(self.context.steady.now(), frames.len());
        match self.attempts(frames, &mut retry).await {
            Ok(()) => Outcome::Sent,
            Err(Ended::Split) => self.send_one_by_one(frames, messages, &retry).await,
            Err(Ended::Failed(failure)) => {
                self.take_back(frames, std::slice::from_ref(&Some(failure.clone())));
                Outcome::all(messages, &failure)
            }
        }
    }

    /// One of the frames is refused: the others must not suffer for it (B13).
    async fn send_one_by_one(
        &mut self,
        frames: &[Frame],
        messages: usize,
        batch: &Retry,
    ) -> Outcome {
        let mut failures = Vec::with_capacity(messages);
        for (index, frame) in frames.iter().enumerate() {
            let mut retry = batch.split();
            let sent = self.attempts(std::slice::from_ref(frame), &mut retry).await;
            let failure = match sent {
                Ok(()) => None,
                Err(Ended::Failed(failure)) => Some(failure),
                Err(Ended::Split) => Some(Failure::indeterminate("a single frame was split")),
            };
            if index < messages {
                failures.push(failure);
            }
        }
        self.take_back(frames, &failures);
        Outcome::Mixed(failures)
    }

    /// Numbers of messages that are certainly nowhere are given again: nobody need look for them.
    fn take_back(&mut self, frames: &[Frame], failures: &[Option<Failure>]) {
        // From behind: a number is taken back only if none follows it.
        for (frame, failure) in frames.iter().zip(failures).rev() {
            if failure.as_ref().is_some_and(Failure::is_certain) {
                self.publisher.take_back(frame);
            }
        }
    }

    async fn attempts(&mut self, frames: &[Frame], retry: &mut Retry) -> Result<(), Ended> {
        loop {
            let Err(error) = self.attempt(frames, retry.deadline()).await else {
                return Ok(());
            };
            let now = self.context.steady.now();
            let after = retry.failed(now, error.kind(), self.random.next_u64());
            debug!(group = %self.context.group, frames = frames.len(), %error, ?after, "publish failed");
            let failure = match after {
                After::Again(at) => {
                    sleep_until(&*self.context.steady, Some(at), LOOK_EVERY).await;
                    continue;
                }
                After::Split => return Err(Ended::Split),
                After::Unavailable => Failure::unavailable(error),
                After::Indeterminate => Failure::indeterminate(error),
                After::Rejected => Failure::rejected(error),
            };
            // Receivers must learn that something may be missing (U2): at once, and if that fails
            // as well, later.
            self.publisher.remind(now, frames);
            return Err(Ended::Failed(failure));
        }
    }

    /// One call of the backend. What takes too long, or panics, has an unknown outcome.
    async fn attempt(&self, frames: &[Frame], deadline: Moment) -> Result<(), BusError> {
        let unknown = |why: String| {
            let topic = frames
                .first()
                .map_or(Topic::new("*"), |frame| frame.topic.clone());
            BusError::indeterminate("publish", topic, why)
        };
        let left = deadline.since(self.context.steady.now());
        let within = (left / 2).max(SHORTEST_ATTEMPT);
        let call = AssertUnwindSafe(self.bus.publish(frames)).catch_unwind();
        match timeout(within, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => {
                let message = panic_message(&*panic);
                warn!(group = %self.context.group, error = message, "the backend panicked in publish");
                Err(unknown(format!("the backend panicked: {message}")))
            }
            Err(_) => Err(unknown(format!("no answer within {within:?}"))),
        }
    }

    /// Beacons are not retried here: messages must not wait for them.
    async fn send_beacons(&mut self, beacons: Vec<Frame>) {
        debug_assert!(beacons.iter().all(|frame| frame.kind == FrameKind::Beacon));
        if beacons.is_empty() {
            return;
        }
        let now = self.context.steady.now();
        let Err(error) = self.attempt(&beacons, now + BEACON_RETRY).await else {
            return;
        };
        debug!(group = %self.context.group, beacons = beacons.len(), %error, "beacons failed");
        match error.kind() {
            // Nothing will change that.
            ErrorKind::Rejected => {}
            ErrorKind::Unavailable | ErrorKind::Indeterminate | ErrorKind::Quarantined { .. } => {
                let again = self.context.steady.now() + BEACON_RETRY;
                self.publisher.remind(again, &beacons);
            }
        }
    }

    /// A stream whose origin ends says so with its last numbers: nobody will ask later.
    async fn send_last_beacons(&mut self) {
        if self.beacons {
            let farewell = self.publisher.retire(self.context.steady.now());
            self.send_beacons(farewell).await;
        }
    }
}

/// However the flusher ends, nobody waits for it any more.
impl Drop for Flusher {
    fn drop(&mut self) {
        self.outgoing.abandon();
    }
}

/// Why a batch was not sent as a whole.
enum Ended {
    Split,
    Failed(Failure),
}
