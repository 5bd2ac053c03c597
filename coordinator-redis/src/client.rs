//! What we need of a client of Redis, and no more: the rest of the crate knows no client library.
//!
//! A client library gives a [`Client`] of one server, by [`Dial`]. What several servers are to each other (a primary and
//! its replicas, a cluster) is added here, and is the same for every library.

mod advised;
mod cluster;
mod exchange;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(feature = "client-fred")]
mod fred;
mod heard;
mod outage;
mod primary;
mod pubsub;
mod redis;
mod sentinel;
#[cfg(feature = "tls")]
mod tls;
mod wants;
mod words;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::config::{ClientKind, RedisConfig};
use crate::endpoint::{Endpoint, Host, Topology};
use crate::error::ConnectError;
use crate::script::Script;
use crate::trouble::Trouble;

pub(crate) use advised::Advised;
pub(crate) use heard::{Heard, Teller, queue};
pub(crate) use outage::Outage;
pub(crate) use pubsub::{Chosen, PubSub};

/// What makes clients of the kind that is chosen.
#[cfg_attr(
    feature = "client-fred",
    allow(clippy::unnecessary_wraps, reason = "a client may be left out")
)]
pub(crate) fn dial(
    endpoint: &Endpoint,
    config: &RedisConfig,
) -> Result<Arc<dyn Dial>, ConnectError> {
    #[cfg(not(feature = "tls"))]
    if endpoint.tls.is_some() {
        return Err(ConnectError::MissingFeature {
            wanted: "rediss://",
            feature: "tls",
        });
    }
    match config.client {
        ClientKind::Redis => Ok(Arc::new(redis::RedisDial::new(endpoint, config)?)),
        #[cfg(feature = "client-fred")]
        ClientKind::Fred => Ok(Arc::new(FredDial::new(endpoint, config)?)),
        #[cfg(not(feature = "client-fred"))]
        ClientKind::Fred => Err(ConnectError::MissingFeature {
            wanted: "client=fred",
            feature: "client-fred",
        }),
    }
}

#[cfg(feature = "client-fred")]
pub(crate) use fred::FredDial;
pub(crate) use redis::given;

/// Makes clients, each of one server.
pub(crate) trait Dial: fmt::Debug + Send + Sync {
    /// A client of what listens there. It connects when it is needed, and again when it must.
    fn client(&self, at: &Host, what: What) -> Result<Arc<dyn Client>, ConnectError>;
}

/// What is expected to listen somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A server that takes writes. Each new connection looks whether it does.
    Primary,
    /// A node of a cluster.
    Node,
    /// A Sentinel: it has a password of its own, and no databases.
    Sentinel,
}

/// Connects to the store that an endpoint describes, whatever servers it is made of.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    dial: Arc<dyn Dial>,
    listen_bytes: usize,
) -> Result<Arc<dyn Client>, ConnectError> {
    match (&endpoint.topology, endpoint.hosts.as_slice()) {
        (Topology::Server, [only]) => {
            let client = dial.client(only, What::Primary)?;
            client.reach().await?;
            Ok(client)
        }
        (Topology::Server | Topology::Sentinel { .. }, _) => {
            let followed = primary::Followed::connect(endpoint, dial, listen_bytes).await?;
            Ok(followed)
        }
        (Topology::Cluster, _) => {
            let cluster = cluster::Cluster::connect(endpoint, dial, listen_bytes).await?;
            Ok(cluster)
        }
    }
}

/// A client of a server, or of several that are one store. Cancel safe: a dropped call may have run.
#[async_trait]
pub(crate) trait Client: fmt::Debug + Send + Sync {
    /// Where that is, for people.
    fn shown(&self) -> String;

    /// Connects, if it is not connected.
    async fn reach(&self) -> Result<(), ConnectError>;

    /// Runs a script, which is loaded if the server does not know it. The first key decides the node in a cluster.
    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble>;

    /// Sends these (channel, payload) pairs as one pipeline to each server. Says of each, in order, whether its server has taken it.
    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>>;

    /// Runs commands as one pipeline to each server: each a list of words, of which the second is its key. Answers in order.
    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble>;

    /// A connection of its own that listens, and comes back by itself. A cluster follows what is chosen; its nodes, and other
    /// servers, take it as it is now.
    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble>;

    /// Runs commands that have no keys on each server that takes writes. Answers with where each is, and its answers.
    async fn everywhere(&self, commands: Vec<Vec<Bytes>>) -> Result<Vec<Told>, Trouble> {
        let answers = self.pipeline(commands).await?;
        let host = self.shown();
        Ok(vec![Told { host, answers }])
    }

    /// Whether keys and channels lie on several servers, each by its slot.
    fn is_cluster(&self) -> bool {
        false
    }
}

/// What one server answers.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) host: String,
    pub(crate) answers: Vec<Result<Value, Trouble>>,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A text, of any bytes.
    Bytes(Bytes),
    /// A list; a map is one of keys and values by turns.
    Array(Vec<Value>),
    /// A word: `OK`.
    Status(String),
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenEvent {
    /// A message on one of the channels.
    Message {
        /// Which.
        channel: Bytes,
        /// The message.
        payload: Bytes,
    },
    /// Nothing is heard from here on, for this reason; may be told again, with a newer one.
    Lost(Arc<str>),
    /// All channels are heard again, but for those refused. What was said since `Lost` is lost.
    Live,
    /// This user may hear the channel no longer; it is tried again.
    Refused {
        /// Which.
        channel: Bytes,
        /// What the server said.
        why: Arc<str>,
    },
    /// A channel that was refused is heard again, or wanted no longer.
    Admitted(Bytes),
    /// A node of a cluster has the channel's slot no longer: it must be asked for anew where that is. What listens to a whole
    /// cluster does so by itself, and tells it as lost.
    Gone(Bytes),
}

/// Adds and removes the channels of a listener.
#[async_trait]
pub(crate) trait Channels: fmt::Debug + Send + Sync {
    /// Returns when the server has confirmed it. A channel that is refused harms no other: [`Trouble::Denied`].
    async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble>;
    async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble>;
}

/// A connection that listens. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Listener {
    channels: Arc<dyn Channels>,
    heard: Heard,
}

impl Listener {
    pub(crate) fn new(channels: Arc<dyn Channels>, heard: Heard) -> Self {
        Self { channels, heard }
    }

    /// What adds and removes its channels, for who does so while another takes the events.
    pub(crate) fn channels(&self) -> Arc<dyn Channels> {
        self.channels.clone()
    }

    /// Hears a channel too, from when this returns.
    pub(crate) async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.channels.subscribe(channel).await
    }

    /// Hears a channel no more.
    pub(crate) async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.channels.unsubscribe(channel).await
    }

    /// What is heard next, in order of arrival. `None`: the client is gone. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<ListenEvent> {
        self.heard.next().await
    }
}
