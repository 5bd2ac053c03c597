//! What scripts tell by pub/sub, handed to whoever waits for it in this process. Hints only: each listener
//! has a timer of its own, for a fail-over can swallow a message.
//!
//! A group has one channel; a process one of its own, for its places in lines. The first byte of a payload says what it is
//! about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use coordinator_core::{Key, Keyspace};
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::{ListenEvent, Listener};
use crate::names::Tag;
use crate::trouble::Trouble;

/// What a ticket's bell says when the turn is its waiter's.
pub(crate) const TURN: u64 = 1;

/// Above so many channels those are given up that nobody listens to.
const MANY_CHANNELS: usize = 64;

/// What can be listened for: a channel, and what is told there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bell {
    /// `None`: this process's own.
    channel: Option<Bytes>,
    what: Bytes,
}

impl Bell {
    /// The holder of a key may be another. Says the token of the grant that it is about.
    pub(crate) fn lock(tag: &Tag, key: &Key) -> Self {
        Self::of_group(tag, b'l', key.as_str())
    }

    /// The members of a group, or their reports, are others.
    pub(crate) fn members(tag: &Tag) -> Self {
        Self::of_group(tag, b'm', "")
    }

    /// The document of a keyspace is another. Says its epoch.
    pub(crate) fn assignment(tag: &Tag, keyspace: &Keyspace) -> Self {
        Self::of_group(tag, b'a', keyspace.as_str())
    }

    /// A place in line is called. Says [`TURN`] if the turn has come.
    pub(crate) fn ticket(ticket: &str) -> Self {
        Self {
            channel: None,
            what: named(b'w', ticket.as_bytes()),
        }
    }

    fn of_group(tag: &Tag, kind: u8, name: &str) -> Self {
        Self {
            channel: Some(tag.channel()),
            what: named(kind, name.as_bytes()),
        }
    }
}

fn named(kind: u8, name: &[u8]) -> Bytes {
    [&[kind], name].concat().into()
}

/// What a payload is about, and the number it says.
fn read(payload: &[u8]) -> Option<(Bytes, Option<u64>)> {
    let (kind, rest) = payload.split_first()?;
    match kind {
        b'm' => Some((named(b'm', b""), None)),
        b'w' => Some((named(b'w', rest), Some(TURN))),
        b'v' => Some((named(b'w', rest), None)),
        b'l' | b'a' => {
            let space = rest.iter().position(|byte| *byte == b' ')?;
            let number = std::str::from_utf8(rest.get(..space)?).ok()?;
            Some((named(*kind, rest.get(space + 1..)?), number.parse().ok()))
        }
        _ => None,
    }
}

/// A count of rings, and the number that the last one said.
type Rings = (u64, Option<u64>);

/// Bells by what they are about.
#[derive(Debug)]
pub(crate) struct Bells {
    tower: Arc<Mutex<Tower>>,
    wanted: mpsc::UnboundedSender<Want>,
    own: Bytes,
    tickets: AtomicU64,
    returns: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
struct Tower {
    rung: BTreeMap<Bell, watch::Sender<Rings>>,
    /// The channels that are heard.
    heard: BTreeSet<Bytes>,
}

/// A channel to be heard, and who waits for that.
#[derive(Debug)]
struct Want {
    channel: Bytes,
    confirmed: oneshot::Sender<Result<(), Trouble>>,
}

impl Bells {
    /// Hears by this connection. `own`: this process's channel.
    pub(crate) fn start(listener: Listener, own: Bytes) -> Self {
        let tower = Arc::<Mutex<Tower>>::default();
        let (wanted, wants) = mpsc::unbounded_channel();
        let (returned, returns) = watch::channel(0);
        let ringer = Ringer {
            tower: tower.clone(),
            own: own.clone(),
            listener,
            returned,
        };
        tokio::spawn(ringer.run(wants));
        Self {
            tower,
            wanted,
            own,
            tickets: AtomicU64::new(0),
            returns,
        }
    }

    /// Changes whenever the connection is there again.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.clone()
    }

    /// This process's channel.
    pub(crate) fn own_channel(&self) -> Bytes {
        self.own.clone()
    }

    /// A number that no other place in line of this process has.
    pub(crate) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// A bell to wait for, heard from now on. Cancel safe.
    pub(crate) async fn listen(&self, bell: Bell) -> Result<Hearing, Trouble> {
        let channel = bell.channel.clone().unwrap_or_else(|| self.own.clone());
        let (hearing, is_heard) = {
            let mut tower = lock(&self.tower);
            (tower.hang(bell), tower.heard.contains(&channel))
        };
        if !is_heard {
            let (confirmed, answer) = oneshot::channel();
            // Its end is the end of the answer, too.
            self.wanted.send(Want { channel, confirmed }).ok();
            answer.await.map_err(|_| Trouble::closed())??;
        }
        Ok(hearing)
    }
}

impl Tower {
    fn hang(&mut self, bell: Bell) -> Hearing {
        // Those that nobody listens to any more are cleared as others come.
        self.rung.retain(|_, sender| sender.receiver_count() > 0);
        let sender = self.rung.entry(bell);
        let sender = sender.or_insert_with(|| watch::Sender::new((0, None)));
        Hearing {
            receiver: sender.subscribe(),
        }
    }

    fn ring(&mut self, bell: &Bell, number: Option<u64>) {
        if let Some(sender) = self.rung.get(bell) {
            sender.send_modify(|(count, last)| (*count, *last) = (*count + 1, number));
        }
    }

    /// Something may not have been heard.
    fn ring_all(&mut self) {
        for sender in self.rung.values() {
            sender.send_modify(|(count, last)| (*count, *last) = (*count + 1, None));
        }
    }

    /// Channels that nobody listens to any more, once there are many: they are not heard from now on.
    fn silent(&mut self, own: &Bytes) -> Vec<Bytes> {
        if self.heard.len() < MANY_CHANNELS {
            return Vec::new();
        }
        self.rung.retain(|_, sender| sender.receiver_count() > 0);
        let bells = self.rung.keys().filter_map(|bell| bell.channel.as_ref());
        let used: BTreeSet<&Bytes> = bells.chain([own]).collect();
        let unused = self.heard.iter().filter(|channel| !used.contains(channel));
        let unused: Vec<Bytes> = unused.cloned().collect();
        for channel in &unused {
            self.heard.remove(channel);
        }
        unused
    }
}

/// Hears the channels, and rings.
struct Ringer {
    tower: Arc<Mutex<Tower>>,
    own: Bytes,
    listener: Listener,
    returned: watch::Sender<u64>,
}

impl Ringer {
    /// Ends with the last handle of the bells.
    async fn run(mut self, mut wants: mpsc::UnboundedReceiver<Want>) {
        loop {
            tokio::select! {
                event = self.listener.next() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                want = wants.recv() => match want {
                    Some(want) => self.serve(want).await,
                    None => break,
                },
            }
        }
    }

    fn hear(&self, event: ListenEvent) {
        match event {
            ListenEvent::Message { channel, payload } => {
                let Some((what, number)) = read(&payload) else {
                    return;
                };
                let channel = Some(channel).filter(|channel| *channel != self.own);
                lock(&self.tower).ring(&Bell { channel, what }, number);
            }
            ListenEvent::Live => {
                lock(&self.tower).ring_all();
                self.returned.send_modify(|count| *count += 1);
            }
            ListenEvent::Admitted(_) => lock(&self.tower).ring_all(),
            // Whoever waits has a timer; when it is live again, all look.
            ListenEvent::Lost(_) | ListenEvent::Gone(_) => {}
            // Who listens for it from now on is told why not.
            ListenEvent::Refused { channel, why } => {
                lock(&self.tower).heard.remove(&channel);
                let channel = String::from_utf8_lossy(&channel);
                tracing::warn!(%channel, why = &*why, "changes are not heard of any more, and are polled for");
            }
        }
    }

    async fn serve(&self, want: Want) {
        let heard = self.listener.subscribe(want.channel.clone()).await;
        if heard.is_ok() {
            lock(&self.tower).heard.insert(want.channel);
        }
        want.confirmed.send(heard).ok();
        let silent = lock(&self.tower).silent(&self.own);
        for channel in silent {
            if let Err(trouble) = self.listener.unsubscribe(channel).await {
                tracing::debug!(?trouble, "a channel that nobody needs is still heard");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Someone who waits for a bell.
#[derive(Debug)]
pub(crate) struct Hearing {
    receiver: watch::Receiver<Rings>,
}

impl Hearing {
    /// Returns when it has rung since the last time, or since it was listened for, with the number that was said; without
    /// one, something may not have been heard. Cancel safe.
    pub(crate) async fn rung(&mut self) -> Option<u64> {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.receiver.borrow_and_update().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_what_it_is_about() {
        let of = |text: &str| read(text.as_bytes());
        let named = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(of("m"), Some((named("m"), None)));
        assert_eq!(of("l17 a b"), Some((named("la b"), Some(17))));
        assert_eq!(of("a5 "), Some((named("a"), Some(5))));
        assert_eq!(of("wx/1/2"), Some((named("wx/1/2"), Some(TURN))));
        assert_eq!(of("vx/1/2"), Some((named("wx/1/2"), None)));
        assert_eq!(of("l17"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("?"), None);
    }

    #[tokio::test]
    async fn a_bell_that_rang_before_the_wait_is_heard_and_another_is_not() {
        let (mine, other) = (Bell::ticket("a"), Bell::ticket("b"));
        let mut tower = Tower::default();
        let (mut here, mut there) = (tower.hang(mine.clone()), tower.hang(other));
        tower.ring(&mine, Some(TURN));
        assert_eq!(here.rung().await, Some(TURN));
        assert!(!there.receiver.has_changed().unwrap());
        tower.ring_all();
        assert_eq!((here.rung().await, there.rung().await), (None, None));
    }

    #[test]
    fn channels_are_given_up_once_there_are_many_that_nobody_listens_to() {
        let mut tower = Tower::default();
        let own = Bytes::from_static(b"own");
        let used = Bell {
            channel: Some(Bytes::from_static(b"1")),
            what: Bytes::new(),
        };
        let hearing = tower.hang(used);
        tower.heard.insert(own.clone());
        for number in 0..MANY_CHANNELS - 1 {
            assert_eq!(tower.silent(&own), Vec::<Bytes>::new());
            tower.heard.insert(number.to_string().into());
        }
        assert_eq!(tower.silent(&own).len(), MANY_CHANNELS - 2);
        assert_eq!(tower.heard.len(), 2);
        drop(hearing);
    }
}
