//! Slots that move from node to node under subscriptions.

use std::time::Duration;

use coordinator_core::{Start, Topic};
use coordinator_redis::{ClientKind, RedisConfig};
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::Cluster;
use tokio::time::{Instant, sleep};

use crate::fixture::clients;
use crate::messages::{bus, bus_of, config, subscribe, until_heard};

const ROUNDS: usize = 12;

fn key(topic: &Topic) -> String {
    format!("{{ours:{topic}}}:bus:")
}

/// Both kinds of channels.
fn kinds(client: ClientKind, cluster: &Cluster) -> [RedisConfig; 2] {
    let url = cluster.url();
    [("sharded", true), ("plain", false)]
        .map(|(namespace, is_sharded)| config(client, &url, namespace).sharded(is_sharded))
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
            let moved = async {
                sleep(Duration::from_millis(2 * round as u64)).await;
                cluster.move_slot_of(&key(&topic)).await.expect("moved");
            };
            let (mut feed, ()) = tokio::join!(subscribe(subscriber.as_ref(), &topic), moved);
            until_heard(publisher.as_ref(), &topic, &mut feed).await;
        }
    }
}

/// Where a subscription is live, its slot moves, and moves back before anybody may have looked. Each loss is told, and messages come
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_a_subscription_is_told_and_heard_where_it_is() {
    let topic = Topic::new("t");
    for client in clients() {
        let started = Cluster::start(3, &[]).await.expect("a cluster");
        let Some(cluster) = started else { return };
        for kind in kinds(client, &cluster) {
            let is_sharded = kind.sharded && Redis::has_sharded_channels();
            let key = format!("{{{}:{topic}}}:bus:", kind.namespace);
            let (publisher, subscriber) = (bus_of(kind.clone()).await, bus_of(kind).await);
            let subscribed = subscriber.subscribe(std::slice::from_ref(&topic), Start::Now);
            let mut feed = subscribed.await.expect("a feed");
            let heard = until_heard(publisher.as_ref(), &topic, &mut feed).await;
            assert_eq!(heard, 0);
            let here = cluster.node_of(&key).await.expect("its node");
            let there = cluster.other_than(here).expect("another node");
            for ways in [&[(here, there)][..], &[(there, here), (here, there)]] {
                for (from, to) in ways {
                    let moved = cluster.move_slot(&key, from, to).await;
                    moved.expect("moved");
                }
                let moved = Instant::now();
                let losses = until_heard(publisher.as_ref(), &topic, &mut feed).await;
                println!(
                    "{client:?}, sharded {is_sharded}, {} moves: {losses} losses told, heard again after {:?}",
                    ways.len(),
                    moved.elapsed()
                );
                // Nodes pass plain messages on to each other, wherever one listens.
                assert!(losses > 0 || !is_sharded, "{client:?}: no loss is told");
            }
        }
    }
}
