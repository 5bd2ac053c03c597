//! The bus: packets on channels; or, where messages must last, on streams, whose news the channels
//! carry (section 12).

mod aside;
mod ear;
mod echo;
mod line;
mod log;
mod queue;
mod router;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coordinator_core::{
    BusError, Capabilities, ClusterBus, Feed, FeedEvent, Frame, FrameKind, MAX_SCOPED_BYTES, Start,
    Topic, async_trait,
};
use tokio::sync::OnceCell;

use crate::hub::Hub;
use crate::names::Names;
use crate::trouble::Trouble;
use ear::{Ear, Hearing};
use line::{Line, Parcel};
use log::{Log, LogFeed, LogRouter};
use router::{Router, Seat};

/// The largest payload that is sent to every subscriber as it is; a larger one is stored aside. The server cuts
/// subscribers off who lag behind by some megabytes (`client-output-buffer-limit`), and a few large payloads are
/// as much.
const INLINE: usize = 64 * 1024;
/// The largest payload that one key, or one entry of a stream, is asked to hold. A subscriber fetches it while what follows waits.
const LARGEST: usize = 32 * 1024 * 1024;

/// The bus of one process.
#[derive(Debug)]
pub(crate) struct RedisBus {
    hub: Arc<Hub>,
    line: Line,
    mode: Mode,
    /// Dialled by the first subscriber.
    ear: OnceCell<Ear>,
}

#[derive(Debug)]
enum Mode {
    Live(Arc<Router>),
    Durable(Arc<Log>, Arc<LogRouter>),
}

impl RedisBus {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let mode = if hub.config.durable {
            Mode::Durable(Arc::new(Log::new(hub.clone())), Arc::default())
        } else {
            Mode::Live(Router::new(aside::fetcher(hub.client.clone())))
        };
        let log = match &mode {
            Mode::Live(_) => None,
            Mode::Durable(log, _) => Some(log.clone()),
        };
        Self {
            line: Line::new(hub.clone(), log),
            hub,
            mode,
            ear: OnceCell::new(),
        }
    }

    /// Refuses a batch as a whole, before any of it is out.
    fn check(batch: &[Frame]) -> Result<(), BusError> {
        for frame in batch {
            let rejected = |error: String| BusError::rejected("publish", &frame.topic, error);
            check_topic("publish", &frame.topic)?;
            let origin = frame.origin.check();
            origin.map_err(|bad| rejected(bad.to_string()))?;
            let given = frame.payload.len();
            if given > LARGEST {
                return Err(rejected(format!(
                    "the payload has {given} bytes, allowed are {LARGEST}"
                )));
            }
            if frame.stream == 0 || frame.sequence == 0 {
                return Err(rejected("streams and sequences count from 1".to_owned()));
            }
        }
        Ok(())
    }

    /// How each frame travels. What goes by reference is stored before the reference leaves (U7).
    async fn parcels(&self, batch: &[Frame]) -> Result<Vec<Parcel>, BusError> {
        let is_live = matches!(self.mode, Mode::Live(_));
        let mut parcels = Vec::with_capacity(batch.len());
        for frame in batch {
            let is_large = frame.payload.len() > INLINE && frame.kind == FrameKind::Message;
            let away = if is_live && is_large {
                let stored =
                    aside::store(self.hub.client.as_ref(), &self.hub.names, &frame.payload).await;
                Some(stored.map_err(|trouble| trouble.of_bus("publish", &frame.topic))?)
            } else {
                None
            };
            let frame = frame.clone();
            parcels.push(Parcel { frame, away });
        }
        Ok(parcels)
    }

    async fn ear(&self) -> Result<&Ear, Trouble> {
        let open = || {
            let hears: Arc<dyn ear::Hears> = match &self.mode {
                Mode::Live(router) => router.clone(),
                Mode::Durable(_, router) => router.clone(),
            };
            let how = self.hub.pubsub.subscribe();
            Ear::open(self.hub.client.clone(), &self.hub.names, how, hears)
        };
        self.ear.get_or_try_init(open).await
    }

    async fn listen(&self, router: &Arc<Router>, topics: &[Topic]) -> Result<LiveFeed, Trouble> {
        let channels: BTreeSet<Bytes> = topics
            .iter()
            .map(|topic| channel(&self.hub.names, topic))
            .collect();
        let seat = Seat::new(router.clone(), channels.clone());
        let queue = Arc::downgrade(seat.queue());
        let router = router.clone();
        let then = Box::new(move || router.add(&queue));
        let hearing = self.ear().await?.listen(channels, then).await?;
        Ok(LiveFeed {
            seat,
            _hearing: hearing,
            _hub: self.hub.clone(),
        })
    }
}

#[async_trait]
impl ClusterBus for RedisBus {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        Self::check(batch)?;
        let bytes = batch.iter().map(|frame| frame.payload.len()).sum();
        let room = self.line.room(bytes).await;
        let _room = room.map_err(|trouble| trouble.of_bus("publish", &first.topic))?;
        let parcels = self.parcels(batch).await?;
        self.line.send(parcels, &first.topic).await
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        for topic in topics {
            check_topic("subscribe to", topic)?;
        }
        let any = topics.first().cloned().unwrap_or(Topic::new("*"));
        let failed = |trouble: Trouble| trouble.of_bus("subscribe to", &any);
        match &self.mode {
            Mode::Live(router) => {
                start.must_be_now()?;
                let feed = self.listen(router, topics).await;
                Ok(Box::new(feed.map_err(failed)?))
            }
            Mode::Durable(log, router) => {
                let ear = self.ear().await.map_err(failed)?;
                let feed = LogFeed::open(ear, router, log, topics, &start).await;
                Ok(Box::new(feed?))
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self.mode {
            Mode::Live(_) => Capabilities::new()
                .inline_limit(INLINE)
                .payload_limit(LARGEST),
            Mode::Durable(..) => Capabilities::new().durable().payload_limit(LARGEST),
        }
    }
}

fn check_topic(operation: &'static str, topic: &Topic) -> Result<(), BusError> {
    let given = topic.name().len();
    if (1..=MAX_SCOPED_BYTES).contains(&given) {
        return Ok(());
    }
    let error = format!("the topic's name has {given} bytes, allowed are 1 to {MAX_SCOPED_BYTES}");
    Err(BusError::rejected(operation, topic, error))
}

/// The channel of a topic.
fn channel(names: &Names, topic: &Topic) -> Bytes {
    names.tag(topic.name()).key("bus", "")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscription to what is sent from now on.
struct LiveFeed {
    seat: Seat,
    _hearing: Hearing,
    /// The connections live as long as any part of the backend.
    _hub: Arc<Hub>,
}

#[async_trait]
impl Feed for LiveFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        let queue = self.seat.queue();
        loop {
            if let Some(event) = queue.pop() {
                return Some(event);
            }
            queue.arrived().await;
        }
    }
}
