//! The bus, in both its modes; and what a durable one tells of messages that are gone.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Backend, ClusterBus, Cursor, Feed, FeedEvent, Frame, GapCause, Instance, MemberId, Start, Topic,
};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use tokio::time::timeout;

use crate::fixture::{CLIENTS, Change, by_fred, by_redis, store};

fn durable_by_redis(config: RedisConfig) -> RedisConfig {
    by_redis(config.durable(true))
}

fn durable_by_fred(config: RedisConfig) -> RedisConfig {
    by_fred(config.durable(true))
}

coordinator_conformance::cluster_bus! { live_bus, store(by_redis).bus() }
coordinator_conformance::cluster_bus! { durable_bus, store(durable_by_redis).bus() }
coordinator_conformance::cluster_bus! { live_bus_by_fred, store(by_fred).bus() }
coordinator_conformance::cluster_bus! { durable_bus_by_fred, store(durable_by_fred).bus() }

const TOPIC: Topic = Topic::new("news");

async fn durable_of(client: Change, space: &Space, entries: u64) -> Arc<dyn ClusterBus> {
    kept_for(client, space, entries, Duration::from_hours(1)).await
}

async fn kept_for(
    client: Change,
    space: &Space,
    entries: u64,
    retention: Duration,
) -> Arc<dyn ClusterBus> {
    let config = RedisConfig::new(space.url()).namespace(space.name());
    let config = config.durable(true).log_entries(entries);
    let config = config.retention(retention);
    let backend = RedisBackend::connect(client(config)).await;
    let backend = Backend::from(backend.expect("a server that runs takes connections"));
    backend.bus.expect("a bus")
}

fn frame(sequence: u64) -> Frame {
    let instance = Instance::from_bytes([1; 16]);
    let payload = sequence.to_string();
    Frame::new(TOPIC, MemberId::from("a"), instance, payload.into()).sequence(sequence)
}

async fn next(feed: &mut Box<dyn Feed>) -> FeedEvent {
    let event = timeout(Duration::from_secs(10), feed.next()).await;
    event.expect("an event in time").expect("an open feed")
}

async fn next_frame(feed: &mut Box<dyn Feed>) -> (u64, Cursor) {
    match next(feed).await {
        FeedEvent::Frame {
            frame,
            cursor: Some(cursor),
        } => (frame.sequence, cursor),
        other => panic!("a frame with a cursor, and not {other:?}"),
    }
}

/// U14: a cursor whose successors were trimmed away is told exactly how many are missing.
#[tokio::test]
async fn what_was_trimmed_is_counted() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let bus = durable_of(client, &space, 100).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        bus.publish(&[frame(1)]).await.expect("published");
        let (_, cursor) = next_frame(&mut feed).await;
        for sequence in 2..=1_000 {
            bus.publish(&[frame(sequence)]).await.expect("published");
        }
        let mut late = bus
            .subscribe(&[TOPIC], Start::After(cursor))
            .await
            .expect("a feed");
        let FeedEvent::Gap(gap) = next(&mut late).await else {
            panic!("a gap comes first");
        };
        let missing = gap.missing.expect("a count");
        assert_eq!((gap.cause, gap.topic), (GapCause::Retention, Some(TOPIC)));
        assert!(missing > 700, "{missing} of 999 are missing");
        for sequence in 2 + missing..=1_000 {
            assert_eq!(next_frame(&mut late).await.0, sequence);
        }
        for sequence in 2..=1_000 {
            assert_eq!(
                next_frame(&mut feed).await.0,
                sequence,
                "to whom it was told in time"
            );
        }
    }
}

/// U15: a log that is gone is told as another, to who listens and to who comes back with a cursor.
#[tokio::test]
async fn a_log_that_was_lost_is_told() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let bus = durable_of(client, &space, 1_000).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        bus.publish(&[frame(1), frame(2)]).await.expect("published");
        let (_, cursor) = next_frame(&mut feed).await;
        assert_eq!(next_frame(&mut feed).await.0, 2);
        let mut talk = Talk::to(space.url()).expect("a connection");
        let keys = ["log", "log-meta"].map(|kind| format!("{{{}:news}}:{kind}:", space.name()));
        let deleted = talk.ask(&["DEL", &keys[0], &keys[1]]).expect("an answer");
        assert_eq!(deleted.text(), "2");
        bus.publish(&[frame(3)]).await.expect("published");
        let mut late = bus
            .subscribe(&[TOPIC], Start::After(cursor))
            .await
            .expect("a feed");
        for feed in [&mut feed, &mut late] {
            let first = next(feed).await;
            let is_reset = matches!(&first, FeedEvent::Gap(gap) if gap.cause == GapCause::LogReset);
            assert!(is_reset, "{first:?}");
            assert_eq!(next_frame(feed).await.0, 3);
        }
    }
}

/// U2: what a publisher stores twice, for it had no answer, is delivered once, live and replayed.
#[tokio::test]
async fn what_is_stored_twice_is_delivered_once() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let bus = durable_of(client, &space, 1_000).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        for batch in [
            &[frame(1), frame(2)],
            &[frame(1), frame(2)],
            &[frame(2), frame(3)],
        ] {
            bus.publish(batch).await.expect("published");
        }
        let mut late = bus
            .subscribe(&[TOPIC], Start::Oldest)
            .await
            .expect("a feed");
        for feed in [&mut feed, &mut late] {
            for sequence in 1..=3 {
                assert_eq!(next_frame(feed).await.0, sequence);
            }
        }
    }
}

/// U14: a log that nobody writes to any more goes by itself, but no message before it is too old, whoever
/// wrote it.
#[tokio::test]
async fn a_silent_log_goes_when_its_last_message_is_too_old() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
        let mut talk = Talk::to(space.url()).expect("a connection");
        let keys = ["log", "log-meta"].map(|kind| format!("{{{}:news}}:{kind}:", space.name()));
        let mut sequence = 0;
        for (retention, least) in [(minute, minute), (hour, hour), (minute, hour), (hour, hour)] {
            let bus = kept_for(client, &space, 100, retention).await;
            for _ in 0..3 {
                sequence += 1;
                bus.publish(&[frame(sequence)]).await.expect("published");
            }
            let mut lasts = |key: &str| {
                let said = talk.ask(&["PTTL", key]).expect("an answer").text();
                Duration::from_millis(said.parse().expect("a time, for it goes by itself"))
            };
            let (log, numbers) = (lasts(&keys[0]), lasts(&keys[1]));
            assert!(log > least && log <= 2 * hour, "{log:?}");
            assert!(numbers > log, "{numbers:?} and {log:?}");
        }
    }
}
