//! What all publishers of a process share: what is published while a round trip is in flight leaves
//! together in the next one (U2).
//!
//! There is no task that sends: whoever publishes and finds the line free sends for all who wait. So
//! a message published alone leaves at once, without a change of tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coordinator_core::relay::{Packer, Reference};
use coordinator_core::{BusError, Frame, Topic};
use futures_util::future::join_all;
use tokio::sync::{Mutex as Turn, Semaphore, SemaphorePermit, oneshot};

use super::lock;
use super::log::Log;
use crate::hub::Hub;
use crate::trouble::Trouble;

/// So many bytes wait to be sent (U8): more of them wait outside, as long as their caller likes.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// A packet ends with the frame that makes it as long as this.
const PACKET: usize = 64 * 1024;

/// A frame to be sent.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) frame: Frame,
    /// Where its payload lies, if not in it.
    pub(super) away: Option<Reference>,
}

/// Frames to send, and who waits for it.
#[derive(Debug)]
struct Job {
    parcels: Vec<Parcel>,
    answer: oneshot::Sender<Result<(), Failure>>,
}

/// Why something was not sent: one answer for several callers.
#[derive(Debug, Clone)]
enum Failure {
    Unavailable(Arc<str>),
    Indeterminate(Arc<str>),
    Rejected(Arc<str>),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable(error) => Self::Unavailable(error.to_string().into()),
            Trouble::Indeterminate(error) => Self::Indeterminate(error.to_string().into()),
            Trouble::Rejected(error) | Trouble::Denied(error) => {
                Self::Rejected(error.to_string().into())
            }
            other @ (Trouble::Quarantined(_)
            | Trouble::OtherMaxTtl { .. }
            | Trouble::Elsewhere(_)) => Self::Unavailable(other.to_string().into()),
        }
    }
}

impl Failure {
    fn of(self, topic: &Topic) -> BusError {
        match self {
            Self::Unavailable(error) => BusError::unavailable("publish", topic, &*error),
            Self::Indeterminate(error) => BusError::indeterminate("publish", topic, &*error),
            Self::Rejected(error) => BusError::rejected("publish", topic, &*error),
        }
    }
}

/// The packets of each topic, in order.
type Load = BTreeMap<Topic, Vec<Packer>>;

/// The way out.
#[derive(Debug)]
pub(super) struct Line {
    hub: Arc<Hub>,
    /// Where messages are kept, if they are.
    log: Option<Arc<Log>>,
    room: Semaphore,
    waiting: Mutex<Vec<Job>>,
    turn: Turn<()>,
}

impl Line {
    pub(super) fn new(hub: Arc<Hub>, log: Option<Arc<Log>>) -> Self {
        Self {
            hub,
            log,
            room: Semaphore::new(MAX_WAITING),
            waiting: Mutex::default(),
            turn: Turn::new(()),
        }
    }

    /// Waits until there is room for so many bytes, which lasts until the permit is dropped.
    pub(super) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Trouble> {
        let bytes = u32::try_from(bytes.min(MAX_WAITING)).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(bytes).await;
        room.map_err(|_| Trouble::closed())
    }

    /// A dropped call leaves nothing behind that would be sent later: by then it would be stale (E16).
    pub(super) async fn send(&self, parcels: Vec<Parcel>, topic: &Topic) -> Result<(), BusError> {
        let (answer, mut answered) = oneshot::channel();
        lock(&self.waiting).push(Job { parcels, answer });
        // Whoever sent before may have sent this as well.
        let sent = tokio::select! {
            biased;
            sent = &mut answered => sent,
            _turn = self.turn.lock() => {
                if let Ok(sent) = answered.try_recv() {
                    Ok(sent)
                } else {
                    self.flush().await;
                    answered.await
                }
            }
        };
        let gone = |_| Failure::Indeterminate("the one who sent it gave up".into());
        let sent = sent.map_err(gone).and_then(|sent| sent);
        sent.map_err(|failure| failure.of(topic))
    }

    /// Sends all that waits, in one round trip.
    async fn flush(&self) {
        let jobs = std::mem::take(&mut *lock(&self.waiting));
        let (load, waiting) = packed(jobs);
        let failures = match &self.log {
            None => self.publish(load).await,
            Some(log) => store(log, load).await,
        };
        for (topics, answer) in waiting {
            let failure = topics.iter().find_map(|topic| failures.get(topic));
            // One who gave up waits no longer.
            answer
                .send(failure.map_or(Ok(()), |failure| Err(failure.clone())))
                .ok();
        }
    }

    async fn publish(&self, load: Load) -> BTreeMap<Topic, Failure> {
        let mut topics = Vec::with_capacity(load.len());
        let mut batch = Vec::with_capacity(load.len());
        for (topic, packets) in load {
            let channel = super::channel(&self.hub.names, &topic);
            topics.extend(packets.iter().map(|_| topic.clone()));
            let packets = packets.into_iter().map(Packer::finish);
            batch.extend(packets.map(|packet: Bytes| (channel.clone(), packet)));
        }
        let how = *self.hub.pubsub.borrow();
        let sent = self.hub.client.publish(how, batch).await;
        let mut failures = BTreeMap::new();
        for (topic, sent) in topics.into_iter().zip(sent) {
            if let Err(trouble) = sent {
                failures.entry(topic).or_insert_with(|| trouble.into());
            }
        }
        failures
    }
}

/// Topics lie on different servers of a cluster: each has a call of its own, and all leave together.
async fn store(log: &Log, load: Load) -> BTreeMap<Topic, Failure> {
    let calls = load.into_iter().map(async |(topic, packets)| {
        let failed = log.append(&topic, packets).await.err()?;
        Some((topic, Failure::from(failed)))
    });
    join_all(calls).await.into_iter().flatten().collect()
}

type Answer = (Vec<Topic>, oneshot::Sender<Result<(), Failure>>);

/// Packs what somebody still waits for.
fn packed(jobs: Vec<Job>) -> (Load, Vec<Answer>) {
    let mut load = Load::new();
    let mut answers = Vec::with_capacity(jobs.len());
    for Job { parcels, answer } in jobs {
        if answer.is_closed() {
            continue;
        }
        let mut topics: Vec<Topic> = Vec::with_capacity(1);
        for Parcel { frame, away } in parcels {
            if topics.last() != Some(&frame.topic) {
                topics.push(frame.topic.clone());
            }
            let packets = load.entry(frame.topic.clone()).or_default();
            let packer = packer(packets, frame.payload.len());
            match away {
                None => packer.whole(&frame),
                Some(to) => packer.reference(&frame, &to),
            }
        }
        answers.push((topics, answer));
    }
    (load, answers)
}

/// The last packet, or a new one if this payload would make it too long.
fn packer(packets: &mut Vec<Packer>, payload: usize) -> &mut Packer {
    let is_full = |last: &Packer| last.frames() > 0 && last.bytes() + payload > PACKET;
    if packets.last().is_none_or(is_full) {
        packets.push(Packer::default());
    }
    let last = packets.len() - 1;
    &mut packets[last]
}
