//! The bus of whole nodes on the memory backend, in virtual time, with its faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::ops::Range;
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{BusError, GapCause, Incoming, Node, Subscription, Topic};
use tokio::time::{Instant, sleep, timeout};

const NUMBERS: Topic<String> = Topic::new("numbers");

async fn node(store: &MemoryStore, name: &str) -> Node {
    let node = Node::builder("g").member(name).backend(store.connect(name));
    node.start().await.unwrap()
}

async fn pair(seed: u64) -> (MemoryStore, Node, Node) {
    let store = MemoryStore::builder()
        .seed(seed)
        .trust_empty_store(true)
        .build();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    (store, a, b)
}

async fn subscribe(node: &Node) -> Subscription<String> {
    let subscription = node.bus().subscribe(&NUMBERS).capacity(10_000).await;
    // Nothing takes time here, and a stream that begins in the very moment in which we are live
    // would be one whose start we saw.
    sleep(Duration::from_millis(1)).await;
    subscription.unwrap()
}

/// Queues these numbers for publishing.
fn publish(node: &Node, numbers: Range<u64>) {
    for number in numbers {
        drop(node.bus().publish(&NUMBERS, &number.to_string()));
    }
}

/// What a subscriber of numbers was told until nothing came for so long: from where the next message
/// must go on, and how many of those before it are missing, by cause.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    next: u64,
    missing: u64,
    unknown: u64,
}

impl Account {
    async fn of(subscription: &mut Subscription<String>, silence: Duration) -> Self {
        let mut account = Self::default();
        while let Ok(Some(incoming)) = timeout(silence, subscription.next()).await {
            match incoming {
                Incoming::Message(message) => {
                    let expected = account.next.to_string();
                    assert_eq!(message.payload, expected, "in order, or a gap before it");
                    account.next += 1;
                }
                Incoming::Gap(gap) => match gap.missing {
                    Some(count) => {
                        account.missing += count;
                        account.next += count;
                    }
                    None => account.unknown += 1,
                },
                Incoming::Malformed(malformed) => panic!("{malformed:?}"),
            }
        }
        account
    }
}

const SILENCE: Duration = Duration::from_secs(10);

/// B1, B16: 2,000 rapid messages, to three members.
#[tokio::test(start_paused = true)]
async fn rapid_messages_all_arrive_in_order_at_every_member() {
    let (store, a, b) = pair(1).await;
    let c = node(&store, "c").await;
    let mut inboxes = Vec::new();
    for node in [&a, &b, &c] {
        inboxes.push(subscribe(node).await);
    }
    publish(&a, 0..2_000);
    for mut inbox in inboxes {
        let account = Account::of(&mut inbox, SILENCE).await;
        assert_eq!(
            (account.next, account.missing, account.unknown),
            (2_000, 0, 0)
        );
    }
}

/// NO-SILENT-LOSS over a bus that loses, doubles, delays and reorders, and is cut now and then.
#[tokio::test(start_paused = true)]
async fn every_loss_is_reported_with_its_size_whatever_the_bus_does() {
    const COUNT: u64 = 400;
    for seed in 0..40 {
        let (store, a, b) = pair(seed).await;
        let mut inbox = subscribe(&b).await;
        let link = store.link("b");
        link.bus_loss(0.2);
        link.duplicate(0.1);
        link.delay(Duration::from_millis(1)..Duration::from_millis(20));
        link.reorder(seed % 2 == 0);
        for start in (0..COUNT).step_by(10) {
            publish(&a, start..start + 10);
            sleep(Duration::from_millis(7)).await;
            match start {
                100 => link.cut_bus(),
                200 => {
                    link.clear();
                    link.bus_loss(0.2);
                }
                _ => {}
            }
        }
        link.clear();
        let account = Account::of(&mut inbox, SILENCE).await;
        assert_eq!(account.next, COUNT, "seed {seed}: all accounted for");
        assert!(account.missing > 50, "seed {seed}: {account:?}");
        assert_eq!(
            account.unknown, 1,
            "seed {seed}: one reconnect, {account:?}"
        );
    }
}

/// B9, B13: a hundred cuts repeat nothing, and what each of them swallowed is counted.
#[tokio::test(start_paused = true)]
async fn a_hundred_reconnects_repeat_nothing_and_lose_nothing_in_silence() {
    let (store, a, b) = pair(3).await;
    let mut inbox = subscribe(&b).await;
    let link = store.link("b");
    for round in 0..100 {
        publish(&a, round * 3..round * 3 + 1);
        sleep(Duration::from_millis(10)).await;
        link.cut_bus();
        publish(&a, round * 3 + 1..round * 3 + 2);
        sleep(Duration::from_millis(10)).await;
        link.clear();
        publish(&a, round * 3 + 2..round * 3 + 3);
        sleep(Duration::from_millis(10)).await;
    }
    let account = Account::of(&mut inbox, SILENCE).await;
    assert_eq!(account.next, 300);
    assert_eq!(account.missing, 100);
    assert!((1..=100).contains(&account.unknown), "{account:?}");
}

/// B9.
#[tokio::test(start_paused = true)]
async fn a_subscription_made_during_an_outage_is_live_after_it() {
    let (store, a, b) = pair(4).await;
    store.link("b").cut_bus();
    let bus = b.bus();
    let waiting = tokio::spawn(async move { bus.subscribe(&NUMBERS).await });
    sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished(), "not live, so not subscribed");
    store.link("b").clear();
    let mut inbox = waiting.await.unwrap().unwrap();
    sleep(Duration::from_millis(1)).await;
    publish(&a, 0..5);
    assert_eq!(Account::of(&mut inbox, SILENCE).await.next, 5);
}

/// E16: what waits through an outage for too long is not sent afterwards.
#[tokio::test(start_paused = true)]
async fn nothing_that_was_published_in_an_outage_arrives_long_after_it() {
    let (store, a, b) = pair(5).await;
    let mut inbox = subscribe(&b).await;
    store.link("a").cut();
    let began = Instant::now();
    let claim = a.bus().publish(&NUMBERS, &"a stale claim".to_owned());
    let error = claim.await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(5));
    store.link("a").heal();
    sleep(Duration::from_secs(30)).await;
    a.bus().publish(&NUMBERS, &"news".to_owned()).await.unwrap();
    let mut texts = Vec::new();
    while let Ok(Some(incoming)) = timeout(SILENCE, inbox.next()).await {
        if let Incoming::Message(message) = incoming {
            texts.push(message.payload);
        }
    }
    assert_eq!(texts, ["news"]);
}

/// W4's neighbour for messages: a reply that is lost makes no second message.
#[tokio::test(start_paused = true)]
async fn a_message_whose_reply_was_lost_arrives_once() {
    let (store, a, b) = pair(6).await;
    let mut inbox = subscribe(&b).await;
    publish(&a, 0..1);
    sleep(Duration::from_millis(1)).await;
    store.link("a").lose_replies(true);
    let unsure = a.bus().publish(&NUMBERS, &"1".to_owned());
    sleep(Duration::from_secs(1)).await;
    store.link("a").clear();
    unsure.await.unwrap();
    publish(&a, 2..50);
    let account = Account::of(&mut inbox, SILENCE).await;
    assert_eq!((account.next, account.missing), (50, 0));
}

/// B11: a member that is frozen misses what its queue cannot hold, and is told the exact number.
#[tokio::test(start_paused = true)]
async fn a_frozen_member_is_told_what_it_missed_and_holds_up_nobody() {
    let store = MemoryStore::builder()
        .trust_empty_store(true)
        .feed_limit(100, usize::MAX)
        .build();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut frozen = subscribe(&b).await;
    let mut awake = subscribe(&a).await;
    store.link("b").pause();
    for start in (0..1_000).step_by(50) {
        publish(&a, start..start + 50);
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(Account::of(&mut awake, SILENCE).await.next, 1_000);
    store.link("b").resume();
    publish(&a, 1_000..1_001);
    let account = Account::of(&mut frozen, SILENCE).await;
    assert_eq!((account.next, account.missing), (1_001, 900));
    assert!(account.unknown > 0, "the backend's own word comes first");
}

/// B13, B5: rejected at once, and harmless.
#[tokio::test(start_paused = true)]
async fn a_payload_over_the_limit_is_rejected_and_hurts_nobody() {
    let store = MemoryStore::builder()
        .trust_empty_store(true)
        .payload_limit(1_000)
        .build();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut inbox = subscribe(&b).await;
    publish(&a, 0..1);
    let error = a.bus().publish(&NUMBERS, &"é".repeat(501)).await;
    assert!(matches!(error, Err(BusError::Rejected { .. })));
    publish(&a, 1..2);
    assert_eq!(
        Account::of(&mut inbox, SILENCE).await,
        Account {
            next: 2,
            missing: 0,
            unknown: 0
        }
    );
}

/// H17: nothing is delivered after `shutdown` has returned; what was published before it leaves.
#[tokio::test(start_paused = true)]
async fn after_a_shutdown_subscriptions_yield_none_and_what_was_queued_has_left() {
    let (_store, a, b) = pair(9).await;
    let (mut own, mut far) = (subscribe(&a).await, subscribe(&b).await);
    publish(&a, 0..100);
    a.shutdown().await.unwrap();
    assert!(own.next().await.is_none());
    assert!(own.next().await.is_none());
    assert_eq!(Account::of(&mut far, SILENCE).await.next, 100);
    let late = a.bus().publish(&NUMBERS, &"late".to_owned()).await;
    assert!(matches!(late, Err(BusError::Rejected { .. })));
}

/// U3: a lost tail is reported within the time of a beacon.
#[tokio::test(start_paused = true)]
async fn a_lost_tail_is_reported_by_a_beacon() {
    let (store, a, b) = pair(10).await;
    let mut inbox = subscribe(&b).await;
    publish(&a, 0..1);
    assert!(matches!(inbox.next().await, Some(Incoming::Message(_))));
    store.link("b").bus_loss(1.0);
    publish(&a, 1..4);
    sleep(Duration::from_millis(100)).await;
    store.link("b").bus_loss(0.0);
    let told = timeout(Duration::from_millis(401), inbox.next()).await;
    let Ok(Some(Incoming::Gap(gap))) = told else {
        panic!("a gap half a second after the last publish: {told:?}");
    };
    assert_eq!((gap.missing, gap.cause), (Some(3), GapCause::Lost));
    assert_eq!(gap.topic, Some(NUMBERS.untyped()));
}

/// U4: an age is measured by the clock that never runs ahead. One that jumped would make a stream
/// look older than the subscription, and what it lost at its beginning would not be missed.
#[tokio::test(start_paused = true)]
async fn a_publishers_clock_that_jumps_hides_no_loss_at_the_beginning_of_its_stream() {
    let (store, a, b) = pair(1).await;
    let mut subscription = subscribe(&b).await;
    sleep(Duration::from_secs(5)).await;
    store.link("b").bus_loss(1.0);
    publish(&a, 0..3);
    sleep(Duration::from_millis(100)).await;
    store.link("a").clock_jump(Duration::from_mins(1));
    store.link("b").bus_loss(0.0);
    publish(&a, 3..5);
    let account = Account::of(&mut subscription, Duration::from_secs(10)).await;
    let told = Account {
        next: 5,
        missing: 3,
        unknown: 0,
    };
    assert_eq!(account, told);
}
