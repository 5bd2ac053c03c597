//! Listening sessions that end in the middle of things.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_core::{FeedEvent, Start};
use coordinator_tests::servers::{Direction, Mode};
use tokio::time::timeout;

use super::kit::{Kit, MODES, Publisher, subscribe};

const MESSAGES: u64 = 600;

/// B8: durable loses none, and brings none twice, though the listener is ended again and again.
#[tokio::test]
async fn a_durable_subscriber_misses_nothing_when_its_listener_is_ended_in_mid_stream() {
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let mut ann = Publisher::new(kit.bus().await);
        let mut feed = subscribe(&kit.bus().await, "news", Start::Now).await;
        let client = kit.client().await;
        let publish = async {
            let mut ended = 0;
            for number in 1..=MESSAGES {
                ann.publish("news", number.to_string()).await;
                if number % 100 == 50 {
                    ended += kit.end_listeners(&client).await;
                }
            }
            ended
        };
        let read = async {
            for number in 1..=MESSAGES {
                assert_eq!(feed.with_cursor().await.0.sequence, number);
            }
        };
        let (ended, ()) = tokio::join!(publish, read);
        assert!(ended >= 6, "only {ended} listeners were ended");
        feed.silent(Duration::from_millis(1_200)).await;
    }
}

/// B8: of best effort, what is missing is what the sequences say: nothing comes twice or out of order,
/// and each cut is told.
#[tokio::test]
async fn a_best_effort_subscriber_is_told_of_the_cut_and_counts_what_it_missed() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let mut feed = subscribe(&kit.bus().await, "news", Start::Now).await;
    let client = kit.client().await;
    let publish = async {
        for number in 1..=MESSAGES {
            ann.publish("news", number.to_string()).await;
            if number == 100 {
                kit.end_listeners(&client).await;
            }
        }
        // The listener comes back by itself; whatever is sent then arrives.
        loop {
            let last = ann.publish("news", "last").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if last.sequence > MESSAGES + 50 {
                return last.sequence;
            }
        }
    };
    let read = async {
        let (mut seen, mut missing, mut last, mut cuts) = (BTreeSet::new(), 0, 0, 0);
        loop {
            match feed.event().await {
                FeedEvent::Frame { frame, .. } => {
                    assert!(frame.sequence > last, "{} after {last}", frame.sequence);
                    missing += frame.sequence - last - 1;
                    last = frame.sequence;
                    seen.insert(last);
                    if last > MESSAGES + 50 {
                        return (seen.len() as u64, missing, cuts);
                    }
                }
                FeedEvent::Disconnected => cuts += 1,
                FeedEvent::Connected => {}
                other => panic!("frames and cuts, not {other:?}"),
            }
        }
    };
    let (sent, (seen, missing, cuts)) = tokio::join!(publish, read);
    assert_eq!(seen + missing, sent);
    assert!(cuts >= 1);
}

/// B13: a hundred reconnects leave no session behind, and no message comes twice.
#[tokio::test]
async fn a_hundred_reconnects_leak_nothing() {
    // The janitor's session comes when it comes: here it is not to be counted.
    let Some(kit) = Kit::new(|config| config.clean_every(Duration::from_hours(30 * 24))) else {
        return;
    };
    let (ann, bob) = (kit.bus().await, kit.bus().await);
    let mut ann = Publisher::new(ann);
    let mut feed = subscribe(&bob, "news", Start::Now).await;
    ann.publish("news", "warm").await;
    feed.frame().await;
    let client = kit.client().await;
    let count = "select count(*) from pg_stat_activity where application_name = $1";
    let sessions = async || {
        client
            .query_one(count, &[&kit.schema.name()])
            .await
            .unwrap()
            .get::<_, i64>(0)
    };
    let before = sessions().await;
    for _ in 0..100 {
        assert_eq!(kit.end_listeners(&client).await, 2);
        while !matches!(feed.event().await, FeedEvent::Connected) {}
        // The other listener may take a little longer.
        drop(subscribe(&ann.bus, "news", Start::Now).await);
    }
    let sent = ann.publish("news", "after").await;
    assert_eq!(feed.frame().await, sent);
    feed.silent(Duration::from_millis(300)).await;
    assert_eq!(sessions().await, before);
}

/// U5: a listener that nobody ends and that hears nothing is found out by its probe, and replaced.
#[tokio::test]
async fn a_half_open_listener_is_found_out() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let (proxy, bob) = kit.behind_proxy().await;
    let mut feed = subscribe(&bob, "news", Start::Now).await;
    proxy.set(Direction::Both, Mode::Lose);
    ann.publish("news", "lost").await;
    assert_eq!(feed.event().await, FeedEvent::Disconnected);
    proxy.set(Direction::Both, Mode::Pass);
    assert_eq!(feed.event().await, FeedEvent::Connected);
    let sent = ann.publish("news", "after").await;
    assert_eq!(feed.frame().await, sent);
}

/// E16: what was given up while it waited for its turn is not sent when the line is free again.
#[tokio::test]
async fn a_publish_that_was_given_up_is_not_sent_later() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let (proxy, far) = kit.behind_proxy().await;
    let mut ann = Publisher::new(far);
    let mut feed = subscribe(&kit.bus().await, "news", Start::Now).await;
    let warm = ann.publish("news", "warm").await;
    assert_eq!(feed.frame().await, warm);
    proxy.set(Direction::Both, Mode::Lose);
    let (first, waits) = (ann.frame("news", "in flight"), ann.frame("news", "waits"));
    let bus = ann.bus.clone();
    let flying = tokio::spawn(async move { bus.publish(&[first]).await });
    // It has the line, and then the other waits behind it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let batch = [waits];
    let given_up = timeout(Duration::from_millis(100), ann.bus.publish(&batch)).await;
    assert!(given_up.is_err());
    flying.abort();
    proxy.set(Direction::Both, Mode::Pass);
    let after = ann.publish("news", "after").await;
    assert_eq!(feed.frame().await, after);
}
