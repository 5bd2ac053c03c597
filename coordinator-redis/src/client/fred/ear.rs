//! A connection that listens, and connects again by itself: it never gives up, and tells when it was deaf.
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
use crate::client::{Channels, ListenEvent, Listener};
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
/// So many events wait to be taken; what comes when there is no room is lost, and told so.
const QUEUE: usize = 8_192;

/// Connects, and listens until the listener is dropped.
pub(super) async fn open(plan: Plan) -> Result<Listener, Trouble> {
    let first = Line::dial(&plan).await?;
    let (events, heard) = mpsc::channel(QUEUE);
    let (wanted, wants) = mpsc::channel(64);
    let ear = Ear {
        plan,
        channels: BTreeSet::new(),
        out: Out {
            events,
            is_deaf: false,
        },
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
            self.wire.wish(channel, hears).await.map_err(lost)?;
            self.confirm().await
        };
        timeout(within, done).await.map_err(late)?
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

    async fn is_well(&mut self) -> bool {
        matches!(timeout(PROBE_WITHIN, self.confirm()).await, Ok(Ok(())))
    }
}

struct Ear {
    plan: Plan,
    channels: BTreeSet<Bytes>,
    out: Out,
}

/// Where events go.
struct Out {
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
                End::Broken => self.out.tell(ListenEvent::Lost),
                End::Dropped => return,
            }
        }
    }

    /// Until all channels are heard again. `None`: nobody listens any more.
    async fn dial_again(&mut self, wants: &mpsc::Receiver<Want>) -> Option<Line> {
        let mut pause = FIRST_PAUSE;
        loop {
            if wants.is_closed() || self.out.events.is_closed() {
                return None;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            let Ok(mut line) = Line::dial(&self.plan).await else {
                continue;
            };
            if self.resume(&mut line.sink).await.is_ok() {
                self.out.tell(ListenEvent::Live);
                return Some(line);
            }
        }
    }

    async fn resume(&self, sink: &mut Sink) -> Result<(), Trouble> {
        let late = |_| Trouble::unavailable("the server did not answer in time");
        let resumed = async {
            for channel in &self.channels {
                sink.wish(channel, true).await?;
            }
            Ok(())
        };
        timeout(self.plan.within, resumed).await.map_err(late)?
    }

    async fn listen(&mut self, line: Line, wants: &mut mpsc::Receiver<Want>) -> End {
        let Line {
            mut sink,
            mut heard,
        } = line;
        let mut ticks = interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = heard.recv() => if !self.out.hear(event) {
                    return End::Broken;
                },
                () = sink.wire.ended() => {
                    self.out.drain(&mut heard);
                    return End::Broken;
                },
                want = wants.recv() => match want {
                    Some(want) => if !self.serve(&mut sink, &mut heard, want).await {
                        return End::Broken;
                    },
                    None => return End::Dropped,
                },
                _ = ticks.tick() => {
                    if !self.out.meanwhile(&mut heard, sink.is_well()).await {
                        return End::Broken;
                    }
                }
            }
        }
    }

    /// Says whether the connection still works.
    async fn serve(
        &mut self,
        sink: &mut Sink,
        heard: &mut broadcast::Receiver<Message>,
        want: Want,
    ) -> bool {
        let wish = sink.wish(&want.channel, want.hears);
        let answer = self.out.meanwhile(heard, wish).await;
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

impl Out {
    /// Hears while something is done: what the library keeps back is soon too much for it.
    async fn meanwhile<T>(
        &mut self,
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
    fn hear(&mut self, event: Result<Message, RecvError>) -> bool {
        match event {
            Ok(message) => self.pass(message),
            Err(RecvError::Lagged(_)) => self.is_deaf = true,
            Err(RecvError::Closed) => return false,
        }
        true
    }

    /// What came before the end.
    fn drain(&mut self, heard: &mut broadcast::Receiver<Message>) {
        loop {
            match heard.try_recv() {
                Ok(message) => self.pass(message),
                Err(TryRecvError::Lagged(_)) => self.is_deaf = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn pass(&mut self, message: Message) {
        let payload = match message.value {
            Value::Bytes(bytes) => bytes,
            Value::String(text) => text.into_inner(),
            // Payloads are byte strings, whatever they hold.
            _ => return,
        };
        let channel = message.channel.into_inner();
        self.tell(ListenEvent::Message { channel, payload });
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
}
