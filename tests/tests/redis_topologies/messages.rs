//! A bus of a cluster, and what is sent over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coordinator_core::{
    Backend, ClusterBus, Feed, FeedEvent, Frame, Instance, MemberId, Start, Topic,
};
use coordinator_redis::{ClientKind, RedisBackend, RedisConfig};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A subscription is refused, or live, within this.
const SOON: Duration = Duration::from_secs(8);

/// How one more process connects.
pub(crate) fn config(client: ClientKind, url: &str, namespace: &str) -> RedisConfig {
    let config = RedisConfig::new(url).client(client).namespace(namespace);
    config.trust_empty_store(true)
}

/// Its bus.
pub(crate) async fn bus_of(config: RedisConfig) -> Arc<dyn ClusterBus> {
    let backend = RedisBackend::connect(config).await;
    let backend = Backend::from(backend.expect("servers that run take connections"));
    backend.bus.expect("a bus")
}

/// The bus of one more process.
pub(crate) async fn bus(client: ClientKind, url: &str, namespace: &str) -> Arc<dyn ClusterBus> {
    bus_of(config(client, url, namespace)).await
}

/// A message of so many bytes.
pub(crate) fn frame(topic: &Topic, sequence: u64, bytes: usize) -> Frame {
    let instance = Instance::from_bytes([1; 16]);
    let payload = vec![0; bytes].into();
    Frame::new(topic.clone(), MemberId::from("a"), instance, payload).sequence(sequence)
}

/// Publishes until it is accepted, as the runtime does.
pub(crate) async fn publish(bus: &dyn ClusterBus, topic: &Topic, sequence: u64) {
    let began = Instant::now();
    while let Err(error) = bus.publish(&[frame(topic, sequence, 1)]).await {
        assert!(began.elapsed() < LONG, "{error:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Subscribes as the runtime does: again, where it is refused.
pub(crate) async fn subscribe(bus: &dyn ClusterBus, topic: &Topic) -> Box<dyn Feed> {
    let began = Instant::now();
    loop {
        let subscribed = bus.subscribe(std::slice::from_ref(topic), Start::Now);
        match timeout(SOON, subscribed).await.expect("an answer in time") {
            Ok(feed) => return feed,
            Err(error) => assert!(began.elapsed() < LONG, "{error:?}"),
        }
    }
}

/// Publishes until a message comes. Of one that does not, the feed must have told. Says how often it did.
pub(crate) async fn until_heard(
    bus: &dyn ClusterBus,
    topic: &Topic,
    feed: &mut Box<dyn Feed>,
) -> usize {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut losses = 0;
    let mut sequence = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    publish(bus, topic, sequence).await;
    loop {
        match next(feed).await {
            FeedEvent::Frame { frame, .. } if frame.sequence == sequence => return losses,
            FeedEvent::Frame { .. } => {}
            FeedEvent::Disconnected => losses += 1,
            FeedEvent::Connected => {
                sequence = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                publish(bus, topic, sequence).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a feed yields next.
pub(crate) async fn next(feed: &mut Box<dyn Feed>) -> FeedEvent {
    let event = timeout(LONG, feed.next()).await;
    event.expect("an event in time").expect("an open feed")
}
