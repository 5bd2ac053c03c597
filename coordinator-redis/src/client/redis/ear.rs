//! A connection that listens, and connects again by itself: it never gives up, and tells when it was deaf.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{Client, RedisError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::errors::refused;
use crate::client::{Channels, ListenEvent, Listener};
use crate::trouble::Trouble;

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// So many events wait to be taken; what comes when there is no room is lost, and told so.
const QUEUE: usize = 8_192;

/// Connects, and listens until the listener is dropped.
pub(super) async fn open(client: Client, within: Duration) -> Result<Listener, Trouble> {
    let first = dial(&client, within).await?;
    let (events, heard) = mpsc::channel(QUEUE);
    let (wanted, wants) = mpsc::channel(64);
    let ear = Ear {
        client,
        within,
        channels: BTreeSet::new(),
        events,
        is_deaf: false,
    };
    tokio::spawn(ear.run(first, wants));
    Ok(Listener::new(Arc::new(Wanted(wanted)), heard))
}

async fn dial(client: &Client, within: Duration) -> Result<PubSub, Trouble> {
    match timeout(within, client.get_async_pubsub()).await {
        Ok(dialled) => dialled.map_err(refused),
        Err(_) => Err(Trouble::unavailable("the server did not answer in time")),
    }
}

/// A change of the channels, and who waits for it.
#[derive(Debug)]
struct Want {
    channel: Bytes,
    hears: bool,
    done: oneshot::Sender<Result<(), Trouble>>,
}

#[derive(Debug)]
struct Wanted(mpsc::Sender<Want>);

impl Wanted {
    async fn ask(&self, channel: Bytes, hears: bool) -> Result<(), Trouble> {
        let (done, answer) = oneshot::channel();
        let want = Want {
            channel,
            hears,
            done,
        };
        let sent = self.0.send(want).await;
        sent.map_err(|_| Trouble::closed())?;
        answer.await.map_err(|_| Trouble::closed())?
    }
}

#[async_trait]
impl Channels for Wanted {
    async fn subscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.ask(channel, true).await
    }

    async fn unsubscribe(&self, channel: Bytes) -> Result<(), Trouble> {
        self.ask(channel, false).await
    }
}

struct Ear {
    client: Client,
    within: Duration,
    channels: BTreeSet<Bytes>,
    events: mpsc::Sender<ListenEvent>,
    /// Events were dropped, and that was not told yet.
    is_deaf: bool,
}

/// Why a connection is left.
enum End {
    Broken,
    /// Nobody listens any more.
    Dropped,
}

impl Ear {
    async fn run(mut self, first: PubSub, mut wants: mpsc::Receiver<Want>) {
        let mut connection = Some(first);
        loop {
            let line = match connection.take() {
                Some(line) => line,
                None => match self.dial_again(&wants).await {
                    Some(line) => line,
                    None => return,
                },
            };
            let (sink, stream) = line.split();
            match self.listen(sink, stream, &mut wants).await {
                End::Broken => self.tell(ListenEvent::Lost),
                End::Dropped => return,
            }
        }
    }

    /// Until all channels are heard again. `None`: nobody listens any more.
    async fn dial_again(&mut self, wants: &mpsc::Receiver<Want>) -> Option<PubSub> {
        let mut pause = FIRST_PAUSE;
        loop {
            if wants.is_closed() || self.events.is_closed() {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            let Ok(mut line) = dial(&self.client, self.within).await else {
                continue;
            };
            let heard = timeout(self.within, resume(&mut line, &self.channels)).await;
            if matches!(heard, Ok(Ok(()))) {
                self.tell(ListenEvent::Live);
                return Some(line);
            }
        }
    }

    async fn listen(
        &mut self,
        mut sink: PubSubSink,
        mut stream: PubSubStream,
        wants: &mut mpsc::Receiver<Want>,
    ) -> End {
        let mut ticks = interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.hear(&message),
                    None => return End::Broken,
                },
                want = wants.recv() => match want {
                    Some(want) => if !self.serve(&mut sink, want).await {
                        return End::Broken;
                    },
                    None => return End::Dropped,
                },
                _ = ticks.tick() => {
                    let answer = timeout(PROBE_WITHIN, sink.ping::<redis::Value>()).await;
                    if !matches!(answer, Ok(Ok(_))) {
                        return End::Broken;
                    }
                }
            }
        }
    }

    fn hear(&mut self, message: &redis::Msg) {
        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
        if let Ok(channel) = message.get_channel::<Vec<u8>>() {
            let channel = channel.into();
            self.tell(ListenEvent::Message { channel, payload });
        }
    }

    /// What finds no room is lost; who takes the next event is told first.
    fn tell(&mut self, event: ListenEvent) {
        if self.is_deaf && self.events.capacity() < 3 {
            return;
        }
        if std::mem::take(&mut self.is_deaf) {
            self.events.try_send(ListenEvent::Lost).ok();
            self.events.try_send(ListenEvent::Live).ok();
        }
        self.is_deaf = self.events.try_send(event).is_err();
    }

    /// Says whether the connection still works.
    async fn serve(&mut self, sink: &mut PubSubSink, want: Want) -> bool {
        let channel = want.channel.as_ref();
        let asked = async {
            if want.hears {
                sink.subscribe(channel).await
            } else {
                sink.unsubscribe(channel).await
            }
        };
        let answer = match timeout(self.within, asked).await {
            Ok(answer) => answer.map_err(refused),
            Err(_) => Err(Trouble::unavailable("the server did not answer in time")),
        };
        let is_well = !matches!(answer, Err(Trouble::Unavailable(_)));
        if answer.is_ok() && want.hears {
            self.channels.insert(want.channel);
        } else if !want.hears {
            self.channels.remove(&want.channel);
        }
        want.done.send(answer).ok();
        is_well
    }
}

async fn resume(line: &mut PubSub, channels: &BTreeSet<Bytes>) -> Result<(), RedisError> {
    for channel in channels {
        line.subscribe(channel.as_ref()).await?;
    }
    Ok(())
}
