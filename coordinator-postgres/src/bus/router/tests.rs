use std::collections::BTreeSet;

use coordinator_core::{FeedEvent, Instance};

use super::*;
use crate::bus::packet::{Charset, Packer};

fn router() -> (Arc<Router>, Arc<Mutex<Vec<Wanted>>>) {
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let asked = wanted.clone();
    let fetch: Fetch = Box::new(move |_, wanted| lock(&asked).push(wanted));
    (Router::new(fetch), wanted)
}

fn subscribe(router: &Router, topics: &[&'static str]) -> Arc<Queue> {
    let topics: BTreeSet<Topic> = topics.iter().map(|topic| Topic::new(topic)).collect();
    let queue = Arc::new(Queue::new(topics));
    router.add(&queue);
    queue
}

fn message(topic: &'static str, sequence: u64, payload: &str) -> Frame {
    let instance = Instance::from_bytes([1; 16]);
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Frame::new(Topic::new(topic), MemberId::from("a"), instance, payload).sequence(sequence)
}

fn hears(router: &Router, pack: impl FnOnce(&mut Packer)) {
    let mut packer = Packer::new(Charset::Utf8);
    pack(&mut packer);
    for packet in packer.take() {
        router.hear(News::Packet(packet.into()));
    }
}

fn sequences(queue: &Queue) -> Vec<u64> {
    let next = || match queue.pop() {
        Some(FeedEvent::Frame { frame, .. }) => Some(frame.sequence),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn each_feed_gets_its_topics_once() {
    let (router, _) = router();
    let (both, one) = (subscribe(&router, &["a", "b"]), subscribe(&router, &["a"]));
    hears(&router, |packer| {
        packer.whole(&message("a", 1, ""));
        packer.whole(&message("c", 1, ""));
        packer.whole(&message("b", 7, ""));
        packer.whole(&message("a", 2, ""));
    });
    assert_eq!(sequences(&both), [1, 7, 2]);
    assert_eq!(sequences(&one), [1, 2]);
    router.remove(&both);
    hears(&router, |packer| packer.whole(&message("a", 3, "")));
    assert_eq!(sequences(&both), []);
    assert_eq!(sequences(&one), [3]);
}

/// U7: a reference holds back its own stream, and no other.
#[test]
fn what_follows_a_reference_waits_for_it() {
    let (router, wanted) = router();
    let feed = subscribe(&router, &["a", "b"]);
    let to = Reference { row: 5, bytes: 9 };
    hears(&router, |packer| {
        packer.whole(&message("a", 1, ""));
        packer.reference(&message("a", 2, ""), to);
        packer.whole(&message("a", 3, ""));
        packer.whole(&message("b", 1, ""));
        packer.reference(&message("a", 4, ""), to);
        packer.whole(&message("a", 5, ""));
    });
    assert_eq!(sequences(&feed), [1, 1]);
    let wanted = lock(&wanted).clone();
    router.fetched(&wanted[1], Some(Bytes::from_static(b"late")));
    assert_eq!(sequences(&feed), []);
    router.fetched(&wanted[0], Some(Bytes::from_static(b"first")));
    assert_eq!(sequences(&feed), [2, 3, 4, 5]);
    hears(&router, |packer| packer.whole(&message("a", 6, "")));
    assert_eq!(sequences(&feed), [6]);
}

/// U7: what cannot be fetched is missing by its sequence, and holds up nothing.
#[test]
fn a_reference_that_leads_nowhere_lets_the_others_pass() {
    let (router, wanted) = router();
    let feed = subscribe(&router, &["a"]);
    hears(&router, |packer| {
        packer.reference(&message("a", 1, ""), Reference { row: 5, bytes: 9 });
        packer.whole(&message("a", 2, ""));
    });
    let wanted = lock(&wanted).clone();
    router.fetched(&wanted[0], None);
    assert_eq!(sequences(&feed), [2]);
}

/// U6: pieces of before a cut and of after it are never put together.
#[test]
fn a_cut_ends_what_was_in_the_middle() {
    let (router, wanted) = router();
    let feed = subscribe(&router, &["a"]);
    router.hear(News::Connected);
    let mut packer = Packer::new(Charset::Utf8);
    packer.fragments(&message("a", 1, &"x".repeat(20_000)));
    packer.reference(&message("a", 2, ""), Reference { row: 5, bytes: 9 });
    let packets = packer.take();
    router.hear(News::Packet(packets[0].clone().into()));
    router.hear(News::Disconnected);
    router.hear(News::Connected);
    for packet in &packets[1..] {
        router.hear(News::Packet(packet.clone().into()));
    }
    router.hear(News::Disconnected);
    router.hear(News::Connected);
    let wanted = lock(&wanted).clone();
    router.fetched(&wanted[0], Some(Bytes::from_static(b"of another session")));
    hears(&router, |packer| packer.whole(&message("a", 3, "")));
    let events: Vec<_> = std::iter::from_fn(|| feed.pop()).collect();
    assert!(matches!(events.last(), Some(FeedEvent::Frame { frame, .. }) if frame.sequence == 3));
    let frames = events
        .iter()
        .filter(|event| matches!(event, FeedEvent::Frame { .. }));
    assert_eq!(frames.count(), 1);
}

/// B11: one bad packet is told, and does not hurt the others.
#[test]
fn rubbish_is_told_and_what_comes_before_and_after_it_arrives() {
    let (router, _) = router();
    let feed = subscribe(&router, &["a"]);
    let mut packer = Packer::new(Charset::Utf8);
    packer.whole(&message("a", 1, "x"));
    let packet = packer.take().remove(0) + "?";
    router.hear(News::Packet(packet.into()));
    router.hear(News::Packet(Bytes::from_static(b"hello")));
    hears(&router, |packer| packer.whole(&message("a", 2, "")));
    assert_eq!(sequences(&feed), [1]);
    assert!(matches!(feed.pop(), Some(FeedEvent::Malformed(_))));
    assert_eq!(sequences(&feed), [2]);
}
