//! Publishers and subscribers, which take nothing for granted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator_core::{
    Bytes, ClusterBus, Feed, FeedEvent, Frame, Instance, MemberId, Start, Topic,
};

use crate::lab::Lab;
use crate::report::{Stop, Verdict, broken, require_eq};

pub(crate) type Bus = Lab<dyn ClusterBus>;

/// A process with a connection to the bus.
pub(crate) struct Peer<'a> {
    pub(crate) lab: &'a Bus,
    pub(crate) bus: Arc<dyn ClusterBus>,
    origin: MemberId,
    instance: Instance,
    sequences: RefCell<BTreeMap<Topic, u64>>,
}

/// One subscription, read in order.
pub(crate) struct Listener<'a> {
    pub(crate) lab: &'a Bus,
    pub(crate) feed: Box<dyn Feed>,
}

impl Bus {
    /// A peer with a connection of its own.
    pub(crate) async fn peer(&self, origin: &str) -> Result<Peer<'_>, Stop> {
        Ok(self.peer_on(self.connect().await?, origin))
    }

    pub(crate) fn peer_on(&self, bus: Arc<dyn ClusterBus>, origin: &str) -> Peer<'_> {
        Peer {
            lab: self,
            bus,
            origin: origin.into(),
            instance: self.instance(),
            sequences: RefCell::default(),
        }
    }
}

impl<'a> Peer<'a> {
    /// The next message of this peer's stream on a topic.
    pub(crate) fn frame(&self, topic: &str, payload: impl Into<Bytes>) -> Frame {
        let topic = Topic::named(topic);
        let mut sequences = self.sequences.borrow_mut();
        let sequence = sequences.entry(topic.clone()).or_default();
        *sequence += 1;
        Frame::new(topic, self.origin.clone(), self.instance, payload.into()).sequence(*sequence)
    }

    /// A batch of small messages on one topic.
    pub(crate) fn frames(&self, topic: &str, count: usize) -> Vec<Frame> {
        (0..count)
            .map(|number| self.frame(topic, format!("{} {number}", self.origin)))
            .collect()
    }

    pub(crate) async fn publish(&self, batch: &[Frame]) -> Verdict {
        let published = self.lab.answer("publish", self.bus.publish(batch));
        published.await
    }

    pub(crate) async fn listen(&self, topics: &[&str]) -> Result<Listener<'a>, Stop> {
        self.listen_from(topics, Start::Now).await
    }

    pub(crate) async fn listen_from(
        &self,
        topics: &[&str],
        start: Start,
    ) -> Result<Listener<'a>, Stop> {
        let topics: Vec<Topic> = topics.iter().map(|topic| Topic::named(*topic)).collect();
        let asked = self.bus.subscribe(&topics, start);
        let feed = self.lab.answer("subscribe", asked).await?;
        Ok(Listener {
            lab: self.lab,
            feed,
        })
    }
}

impl Listener<'_> {
    pub(crate) async fn event(&mut self) -> Result<FeedEvent, Stop> {
        let event = self.lab.within("the next event", self.feed.next()).await?;
        event.ok_or_else(|| broken("an open feed", "its end"))
    }

    /// The next frame: nothing else may come before it.
    pub(crate) async fn frame(&mut self) -> Result<Frame, Stop> {
        match self.event().await? {
            FeedEvent::Frame { frame, .. } => Ok(frame),
            other @ (FeedEvent::Gap(_)
            | FeedEvent::Malformed(_)
            | FeedEvent::Disconnected
            | FeedEvent::Connected) => Err(broken("a frame: nothing was lost or cut", other)),
        }
    }

    /// The next frames are these, in this order.
    pub(crate) async fn gets(&mut self, wanted: &[Frame]) -> Verdict {
        for frame in wanted {
            let seen = self.frame().await?;
            require_eq("the next frame", &Short(&seen), &Short(frame))?;
        }
        Ok(())
    }

    /// The next frames are these, in order for each publisher and topic.
    pub(crate) async fn gets_in_some_order(&mut self, wanted: &[Frame]) -> Verdict {
        let mut streams = BTreeMap::<_, Vec<&Frame>>::new();
        for frame in wanted.iter().rev() {
            streams
                .entry((frame.instance, frame.topic.clone()))
                .or_default()
                .push(frame);
        }
        for _ in wanted {
            let seen = self.frame().await?;
            let stream = streams.get_mut(&(seen.instance, seen.topic.clone()));
            let next = stream.and_then(Vec::pop);
            require_eq(
                "the next frame of its stream",
                &Some(Short(&seen)),
                &next.map(Short),
            )?;
        }
        Ok(())
    }
}

/// A frame that tells of itself without its whole payload.
#[derive(PartialEq)]
pub(crate) struct Short<'a>(pub(crate) &'a Frame);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(frame) = self;
        let bytes = frame.payload.len();
        let start = frame.payload.slice(..bytes.min(24));
        write!(
            f,
            "frame {} of stream {} of {} ({}) on {:?}, {:?}, age {:?}, {bytes} bytes: {start:?}",
            frame.sequence,
            frame.stream,
            frame.origin,
            frame.instance,
            frame.topic.name(),
            frame.kind,
            frame.age,
        )
    }
}
