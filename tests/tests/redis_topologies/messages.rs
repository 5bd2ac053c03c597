//! A bus of a cluster, and what is sent over it.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Backend, ClusterBus, Feed, FeedEvent, Frame, Instance, MemberId, Topic};
use coordinator_redis::{ClientKind, RedisBackend, RedisConfig};
use tokio::time::timeout;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The bus of one more process.
pub(crate) async fn bus(client: ClientKind, url: &str, namespace: &str) -> Arc<dyn ClusterBus> {
    let config = RedisConfig::new(url).client(client).namespace(namespace);
    let backend = RedisBackend::connect(config.trust_empty_store(true)).await;
    let backend = Backend::from(backend.expect("servers that run take connections"));
    backend.bus.expect("a bus")
}

/// A message of so many bytes.
pub(crate) fn frame(topic: &Topic, sequence: u64, bytes: usize) -> Frame {
    let instance = Instance::from_bytes([1; 16]);
    let payload = vec![0; bytes].into();
    Frame::new(topic.clone(), MemberId::from("a"), instance, payload).sequence(sequence)
}

/// What a feed yields next.
pub(crate) async fn next(feed: &mut Box<dyn Feed>) -> FeedEvent {
    let event = timeout(LONG, feed.next()).await;
    event.expect("an event in time").expect("an open feed")
}
