//! From the listening session to the feeds: a packet is read once, and each frame handed to those
//! who subscribed to its topic.

mod partial;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use coordinator_core::relay::{Run, Ticket, Waiting};
use coordinator_core::{BadFrame, Bytes, Frame, FrameKind, MemberId, Topic};
use tokio::sync::watch;

use super::packet::{Item, PacketError, Reader, Reference, StreamHead};
use super::queue::Queue;
use crate::bells::News;
use crate::session::lock;
pub(super) use partial::MAX_FRAGMENTED;
use partial::Partials;

/// Which stream: instance, topic, number.
pub(super) type StreamId = (coordinator_core::Instance, Topic, u64);

/// Fetches what a reference stands for, and gives it to [`Router::fetched`]. Must not block.
pub(super) type Fetch = Box<dyn Fn(Weak<Router>, Wanted) + Send + Sync>;

/// A message to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) stream: StreamId,
    pub(super) ticket: Ticket,
    pub(super) reference: Reference,
}

/// Hands frames to feeds.
pub(super) struct Router {
    routes: Mutex<Routes>,
    up: watch::Sender<bool>,
    fetch: Fetch,
    me: Weak<Router>,
}

#[derive(Debug, Default)]
struct Routes {
    feeds: Vec<Arc<Queue>>,
    /// By the topic's name.
    topics: BTreeMap<String, Route>,
    partials: Partials,
    held: BTreeMap<StreamId, Waiting>,
    tickets: u64,
}

#[derive(Debug)]
struct Route {
    topic: Topic,
    queues: Vec<Arc<Queue>>,
}

impl Router {
    pub(super) fn new(fetch: Fetch) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            routes: Mutex::default(),
            up: watch::Sender::new(false),
            fetch,
            me: me.clone(),
        })
    }

    /// What the listening session has to say.
    pub(super) fn hear(&self, news: News) {
        match news {
            News::Packet(packet) => self.packet(packet),
            News::Connected => self.set_connected(true),
            News::Disconnected => self.set_connected(false),
        }
    }

    /// Whether the session listens, as it changes.
    pub(super) fn up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Adds a feed. Says whether it is live.
    pub(super) fn add(&self, queue: &Arc<Queue>) -> bool {
        let mut routes = lock(&self.routes);
        for topic in &queue.topics {
            let route = routes.topics.entry(topic.name().to_owned());
            let route = route.or_insert_with(|| Route {
                topic: topic.clone(),
                queues: Vec::new(),
            });
            route.queues.push(queue.clone());
        }
        routes.feeds.push(queue.clone());
        // Told under the same lock as the change itself: see `set_connected`.
        *self.up.borrow()
    }

    /// Takes a feed out.
    pub(super) fn remove(&self, queue: &Arc<Queue>) {
        let mut routes = lock(&self.routes);
        let others = |other: &Arc<Queue>| !Arc::ptr_eq(other, queue);
        for topic in &queue.topics {
            if let Some(route) = routes.topics.get_mut(topic.name()) {
                route.queues.retain(others);
                if route.queues.is_empty() {
                    routes.topics.remove(topic.name());
                }
            }
        }
        routes.feeds.retain(others);
    }

    /// A reference was resolved, or could not be in time.
    pub(super) fn fetched(&self, wanted: &Wanted, payload: Option<Bytes>) {
        let mut routes = lock(&self.routes);
        let Some(held) = routes.held.get_mut(&wanted.stream) else {
            return;
        };
        let free = held.settle(wanted.ticket, payload);
        if held.is_empty() {
            routes.held.remove(&wanted.stream);
        }
        routes.deliver(wanted.stream.1.name(), free);
    }

    fn set_connected(&self, connected: bool) {
        let mut routes = lock(&self.routes);
        // What was cut off in the middle will not be completed (U6).
        routes.partials.clear();
        routes.held.clear();
        self.up.send_replace(connected);
        for feed in &routes.feeds {
            feed.set_connected(connected);
        }
    }

    fn packet(&self, packet: Bytes) {
        let mut routes = lock(&self.routes);
        let mut wanted = Vec::new();
        if let Err(error) = routes.read(packet, &mut wanted) {
            let error = error.to_string();
            tracing::warn!(error, "a packet cannot be read");
            for feed in &routes.feeds {
                feed.malformed(BadFrame::new(error.clone()));
            }
        }
        drop(routes);
        for wanted in wanted {
            (self.fetch)(self.me.clone(), wanted);
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("up", &*self.up.borrow())
            .finish_non_exhaustive()
    }
}

/// A stream that somebody listens to, while its items are read.
struct Listened {
    topic: Topic,
    origin: MemberId,
    head: StreamHead,
    frames: Vec<Frame>,
}

impl Listened {
    fn id(&self) -> StreamId {
        (self.head.instance, self.topic.clone(), self.head.stream)
    }

    fn frame(&self, reader: &Reader, kind: FrameKind, payload: Bytes) -> Frame {
        let (topic, origin) = (self.topic.clone(), self.origin.clone());
        let mut frame = Frame::new(topic, origin, self.head.instance, payload);
        frame.stream = self.head.stream;
        frame.sequence = reader.sequence();
        frame.age = reader.age();
        frame.kind = kind;
        frame
    }
}

impl Routes {
    /// Delivers a packet, up to where it cannot be read any more.
    fn read(&mut self, packet: Bytes, wanted: &mut Vec<Wanted>) -> Result<(), PacketError> {
        let mut reader = Reader::new(packet)?;
        let mut at: Option<Listened> = None;
        loop {
            let item = match reader.next() {
                Ok(Some(item)) => item,
                ended => {
                    self.flush(at);
                    return ended.map(drop);
                }
            };
            if let Item::Stream(head) = item {
                self.flush(at.take());
                at = self.listened(head);
            } else if let Some(at) = &mut at {
                let read = self.item(&reader, at, item, wanted);
                if let Err(error) = read {
                    let frames = std::mem::take(&mut at.frames);
                    self.deliver(at.topic.name(), frames);
                    return Err(error);
                }
            }
        }
    }

    fn listened(&self, head: StreamHead) -> Option<Listened> {
        let route = self.topics.get(&head.topic)?;
        Some(Listened {
            topic: route.topic.clone(),
            origin: MemberId::new(head.origin.as_str()),
            head,
            frames: Vec::new(),
        })
    }

    fn flush(&mut self, at: Option<Listened>) {
        if let Some(at) = at {
            self.deliver(at.topic.name(), at.frames);
        }
    }

    fn item(
        &mut self,
        reader: &Reader,
        at: &mut Listened,
        item: Item,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), PacketError> {
        let frame = match item {
            Item::Stream(_) => return Ok(()),
            Item::Message(blob) => at.frame(reader, FrameKind::Message, reader.bytes(&blob)?),
            Item::Beacon(blob) => at.frame(reader, FrameKind::Beacon, reader.bytes(&blob)?),
            Item::Fragment { index, count, blob } => {
                let piece = partial::Piece {
                    sequence: reader.sequence(),
                    index,
                    count,
                    bytes: reader.bytes(&blob)?,
                };
                match self.partials.add(&at.id(), piece) {
                    Some(whole) => at.frame(reader, FrameKind::Message, whole),
                    None => return Ok(()),
                }
            }
            Item::Reference(reference) => {
                let frames = std::mem::take(&mut at.frames);
                self.deliver(at.topic.name(), frames);
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                let frame = at.frame(reader, FrameKind::Message, Bytes::new());
                if self.held.entry(at.id()).or_default().wait(ticket, frame) {
                    let stream = at.id();
                    wanted.push(Wanted {
                        stream,
                        ticket,
                        reference,
                    });
                }
                return Ok(());
            }
        };
        // Looked for only where there is any: the hot path pays nothing.
        if !self.held.is_empty()
            && let Some(held) = self.held.get_mut(&at.id())
        {
            held.push(frame);
        } else {
            at.frames.push(frame);
        }
        Ok(())
    }

    /// Hands on frames of one topic.
    fn deliver(&self, topic: &str, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let Some(route) = self.topics.get(topic) else {
            return;
        };
        let run = Run::new(frames);
        for queue in &route.queues {
            queue.push(&run);
        }
    }
}

#[cfg(test)]
mod tests;
