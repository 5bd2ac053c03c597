//! The connection that listens, shared by all feeds of a process. It hears each channel as long as
//! somebody wants it to.
//!
//! A subscriber is added at a known place among all that arrives: behind an *echo*, a message that
//! this process sends to itself once the server has confirmed the channels. So what was published
//! before is not for it, and what is published from then on is. Connections that are silent are probed
//! by the client (U5).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::lock;
use crate::client::{Client, ListenEvent, Listener};
use crate::trouble::Trouble;

/// `subscribe` waits so long for the connection, and for each answer.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// Takes what arrives, in order. Must not block.
pub(super) trait Hears: fmt::Debug + Send + Sync {
    /// A message on a channel.
    fn message(&self, channel: &Bytes, payload: Bytes);
    /// The connection is there again, or has ended.
    fn set_connected(&self, connected: bool);
}

/// What is done at the echo.
type Then = Box<dyn FnOnce() + Send>;

/// The connection. It ends with the last of its handles.
pub(super) struct Ear {
    client: Arc<dyn Client>,
    own: Bytes,
    wants: mpsc::UnboundedSender<Want>,
    echoes: Arc<Echoes>,
    up: watch::Receiver<bool>,
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
    /// Connects. `own`: a channel that no other process has.
    pub(super) async fn open(
        client: Arc<dyn Client>,
        own: Bytes,
        hears: Arc<dyn Hears>,
    ) -> Result<Self, Trouble> {
        let listener = client.listen().await?;
        listener.subscribe(own.clone()).await?;
        let (wants, wanted) = mpsc::unbounded_channel();
        let (up, is_up) = watch::channel(true);
        let echoes = Arc::new(Echoes::default());
        let task = Task {
            listener,
            hears,
            own: own.clone(),
            echoes: echoes.clone(),
            used: BTreeMap::new(),
            up,
            wants: wants.downgrade(),
        };
        tokio::spawn(task.run(wanted));
        Ok(Self {
            client,
            own,
            wants,
            echoes,
            up: is_up,
        })
    }

    /// Hears these channels. `then` is done between what arrived before and what arrives from then on.
    /// Cancel safe: dropped, the channels are given up, though `then` may have been done.
    pub(super) async fn listen(
        &self,
        channels: BTreeSet<Bytes>,
        then: Then,
    ) -> Result<Hearing, Trouble> {
        let mut up = self.up.clone();
        within(async {
            up.wait_for(|up| *up)
                .await
                .map(drop)
                .map_err(|_| Trouble::closed())
        })
        .await?;
        let (done, answer) = oneshot::channel();
        self.wants.send(Want::Hear(channels, done)).ok();
        let hearing = within(async { answer.await.map_err(|_| Trouble::closed())? }).await?;
        self.echo(then).await?;
        Ok(hearing)
    }

    async fn echo(&self, then: Then) -> Result<(), Trouble> {
        let (number, heard) = self.echoes.add(then);
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let echoed = within(async {
            let sent = self.client.publish(vec![(self.own.clone(), payload)]).await;
            sent.into_iter().try_for_each(|sent| sent)?;
            let cut = |_| Trouble::unavailable("the listening connection was cut");
            heard.await.map_err(cut)
        });
        let echoed = echoed.await;
        self.echoes.forget(number);
        echoed
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let silent = |_| Trouble::unavailable("the listening connection is down, or silent");
    timeout(LIVE_WITHIN, work).await.map_err(silent)?
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Echoes under way.
#[derive(Default)]
struct Echoes {
    last: AtomicU64,
    waiting: std::sync::Mutex<BTreeMap<u64, (Then, oneshot::Sender<()>)>>,
}

impl Echoes {
    fn add(&self, then: Then) -> (u64, oneshot::Receiver<()>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let (done, heard) = oneshot::channel();
        lock(&self.waiting).insert(number, (then, done));
        (number, heard)
    }

    fn heard(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return;
        };
        let waiting = lock(&self.waiting).remove(&number);
        if let Some((then, done)) = waiting {
            then();
            done.send(()).ok();
        }
    }

    fn forget(&self, number: u64) {
        lock(&self.waiting).remove(&number);
    }

    fn clear(&self) {
        lock(&self.waiting).clear();
    }
}

/// Owns the connection.
struct Task {
    listener: Listener,
    hears: Arc<dyn Hears>,
    own: Bytes,
    echoes: Arc<Echoes>,
    /// How many want each channel.
    used: BTreeMap<Bytes, usize>,
    up: watch::Sender<bool>,
    wants: mpsc::WeakUnboundedSender<Want>,
}

impl Task {
    async fn run(mut self, mut wanted: mpsc::UnboundedReceiver<Want>) {
        loop {
            tokio::select! {
                event = self.listener.next() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                want = wanted.recv() => match want {
                    Some(Want::Hear(channels, done)) => self.add(channels, done).await,
                    Some(Want::Ignore(channels)) => self.remove(&channels).await,
                    None => break,
                },
            }
        }
        self.set_connected(false);
    }

    fn hear(&self, event: ListenEvent) {
        match event {
            ListenEvent::Message { channel, payload } if channel == self.own => {
                self.echoes.heard(&payload);
            }
            ListenEvent::Message { channel, payload } => self.hears.message(&channel, payload),
            ListenEvent::Lost => self.set_connected(false),
            ListenEvent::Live => self.set_connected(true),
        }
    }

    fn set_connected(&self, connected: bool) {
        self.echoes.clear();
        self.hears.set_connected(connected);
        self.up.send_replace(connected);
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
        for channel in channels {
            if !self.used.contains_key(&channel)
                && let Err(trouble) = self.listener.subscribe(channel.clone()).await
            {
                // What it has by now goes with it.
                done.send(Err(trouble)).ok();
                return;
            }
            *self.used.entry(channel.clone()).or_default() += 1;
            hearing.channels.insert(channel);
        }
        done.send(Ok(hearing)).ok();
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
            if let Err(trouble) = self.listener.unsubscribe(channel.clone()).await {
                tracing::debug!(?trouble, "a channel that nobody needs is still heard");
            }
        }
    }
}
