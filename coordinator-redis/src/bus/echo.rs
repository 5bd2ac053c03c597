//! Echoes: what a process says to itself to know what it has heard. On one server a single channel does for all. In a
//! cluster there is one beside each channel, with its hash tag: it lies on the same node and comes by the same connection,
//! behind all that the node has passed on before (U17).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::lock;
use crate::names::Names;

/// What is done at the last of some echoes.
pub(super) type Then = Box<dyn FnOnce() + Send>;

/// The channels on which this process echoes, and what waits for it.
#[derive(Debug)]
pub(super) struct Echoes {
    place: Place,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
enum Place {
    /// One channel for all.
    One(Bytes),
    /// One beside each, which ends like this.
    Beside(String),
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    rounds: BTreeMap<u64, Round>,
}

/// Echoes that were asked for together.
struct Round {
    /// Where they have not come yet.
    left: BTreeSet<Bytes>,
    then: Then,
    done: oneshot::Sender<()>,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Echoes {
    /// On channels that no other process has.
    pub(super) fn new(names: &Names, is_cluster: bool) -> Self {
        let random = rand::random();
        let place = if is_cluster {
            Place::Beside(Names::echo(random))
        } else {
            Place::One(names.own_channel(random))
        };
        Self {
            place,
            waiting: Mutex::default(),
        }
    }

    /// The channel that is heard for as long as the connection lives.
    pub(super) fn always(&self) -> Option<&Bytes> {
        match &self.place {
            Place::One(channel) => Some(channel),
            Place::Beside(_) => None,
        }
    }

    /// The channels that are heard together with these.
    pub(super) fn beside(&self, channels: &BTreeSet<Bytes>) -> BTreeSet<Bytes> {
        match &self.place {
            Place::One(_) => BTreeSet::new(),
            Place::Beside(end) => channels
                .iter()
                .map(|channel| Names::beside(channel, end))
                .collect(),
        }
    }

    /// Whether that is a channel of echoes.
    pub(super) fn has(&self, channel: &Bytes) -> bool {
        match &self.place {
            Place::One(own) => own == channel,
            Place::Beside(end) => channel.ends_with(end.as_bytes()),
        }
    }

    /// Waits for one on each of these channels, with this number.
    pub(super) fn add(
        &self,
        channels: &BTreeSet<Bytes>,
        then: Then,
    ) -> (u64, oneshot::Receiver<()>) {
        let (done, heard) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        waiting.last += 1;
        let number = waiting.last;
        let left = channels.clone();
        waiting.rounds.insert(number, Round { left, then, done });
        (number, heard)
    }

    /// One has come; it may have been sent twice. `last`: what is done behind that which waited for it.
    pub(super) fn heard(&self, channel: &Bytes, payload: &[u8], last: impl FnOnce()) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return;
        };
        let round = lock(&self.waiting).last_of(number, channel);
        if let Some(Round { then, done, .. }) = round {
            then();
            last();
            done.send(()).ok();
        }
    }

    pub(super) fn forget(&self, number: u64) {
        lock(&self.waiting).rounds.remove(&number);
    }

    /// Those under way may be lost.
    pub(super) fn clear(&self) {
        lock(&self.waiting).rounds.clear();
    }
}

impl Waiting {
    /// The round of which this was the last.
    fn last_of(&mut self, number: u64, channel: &Bytes) -> Option<Round> {
        let left = &mut self.rounds.get_mut(&number)?.left;
        left.remove(channel);
        if left.is_empty() {
            self.rounds.remove(&number)
        } else {
            None
        }
    }
}

/// What an echo carries.
pub(super) fn payload(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn channels(names: &Names, topics: &[&str]) -> BTreeSet<Bytes> {
        let tags = topics.iter().map(|topic| names.tag(topic));
        tags.map(|tag| tag.key("bus", "")).collect()
    }

    fn counted() -> (Arc<AtomicUsize>, Then) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let then = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (count, Box::new(then))
    }

    #[test]
    fn in_a_cluster_each_topic_has_an_echo_of_its_own_tag() {
        let names = Names::new("ns").unwrap();
        let echoes = Echoes::new(&names, true);
        let topics = channels(&names, &["a", "b}"]);
        let beside = echoes.beside(&topics);
        let tags = ["{ns:a}:echo:", "{ns:b%7D}:echo:"];
        assert_eq!((beside.len(), echoes.always()), (2, None));
        for (channel, tag) in beside.iter().zip(tags) {
            assert!(channel.starts_with(tag.as_bytes()), "{channel:?}");
            assert!(echoes.has(channel) && !Echoes::new(&names, true).has(channel));
        }
        assert!(!topics.iter().any(|topic| echoes.has(topic)));
    }

    #[test]
    fn on_one_server_one_channel_does_for_all() {
        let names = Names::new("ns").unwrap();
        let echoes = Echoes::new(&names, false);
        assert!(echoes.beside(&channels(&names, &["a"])).is_empty());
        assert!(echoes.always().is_some_and(|own| echoes.has(own)));
    }

    /// One that comes twice stands for no other.
    #[test]
    fn what_waits_is_done_once_at_the_last_of_its_echoes() {
        let names = Names::new("ns").unwrap();
        let echoes = Echoes::new(&names, true);
        let beside = echoes.beside(&channels(&names, &["a", "b"]));
        let (count, then) = counted();
        let (number, mut heard) = echoes.add(&beside, then);
        let (first, last) = (beside.first().unwrap(), beside.last().unwrap());
        echoes.heard(first, &payload(number), || {});
        echoes.heard(first, &payload(number), || {});
        assert_eq!(count.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            echoes.heard(last, &payload(number), || {});
            assert_eq!(count.load(Ordering::Relaxed), 1);
        }
        assert_eq!(heard.try_recv(), Ok(()));
    }

    #[test]
    fn what_is_cut_off_is_done_never() {
        let names = Names::new("ns").unwrap();
        let echoes = Echoes::new(&names, false);
        let own = BTreeSet::from([echoes.always().unwrap().clone()]);
        let (count, then) = counted();
        let (number, mut heard) = echoes.add(&own, then);
        echoes.clear();
        echoes.heard(own.first().unwrap(), &payload(number), || {});
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(heard.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
