//! The bus: NOTIFY for what fits it, rows for what is too large or must last (section 12).

mod janitor;
mod line;
mod log;
mod outbox;
mod packet;
mod queue;
mod router;
mod spill;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    BusError, Capabilities, ClusterBus, Feed, FeedEvent, Frame, FrameKind, Start, Topic,
    async_trait,
};
use tokio::time::timeout;

use crate::config::{Cursors, Spill};
use crate::error::{CallError, ConnectError};
use crate::hub::{Hub, query};
use janitor::Janitor;
use line::{Line, Row, Way};
use log::{Log, LogFeed};
pub use outbox::Outbox;
use outbox::Watch;
use packet::{Charset, Reference};
use queue::Queue;
use router::Router;

/// The largest payload that one NOTIFY carries: of text, with names of everyday length. Longer names
/// leave less room, and binary payloads take a third more.
const INLINE: usize = 7_800;
/// The largest payload that a row is asked to hold.
const LARGEST: usize = 256 * 1024 * 1024;
/// `subscribe` waits so long for the listening session.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// The bus of one process.
#[derive(Debug)]
pub(crate) struct PostgresBus {
    hub: Arc<Hub>,
    line: Arc<Line>,
    router: Arc<Router>,
    log: Arc<Log>,
    watch: Watch,
    janitor: Janitor,
    spill: Spill,
}

impl PostgresBus {
    /// The bus of a hub that listens.
    pub(crate) async fn new(hub: Arc<Hub>) -> Result<Self, ConnectError> {
        let config = &hub.config;
        if config.spill == Spill::Always {
            log::refuse_restored(&hub).await?;
        }
        let pool = hub.pool.clone();
        let router = Router::new(spill::fetcher(&hub.schema, pool.clone()));
        let ear = router.clone();
        hub.bells
            .hand_packets_to(Arc::new(move |news| ear.hear(news)));
        let numbers = config.cursors == Cursors::Counter;
        Ok(Self {
            line: Arc::new(Line::new(hub.clone(), numbers)),
            router,
            log: Arc::new(Log::new(&hub.schema, pool.clone(), config.cursors)),
            watch: Watch::new(pool.clone()),
            janitor: Janitor::start(config, &hub.schema, pool),
            spill: config.spill,
            hub,
        })
    }

    /// Refuses a batch as a whole, before any of it is out.
    fn check(&self, batch: &[Frame]) -> Result<(), BusError> {
        let limit = self.capabilities().payload_limit.unwrap_or(LARGEST);
        for frame in batch {
            let rejected = |error: String| BusError::rejected("publish", &frame.topic, error);
            check_topic("publish", &frame.topic)?;
            frame
                .origin
                .check()
                .map_err(|bad| rejected(bad.to_string()))?;
            let given = frame.payload.len();
            if given > limit {
                return Err(rejected(format!(
                    "the payload has {given} bytes, allowed are {limit}"
                )));
            }
            if frame.stream == 0 || frame.sequence == 0 {
                return Err(rejected("streams and sequences count from 1".to_owned()));
            }
        }
        Ok(())
    }

    /// How each frame travels. What goes by reference is stored now: its row is committed before the
    /// reference leaves (U7).
    async fn ways(&self, charset: Charset, batch: &[Frame]) -> Result<Vec<Way>, BusError> {
        let mut ways = Vec::with_capacity(batch.len());
        for frame in batch {
            ways.push(match packet::fits(charset, frame) {
                Ok(()) => Way::Whole,
                Err(too_large) if self.spill == Spill::Never || frame.kind == FrameKind::Beacon => {
                    return Err(BusError::rejected("publish", &frame.topic, too_large));
                }
                Err(_) if frame.payload.len() <= router::MAX_FRAGMENTED => Way::Fragments,
                Err(_) => Way::Reference(self.stored(frame).await?),
            });
        }
        Ok(ways)
    }

    async fn stored(&self, frame: &Frame) -> Result<Reference, BusError> {
        let row = self.line.spill(&frame.payload).await;
        self.janitor.spilled();
        Ok(Reference {
            row: row.map_err(|error| error.of_bus("publish", &frame.topic))?,
            bytes: frame.payload.len() as u64,
        })
    }

    async fn send(&self, batch: &[Frame], topic: &Topic) -> Result<(), BusError> {
        let failed = |error: CallError| error.of_bus("publish", topic);
        let charset = self.line.charset().await.map_err(failed)?;
        let ways = self.ways(charset, batch).await?;
        let frames = batch.iter().cloned().zip(ways).collect();
        self.line.send(frames).await.map_err(failed)
    }

    /// Stores the frames, and rings.
    async fn store(&self, batch: &[Frame]) -> Result<(), BusError> {
        let mut rows = Vec::with_capacity(batch.len());
        for frame in batch {
            let row = Row::new(frame);
            rows.push(row.map_err(|bad| BusError::rejected("publish", &frame.topic, bad))?);
        }
        let stored = self.line.store(rows);
        let topic = batch
            .first()
            .map_or(Topic::new("*"), |frame| frame.topic.clone());
        stored
            .await
            .map_err(|error| error.of_bus("publish", &topic))
    }

    /// A feed of the log, which listens for bells.
    async fn read(
        &self,
        topics: &[Topic],
        start: &Start,
        any: &Topic,
    ) -> Result<LogFeed, BusError> {
        let news = self.listen(BTreeSet::new()).await;
        let news = news.map_err(|error| error.of_bus("subscribe to", any))?;
        let begin = self.log.begin(topics, start).await?;
        Ok(LogFeed::new(self.log.clone(), begin, news, &self.hub))
    }

    /// A feed that is live.
    async fn listen(&self, topics: BTreeSet<Topic>) -> Result<LiveFeed, CallError> {
        let down = || CallError::nothing_happened("the listening session is down");
        let mut up = self.router.up();
        let waited = timeout(LIVE_WITHIN, up.wait_for(|up| *up)).await;
        waited.map_err(|_| down())?.map_err(|_| down())?;
        self.caught_up().await?;
        let feed = LiveFeed {
            queue: Arc::new(Queue::new(topics)),
            router: self.router.clone(),
            _hub: self.hub.clone(),
        };
        // Between the wait and this the session may have ended once more.
        if !self.router.add(&feed.queue) {
            return Err(down());
        }
        Ok(feed)
    }

    /// Waits until all that was sent before has arrived: it is not for whoever subscribes now. The
    /// server sends what it has for a session before it is ready for the session's next statement.
    async fn caught_up(&self) -> Result<(), CallError> {
        let link = self.hub.witness();
        let link = link.ok_or_else(|| CallError::refused("nobody can listen through a pooler"))?;
        let session = link.session().await?;
        let asked = query(&session, "select 1", &[]);
        match timeout(LIVE_WITHIN, asked).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(CallError::nothing_happened(
                "the listening session is silent",
            )),
        }
    }
}

#[async_trait]
impl ClusterBus for PostgresBus {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        self.check(batch)?;
        let bytes = batch.iter().map(|frame| frame.payload.len()).sum();
        let room = self.line.room(bytes).await;
        let _room = room.map_err(|error| error.of_bus("publish", &first.topic))?;
        match self.spill {
            Spill::Always => self.store(batch).await,
            Spill::Overflow | Spill::Never => self.send(batch, &first.topic).await,
        }
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        for topic in topics {
            check_topic("subscribe to", topic)?;
        }
        let any = topics.first().cloned().unwrap_or(Topic::new("*"));
        if self.spill == Spill::Always {
            return Ok(Box::new(self.read(topics, &start, &any).await?));
        }
        start.must_be_now()?;
        let feed = self.listen(topics.iter().cloned().collect()).await;
        Ok(Box::new(
            feed.map_err(|error| error.of_bus("subscribe to", &any))?,
        ))
    }

    fn capabilities(&self) -> Capabilities {
        match self.spill {
            Spill::Overflow => Capabilities::new().inline_limit(INLINE),
            Spill::Always => Capabilities::new().durable(),
            Spill::Never => Capabilities::new()
                .inline_limit(INLINE)
                .payload_limit(INLINE),
        }
    }
}

fn check_topic(operation: &'static str, topic: &Topic) -> Result<(), BusError> {
    let given = topic.name().len();
    let limit = coordinator_core::MAX_SCOPED_BYTES;
    if (1..=limit).contains(&given) {
        return Ok(());
    }
    let error = format!("the topic's name has {given} bytes, allowed are 1 to {limit}");
    Err(BusError::rejected(operation, topic, error))
}

/// A subscription to what is sent from now on.
#[derive(Debug)]
struct LiveFeed {
    queue: Arc<Queue>,
    router: Arc<Router>,
    /// The sessions live as long as any part of the backend.
    _hub: Arc<Hub>,
}

impl LiveFeed {
    fn pop(&self) -> Option<FeedEvent> {
        self.queue.pop()
    }

    /// Cancel safe.
    async fn arrived(&self) {
        self.queue.arrived().await;
    }
}

#[async_trait]
impl Feed for LiveFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            if let Some(event) = self.pop() {
                return Some(event);
            }
            self.arrived().await;
        }
    }
}

impl Drop for LiveFeed {
    fn drop(&mut self) {
        self.router.remove(&self.queue);
    }
}
