//! A connection that listens, and connects again by itself: it never gives up, tells when it was deaf, and why. A channel that the user may
//! not hear fails alone.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use fred::types::{Message, Value};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::line::{Line, Sink};
use super::wire::Plan;
use crate::client::wants::{Want, wants};
use crate::client::{ListenEvent, Listener, Outage, PubSub, Teller, queue};
use crate::trouble::Trouble;

/// U5: a listener that hears nothing cannot tell silence from a dead peer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// So long a sharded channel may be silent that the server has given up.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// Connects, and listens until the listener is dropped. So many bytes of messages wait to be taken.
pub(super) async fn open(
    plan: Plan,
    how: PubSub,
    host: String,
    bytes: usize,
) -> Result<Listener, Trouble> {
    let first = Line::dial(&plan, how).await?;
    let (teller, heard) = queue(bytes);
    let (channels, wants) = wants();
    let ear = Ear {
        plan,
        how,
        host,
        channels: BTreeSet::new(),
        refused: BTreeSet::new(),
        out: Out(teller),
        outage: Outage::default(),
    };
    tokio::spawn(ear.run(first, wants));
    Ok(Listener::new(channels, heard))
}

struct Ear {
    plan: Plan,
    how: PubSub,
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
        let mut line = Line::dial(&self.plan, self.how).await?;
        for channel in self.channels.clone() {
            match line.sink.wish(&channel, true).await {
                Ok(()) => {}
                Err(denied @ Trouble::Denied(_)) => self.refuse(channel, &denied),
                Err(trouble) => self.give_up(channel, trouble)?,
            }
        }
        Ok(line)
    }

    /// A channel cannot be heard here now. A sharded one may be another server's, and must not keep this one from the others,
    /// also where the library ends the connection for it.
    fn give_up(&mut self, channel: Bytes, trouble: Trouble) -> Result<(), Trouble> {
        if self.how == PubSub::Sharded {
            tracing::debug!(?trouble, "a channel is not heard here any more");
            self.channels.remove(&channel);
            self.out.0.tell(ListenEvent::Gone(channel));
        }
        match trouble {
            Trouble::Elsewhere(_) => Ok(()),
            broken => Err(broken),
        }
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
        let mut ticks = interval(match self.how {
            PubSub::Plain => PROBE_EVERY,
            PubSub::Sharded => COUNT_EVERY,
        });
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
                _ = ticks.tick() => match self.probe(&mut sink, &mut heard).await {
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
    async fn probe(
        &self,
        sink: &mut Sink,
        heard: &mut broadcast::Receiver<Message>,
    ) -> Option<String> {
        let probed = sink.probe(self.channels.len());
        self.out.meanwhile(heard, probed).await
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
            self.forget(&channel);
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

    /// Nobody wants it any more: what is told of it from now on is told anew.
    fn forget(&mut self, channel: &Bytes) {
        self.channels.remove(channel);
        if self.refused.remove(channel) {
            self.out.0.tell(ListenEvent::Admitted(channel.clone()));
        }
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
