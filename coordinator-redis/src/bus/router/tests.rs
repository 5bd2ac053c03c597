use coordinator_core::relay::Packer;
use coordinator_core::{FeedEvent, MemberId};

use super::*;

const CHANNEL: Bytes = Bytes::from_static(b"c");

fn router() -> (Arc<Router>, Arc<Mutex<Vec<Wanted>>>) {
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let asked = wanted.clone();
    let fetch: Fetch = Box::new(move |_, wanted| lock(&asked).push(wanted));
    (Router::new(fetch), wanted)
}

fn subscribe(router: &Arc<Router>) -> Seat {
    let seat = Seat::new(router.clone(), [CHANNEL].into());
    router.add(&Arc::downgrade(seat.queue()));
    seat
}

fn message(sequence: u64) -> Frame {
    let instance = Instance::from_bytes([1; 16]);
    let payload = Bytes::from_static(b"x");
    Frame::new(Topic::new("t"), MemberId::from("a"), instance, payload).sequence(sequence)
}

fn hears(router: &Router, pack: impl FnOnce(&mut Packer)) {
    let mut packer = Packer::default();
    pack(&mut packer);
    router.message(&CHANNEL, packer.finish());
}

fn sequences(seat: &Seat) -> Vec<u64> {
    let next = || match seat.queue().pop() {
        Some(FeedEvent::Frame { frame, .. }) => Some(frame.sequence),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

/// B1: each feed gets each frame, once, and none after its end.
#[test]
fn a_packet_reaches_all_feeds_of_its_channel() {
    let (router, _) = router();
    let (one, other) = (subscribe(&router), subscribe(&router));
    hears(&router, |packer| {
        packer.whole(&message(1));
        packer.whole(&message(2));
    });
    drop(other);
    hears(&router, |packer| packer.whole(&message(3)));
    assert_eq!(sequences(&one), [1, 2, 3]);
    drop(one);
    assert!(lock(&router.routes).channels.is_empty() && lock(&router.routes).feeds.is_empty());
}

/// U7, B7: what follows a reference waits for it.
#[test]
fn a_reference_holds_back_what_follows_it() {
    let (router, wanted) = router();
    let seat = subscribe(&router);
    let to = Reference {
        key: Bytes::from_static(b"k"),
        bytes: 5,
    };
    hears(&router, |packer| {
        packer.whole(&message(1));
        packer.reference(&message(2), &to);
        packer.whole(&message(3));
    });
    assert_eq!(sequences(&seat), [1]);
    let asked = lock(&wanted).pop().unwrap();
    router.fetched(&asked, Some(Bytes::from_static(b"large")));
    assert_eq!(sequences(&seat), [2, 3]);
    hears(&router, |packer| packer.whole(&message(4)));
    assert_eq!(sequences(&seat), [4]);
}

/// U7: a payload that is gone leaves a hole, which its sequence shows.
#[test]
fn a_payload_that_is_gone_holds_back_nothing_for_ever() {
    let (router, wanted) = router();
    let seat = subscribe(&router);
    let to = Reference {
        key: Bytes::from_static(b"k"),
        bytes: 5,
    };
    hears(&router, |packer| {
        packer.reference(&message(1), &to);
        packer.whole(&message(2));
    });
    let asked = lock(&wanted).pop().unwrap();
    router.fetched(&asked, None);
    assert_eq!(sequences(&seat), [2]);
}

#[test]
fn rubbish_is_told_to_those_who_listen_there() {
    let (router, _) = router();
    let seat = subscribe(&router);
    router.message(&CHANNEL, Bytes::from_static(b"\xff"));
    router.message(&Bytes::from_static(b"other"), Bytes::from_static(b"\xff"));
    assert!(matches!(seat.queue().pop(), Some(FeedEvent::Malformed(_))));
    assert_eq!(seat.queue().pop(), None);
}

/// U4: a cut is told to every feed, behind what arrived before it.
#[test]
fn a_cut_is_told_in_its_place() {
    let (router, _) = router();
    let seat = subscribe(&router);
    hears(&router, |packer| packer.whole(&message(1)));
    router.set_connected(false);
    router.set_connected(true);
    assert_eq!(sequences(&seat), [1]);
    assert_eq!(seat.queue().pop(), Some(FeedEvent::Connected));
}

/// U4: a feed is whole when all of its channels are heard, and not before.
#[test]
fn a_feed_is_connected_when_its_last_channel_is_heard() {
    const OTHER: Bytes = Bytes::from_static(b"d");
    let (router, _) = router();
    let seat = Seat::new(router.clone(), [CHANNEL, OTHER].into());
    router.add(&Arc::downgrade(seat.queue()));
    router.set_heard(&CHANNEL, false);
    router.set_heard(&OTHER, false);
    assert_eq!(seat.queue().pop(), Some(FeedEvent::Disconnected));
    router.set_heard(&CHANNEL, true);
    assert_eq!(seat.queue().pop(), None, "the other is not heard");
    // A cut brings back what was heard before it, and no more.
    router.set_connected(false);
    router.set_connected(true);
    assert_eq!(seat.queue().pop(), None, "the other is not heard");
    router.set_heard(&OTHER, true);
    assert_eq!(seat.queue().pop(), Some(FeedEvent::Connected));
    router.set_connected(false);
    router.set_heard(&OTHER, false);
    router.set_heard(&OTHER, true);
    assert_eq!(seat.queue().pop(), Some(FeedEvent::Disconnected));
    assert_eq!(seat.queue().pop(), None, "there is no connection");
    router.set_connected(true);
    assert_eq!(seat.queue().pop(), Some(FeedEvent::Connected));
}
