//! A connection that listens, and connects again by itself: it never gives up, tells when it was deaf, and why. A channel that the user may
//! not hear fails alone.
//!
//! The library takes a subscription for made as soon as it is written, and drops what the server says to it; where the server
//! refuses, it takes the refusal for the answer to the command that was sent next. So each wish is followed by a `PING` with a
//! number of its own. Its echo says that the server has done what was asked before; an error in its place is the refusal, and then
//! the echo is still to come: numbers that are too low are echoes of the past.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::types::{Message, Value};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::value::{error_of, read, said};
use super::wire::{Plan, Wire};
use crate::client::{Channels, ListenEvent, Listener, Outage, Teller, queue};
use crate::reply::Read as _;
use crate::trouble::Trouble;

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// So many messages wait within the library; they are taken as soon as they come. It takes room for each beforehand.
const WAITING: usize = 1_024;

/// Connects, and listens until the listener is dropped. So many bytes of messages wait to be taken.
pub(super) async fn open(plan: Plan, host: String, bytes: usize) -> Result<Listener, Trouble> {
    let first = Line::dial(&plan).await?;
    let (teller, heard) = queue(bytes);
    let (wanted, wants) = mpsc::channel(64);
    let ear = Ear {
        plan,
        host,
        channels: BTreeSet::new(),
        refused: BTreeSet::new(),
        out: Out(teller),
        outage: Outage::default(),
    };
    tokio::spawn(ear.run(first, wants));
    Ok(Listener::new(Arc::new(Wanted(wanted)), heard))
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

/// A connection, and what is heard on it.
struct Line {
    sink: Sink,
    heard: broadcast::Receiver<Message>,
}

/// What asks. One at a time.
struct Sink {
    wire: Wire,
    within: Duration,
    /// The number of the last `PING`.
    echo: u64,
}

impl Line {
    async fn dial(plan: &Plan) -> Result<Self, Trouble> {
        let dialled = Wire::dial(plan, WAITING).await;
        let wire = dialled.map_err(|error| Trouble::Unavailable(error.into()))?;
        let heard = wire.messages();
        let sink = Sink {
            wire,
            within: plan.within,
            echo: 0,
        };
        Ok(Self { sink, heard })
    }
}

impl Sink {
    /// Ok when the server has done it. An error other than a refusal is the end of the connection.
    async fn wish(&mut self, channel: &Bytes, hears: bool) -> Result<(), Trouble> {
        let within = self.within;
        let late = |_| Trouble::unavailable("the server did not answer in time");
        let done = async {
            let lost = |error: fred::error::Error| Trouble::Unavailable(error.into());
            self.wire.wish(channel.clone(), hears).await.map_err(lost)?;
            self.confirm().await
        };
        // The library's futures are large.
        timeout(within, Box::pin(done)).await.map_err(late)?
    }

    async fn confirm(&mut self) -> Result<(), Trouble> {
        let since = self.echo + 1;
        loop {
            self.echo += 1;
            let words = vec!["PING".into(), self.echo.to_string().into()];
            let answer = self.wire.wait(self.within, self.wire.ask(words)).await;
            let lost = || Trouble::unavailable("the listening connection was lost");
            let frame = answer.map_err(|_| lost())?.map_err(|_| lost())?;
            if let Some(error) = error_of(&frame) {
                return Err(said(&error).0);
            }
            if read(frame)?.number()? >= since {
                return Ok(());
            }
        }
    }

    /// Says why the connection works no longer, if so. A refusal is an answer, too.
    async fn probe(&mut self) -> Option<String> {
        match timeout(PROBE_WITHIN, Box::pin(self.confirm())).await {
            Ok(Ok(()) | Err(Trouble::Denied(_))) => None,
            Ok(Err(trouble)) => Some(trouble.to_string()),
            Err(_) => Some("the server did not answer a probe in time".to_owned()),
        }
    }
}

struct Ear {
    plan: Plan,
    host: String,
    /// Those that are heard, or will be when there is a connection again.
    channels: BTreeSet<Bytes>,
    /// Those that were heard, and that the user may hear no longer.
    refused: BTreeSet<Bytes>,
    out: Out,
    outage: Outage,
}

/// Where events go.
struct Out(Teller);

/// Why a connection is left.
enum End {
    Broken(String),
    /// Nobody listens any more.
    Dropped,
}

impl Ear {
    async fn run(mut self, first: Line, mut wants: mpsc::Receiver<Want>) {
        let mut connection = Some(first);
        loop {
            let line = match connection.take() {
                Some(line) => line,
                None => match self.dial_again(&wants).await {
                    Some(line) => line,
                    None => return,
                },
            };
            match self.listen(line, &mut wants).await {
                End::Broken(why) => self.fail(&why),
                End::Dropped => return,
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.outage.failed(&self.host, why);
        self.out.0.tell(ListenEvent::Lost(why.into()));
    }

    /// Until all channels are heard again. `None`: nobody listens any more.
    async fn dial_again(&mut self, wants: &mpsc::Receiver<Want>) -> Option<Line> {
        let mut pause = FIRST_PAUSE;
        loop {
            if wants.is_closed() || self.out.0.is_closed() {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            match self.connect().await {
                Ok(line) => {
                    self.outage.is_over(&self.host);
                    self.out.0.tell(ListenEvent::Live);
                    return Some(line);
                }
                Err(trouble) => self.fail(&trouble.to_string()),
            }
        }
    }

    /// A connection that hears all channels which the user may hear.
    async fn connect(&mut self) -> Result<Line, Trouble> {
        let mut line = Line::dial(&self.plan).await?;
        for channel in self.channels.clone() {
            match line.sink.wish(&channel, true).await {
                Ok(()) => {}
                Err(trouble @ Trouble::Denied(_)) => self.refuse(channel, &trouble),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(line)
    }

    /// A channel was heard until now.
    fn refuse(&mut self, channel: Bytes, trouble: &Trouble) {
        self.channels.remove(&channel);
        self.refused.insert(channel.clone());
        let why = trouble.to_string().into();
        self.out.0.tell(ListenEvent::Refused { channel, why });
    }

    async fn listen(&mut self, line: Line, wants: &mut mpsc::Receiver<Want>) -> End {
        let Line {
            mut sink,
            mut heard,
        } = line;
        let mut ticks = interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let closed = || End::Broken("the connection was closed".to_owned());
        loop {
            let broken = tokio::select! {
                event = heard.recv() => if self.out.hear(event) {
                    None
                } else {
                    return closed();
                },
                () = sink.wire.ended() => {
                    self.out.drain(&mut heard);
                    return closed();
                },
                want = wants.recv() => match want {
                    Some(want) => self.serve(&mut sink, &mut heard, want).await,
                    None => return End::Dropped,
                },
                _ = ticks.tick() => match self.out.meanwhile(&mut heard, sink.probe()).await {
                    None => self.try_refused(&mut sink, &mut heard).await,
                    broken => broken,
                },
            };
            if let Some(why) = broken {
                return End::Broken(why);
            }
        }
    }

    /// Says why the connection works no longer, if so.
    async fn serve(
        &mut self,
        sink: &mut Sink,
        heard: &mut broadcast::Receiver<Message>,
        want: Want,
    ) -> Option<String> {
        let Want {
            channel,
            hears,
            done,
        } = want;
        let answer = self.out.meanwhile(heard, sink.wish(&channel, hears)).await;
        if !hears {
            self.channels.remove(&channel);
            self.refused.remove(&channel);
        } else if answer.is_ok() {
            self.admit(channel);
        }
        let broken = match &answer {
            Err(Trouble::Unavailable(error)) => Some(error.to_string()),
            _ => None,
        };
        done.send(answer).ok();
        broken
    }

    fn admit(&mut self, channel: Bytes) {
        if self.refused.remove(&channel) {
            self.out.0.tell(ListenEvent::Admitted(channel.clone()));
        }
        self.channels.insert(channel);
    }

    /// Perhaps the user may hear them again. Says why the connection works no longer, if so.
    async fn try_refused(
        &mut self,
        sink: &mut Sink,
        heard: &mut broadcast::Receiver<Message>,
    ) -> Option<String> {
        for channel in self.refused.clone() {
            match self.out.meanwhile(heard, sink.wish(&channel, true)).await {
                Ok(()) => self.admit(channel),
                Err(Trouble::Unavailable(error)) => return Some(error.to_string()),
                Err(_) => {}
            }
        }
        None
    }
}

impl Out {
    /// Hears while something is done: what the library keeps back is soon too much for it.
    async fn meanwhile<T>(
        &self,
        heard: &mut broadcast::Receiver<Message>,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                event = heard.recv() => if !self.hear(event) {
                    return work.await;
                },
            }
        }
    }

    /// Says whether there may be more.
    fn hear(&self, event: Result<Message, RecvError>) -> bool {
        match event {
            Ok(message) => self.pass(message),
            Err(RecvError::Lagged(_)) => self.0.missed(),
            Err(RecvError::Closed) => return false,
        }
        true
    }

    /// What came before the end.
    fn drain(&self, heard: &mut broadcast::Receiver<Message>) {
        loop {
            match heard.try_recv() {
                Ok(message) => self.pass(message),
                Err(TryRecvError::Lagged(_)) => self.0.missed(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn pass(&self, message: Message) {
        let payload = match message.value {
            Value::Bytes(bytes) => bytes,
            Value::String(text) => text.into_inner(),
            // Payloads are byte strings, whatever they hold.
            _ => return,
        };
        let channel = message.channel.into_inner();
        self.0.tell(ListenEvent::Message { channel, payload });
    }
}
