//! A listener of a store whose channels lie on several servers, or move from one to another: each channel is heard where
//! it lies now. When it lies elsewhere, or its server is gone, that is told as a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, unfold};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::wants::{Done, Want, wants};
use super::{Channels, Chosen, Client, ListenEvent, Listener, PubSub, Teller, queue};
use crate::trouble::{Elsewhere, Trouble};

/// How long to wait before what could not be heard is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A server by its number, and how it is listened to.
type At = (u64, PubSub);

/// Where channels lie.
pub(super) trait Routes: fmt::Debug + Send + Sync {
    /// The server of a channel, if it is known. Two are the same if their numbers are.
    fn route(&self, channel: &[u8]) -> Option<(u64, Arc<dyn Client>)>;

    /// Something may have changed: look soon.
    fn suspect(&self);

    /// A server says who has a channel now, where there are several.
    fn moved(&self, _to: &Elsewhere) {}
}

/// Listens until the listener is dropped. `changed` says that routes may be others. So many bytes of messages wait to be taken.
pub(super) fn open(
    routes: Arc<dyn Routes>,
    changed: watch::Receiver<u64>,
    how: Chosen,
    bytes: usize,
) -> Listener {
    let (teller, heard) = queue(bytes);
    let (channels, wants) = wants();
    let exchange = Exchange {
        routes,
        how,
        teller,
        is_live: true,
        why: Arc::from("the server was lost"),
        channels: BTreeMap::new(),
        ears: BTreeMap::new(),
        heard: SelectAll::new(),
        jobs: FuturesUnordered::new(),
        again: None,
    };
    tokio::spawn(exchange.run(wants, changed));
    Listener::new(channels, heard)
}

/// A channel that is to be heard.
#[derive(Debug, Default)]
struct Place {
    /// Its server, as far as is known.
    at: Option<At>,
    state: State,
    /// Who waits for the first confirmation.
    waiting: Vec<Done>,
}

/// What its server was told of a channel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Unasked,
    Asked,
    Heard,
}

impl Place {
    fn is_lost(&mut self) {
        (self.at, self.state) = (None, State::Unasked);
    }

    fn refuse(&mut self, trouble: &Trouble) {
        for done in self.waiting.drain(..) {
            done.send(Err(trouble.again())).ok();
        }
    }
}

/// A connection that listens to one server. Dropped, it is closed.
#[derive(Debug, Default)]
struct Ear {
    /// `None`: it is being opened.
    line: Option<Line>,
    is_live: bool,
}

#[derive(Debug)]
struct Line {
    channels: Arc<dyn Channels>,
    _open: oneshot::Sender<()>,
}

/// What is heard, and where; and that nothing will be any more.
type Hearing = BoxStream<'static, (At, Option<ListenEvent>)>;

/// What was done meanwhile.
enum Job {
    Opened(At, Result<Listener, Trouble>),
    Heard(At, Bytes, Result<(), Trouble>),
    Ignored,
}

struct Exchange {
    routes: Arc<dyn Routes>,
    how: Chosen,
    teller: Teller,
    /// What was told last: whether all is heard.
    is_live: bool,
    /// Why something was not heard last.
    why: Arc<str>,
    channels: BTreeMap<Bytes, Place>,
    ears: BTreeMap<At, Ear>,
    heard: SelectAll<Hearing>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    /// When to try again what failed.
    again: Option<Instant>,
}

impl Exchange {
    async fn run(mut self, mut wants: mpsc::Receiver<Want>, mut changed: watch::Receiver<u64>) {
        let mut may_choose = true;
        loop {
            let again = self.again;
            tokio::select! {
                Some((at, event)) = self.heard.next() => if !self.hear(at, event) {
                    continue;
                },
                Some(job) = self.jobs.next() => self.done(job),
                want = wants.recv() => match want {
                    Some(want) => self.serve(want),
                    None => return,
                },
                told = changed.changed() => match told {
                    Ok(()) => self.again = None,
                    Err(_) => return,
                },
                told = self.how.changed(), if may_choose => {
                    may_choose = told.is_ok();
                    self.again = None;
                    if may_choose {
                        self.lose(Arc::from("messages may have spread in another way"));
                    }
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    self.again = None;
                }
            }
            self.arrange();
        }
    }

    /// Says whether anything is to be arranged.
    fn hear(&mut self, at: At, event: Option<ListenEvent>) -> bool {
        match (self.ears.get_mut(&at), event) {
            // What is still heard where nothing is wanted any more.
            (None, _) => {}
            (Some(ear), Some(ListenEvent::Lost(why))) => {
                ear.is_live = false;
                self.lose(why);
                self.routes.suspect();
            }
            // It has its channels again.
            (Some(ear), Some(ListenEvent::Live)) => ear.is_live = true,
            (Some(_), None) => self.close(at),
            (Some(_), Some(ListenEvent::Gone(channel))) => {
                let place = self.channels.get_mut(&channel);
                if let Some(place) = place.filter(|place| place.at == Some(at)) {
                    place.is_lost();
                    self.ask_again();
                }
            }
            (Some(_), Some(other)) => {
                self.teller.tell(other);
                return false;
            }
        }
        true
    }

    /// Something is not heard; a newer reason is told, too.
    fn lose(&mut self, why: Arc<str>) {
        self.is_live = false;
        self.why = why.clone();
        self.teller.tell(ListenEvent::Lost(why));
    }

    /// Something is to be asked for where it lies by then.
    fn ask_again(&mut self) {
        self.routes.suspect();
        self.again = Some(Instant::now() + PAUSE);
    }

    /// What was heard there is to be asked for again.
    fn close(&mut self, at: At) {
        self.ears.remove(&at);
        let places = self.channels.values_mut();
        places
            .filter(|place| place.at == Some(at))
            .for_each(Place::is_lost);
    }

    fn serve(&mut self, want: Want) {
        if want.hears {
            let place = self.channels.entry(want.channel).or_default();
            place.waiting.push(want.done);
            return;
        }
        if let Some(at) = self
            .channels
            .remove(&want.channel)
            .and_then(|place| place.at)
        {
            self.ignore(at, want.channel);
        }
        want.done.send(Ok(())).ok();
    }

    /// Nobody waits for that: what still comes is not wanted, and no harm.
    fn ignore(&mut self, at: At, channel: Bytes) {
        let line = self.ears.get(&at).and_then(|ear| ear.line.as_ref());
        if let Some(channels) = line.map(|line| line.channels.clone()) {
            self.jobs.push(Box::pin(async move {
                if let Err(trouble) = channels.unsubscribe(channel).await {
                    tracing::debug!(?trouble, "a channel that nobody needs is still heard");
                }
                Job::Ignored
            }));
        }
    }

    fn done(&mut self, job: Job) {
        match job {
            Job::Opened(at, Ok(listener)) => {
                let ear = self.ears.get_mut(&at).filter(|ear| ear.line.is_none());
                if let Some(ear) = ear {
                    let (open, closed) = oneshot::channel();
                    let channels = listener.channels();
                    ear.line = Some(Line {
                        channels,
                        _open: open,
                    });
                    ear.is_live = true;
                    self.heard.push(hearing(at, listener, closed));
                }
            }
            Job::Opened(at, Err(trouble)) => {
                self.close(at);
                self.failed(&trouble);
            }
            Job::Heard(at, channel, heard) => {
                let place = self.channels.get_mut(&channel);
                let Some(place) = place.filter(|place| place.at == Some(at)) else {
                    return;
                };
                match heard {
                    Ok(()) => place.state = State::Heard,
                    Err(denied @ Trouble::Denied(_)) if place.waiting.is_empty() => {
                        // Elsewhere the user might hear it. To ask again and again would not help.
                        place.state = State::Heard;
                        let why = denied.to_string().into();
                        self.teller.tell(ListenEvent::Refused { channel, why });
                    }
                    // Who waits is not told: the server says where to ask, or the cluster will.
                    Err(Trouble::Elsewhere(to)) => {
                        place.is_lost();
                        self.routes.moved(&to);
                        self.ask_again();
                    }
                    Err(trouble) => {
                        place.is_lost();
                        self.failed(&trouble);
                    }
                }
            }
            Job::Ignored => {}
        }
    }

    /// Tells those who wait for channels that have no server, and tries again in a while for the others.
    fn failed(&mut self, trouble: &Trouble) {
        self.ask_again();
        self.why = trouble.to_string().into();
        self.channels.retain(|_, place| {
            let is_new = !place.waiting.is_empty();
            if place.at.is_none() {
                place.refuse(trouble);
            }
            place.at.is_some() || !is_new
        });
    }

    /// Asks for each channel where it lies now, and tells whether all are heard.
    fn arrange(&mut self) {
        if self.again.is_none() {
            self.move_channels();
        }
        self.ask();
        let used: BTreeSet<At> = self
            .channels
            .values()
            .filter_map(|place| place.at)
            .collect();
        self.ears.retain(|at, _| used.contains(at));
        let mut is_live = true;
        for place in self.channels.values_mut() {
            let ear = place.at.and_then(|at| self.ears.get(&at));
            if ear.is_some_and(|ear| ear.is_live) && place.state == State::Heard {
                for done in place.waiting.drain(..) {
                    done.send(Ok(())).ok();
                }
                continue;
            }
            // A channel that is heard for the first time is nobody's loss.
            is_live &= !place.waiting.is_empty();
            if ear.is_some_and(|ear| ear.line.is_some() && !ear.is_live) {
                place.refuse(&Trouble::unavailable("the listening connection is down"));
            }
        }
        if is_live && !self.is_live {
            self.is_live = true;
            self.teller.tell(ListenEvent::Live);
        } else if !is_live && self.is_live {
            self.lose(self.why.clone());
        }
    }

    fn move_channels(&mut self) {
        let mut left = Vec::new();
        let mut is_lost = false;
        let how = *self.how.borrow();
        for (channel, place) in &mut self.channels {
            let route = self.routes.route(channel);
            let route = route.map(|(number, client)| ((number, how), client));
            let at = route.as_ref().map(|(at, _)| *at);
            if place.at != at {
                if let Some(was) = place.at {
                    left.push((was, channel.clone()));
                    self.why = Arc::from("another server has the channel now");
                }
                place.is_lost();
                place.at = at;
            }
            match route {
                None => is_lost = true,
                Some((at, client)) => {
                    self.ears.entry(at).or_insert_with(|| {
                        self.jobs.push(Box::pin(async move {
                            Job::Opened(at, client.listen(how.always()).await)
                        }));
                        Ear::default()
                    });
                }
            }
        }
        for (was, channel) in left {
            self.ignore(was, channel);
        }
        if is_lost {
            self.failed(&Trouble::unavailable(
                "it is not known now which server has the channel",
            ));
        }
    }

    /// Asks servers for channels, where there is a connection that listens.
    fn ask(&mut self) {
        for (channel, place) in &mut self.channels {
            let ear = place.at.and_then(|at| Some((at, self.ears.get(&at)?)));
            let Some((at, line)) = ear.and_then(|(at, ear)| Some((at, ear.line.as_ref()?))) else {
                continue;
            };
            if place.state != State::Unasked {
                continue;
            }
            place.state = State::Asked;
            let (channels, channel) = (line.channels.clone(), channel.clone());
            self.jobs.push(Box::pin(async move {
                let heard = channels.subscribe(channel.clone()).await;
                Job::Heard(at, channel, heard)
            }));
        }
    }
}

/// What a listener hears, until it is no longer wanted; the end of it, if it comes by itself.
fn hearing(at: At, listener: Listener, closed: oneshot::Receiver<()>) -> Hearing {
    let events = unfold(Some(listener), move |listener| async move {
        let mut listener = listener?;
        match listener.next().await {
            Some(event) => Some(((at, Some(event)), Some(listener))),
            None => Some(((at, None), None)),
        }
    });
    Box::pin(events.take_until(closed))
}
