//! A connection that listens, and connects again by itself: it never gives up, tells when it was deaf, and why.
//!
//! A channel that the user may not hear fails alone: at once for who asks for it; and where a right was taken away in the meantime, the
//! others are heard on, and it is tried again.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::RedisError;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::errors::refused;
use super::road::Road;
use crate::client::{Channels, ListenEvent, Listener, Outage, Teller, queue};
use crate::trouble::Trouble;

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Connects, and listens until the listener is dropped. So many bytes of messages wait to be taken.
pub(super) async fn open(road: Road, within: Duration, bytes: usize) -> Result<Listener, Trouble> {
    let first = dial(&road).await?;
    let (teller, heard) = queue(bytes);
    let (wanted, wants) = mpsc::channel(64);
    let ear = Ear {
        host: road.shown(),
        road,
        within,
        channels: BTreeSet::new(),
        refused: BTreeSet::new(),
        teller,
        outage: Outage::default(),
    };
    tokio::spawn(ear.run(first, wants));
    Ok(Listener::new(Arc::new(Wanted(wanted)), heard))
}

async fn dial(road: &Road) -> Result<PubSub, Trouble> {
    road.listening().await.map_err(refused)
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
    road: Road,
    host: String,
    within: Duration,
    /// Those that are heard, or will be when there is a connection again.
    channels: BTreeSet<Bytes>,
    /// Those that were heard, and that the user may hear no longer.
    refused: BTreeSet<Bytes>,
    teller: Teller,
    outage: Outage,
}

/// Why a connection is left.
enum End {
    Broken(String),
    /// Nobody listens any more.
    Dropped,
}

/// Why a channel is not heard.
enum NotHeard {
    /// The user may not.
    Refused(Trouble),
    /// The connection is of no use.
    Broken(Trouble),
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
                End::Broken(why) => self.fail(&why),
                End::Dropped => return,
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.outage.failed(&self.host, why);
        self.teller.tell(ListenEvent::Lost(why.into()));
    }

    /// Until all channels are heard again. `None`: nobody listens any more.
    async fn dial_again(&mut self, wants: &mpsc::Receiver<Want>) -> Option<PubSub> {
        let mut pause = FIRST_PAUSE;
        loop {
            if wants.is_closed() || self.teller.is_closed() {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            match self.connect().await {
                Ok(line) => {
                    self.outage.is_over(&self.host);
                    self.teller.tell(ListenEvent::Live);
                    return Some(line);
                }
                Err(trouble) => self.fail(&trouble.to_string()),
            }
        }
    }

    /// A connection that hears all channels which the user may hear.
    async fn connect(&mut self) -> Result<PubSub, Trouble> {
        let mut line = dial(&self.road).await?;
        for channel in self.channels.clone() {
            let heard = subscribe(self.within, line.subscribe(channel.as_ref())).await;
            match heard {
                Ok(()) => {}
                Err(NotHeard::Refused(trouble)) => self.refuse(channel, &trouble),
                Err(NotHeard::Broken(trouble)) => return Err(trouble),
            }
        }
        Ok(line)
    }

    /// A channel was heard until now.
    fn refuse(&mut self, channel: Bytes, trouble: &Trouble) {
        self.channels.remove(&channel);
        self.refused.insert(channel.clone());
        let why = trouble.to_string().into();
        self.teller.tell(ListenEvent::Refused { channel, why });
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
            let broken = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => {
                        self.hear(&message);
                        None
                    }
                    None => return End::Broken("the connection was closed".to_owned()),
                },
                want = wants.recv() => match want {
                    Some(want) => self.serve(&mut sink, &mut stream, want).await,
                    None => return End::Dropped,
                },
                _ = ticks.tick() => match probe(&mut sink).await {
                    None => self.try_refused(&mut sink, &mut stream).await,
                    broken => broken,
                },
            };
            if let Some(why) = broken {
                return End::Broken(why);
            }
        }
    }

    fn hear(&self, message: &redis::Msg) {
        let payload = Bytes::copy_from_slice(message.get_payload_bytes());
        if let Ok(channel) = message.get_channel::<Vec<u8>>() {
            let channel = channel.into();
            self.teller.tell(ListenEvent::Message { channel, payload });
        }
    }

    /// Says why the connection works no longer, if so.
    async fn serve(
        &mut self,
        sink: &mut PubSubSink,
        stream: &mut PubSubStream,
        want: Want,
    ) -> Option<String> {
        let Want {
            channel,
            hears,
            done,
        } = want;
        let answer = if hears {
            let asked = subscribe(self.within, sink.subscribe(channel.as_ref()));
            self.meanwhile(stream, asked).await
        } else {
            self.channels.remove(&channel);
            self.refused.remove(&channel);
            let asked = subscribe(self.within, sink.unsubscribe(channel.as_ref()));
            self.meanwhile(stream, asked).await
        };
        let (broken, answer) = match answer {
            Ok(()) if hears => {
                self.admit(channel);
                (None, Ok(()))
            }
            Ok(()) => (None, Ok(())),
            Err(NotHeard::Refused(trouble)) => (None, Err(trouble)),
            Err(NotHeard::Broken(trouble)) => (Some(trouble.to_string()), Err(trouble)),
        };
        done.send(answer).ok();
        broken
    }

    /// Hears on while the server is asked. A question that is on its way when the connection ends may never
    /// be answered: the end is seen here, and not when the answer is overdue.
    async fn meanwhile(
        &self,
        stream: &mut PubSubStream,
        asked: impl Future<Output = Result<(), NotHeard>>,
    ) -> Result<(), NotHeard> {
        let mut asked = pin!(asked);
        loop {
            tokio::select! {
                biased;
                message = stream.next() => {
                    let Some(message) = message else {
                        let closed = Trouble::unavailable("the connection was closed");
                        return Err(NotHeard::Broken(closed));
                    };
                    self.hear(&message);
                }
                answer = &mut asked => return answer,
            }
        }
    }

    fn admit(&mut self, channel: Bytes) {
        if self.refused.remove(&channel) {
            self.teller.tell(ListenEvent::Admitted(channel.clone()));
        }
        self.channels.insert(channel);
    }

    /// Perhaps the user may hear them again. Says why the connection works no longer, if so.
    async fn try_refused(
        &mut self,
        sink: &mut PubSubSink,
        stream: &mut PubSubStream,
    ) -> Option<String> {
        for channel in self.refused.clone() {
            let asked = subscribe(self.within, sink.subscribe(channel.as_ref()));
            match self.meanwhile(stream, asked).await {
                Ok(()) => self.admit(channel),
                Err(NotHeard::Refused(_)) => {}
                Err(NotHeard::Broken(trouble)) => return Some(trouble.to_string()),
            }
        }
        None
    }
}

/// Waits for the confirmation.
async fn subscribe(
    within: Duration,
    asked: impl Future<Output = Result<(), RedisError>>,
) -> Result<(), NotHeard> {
    match timeout(within, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(match refused(error) {
            denied @ Trouble::Denied(_) => NotHeard::Refused(denied),
            other => NotHeard::Broken(other),
        }),
        Err(_) => Err(NotHeard::Broken(Trouble::unavailable(
            "the server did not answer in time",
        ))),
    }
}

/// Says why the connection works no longer, if so. An error is an answer, too.
async fn probe(sink: &mut PubSubSink) -> Option<String> {
    match timeout(PROBE_WITHIN, sink.ping::<redis::Value>()).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) if error.code().is_some() => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the server did not answer a probe in time".to_owned()),
    }
}
