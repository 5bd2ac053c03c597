//! What the listening session hears, handed to whoever waits for it in this process.
//!
//! Everything of a schema is announced on one channel; the first byte of a payload says what it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::session::lock;

/// What a payload is about. The byte, then what rang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bell {
    /// A lease may be free: the id of its key.
    Lease,
    /// Members or reports of a group changed: the id of the group.
    Members,
    /// An assignment changed: the id of group and keyspace.
    Assignment,
    /// Rows were added to the durable log.
    Log,
}

impl Bell {
    const fn byte(self) -> char {
        match self {
            Self::Lease => 'l',
            Self::Members => 'm',
            Self::Assignment => 'a',
            Self::Log => 'd',
        }
    }

    fn of(byte: char) -> Option<Self> {
        [Self::Lease, Self::Members, Self::Assignment, Self::Log]
            .into_iter()
            .find(|bell| bell.byte() == byte)
    }

    /// The payload that rings it.
    #[allow(dead_code, reason = "statements ring most bells by themselves")]
    pub(crate) fn payload(self, what: &str) -> String {
        format!("{}{what}", self.byte())
    }
}

/// What the listening session tells the bus.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A payload that is no bell: a packet of frames.
    Packet(Bytes),
    /// The session listens, for the first time or again.
    Connected,
    /// The session has ended: what is sent from now on is not heard.
    Disconnected,
}

/// Where the bus hears. Must not block, and must not ask the bells for anything.
pub(crate) type BusInbox = Arc<dyn Fn(News) + Send + Sync>;

/// The bus's ear, and whether the session is known to listen: the server may send before that.
#[derive(Default)]
struct Ear {
    up: bool,
    inbox: Option<BusInbox>,
}

/// Bells by what they are about.
#[derive(Default)]
pub(crate) struct Bells {
    rung: Mutex<BTreeMap<(Bell, String), watch::Sender<u64>>>,
    bus: Mutex<Ear>,
    of_the_log: AtomicU64,
}

impl Bells {
    /// How many bells of the log were ever heard, of whatever topics.
    pub(crate) fn of_the_log(&self) -> u64 {
        self.of_the_log.load(Ordering::Relaxed)
    }

    /// A bell to wait for, heard from now on.
    pub(crate) fn listen(&self, bell: Bell, what: &str) -> Hearing {
        let mut rung = lock(&self.rung);
        // Those that nobody listens to any more are cleared as others come.
        rung.retain(|_, sender| sender.receiver_count() > 0);
        let sender = rung
            .entry((bell, what.to_owned()))
            .or_insert_with(|| watch::Sender::new(0));
        Hearing {
            receiver: sender.subscribe(),
        }
    }

    /// Whoever hears packets from now on. Told at once if the session listens.
    pub(crate) fn hand_packets_to(&self, inbox: BusInbox) {
        let mut ear = lock(&self.bus);
        if ear.up {
            inbox(News::Connected);
        }
        ear.inbox = Some(inbox);
    }

    /// A payload has arrived.
    pub(crate) fn heard(&self, payload: &str) {
        let mut letters = payload.chars();
        match letters.next().and_then(Bell::of) {
            Some(bell) => {
                if bell == Bell::Log {
                    self.of_the_log.fetch_add(1, Ordering::Relaxed);
                }
                self.ring(bell, letters.as_str());
            }
            None => self.packet(payload),
        }
    }

    /// The session listens again: anything may have rung meanwhile.
    pub(crate) fn connected(&self) {
        for sender in lock(&self.rung).values() {
            sender.send_modify(|count| *count += 1);
        }
        self.turn(true, News::Connected);
    }

    pub(crate) fn disconnected(&self) {
        self.turn(false, News::Disconnected);
    }

    /// What comes before the bus knows of the session is not for it: it was not live.
    fn packet(&self, payload: &str) {
        let ear = lock(&self.bus);
        if let Some(inbox) = ear.inbox.as_ref().filter(|_| ear.up) {
            inbox(News::Packet(Bytes::copy_from_slice(payload.as_bytes())));
        }
    }

    /// Told while locked: no packet of the new session overtakes the news of it.
    fn turn(&self, up: bool, news: News) {
        let mut ear = lock(&self.bus);
        ear.up = up;
        if let Some(inbox) = &ear.inbox {
            inbox(news);
        }
    }

    fn ring(&self, bell: Bell, what: &str) {
        if let Some(sender) = lock(&self.rung).get(&(bell, what.to_owned())) {
            sender.send_modify(|count| *count += 1);
        }
    }
}

impl std::fmt::Debug for Bells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bells").finish_non_exhaustive()
    }
}

/// Someone who waits for a bell.
#[derive(Debug)]
pub(crate) struct Hearing {
    receiver: watch::Receiver<u64>,
}

impl Hearing {
    /// Returns when it has rung since the last time, or since it was listened for. Cancel safe.
    pub(crate) async fn rung(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_bell_that_rang_before_the_wait_is_heard_and_another_is_not() {
        let bells = Bells::default();
        let mut mine = bells.listen(Bell::Lease, "x");
        let mut other = bells.listen(Bell::Lease, "y");
        bells.heard(&Bell::Lease.payload("x"));
        mine.rung().await;
        assert!(mine.rung().now_or_never().is_none());
        assert!(other.rung().now_or_never().is_none());
        bells.connected();
        other.rung().await;
    }

    #[test]
    fn the_bus_hears_of_the_session_before_its_first_packet() {
        let bells = Bells::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = heard.clone();
        bells.hand_packets_to(Arc::new(move |news| lock(&notes).push(format!("{news:?}"))));
        bells.heard("pre");
        bells.connected();
        bells.heard("p1");
        bells.disconnected();
        bells.heard("post");
        assert_eq!(
            *lock(&heard),
            ["Connected", "Packet(b\"p1\")", "Disconnected"]
        );
    }
}
