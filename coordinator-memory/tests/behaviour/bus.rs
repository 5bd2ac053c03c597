//! The bus, whole and under faults.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Bytes, ClusterBus, ErrorKind, Feed, FeedEvent, Frame, GapCause, Instance, Start, Topic,
};
use coordinator_memory::MemoryStore;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{NEWS, frame, millis, seconds};

fn bus(store: &MemoryStore, name: &str) -> Arc<dyn ClusterBus> {
    store.connect(name).bus.expect("it has a bus")
}

async fn feed(bus: &Arc<dyn ClusterBus>) -> Box<dyn Feed> {
    bus.subscribe(&[NEWS], Start::Now).await.expect("connected")
}

async fn send(bus: &Arc<dyn ClusterBus>, sequences: std::ops::RangeInclusive<u64>) {
    let batch: Vec<Frame> = sequences.map(|number| frame("a", number)).collect();
    bus.publish(&batch).await.expect("published");
}

/// What arrives until nothing comes for a minute, in short words.
async fn heard(feed: &mut Box<dyn Feed>) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(Some(event)) = timeout(seconds(60), feed.next()).await {
        heard.push(match event {
            FeedEvent::Frame { frame, cursor } => {
                assert_eq!(cursor, None);
                assert_eq!(frame.payload, frame.sequence.to_string());
                frame.sequence.to_string()
            }
            FeedEvent::Gap(gap) => {
                assert_eq!(gap.cause, GapCause::Slow);
                format!("gap of {}", gap.missing.expect("counted"))
            }
            FeedEvent::Malformed(bad) => panic!("{bad:?}"),
            FeedEvent::Disconnected => "down".into(),
            FeedEvent::Connected => "up".into(),
        });
    }
    heard
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// B1, B2, B17: live before `subscribe` returns, in order, one's own too.
#[tokio::test(start_paused = true)]
async fn every_subscriber_gets_every_frame_in_order_its_own_too() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut feeds = [feed(&a).await, feed(&b).await, feed(&b).await];
    send(&a, 1..=3).await;
    send(&a, 4..=4).await;
    for feed in &mut feeds {
        assert_eq!(heard(feed).await, numbers(1..=4));
    }
}

/// B3, clause 5: what was not asked for does not arrive, though it left in one batch.
#[tokio::test(start_paused = true)]
async fn a_batch_of_many_topics_is_told_apart() {
    let store = MemoryStore::new();
    let a = bus(&store, "a");
    let mut news = feed(&a).await;
    let topics = [Topic::named("odd"), NEWS];
    let mut both = a.subscribe(&topics, Start::Now).await.unwrap();
    let batch: Vec<Frame> = (1..=6)
        .map(|number| {
            let mut frame = frame("a", number);
            if number % 2 == 1 {
                frame.topic = Topic::named("odd");
            }
            frame
        })
        .collect();
    a.publish(&batch).await.unwrap();
    assert_eq!(heard(&mut news).await, ["2", "4", "6"]);
    assert_eq!(heard(&mut both).await, numbers(1..=6));
}

/// Clause 6, B8: a cut is told, what was sent meanwhile is missing, and the feed is live again.
#[tokio::test(start_paused = true)]
async fn a_cut_yields_disconnected_and_its_mending_connected() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut feed_of_b = feed(&b).await;
    send(&a, 1..=1).await;
    store.link("b").cut();
    send(&a, 2..=3).await;
    let error = b.publish(&[frame("b", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(b.subscribe(&[NEWS], Start::Now).await.is_err());
    store.link("b").heal();
    send(&a, 4..=4).await;
    assert_eq!(heard(&mut feed_of_b).await, ["1", "down", "up", "4"]);
}

/// BOUNDED: a link that flaps while nobody reads fills no queue.
#[tokio::test(start_paused = true)]
async fn a_flapping_link_is_told_in_two_words() {
    let store = MemoryStore::new();
    let b = bus(&store, "b");
    let mut feed = feed(&b).await;
    for _ in 0..1000 {
        store.link("b").cut_bus();
        store.link("b").heal();
    }
    assert_eq!(heard(&mut feed).await, ["down", "up"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_store_disconnects_everybody() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let (mut of_a, mut of_b) = (feed(&a).await, feed(&b).await);
    store.stop();
    let error = a.publish(&[frame("a", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.start();
    for feed in [&mut of_a, &mut of_b] {
        assert_eq!(heard(feed).await, ["down", "up"]);
    }
}

/// A partition between members is silent: only their sequences tell.
#[tokio::test(start_paused = true)]
async fn a_partition_stops_frames_between_its_sides_alone() {
    let store = MemoryStore::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| bus(&store, name));
    let mut feeds = [feed(&a).await, feed(&b).await, feed(&c).await];
    store.partition(&["a"], &["b"]);
    send(&a, 1..=2).await;
    store.heal_partitions();
    send(&a, 3..=3).await;
    let [of_a, of_b, of_c] = &mut feeds;
    assert_eq!(heard(of_a).await, numbers(1..=3));
    assert_eq!(heard(of_b).await, ["3"]);
    assert_eq!(heard(of_c).await, numbers(1..=3));
}

/// Clause 7, B11, U8: the newest are dropped, and counted; others lose nothing.
#[tokio::test(start_paused = true)]
async fn a_slow_feed_is_told_how_many_it_missed_and_hurts_nobody() {
    let store = MemoryStore::builder().feed_limit(5, 1 << 20).build();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let (mut slow, mut quick) = (feed(&b).await, feed(&a).await);
    send(&a, 1..=3).await;
    assert_eq!(heard(&mut quick).await, numbers(1..=3));
    send(&a, 4..=8).await;
    assert_eq!(heard(&mut quick).await, numbers(4..=8));
    send(&a, 9..=9).await;
    let mut expected = numbers(1..=5);
    expected.push("gap of 4".into());
    assert_eq!(heard(&mut slow).await, expected);
    send(&a, 10..=10).await;
    assert_eq!(heard(&mut slow).await, ["10"]);
}

/// The gap stands where the messages are missing, also if there is room again before it is read.
#[tokio::test(start_paused = true)]
async fn a_gap_is_told_before_what_follows_it() {
    let store = MemoryStore::builder().feed_limit(2, 1 << 20).build();
    let a = bus(&store, "a");
    let mut feed = feed(&a).await;
    send(&a, 1..=1).await;
    send(&a, 2..=2).await;
    send(&a, 3..=3).await;
    assert!(matches!(feed.next().await, Some(FeedEvent::Frame { .. })));
    send(&a, 4..=4).await;
    assert_eq!(heard(&mut feed).await, ["2", "gap of 1", "4"]);
}

/// BOUNDED: the queue of a frozen member does not grow.
#[tokio::test(start_paused = true)]
async fn a_paused_member_misses_what_does_not_fit_its_queue() {
    let store = MemoryStore::builder().feed_limit(100, 1 << 20).build();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    store.link("b").pause();
    for batch in 0..50 {
        send(&a, batch * 10 + 1..=batch * 10 + 10).await;
    }
    assert!(timeout(seconds(5), of_b.next()).await.is_err());
    store.link("b").resume();
    let mut expected = numbers(1..=100);
    expected.push("gap of 400".into());
    assert_eq!(heard(&mut of_b).await, expected);
}

/// Clause 2: jitter delays frames, and reorders nothing.
#[tokio::test(start_paused = true)]
async fn delayed_frames_of_one_publisher_stay_in_order() {
    let store = MemoryStore::builder().seed(3).build();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    store.link("b").delay(millis(5)..millis(500));
    let began = Instant::now();
    for number in 1..=100 {
        send(&a, number..=number).await;
        sleep(millis(10)).await;
    }
    store.link("b").clear();
    send(&a, 101..=101).await;
    assert_eq!(heard(&mut of_b).await, numbers(1..=101));
    assert!(began.elapsed() >= seconds(1));
}

/// Clause 2: what has arrived and was not read yet is not overtaken either.
#[tokio::test(start_paused = true)]
async fn a_frame_without_delay_does_not_overtake_one_that_has_arrived_before() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    // Some are late by a nanosecond, and have long arrived when others come that are not.
    store
        .link("b")
        .delay(Duration::ZERO..=Duration::from_nanos(1));
    for number in 1..=20 {
        send(&a, number..=number).await;
        sleep(millis(5)).await;
    }
    assert_eq!(heard(&mut of_b).await, numbers(1..=20));
}

/// What is under way when the link is cut is lost.
#[tokio::test(start_paused = true)]
async fn frames_under_way_are_lost_with_the_link() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    store.link("b").delay(seconds(1));
    send(&a, 1..=1).await;
    sleep(millis(1500)).await;
    send(&a, 2..=2).await;
    sleep(millis(500)).await;
    store.link("b").cut();
    store.link("b").heal();
    assert_eq!(heard(&mut of_b).await, ["1", "down", "up"]);
}

/// The faults that a real bus must not show, for those who test how they are taken.
#[tokio::test(start_paused = true)]
async fn frames_are_lost_doubled_and_reordered_on_request_and_by_the_seed() {
    let run = async |seed| {
        let store = MemoryStore::builder().seed(seed).build();
        let (a, b) = (bus(&store, "a"), bus(&store, "b"));
        let mut of_b = feed(&b).await;
        let link = store.link("b");
        link.bus_loss(0.2);
        link.duplicate(0.2);
        link.delay(millis(0)..millis(100));
        link.reorder(true);
        send(&a, 1..=200).await;
        heard(&mut of_b).await
    };
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
    let mut sorted: Vec<u64> = first.iter().map(|text| text.parse().unwrap()).collect();
    let arrived = sorted.clone();
    sorted.sort_unstable();
    assert_ne!(arrived, sorted, "some overtook others");
    let all = sorted.len();
    sorted.dedup();
    assert!(sorted.len() < all, "some came twice");
    assert!(sorted.len() < 200, "some were lost");
}

/// Clauses 8 and 9, B5, B10, B13.
#[tokio::test(start_paused = true)]
async fn what_the_bus_does_not_take_is_rejected_and_hurts_nothing() {
    let store = MemoryStore::builder().payload_limit(3).build();
    let a = bus(&store, "a");
    assert_eq!(a.capabilities().payload_limit, Some(3));
    let mut feed = feed(&a).await;
    let error = a.publish(&[frame("a", 1), frame("a", 1000)]).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Rejected);
    let mut nameless = frame("a", 1);
    nameless.topic = Topic::named("");
    let error = a.publish(&[nameless]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let error = a.subscribe(&[NEWS], Start::Oldest).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    send(&a, 100..=100).await;
    assert_eq!(heard(&mut feed).await, ["100"]);
}

/// U2: a publish whose reply was lost is out; one that was lost itself is not.
#[tokio::test(start_paused = true)]
async fn a_publish_without_a_reply_is_indeterminate() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    let link = store.link("a");
    link.lose_replies(true);
    let error = a.publish(&[frame("a", 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
    link.clear();
    link.lose_requests(true);
    let error = a.publish(&[frame("a", 2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
    assert_eq!(heard(&mut of_b).await, ["1"]);
}

/// A feed of a dead process ends, and one that is dropped is forgotten.
#[tokio::test(start_paused = true)]
async fn the_feeds_of_a_crashed_process_are_closed() {
    let store = MemoryStore::new();
    let (a, b) = (bus(&store, "a"), bus(&store, "b"));
    let mut of_b = feed(&b).await;
    store.link("b").crash();
    send(&a, 1..=1).await;
    assert_eq!(of_b.next().await, None);
}

/// B4: any bytes, also none.
#[tokio::test(start_paused = true)]
async fn payloads_arrive_byte_for_byte() {
    let store = MemoryStore::new();
    let a = bus(&store, "a");
    let mut feed = feed(&a).await;
    let large = vec![0xaa; 100_000];
    for payload in [b"".as_ref(), b"\0", b"\xff\xfe", &large] {
        let payload = Bytes::copy_from_slice(payload);
        let instance = Instance::from_bytes([1; 16]);
        let sent = Frame::new(NEWS, "a".into(), instance, payload);
        a.publish(std::slice::from_ref(&sent)).await.unwrap();
        let arrived = feed.next().await;
        let expected = FeedEvent::Frame {
            frame: sent,
            cursor: None,
        };
        assert_eq!(arrived, Some(expected));
    }
}
