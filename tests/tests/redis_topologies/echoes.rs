//! Where a subscription begins in a cluster, whose topics lie on different nodes.

use std::collections::BTreeSet;

use coordinator_core::{Feed, FeedEvent, Start, Topic};
use coordinator_tests::servers::redis::shared_cluster;

use crate::fixture::{clients, fresh_name};
use crate::messages::{bus, frame, next};

/// So many topics lie on all of three nodes.
const TOPICS: usize = 6;
/// What is published before a subscription takes its listening connection a while to read.
const BURST: u64 = 40;
const BYTES: usize = 50_000;
const ROUNDS: u64 = 25;

fn topics() -> Vec<Topic> {
    (0..TOPICS)
        .map(|at| Topic::named(format!("t{at}")))
        .collect()
}

async fn next_message(feed: &mut Box<dyn Feed>) -> (Topic, u64) {
    match next(feed).await {
        FeedEvent::Frame { frame, .. } => (frame.topic, frame.sequence),
        other => panic!("a frame, and not {other:?}"),
    }
}

/// U17: what was published before `subscribe` is not for the new feed, though the process that listens has not read it yet; what is
/// published after it is. The topics' nodes are not those of the process's own channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_begins_behind_all_that_was_published_before_it_on_every_node() {
    let Some(url) = shared_cluster() else { return };
    for client in clients() {
        let namespace = fresh_name();
        let (publisher, subscriber) = (
            bus(client, &url, &namespace).await,
            bus(client, &url, &namespace).await,
        );
        let topics = topics();
        let mut first = subscriber
            .subscribe(&topics, Start::Now)
            .await
            .expect("a feed");
        let drain = tokio::spawn(async move { while first.next().await.is_some() {} });
        let mut sequence = 0;
        for round in 0..ROUNDS {
            let mut before = Vec::new();
            for _ in 0..BURST {
                sequence += 1;
                let frames = topics.iter().map(|topic| frame(topic, sequence, BYTES));
                before.extend(frames);
            }
            publisher.publish(&before).await.expect("published");
            let mut feed = subscriber
                .subscribe(&topics, Start::Now)
                .await
                .expect("a feed");
            sequence += 1;
            let after: Vec<_> = topics
                .iter()
                .map(|topic| frame(topic, sequence, 1))
                .collect();
            publisher.publish(&after).await.expect("published");
            let mut heard = BTreeSet::new();
            for _ in &topics {
                let (topic, number) = next_message(&mut feed).await;
                assert_eq!(number, sequence, "of {topic} in round {round}");
                heard.insert(topic);
            }
            assert_eq!(heard.len(), TOPICS);
        }
        drain.abort();
    }
}
