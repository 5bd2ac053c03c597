//! What we need of a client of Redis, and no more: the rest of the crate knows no client library.

mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::script::Script;
use crate::trouble::Trouble;

pub(crate) use redis::RedisClient;

/// A client of Redis. Cancel safe: a dropped call may have run.
#[async_trait]
pub(crate) trait Client: fmt::Debug + Send + Sync {
    /// Runs a script, which is loaded if the server does not know it. The first key decides the node in a cluster.
    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble>;

    /// Sends these (channel, payload) pairs as one pipeline. Ok when the server has taken each.
    #[allow(dead_code, reason = "the bus sends so")]
    async fn publish(&self, batch: Vec<(Bytes, Bytes)>) -> Result<(), Trouble>;

    /// Runs commands as one pipeline, each a list of arguments. Answers in order.
    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble>;

    /// A connection of its own that listens, and comes back by itself.
    async fn listen(&self) -> Result<Listener, Trouble>;

    /// A connection of its own, for reads that block.
    #[allow(dead_code, reason = "the durable bus reads so")]
    async fn dedicated(&self) -> Result<Box<dyn Dedicated>, Trouble>;
}

/// A connection for one command at a time.
#[async_trait]
#[allow(dead_code, reason = "the durable bus reads so")]
pub(crate) trait Dedicated: fmt::Debug + Send {
    /// Runs a command that may take so long.
    async fn command(&mut self, command: Vec<Bytes>, within: Duration) -> Result<Value, Trouble>;
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
    /// Nothing is heard from here on.
    Lost,
    /// All channels are heard again. What was said since `Lost` is lost.
    Live,
}

/// Adds and removes the channels of a listener.
#[async_trait]
pub(crate) trait Channels: fmt::Debug + Send + Sync {
    /// Returns when the server has confirmed it.
    async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble>;
    async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble>;
}

/// A connection that listens. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Listener {
    channels: Arc<dyn Channels>,
    events: mpsc::Receiver<ListenEvent>,
}

impl Listener {
    pub(crate) fn new(channels: Arc<dyn Channels>, events: mpsc::Receiver<ListenEvent>) -> Self {
        Self { channels, events }
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
        self.events.recv().await
    }
}
