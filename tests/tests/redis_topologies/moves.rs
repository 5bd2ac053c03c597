//! Slots that move from node to node under subscriptions.

use std::time::Duration;

use coordinator_core::{ClusterBus, Feed, FeedEvent, Start, Topic};
use coordinator_tests::servers::redis::Cluster;
use tokio::time::{Instant, sleep, timeout};

use crate::fixture::clients;
use crate::messages::{LONG, bus, frame, next};

const ROUNDS: usize = 12;
/// A subscription is refused, or live, within this.
const SOON: Duration = Duration::from_secs(8);

/// Publishes until it is accepted, as the runtime does.
async fn publish(bus: &dyn ClusterBus, topic: &Topic, sequence: u64) {
    let began = Instant::now();
    while let Err(error) = bus.publish(&[frame(topic, sequence, 1)]).await {
        assert!(began.elapsed() < LONG, "{error:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Subscribes as the runtime does: again, where it is refused.
async fn subscribe(bus: &dyn ClusterBus, topic: &Topic) -> Box<dyn Feed> {
    let began = Instant::now();
    loop {
        let subscribed = bus.subscribe(std::slice::from_ref(topic), Start::Now);
        match timeout(SOON, subscribed).await.expect("an answer in time") {
            Ok(feed) => return feed,
            Err(error) => assert!(began.elapsed() < LONG, "{error:?}"),
        }
    }
}

/// Publishes until a message comes; the feed must tell of each loss.
async fn until_heard(bus: &dyn ClusterBus, topic: &Topic, feed: &mut Box<dyn Feed>) {
    let mut sequence = 1;
    publish(bus, topic, sequence).await;
    loop {
        match next(feed).await {
            FeedEvent::Frame { frame, .. } if frame.sequence == sequence => return,
            FeedEvent::Frame { .. } | FeedEvent::Disconnected => {}
            FeedEvent::Connected => {
                sequence += 1;
                publish(bus, topic, sequence).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// U17: a slot moves at each moment of `subscribe`: that fails soon, or the feed is live or tells when it is. None hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_slot_moves_meanwhile_is_refused_or_live() {
    for client in clients() {
        let started = Cluster::start(3, &[]).await.expect("a cluster");
        let Some(cluster) = started else { return };
        let (publisher, subscriber) = (
            bus(client, &cluster.url(), "ours").await,
            bus(client, &cluster.url(), "ours").await,
        );
        for round in 0..ROUNDS {
            let topic = Topic::named(format!("t{round}"));
            let key = format!("{{ours:{topic}}}:bus:");
            let moved = async {
                sleep(Duration::from_millis(2 * round as u64)).await;
                cluster.move_slot_of(&key).await.expect("moved");
            };
            let (mut feed, ()) = tokio::join!(subscribe(subscriber.as_ref(), &topic), moved);
            until_heard(publisher.as_ref(), &topic, &mut feed).await;
        }
    }
}
