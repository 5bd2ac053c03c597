//! From the listening connection to the feeds: a packet is read once, and its frames handed to all who
//! subscribed to its topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use coordinator_core::relay::{Packed, Reference, Run, Ticket, Unpacker, Waiting};
use coordinator_core::{BadFrame, Frame, FrameError, Instance, Topic};

use super::ear::Hears;
use super::lock;
use super::queue::Queue;

/// Which stream: instance, topic, number.
type StreamId = (Instance, Topic, u64);

/// Fetches what a reference stands for, and gives it to [`Router::fetched`]. Must not block.
pub(super) type Fetch = Box<dyn Fn(Weak<Router>, Wanted) + Send + Sync>;

/// A message to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    channel: Bytes,
    stream: StreamId,
    ticket: Ticket,
    pub(super) reference: Reference,
}

/// Hands frames to feeds.
pub(super) struct Router {
    routes: Mutex<Routes>,
    fetch: Fetch,
    me: Weak<Router>,
}

#[derive(Debug, Default)]
struct Routes {
    feeds: Vec<Arc<Queue>>,
    channels: BTreeMap<Bytes, Vec<Arc<Queue>>>,
    /// Streams that wait for a message which is fetched (U7).
    waiting: BTreeMap<StreamId, Waiting>,
    tickets: u64,
}

impl Router {
    pub(super) fn new(fetch: Fetch) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            routes: Mutex::default(),
            fetch,
            me: me.clone(),
        })
    }

    /// Adds a feed that somebody still has.
    pub(super) fn add(&self, queue: &Weak<Queue>) {
        // Under the lock: a feed that is dropped now takes itself out behind this.
        let mut routes = lock(&self.routes);
        let Some(queue) = queue.upgrade() else {
            return;
        };
        for channel in &queue.channels {
            let route = routes.channels.entry(channel.clone());
            route.or_default().push(queue.clone());
        }
        routes.feeds.push(queue);
    }

    /// Takes a feed out, and drops it.
    pub(super) fn remove(&self, queue: Arc<Queue>) {
        let mut routes = lock(&self.routes);
        let others = |other: &Arc<Queue>| !Arc::ptr_eq(other, &queue);
        for channel in &queue.channels {
            if let Some(route) = routes.channels.get_mut(channel) {
                route.retain(others);
                if route.is_empty() {
                    routes.channels.remove(channel);
                }
            }
        }
        routes.feeds.retain(others);
        drop(queue);
    }

    /// A reference was resolved, or could not be in time.
    pub(super) fn fetched(&self, wanted: &Wanted, payload: Option<Bytes>) {
        let mut routes = lock(&self.routes);
        let Some(waiting) = routes.waiting.get_mut(&wanted.stream) else {
            return;
        };
        let free = waiting.settle(wanted.ticket, payload);
        if waiting.is_empty() {
            routes.waiting.remove(&wanted.stream);
        }
        routes.deliver(&wanted.channel, free);
    }
}

impl Hears for Router {
    fn message(&self, channel: &Bytes, payload: Bytes) {
        let mut routes = lock(&self.routes);
        let mut wanted = Vec::new();
        if let Err(error) = routes.read(channel, payload, &mut wanted) {
            let error = error.to_string();
            tracing::warn!(error, "a packet cannot be read");
            for queue in routes.channels.get(channel).into_iter().flatten() {
                queue.malformed(BadFrame::new(error.clone()));
            }
        }
        drop(routes);
        for wanted in wanted {
            (self.fetch)(self.me.clone(), wanted);
        }
    }

    fn set_connected(&self, connected: bool) {
        let mut routes = lock(&self.routes);
        // What waits is fetched no more: its gap is told.
        routes.waiting.clear();
        for feed in &routes.feeds {
            feed.set_connected(connected);
        }
    }

    fn set_heard(&self, channel: &Bytes, heard: bool) {
        let routes = lock(&self.routes);
        for feed in routes.channels.get(channel).into_iter().flatten() {
            feed.set_heard(channel, heard);
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

impl Routes {
    /// Delivers a packet, up to where it cannot be read any more.
    fn read(
        &mut self,
        channel: &Bytes,
        packet: Bytes,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), FrameError> {
        if !self.channels.contains_key(channel) {
            return Ok(());
        }
        let mut unpacker = Unpacker::new(packet)?;
        let mut frames = Vec::new();
        let ended = loop {
            match unpacker.next_frame() {
                Ok(Some(Packed::Whole(frame))) => frames.extend(self.pass(frame)),
                Ok(Some(Packed::Away(frame, reference))) => {
                    self.deliver(channel, std::mem::take(&mut frames));
                    wanted.extend(self.await_payload(channel, frame, reference));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.deliver(channel, frames);
        ended
    }

    /// The frame, unless its stream waits.
    fn pass(&mut self, frame: Frame) -> Option<Frame> {
        // Looked for only where there is any: the hot path pays nothing.
        if self.waiting.is_empty() {
            return Some(frame);
        }
        match self.waiting.get_mut(&stream(&frame)) {
            Some(waiting) => {
                waiting.push(frame);
                None
            }
            None => Some(frame),
        }
    }

    /// `None`: too much waits already.
    fn await_payload(
        &mut self,
        channel: &Bytes,
        frame: Frame,
        reference: Reference,
    ) -> Option<Wanted> {
        self.tickets += 1;
        let (ticket, stream) = (Ticket(self.tickets), stream(&frame));
        let waiting = self.waiting.entry(stream.clone()).or_default();
        waiting.wait(ticket, frame).then(|| Wanted {
            channel: channel.clone(),
            stream,
            ticket,
            reference,
        })
    }

    fn deliver(&self, channel: &Bytes, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let run = Run::new(frames);
        for queue in self.channels.get(channel).into_iter().flatten() {
            queue.push(&run);
        }
    }
}

fn stream(frame: &Frame) -> StreamId {
    (frame.instance, frame.topic.clone(), frame.stream)
}

/// A subscriber's place at the router, which ends with it.
#[derive(Debug)]
pub(super) struct Seat {
    router: Arc<Router>,
    queue: Arc<Queue>,
}

impl Seat {
    pub(super) fn new(router: Arc<Router>, channels: BTreeSet<Bytes>) -> Self {
        Self {
            router,
            queue: Arc::new(Queue::new(channels)),
        }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.router.remove(std::mem::take(&mut self.queue));
    }
}

#[cfg(test)]
mod tests;
