//! A connection that listens, and connects again by itself: it never gives up, tells when it was deaf, and why.
//!
//! A channel that the user may not hear fails alone: at once for who asks for it; and where a right was taken away in the meantime, the
//! others are heard on, and it is tried again.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::line::{NotHeard, Sink, Stream, dial};
use super::road::Road;
use crate::client::wants::{Want, wants};
use crate::client::{ListenEvent, Listener, Outage, PubSub, Teller, queue};
use crate::trouble::Trouble;

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Connects, and listens until the listener is dropped. So many bytes of messages wait to be taken.
pub(super) async fn open(
    road: Road,
    how: PubSub,
    within: Duration,
    bytes: usize,
) -> Result<Listener, Trouble> {
    let first = dial(&road, how, within).await?;
    let (teller, heard) = queue(bytes);
    let (channels, wants) = wants();
    let ear = Ear {
        host: road.shown(),
        road,
        how,
        within,
        channels: BTreeSet::new(),
        refused: BTreeSet::new(),
        teller,
        outage: Outage::default(),
    };
    tokio::spawn(ear.run(first, wants));
    Ok(Listener::new(channels, heard))
}

struct Ear {
    road: Road,
    how: PubSub,
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

impl Ear {
    async fn run(mut self, first: (Sink, Stream), mut wants: mpsc::Receiver<Want>) {
        let mut connection = Some(first);
        loop {
            let (sink, stream) = match connection.take() {
                Some(line) => line,
                None => match self.dial_again(&wants).await {
                    Some(line) => line,
                    None => return,
                },
            };
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
    async fn dial_again(&mut self, wants: &mpsc::Receiver<Want>) -> Option<(Sink, Stream)> {
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
    async fn connect(&mut self) -> Result<(Sink, Stream), Trouble> {
        let (mut sink, stream) = dial(&self.road, self.how, self.within).await?;
        for channel in self.channels.clone() {
            match in_time(self.within, sink.subscribe(&channel)).await {
                Ok(()) => {}
                Err(NotHeard::Refused(denied @ Trouble::Denied(_))) => {
                    self.refuse(channel, &denied);
                }
                Err(NotHeard::Refused(trouble)) => {
                    tracing::debug!(?trouble, "a channel is not heard here any more");
                    self.channels.remove(&channel);
                    self.teller.tell(ListenEvent::Gone(channel));
                }
                Err(NotHeard::Broken(trouble)) => return Err(trouble),
            }
        }
        Ok((sink, stream))
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
        mut sink: Sink,
        mut stream: Stream,
        wants: &mut mpsc::Receiver<Want>,
    ) -> End {
        let mut ticks = interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let broken = tokio::select! {
                message = stream.next() => match message {
                    Ok(message) => {
                        self.hear(message);
                        None
                    }
                    Err(why) => return End::Broken(why),
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

    fn hear(&self, (channel, payload): (Bytes, Bytes)) {
        self.teller.tell(ListenEvent::Message { channel, payload });
    }

    /// Says why the connection works no longer, if so.
    async fn serve(&mut self, sink: &mut Sink, stream: &mut Stream, want: Want) -> Option<String> {
        let Want {
            channel,
            hears,
            done,
        } = want;
        let answer = if hears {
            let asked = in_time(self.within, sink.subscribe(&channel));
            self.meanwhile(stream, asked).await
        } else {
            self.forget(&channel);
            let asked = in_time(self.within, sink.unsubscribe(&channel));
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
        stream: &mut Stream,
        asked: impl Future<Output = Result<(), NotHeard>>,
    ) -> Result<(), NotHeard> {
        let mut asked = pin!(asked);
        loop {
            tokio::select! {
                biased;
                message = stream.next() => match message {
                    Ok(message) => self.hear(message),
                    Err(why) => return Err(NotHeard::Broken(Trouble::unavailable(why))),
                },
                answer = &mut asked => return answer,
            }
        }
    }

    /// Nobody wants it any more: what is told of it from now on is told anew.
    fn forget(&mut self, channel: &Bytes) {
        self.channels.remove(channel);
        if self.refused.remove(channel) {
            self.teller.tell(ListenEvent::Admitted(channel.clone()));
        }
    }

    fn admit(&mut self, channel: Bytes) {
        if self.refused.remove(&channel) {
            self.teller.tell(ListenEvent::Admitted(channel.clone()));
        }
        self.channels.insert(channel);
    }

    /// Perhaps the user may hear them again. Says why the connection works no longer, if so.
    async fn try_refused(&mut self, sink: &mut Sink, stream: &mut Stream) -> Option<String> {
        for channel in self.refused.clone() {
            let asked = in_time(self.within, sink.subscribe(&channel));
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
async fn in_time(
    within: Duration,
    asked: impl Future<Output = Result<(), NotHeard>>,
) -> Result<(), NotHeard> {
    let late = |_| {
        let late = Trouble::unavailable("the server did not answer in time");
        Err(NotHeard::Broken(late))
    };
    timeout(within, asked).await.unwrap_or_else(late)
}

/// Says why the connection works no longer, if so.
async fn probe(sink: &mut Sink) -> Option<String> {
    let late = |_| Some("the server did not answer a probe in time".to_owned());
    timeout(PROBE_WITHIN, sink.probe())
        .await
        .unwrap_or_else(late)
}
