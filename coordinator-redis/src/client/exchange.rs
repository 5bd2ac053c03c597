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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::wants::{Done, Want, wants};
use super::{Channels, Chosen, Client, ListenEvent, Listener, PubSub, Teller, queue};
use crate::trouble::{Elsewhere, Trouble};

/// How long to wait before what could not be heard is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a channel is tried again that the user may not hear.
const TRY_EVERY: Duration = Duration::from_secs(5);

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
        opened: 0,
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
    /// It was heard once: that it is not is somebody's loss.
    is_known: bool,
    refusal: Refusal,
    /// Who waits for a confirmation.
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

/// Whether it was told that the user may not hear it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    #[default]
    None,
    /// It was asked for, and refused. It is tried again.
    Found,
    /// Its connection has said so, tries it again, and says when that is over.
    Told,
}

impl Place {
    fn is_lost(&mut self) {
        (self.at, self.state) = (None, State::Unasked);
        if self.is_refused() {
            self.refusal = Refusal::Found;
        }
    }

    fn is_refused(&self) -> bool {
        self.refusal != Refusal::None
    }

    /// Its server has answered, and perhaps that the user may not hear it.
    fn is_answered(&self) -> bool {
        self.state == State::Heard
    }

    fn is_wanted(&self) -> bool {
        self.is_known || !self.waiting.is_empty()
    }

    fn refuse(&mut self, trouble: &Trouble) {
        for done in self.waiting.drain(..) {
            done.send(Err(trouble.again())).ok();
        }
    }
}

/// A connection that listens to one server. Dropped, it is closed.
#[derive(Debug)]
struct Ear {
    /// No other has it.
    number: u64,
    /// `None`: it is being opened.
    line: Option<Line>,
    is_live: bool,
}

impl Ear {
    /// It is being opened.
    fn opened(number: u64) -> Self {
        Self {
            number,
            line: None,
            is_live: false,
        }
    }

    /// Asks the server for a channel, if there is a connection.
    fn ask(&self, at: At, channel: Bytes) -> Option<BoxFuture<'static, Job>> {
        let channels = self.line.as_ref()?.channels.clone();
        let number = self.number;
        Some(Box::pin(async move {
            let heard = channels.subscribe(channel.clone()).await;
            Job::Heard(at, number, channel, heard)
        }))
    }
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
    /// By the connection of that number.
    Heard(At, u64, Bytes, Result<(), Trouble>),
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
    /// How many there were.
    opened: u64,
    heard: SelectAll<Hearing>,
    jobs: FuturesUnordered<BoxFuture<'static, Job>>,
    /// When to try again what failed.
    again: Option<Instant>,
}

impl Exchange {
    async fn run(mut self, mut wants: mpsc::Receiver<Want>, mut changed: watch::Receiver<u64>) {
        let mut may_choose = true;
        let mut tries = interval(TRY_EVERY);
        tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = self.again;
            let mut places = self.channels.values();
            let is_refused = places.any(|place| place.refusal == Refusal::Found);
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
                _ = tries.tick(), if is_refused => self.try_refused(),
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
            (Some(_), Some(ListenEvent::Refused { channel, why })) => {
                self.refused(at, channel, why, Refusal::Told);
            }
            (Some(_), Some(ListenEvent::Admitted(channel))) => {
                self.admitted(at, channel, Refusal::Told);
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

    fn refused(&mut self, at: At, channel: Bytes, why: Arc<str>, how: Refusal) {
        let place = self.channels.get_mut(&channel);
        let Some(place) = place.filter(|place| place.at == Some(at)) else {
            return;
        };
        let is_new = !place.is_refused();
        if is_new || how == Refusal::Told {
            place.refusal = how;
        }
        if is_new {
            self.teller.tell(ListenEvent::Refused { channel, why });
        }
    }

    /// An answer may be older than what its connection has told since: so that is over when the connection says so.
    fn admitted(&mut self, at: At, channel: Bytes, how: Refusal) {
        let place = self.channels.get_mut(&channel);
        let ends = |place: &&mut Place| place.refusal == Refusal::Found || place.refusal == how;
        let place = place.filter(|place| place.at == Some(at) && place.is_refused());
        if let Some(place) = place.filter(ends) {
            place.refusal = Refusal::None;
            self.teller.tell(ListenEvent::Admitted(channel));
        }
    }

    fn serve(&mut self, want: Want) {
        let Want {
            channel,
            hears,
            done,
        } = want;
        if hears {
            let place = self.channels.entry(channel.clone()).or_default();
            place.waiting.push(done);
            if place.is_refused() && place.is_answered() {
                self.try_again(channel);
            }
            return;
        }
        if let Some(place) = self.channels.remove(&channel) {
            if place.is_refused() {
                self.teller.tell(ListenEvent::Admitted(channel.clone()));
            }
            if let Some(at) = place.at {
                self.ignore(at, channel);
            }
        }
        done.send(Ok(())).ok();
    }

    /// Perhaps the user may hear them again.
    fn try_refused(&mut self) {
        let places = self.channels.iter();
        let refused =
            places.filter(|(_, place)| place.refusal == Refusal::Found && place.is_answered());
        let refused: Vec<Bytes> = refused.map(|(channel, _)| channel.clone()).collect();
        for channel in refused {
            self.try_again(channel);
        }
    }

    fn try_again(&mut self, channel: Bytes) {
        let at = self.channels.get(&channel).and_then(|place| place.at);
        let ear = at.and_then(|at| Some((at, self.ears.get(&at)?)));
        if let Some(job) = ear.and_then(|(at, ear)| ear.ask(at, channel)) {
            self.jobs.push(job);
        }
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
            Job::Heard(at, number, channel, heard) => {
                // One that was opened since was not asked.
                if self.ears.get(&at).is_none_or(|ear| ear.number != number) {
                    return;
                }
                let place = self.channels.get_mut(&channel);
                let Some(place) = place.filter(|place| place.at == Some(at)) else {
                    return;
                };
                match heard {
                    Ok(()) => {
                        place.state = State::Heard;
                        self.admitted(at, channel, Refusal::Found);
                    }
                    Err(denied @ Trouble::Denied(_)) if place.is_known => {
                        // The other channels are heard nevertheless.
                        place.state = State::Heard;
                        place.refuse(&denied);
                        let why = denied.to_string().into();
                        self.refused(at, channel, why, Refusal::Found);
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
            if place.at.is_none() {
                place.refuse(trouble);
            }
            place.is_wanted()
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
            if ear.is_some_and(|ear| ear.is_live) && place.is_answered() {
                if !place.is_refused() {
                    place.is_known = true;
                    for done in place.waiting.drain(..) {
                        done.send(Ok(())).ok();
                    }
                }
                continue;
            }
            // A channel that is heard for the first time is nobody's loss.
            is_live &= !place.is_known;
            if ear.is_some_and(|ear| ear.line.is_some() && !ear.is_live) {
                place.refuse(&Trouble::unavailable("the listening connection is down"));
            }
        }
        self.drop_unwanted();
        if is_live && !self.is_live {
            self.is_live = true;
            self.teller.tell(ListenEvent::Live);
        } else if !is_live && self.is_live {
            self.lose(self.why.clone());
        }
    }

    /// Those that somebody wanted for the first time, and was refused.
    fn drop_unwanted(&mut self) {
        let unwanted = |_: &Bytes, place: &mut Place| !place.is_wanted();
        let unwanted: Vec<_> = self.channels.extract_if(.., unwanted).collect();
        for (channel, place) in unwanted {
            if let Some(at) = place.at {
                self.ignore(at, channel);
            }
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
                        self.opened += 1;
                        self.jobs.push(Box::pin(async move {
                            Job::Opened(at, client.listen(how.always()).await)
                        }));
                        Ear::opened(self.opened)
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
            if place.state != State::Unasked {
                continue;
            }
            if let Some(job) = ear.and_then(|(at, ear)| ear.ask(at, channel.clone())) {
                place.state = State::Asked;
                self.jobs.push(job);
            }
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

#[cfg(test)]
mod tests;
