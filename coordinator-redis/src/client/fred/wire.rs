//! One connection. The library's own reconnecting is left out: it sends a command again that may have run, it gives up
//! or not by a policy of its own, and a command that comes after the end of a connection waits without an answer. Here the end
//! of a connection is the end of all its calls; who wants another makes one.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use fred::bytes_utils::Str;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
#[cfg(feature = "tls")]
use fred::types::config::TlsConfig;
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig};
use fred::types::{ClusterHash, CustomCommand, Message, Resp3Frame as Frame};
use futures_util::future::maybe_done;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::client::PubSub;
use crate::trouble::Trouble;

/// The library's futures take kilobytes each.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// How a connection is made. Shows no password.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) connection: ConnectionConfig,
    pub(super) within: Duration,
    /// What is said of a server that does not answer in time.
    pub(super) silent: &'static str,
}

#[cfg(feature = "tls")]
impl Plan {
    pub(super) fn encrypted(mut self, tls: Option<TlsConfig>) -> Self {
        if tls.is_some() {
            self.silent = crate::client::tls::SILENT;
        }
        self.config.tls = tls;
        self
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("user", &self.config.username)
            .finish_non_exhaustive()
    }
}

/// A connection. Dropped, it is closed.
pub(super) struct Wire {
    client: Client,
    /// Held by who sends.
    sending: Mutex<()>,
    ended: watch::Receiver<bool>,
    _driver: Driver,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("id", &self.client.id())
            .finish_non_exhaustive()
    }
}

/// The task that reads and writes. It would outlive its client.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wire {
    /// Connects. So many messages of channels wait to be taken; older ones are lost. Cancel safe.
    pub(super) async fn dial(plan: &Plan, waiting: usize) -> Result<Self, Error> {
        let performance = PerformanceConfig {
            broadcast_channel_capacity: waiting,
            ..PerformanceConfig::default()
        };
        let config = plan.config.clone();
        let connection = plan.connection.clone();
        let client = Client::new(config, Some(performance), Some(connection), None);
        // Asked for before there is a connection, so none is missed.
        let mut up = client.reconnect_rx();
        let mut task = client.connect();
        let driver = Driver(task.abort_handle());
        let silent = |_| Error::new(ErrorKind::Timeout, plan.silent);
        let outcome = async {
            tokio::select! {
                biased;
                up = up.recv() => up.map(drop).map_err(|_| closed()),
                ended = &mut task => match ended {
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(())) | Err(_) => Err(closed()),
                },
            }
        };
        timeout(plan.within, outcome).await.map_err(silent)??;
        let (ends, ended) = watch::channel(false);
        tokio::spawn(async move {
            let end = task.await;
            tracing::debug!(?end, "a connection has ended");
            ends.send_replace(true);
        });
        Ok(Self {
            client,
            sending: Mutex::default(),
            ended,
            _driver: driver,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Returns when it has. Cancel safe.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.clone();
        // An error is an end, too.
        async move { drop(ended.wait_for(|ended| *ended).await) }
    }

    /// Waits for answers for no longer than this, nor than the connection lasts.
    pub(super) async fn wait<T>(
        &self,
        within: Duration,
        answers: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            answers = answers => Ok(answers),
            () = self.ended() => Err(Trouble::indeterminate("the connection was lost")),
            () = sleep(within) => Err(Trouble::indeterminate("no answer came in time")),
        }
    }

    /// Polls each of these once, in order, which sends it, and lets nobody send between them; then waits for each.
    pub(super) async fn together<F: Future>(&self, calls: Vec<F>) -> Vec<F::Output> {
        let calls = calls.into_iter();
        let mut calls: Vec<_> = calls.map(|call| Box::pin(maybe_done(call))).collect();
        poll_fn(|context| {
            let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            for call in &mut calls {
                // What is ready by now is kept until all are.
                let _is_ready = call.as_mut().poll(context).is_ready();
            }
            Poll::Ready(())
        })
        .await;
        let mut answers = Vec::with_capacity(calls.len());
        for mut call in calls {
            call.as_mut().await;
            answers.extend(call.as_mut().take_output());
        }
        answers
    }

    /// Sends a command, the words of which are sent as they are, when it is polled for the first time.
    pub(super) fn ask(&self, command: Vec<Bytes>) -> Boxed<'_, Frame> {
        Box::pin(async move {
            let mut words = command.into_iter();
            let name = Str::from_inner(words.next().unwrap_or_default())
                .map_err(|_| Error::new(ErrorKind::InvalidCommand, "a command that is no text"))?;
            let command = CustomCommand::new(name, ClusterHash::Random, false);
            let words: Vec<fred::types::Value> = words.map(Into::into).collect();
            self.client.custom_raw(command, words).await
        })
    }

    /// Publishes when it is polled for the first time. Those that are sent together leave in one packet, which commands sent
    /// as [`ask`] does never do.
    ///
    /// [`ask`]: Self::ask
    pub(super) fn publish(&self, how: PubSub, channel: Bytes, payload: Bytes) -> Boxed<'_, ()> {
        Box::pin(async move {
            let channel = text(channel)?;
            match how {
                PubSub::Plain => self.client.publish(channel, payload).await,
                PubSub::Sharded => self.client.spublish(channel, payload).await,
            }
        })
    }

    /// Sends the wish, and no more: the answer of the server is not told. Behind the end of the connection it waits for ever.
    /// See [`Line`].
    ///
    /// [`Line`]: super::line::Line
    pub(super) fn wish(&self, channel: Bytes, hears: bool) -> Boxed<'_, ()> {
        Box::pin(async move {
            let channel = text(channel)?;
            if hears {
                self.client.subscribe(channel).await
            } else {
                self.client.unsubscribe(channel).await
            }
        })
    }

    /// The same, for a sharded channel that is to be heard no more.
    pub(super) fn leave(&self, channel: Bytes) -> Boxed<'_, ()> {
        Box::pin(async move { self.client.sunsubscribe(text(channel)?).await })
    }

    /// What is heard on the channels from now on.
    pub(super) fn messages(&self) -> broadcast::Receiver<Message> {
        self.client.message_rx()
    }
}

fn text(channel: Bytes) -> Result<Str, Error> {
    Str::from_inner(channel)
        .map_err(|_| Error::new(ErrorKind::InvalidArgument, "CHANNEL is no text"))
}

fn closed() -> Error {
    Error::new(ErrorKind::IO, "the connection was closed")
}
