//! The cluster bus: frames out, a feed of frames and gaps in.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::errors::{BoxError, BusError};
use crate::names::{BadName, MemberId, check_name};
use crate::numbers::Instance;

/// A named channel of messages of one type. Declare it once, as a `const`, and use it on both
/// sides: so subscribers expect what publishers send.
pub struct Topic<T = Bytes> {
    name: TopicName,
    payload: PhantomData<fn() -> T>,
}

/// Cheap to clone in both forms: every message that is delivered carries its topic.
#[derive(Clone)]
enum TopicName {
    Static(&'static str),
    Shared(Arc<str>),
}

impl<T> Topic<T> {
    /// The topic of this name, for a `const`.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name: TopicName::Static(name),
            payload: PhantomData,
        }
    }

    /// The topic of a name made at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: TopicName::Shared(name.into().into()),
            payload: PhantomData,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match &self.name {
            TopicName::Static(name) => name,
            TopicName::Shared(name) => name,
        }
    }

    /// The same topic, as raw bytes.
    pub fn untyped(&self) -> Topic {
        Topic {
            name: self.name.clone(),
            payload: PhantomData,
        }
    }

    /// Whether a bus will take this name: 1 to 512 bytes.
    pub fn check(&self) -> Result<(), BadName> {
        check_name("topic", self.name())
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            payload: PhantomData,
        }
    }
}

impl<T> PartialEq for Topic<T> {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl<T> Eq for Topic<T> {}

impl<T> PartialOrd for Topic<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Topic<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name().cmp(other.name())
    }
}

impl<T> fmt::Display for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", self.name())
    }
}

impl<T> From<&Topic<T>> for Topic {
    fn from(topic: &Topic<T>) -> Self {
        topic.untyped()
    }
}

/// What a message carries: to bytes and back.
pub trait Payload: Sized + Send + 'static {
    /// The bytes to send.
    fn encode(&self) -> Result<Bytes, BoxError>;

    /// What the bytes mean.
    fn decode(bytes: Bytes) -> Result<Self, BoxError>;
}

impl Payload for Bytes {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(self.clone())
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(bytes)
    }
}

impl Payload for String {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Self::from_utf8(bytes.into())?)
    }
}

/// A place in a durable bus's log: opaque text that can be kept anywhere, and resumed from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// The cursor that is written so.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Now,
    /// With what follows this place in the log. Only a durable bus can.
    After(Cursor),
    /// With the oldest message still kept. Only a durable bus can.
    Oldest,
}

/// A bus that keeps nothing was asked to start in the past.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this bus keeps no messages: subscribe with `Start::Now`, not {given}")]
pub struct KeepsNothing {
    given: &'static str,
}

impl Start {
    /// For buses that keep nothing: an error unless this is [`Start::Now`].
    pub fn must_be_now(&self) -> Result<(), BusError> {
        let given = match self {
            Self::Now => return Ok(()),
            Self::After(_) => "`Start::After`",
            Self::Oldest => "`Start::Oldest`",
        };
        Err(BusError::rejected(
            "subscribe",
            Topic::new("*"),
            KeepsNothing { given },
        ))
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A message. `sequence` is its own.
    Message,
    /// No message: `sequence` is the last one of the stream, so that a lost tail is seen (U3).
    Beacon,
}

/// One message as it travels, stamped by its publisher.
///
/// A *stream* is (instance, topic, stream number); its sequence counts from 1 (rule U1).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// The channel.
    pub topic: Topic,
    /// Who published it.
    pub origin: MemberId,
    /// Which start of that process.
    pub instance: Instance,
    /// Which stream of that instance and topic: 1, and higher where an older one was evicted.
    pub stream: u64,
    /// The place in the stream, from 1.
    pub sequence: u64,
    /// How long before sending the stream began.
    pub age: Duration,
    /// A message, or a beacon.
    pub kind: FrameKind,
    /// What is carried.
    pub payload: Bytes,
}

impl Frame {
    /// The first message of an instance's first stream on a topic.
    pub fn new(topic: Topic, origin: MemberId, instance: Instance, payload: Bytes) -> Self {
        Self {
            topic,
            origin,
            instance,
            stream: 1,
            sequence: 1,
            age: Duration::ZERO,
            kind: FrameKind::Message,
            payload,
        }
    }

    /// The same frame, at another place in its stream.
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.sequence = sequence;
        self
    }
}

/// A stretch of messages that did not arrive: loss that is reported, never hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The channel; `None`: any of those subscribed to.
    pub topic: Option<Topic>,
    /// Whose messages are missing; `None`: perhaps anybody's.
    pub origin: Option<MemberId>,
    /// How many; `None`: unknown, perhaps none.
    pub missing: Option<u64>,
    /// For a durable bus: from after which place up to which one.
    pub range: Option<(Cursor, Cursor)>,
    /// Why.
    pub cause: GapCause,
}

impl Gap {
    /// A gap of unknown extent.
    pub fn new(cause: GapCause) -> Self {
        Self {
            topic: None,
            origin: None,
            missing: None,
            range: None,
            cause,
        }
    }
}

/// Why messages are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// The bus dropped them.
    Lost,
    /// The connection was cut while they were sent.
    Disconnected,
    /// The subscriber's queue was full.
    Slow,
    /// They were older than what the bus keeps.
    Retention,
    /// The log was replaced: the store lost its memory.
    LogReset,
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Disconnected => "disconnected",
            Self::Slow => "slow",
            Self::Retention => "retention",
            Self::LogReset => "log-reset",
        })
    }
}

/// Something arrived that is no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadFrame {
    /// The channel, if that could be told.
    pub topic: Option<Topic>,
    /// Its place in the log, for a durable bus: so that a subscriber can go on behind it.
    pub cursor: Option<Cursor>,
    /// What is wrong with it.
    pub error: String,
}

impl BadFrame {
    /// Rubbish that came from nobody knows where.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            topic: None,
            cursor: None,
            error: error.into(),
        }
    }
}

/// What a feed yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedEvent {
    /// A frame. One with a cursor is the store's to check: it finds its own gaps.
    Frame {
        /// The frame.
        frame: Frame,
        /// Its place in the log of a durable bus.
        cursor: Option<Cursor>,
    },
    /// The bus knows that messages are missing.
    Gap(Gap),
    /// Something that is no frame.
    Malformed(BadFrame),
    /// The connection is cut: what is sent from now on may not arrive.
    Disconnected,
    /// The connection is back, and the subscription live again.
    Connected,
}

/// What a bus can do, beyond what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// It keeps messages: frames have cursors, and a subscription can start in the past.
    pub durable: bool,
    /// The largest payload, in bytes, that travels without a detour.
    pub inline_limit: Option<usize>,
    /// The largest payload, in bytes, that it takes at all.
    pub payload_limit: Option<usize>,
}

impl Capabilities {
    /// Promises nothing.
    pub const fn new() -> Self {
        Self {
            durable: false,
            inline_limit: None,
            payload_limit: None,
        }
    }

    /// The same, and it keeps messages.
    pub const fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// The same, with a limit for payloads that travel without a detour.
    pub const fn inline_limit(mut self, bytes: usize) -> Self {
        self.inline_limit = Some(bytes);
        self
    }

    /// The same, with a limit for all payloads.
    pub const fn payload_limit(mut self, bytes: usize) -> Self {
        self.payload_limit = Some(bytes);
        self
    }
}

/// Carries frames from every publisher to every subscriber of a topic.
///
/// # Contract
/// 1. A frame arrives as it was sent, byte for byte, whatever its payload and topic.
/// 2. The frames of one `publish` call, and of calls that follow each other, arrive in order.
/// 3. Every subscriber of the topic gets each frame at most once; the publisher's own too.
/// 4. A subscription is live before `subscribe` returns.
/// 5. Nothing arrives for topics that were not subscribed to.
/// 6. A feed whose connection was cut yields `Disconnected`, and `Connected` once it is live
///    again. Frames may be missing without another word: the runtime finds such gaps by their
///    sequences. A *durable* bus yields each frame with a cursor, replays from cursors, and
///    reports its own gaps.
/// 7. A slow feed holds up neither publishers nor other feeds; what it misses is a gap, either by
///    `FeedEvent::Gap` or by the sequences.
/// 8. `publish` of a payload over `payload_limit` is `Rejected`, and nothing else is hurt.
/// 9. `subscribe` from the past is `Rejected` by a bus that is not durable.
///
/// # Fencing
/// Nothing is promised: a message is news, never a grant.
///
/// # Ordering
/// Per publisher and topic, as clause 2 says. Nothing is promised across publishers.
///
/// # Cancel safety
/// A dropped `publish` may have sent a prefix of the batch. A dropped `subscribe` has no effect.
///
/// # Errors
/// After an error of `publish`, a prefix of the batch may be out.
#[async_trait]
pub trait ClusterBus: Send + Sync + 'static {
    /// `async fn publish(&self, batch: &[Frame]) -> Result<(), BusError>`
    ///
    /// Sends the frames, in order.
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError>;

    /// `async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError>`
    ///
    /// Begins to listen. Live before it returns; one's own frames arrive too.
    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError>;

    /// What the bus can do beyond the contract. The default promises nothing.
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }
}

/// One subscription to a bus, raw.
#[async_trait]
pub trait Feed: Send {
    /// `async fn next(&mut self) -> Option<FeedEvent>`
    ///
    /// The next event; `None` when the bus is closed. Cancel safe.
    async fn next(&mut self) -> Option<FeedEvent>;
}
