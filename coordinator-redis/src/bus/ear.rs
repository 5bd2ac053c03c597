//! The connection that listens, shared by all feeds of a process. It hears each channel as long as
//! somebody wants it to.
//!
//! A subscriber is added at a known place among all that arrives: behind an *echo*, a message that
//! this process sends to itself once the server has confirmed the channels. So what was published
//! before is not for it, and what is published from then on is. In a cluster, where channels come from
//! several nodes, that is behind the last of several echoes (U17). Connections that are silent are probed by
//! the client (U5).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::echo::{Echoes, Then, payload};
use super::lock;
use crate::client::{Channels, Chosen, Client, ListenEvent, Listener};
use crate::names::Names;
use crate::trouble::Trouble;

/// `subscribe` waits so long for the connection, and for each answer.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// Takes what arrives, in order. Must not block.
pub(super) trait Hears: fmt::Debug + Send + Sync {
    /// A message on a channel.
    fn message(&self, channel: &Bytes, payload: Bytes);
    /// The connection is there again, or has ended.
    fn set_connected(&self, connected: bool);
    /// One channel is heard again, or no longer; may be told twice.
    fn set_heard(&self, channel: &Bytes, heard: bool);
}

/// The connection. It ends with the last of its handles.
pub(super) struct Ear {
    client: Arc<dyn Client>,
    how: Chosen,
    wants: mpsc::UnboundedSender<Want>,
    echoes: Arc<Echoes>,
    state: watch::Receiver<State>,
}

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Up,
    /// For this reason it is not there.
    Down(Arc<str>),
}

enum Want {
    Hear(BTreeSet<Bytes>, oneshot::Sender<Result<Hearing, Trouble>>),
    Ignore(BTreeSet<Bytes>),
}

/// Channels that are heard until this is dropped.
pub(super) struct Hearing {
    channels: BTreeSet<Bytes>,
    wants: mpsc::UnboundedSender<Want>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let channels = std::mem::take(&mut self.channels);
        // Its end is the end of all hearing.
        self.wants.send(Want::Ignore(channels)).ok();
    }
}

impl Ear {
    /// Connects.
    pub(super) async fn open(
        client: Arc<dyn Client>,
        names: &Names,
        how: Chosen,
        hears: Arc<dyn Hears>,
    ) -> Result<Self, Trouble> {
        let listener = client.listen(how.clone()).await?;
        let echoes = Arc::new(Echoes::new(names, client.is_cluster()));
        if let Some(own) = echoes.always() {
            listener.subscribe(own.clone()).await?;
        }
        let (wants, wanted) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(State::Up);
        let refused = Arc::new(Mutex::default());
        let asks = Asks {
            channels: listener.channels(),
            used: BTreeMap::new(),
            refused: Arc::clone(&refused),
            wants: wants.downgrade(),
        };
        let task = Task {
            listener,
            hears,
            echoes: echoes.clone(),
            refused,
            state,
        };
        tokio::spawn(task.run(asks, wanted));
        Ok(Self {
            client,
            how,
            wants,
            echoes,
            state: states,
        })
    }

    /// Hears these channels. `then` is done between what arrived before and what arrives from then on.
    /// Cancel safe: dropped, the channels are given up, though `then` may have been done.
    pub(super) async fn listen(
        &self,
        channels: BTreeSet<Bytes>,
        then: Then,
    ) -> Result<Hearing, Trouble> {
        let mut state = self.state.clone();
        self.within(async {
            let up = state.wait_for(|state| *state == State::Up).await;
            up.map(drop).map_err(|_| Trouble::closed())
        })
        .await?;
        let beside = self.echoes.beside(&channels);
        let echoed = match self.echoes.always() {
            Some(own) => [own.clone()].into(),
            None => beside.clone(),
        };
        let channels = channels.into_iter().chain(beside).collect();
        let (done, answer) = oneshot::channel();
        self.wants.send(Want::Hear(channels, done)).ok();
        let answer = async { answer.await.map_err(|_| Trouble::closed())? };
        let hearing = self.within(answer).await?;
        self.echo(echoed, then).await?;
        Ok(hearing)
    }

    async fn echo(&self, channels: BTreeSet<Bytes>, then: Then) -> Result<(), Trouble> {
        if channels.is_empty() {
            then();
            return Ok(());
        }
        let (number, heard) = self.echoes.add(&channels, then);
        let echoed = self.within(async {
            // Behind a cut the first call finds out that its connection is gone: an echo may come twice.
            if self.say(&channels, number).await.is_err() {
                self.say(&channels, number).await?;
            }
            let cut = |_| Trouble::unavailable("the listening connection was cut");
            heard.await.map_err(cut)
        });
        let echoed = echoed.await;
        self.echoes.forget(number);
        echoed
    }

    async fn say(&self, channels: &BTreeSet<Bytes>, number: u64) -> Result<(), Trouble> {
        let messages = channels.iter();
        let messages = messages.map(|channel| (channel.clone(), payload(number)));
        let how = *self.how.borrow();
        let sent = self.client.publish(how, messages.collect()).await;
        sent.into_iter().try_for_each(|sent| sent)
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let silent = |_| match &*self.state.borrow() {
            State::Up => Trouble::unavailable("the listening connection is silent"),
            State::Down(why) => {
                Trouble::unavailable(format!("the listening connection is down: {why}"))
            }
        };
        timeout(LIVE_WITHIN, work).await.map_err(silent)?
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear")
            .field("echoes", &self.echoes)
            .finish_non_exhaustive()
    }
}

/// Owns the connection.
struct Task {
    listener: Listener,
    hears: Arc<dyn Hears>,
    echoes: Arc<Echoes>,
    refused: Refused,
    state: watch::Sender<State>,
}

/// Those channels that the user may hear no longer.
type Refused = Arc<Mutex<BTreeSet<Bytes>>>;

impl Task {
    /// A server that is slow to confirm a channel holds up no message, and not the news of its end.
    async fn run(mut self, asks: Asks, wanted: mpsc::UnboundedReceiver<Want>) {
        let heard = async {
            while let Some(event) = self.listener.next().await {
                self.hear(event);
            }
        };
        tokio::select! {
            () = heard => {}
            () = asks.run(wanted) => {}
        }
        self.set(State::Down("it has ended".into()));
    }

    fn hear(&self, event: ListenEvent) {
        match event {
            ListenEvent::Message { channel, payload } if self.echoes.has(&channel) => {
                // Whose subscription begins here was not there when they were refused.
                self.echoes
                    .heard(&channel, &payload, || self.tell_refused());
            }
            ListenEvent::Message { channel, payload } => self.hears.message(&channel, payload),
            ListenEvent::Lost(why) => self.set(State::Down(why)),
            ListenEvent::Live => self.set(State::Up),
            ListenEvent::Refused { channel, why } => {
                let shown = String::from_utf8_lossy(&channel);
                tracing::warn!(channel = %shown, why = &*why, "a subscription is heard no longer");
                self.hears.set_heard(&channel, false);
                lock(&self.refused).insert(channel);
            }
            ListenEvent::Admitted(channel) => {
                lock(&self.refused).remove(&channel);
                self.hears.set_heard(&channel, true);
            }
            ListenEvent::Gone(_) => {}
        }
    }

    fn set(&self, state: State) {
        let is_up = state == State::Up;
        let was_up = self.state.send_replace(state) == State::Up;
        // A newer reason is no other state.
        if is_up || was_up {
            self.echoes.clear();
            self.hears.set_connected(is_up);
        }
    }

    fn tell_refused(&self) {
        for channel in &*lock(&self.refused) {
            self.hears.set_heard(channel, false);
        }
    }
}

/// Asks for channels, one wish after the other.
struct Asks {
    channels: Arc<dyn Channels>,
    /// How many want each channel.
    used: BTreeMap<Bytes, usize>,
    refused: Refused,
    wants: mpsc::WeakUnboundedSender<Want>,
}

impl Asks {
    async fn run(mut self, mut wanted: mpsc::UnboundedReceiver<Want>) {
        while let Some(want) = wanted.recv().await {
            match want {
                Want::Hear(channels, done) => self.add(channels, done).await,
                Want::Ignore(channels) => self.remove(&channels).await,
            }
        }
    }

    async fn add(
        &mut self,
        channels: BTreeSet<Bytes>,
        done: oneshot::Sender<Result<Hearing, Trouble>>,
    ) {
        let Some(wants) = self.wants.upgrade() else {
            return;
        };
        let mut hearing = Hearing {
            channels: BTreeSet::new(),
            wants,
        };
        let subscribed = join_all(channels.into_iter().map(async |channel| {
            let is_heard =
                self.used.contains_key(&channel) && !lock(&self.refused).contains(&channel);
            if !is_heard {
                self.channels.subscribe(channel.clone()).await?;
            }
            Ok(channel)
        }));
        let mut refused = None;
        for subscribed in subscribed.await {
            match subscribed {
                Ok(channel) => {
                    *self.used.entry(channel.clone()).or_default() += 1;
                    hearing.channels.insert(channel);
                }
                Err(trouble) => refused = Some(trouble),
            }
        }
        // What was refused takes the others with it.
        done.send(refused.map_or(Ok(hearing), Err)).ok();
    }

    async fn remove(&mut self, channels: &BTreeSet<Bytes>) {
        for channel in channels {
            let Some(count) = self.used.get_mut(channel) else {
                continue;
            };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.used.remove(channel);
            if let Err(trouble) = self.channels.unsubscribe(channel.clone()).await {
                tracing::debug!(?trouble, "a channel that nobody needs is still heard");
            }
        }
    }
}

#[cfg(test)]
mod tests;
