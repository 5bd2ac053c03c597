//! Which channels a bus uses in a cluster: one decision for all, which the store keeps.

use std::time::Duration;

use coordinator_core::{BusError, FeedEvent, Start, Topic};
use coordinator_redis::{ConnectError, RedisBackend};
use coordinator_servers::Reply;
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::Cluster;
use tokio::time::{Instant, sleep};

use crate::fixture::clients;
use crate::messages::{LONG, bus_of, config, next, until_heard};

const TOPIC: Topic = Topic::new("t");

/// Three nodes that have sharded channels.
async fn cluster() -> Option<Cluster> {
    let cluster = Cluster::start(3, &[]).await.expect("a cluster")?;
    if !Redis::has_sharded_channels() {
        println!("skipped a test of sharded channels: Redis before 7 has none");
        return None;
    }
    Some(cluster)
}

/// Where the decision is.
fn identity(namespace: &str) -> String {
    format!("{{{namespace}:}}:identity:")
}

async fn decided(cluster: &Cluster, namespace: &str) -> String {
    let (node, key) = (
        cluster.node_of(&identity(namespace)).await.expect("a node"),
        identity(namespace),
    );
    let said = node.ask(&["HGET", &key, "pubsub"]).await;
    said.expect("an answer").text()
}

async fn decide(cluster: &Cluster, namespace: &str, what: &str) {
    let key = identity(namespace);
    let node = cluster.node_of(&key).await.expect("a node");
    let set = node.ask(&["HSET", &key, "pubsub", what]).await;
    set.expect("an answer");
}

/// The URL of a user whom `let_in` makes.
fn url_of_guest(cluster: &Cluster) -> String {
    let url = cluster.url();
    let (_, hosts) = url.split_once('@').expect("a password");
    format!("redis-cluster://guest:open-sesame@{hosts}")
}

/// Gives the guest these rights on each node.
async fn let_in(cluster: &Cluster, rights: &str) {
    for node in cluster.nodes() {
        let command = ["ACL", "SETUSER", "guest"].into_iter();
        let command: Vec<&str> = command.chain(rights.split(' ')).collect();
        node.ask(&command).await.expect("a user");
    }
}

/// Cuts all who listen: when they are there again, they look at the store.
async fn cut(cluster: &Cluster) {
    for node in cluster.nodes() {
        let killed = node.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        killed.expect("an answer");
    }
}

async fn channels(node: &Redis, kind: &str) -> Vec<String> {
    let said = node.ask(&["PUBSUB", kind]).await.expect("an answer");
    let mut channels: Vec<String> = said.list().iter().map(Reply::text).collect();
    channels.retain(|channel| channel.contains(":bus:") || channel.contains(":echo:"));
    channels
}

/// U18: what the bus hears, and its echoes, are sharded channels where all nodes have them; or plain ones where that was chosen.
#[tokio::test]
async fn a_bus_has_sharded_channels_where_all_nodes_have_them() {
    let Some(cluster) = cluster().await else {
        return;
    };
    for client in clients() {
        for (is_sharded, name, used, unused) in [
            (true, "sharded", "SHARDCHANNELS", "CHANNELS"),
            (false, "plain", "CHANNELS", "SHARDCHANNELS"),
        ] {
            let namespace = format!("{name}-{client:?}");
            let config = config(client, &cluster.url(), &namespace).sharded(is_sharded);
            let bus = bus_of(config).await;
            let feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
            let tag = format!("{{{namespace}:t}}");
            let node = cluster.node_of(&tag).await.expect("a node");
            let heard = channels(node, used).await;
            assert_eq!(
                (heard.len(), decided(&cluster, &namespace).await.as_str()),
                (2, name)
            );
            assert!(
                heard.iter().all(|channel| channel.starts_with(&tag)),
                "{heard:?}"
            );
            assert!(channels(node, unused).await.is_empty());
            drop(feed);
        }
    }
}

/// U18: who comes later does as the first has decided, or is told that it cannot.
#[tokio::test]
async fn the_first_decides_for_all() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let url = cluster.url();
    for client in clients() {
        let plain = format!("plain-{client:?}");
        let first = bus_of(config(client, &url, &plain).sharded(false)).await;
        let second = bus_of(config(client, &url, &plain)).await;
        let mut feed = first.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        assert_eq!(until_heard(second.as_ref(), &TOPIC, &mut feed).await, 0);
        let sharded = format!("sharded-{client:?}");
        let _first = bus_of(config(client, &url, &sharded)).await;
        let config = config(client, &url, &sharded).sharded(false);
        let refused = RedisBackend::connect(config).await.map(drop);
        let error = refused.expect_err("all others are sharded");
        assert!(
            matches!(error, ConnectError::ShardedChannels { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&identity(&sharded)), "{error}");
    }
}

/// U18: another decision is followed, and told as a loss; one that the store has lost is put back.
#[tokio::test]
async fn another_decision_is_followed_and_a_lost_one_is_put_back() {
    let Some(cluster) = cluster().await else {
        return;
    };
    for client in clients() {
        let namespace = format!("ours-{client:?}");
        let config = config(client, &cluster.url(), &namespace);
        let subscriber = bus_of(config.clone()).await;
        let subscribed = subscriber.subscribe(&[TOPIC], Start::Now).await;
        let mut feed = subscribed.expect("a feed");
        for what in ["plain", "sharded"] {
            decide(&cluster, &namespace, what).await;
            cut(&cluster).await;
            until_channels(&cluster, &namespace, what).await;
            // One who comes by now does as all do.
            let publisher = bus_of(config.clone()).await;
            assert!(until_heard(publisher.as_ref(), &TOPIC, &mut feed).await > 0);
        }
        let key = identity(&namespace);
        let node = cluster.node_of(&key).await.expect("a node");
        node.ask(&["DEL", &key]).await.expect("an answer");
        cut(&cluster).await;
        let began = Instant::now();
        while decided(&cluster, &namespace).await != "sharded" {
            assert!(began.elapsed() < LONG, "it is not put back");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// U18: of a decision that is gone, what was known of it is not enough: who comes later would have its own.
#[tokio::test]
async fn a_decision_alone_that_is_gone_is_put_back() {
    let Some(cluster) = cluster().await else {
        return;
    };
    for client in clients() {
        let namespace = format!("ours-{client:?}");
        let config = config(client, &cluster.url(), &namespace);
        let _first = bus_of(config.clone()).await;
        let key = identity(&namespace);
        let node = cluster.node_of(&key).await.expect("a node");
        let gone = node.ask(&["HDEL", &key, "pubsub"]).await;
        gone.expect("an answer");
        let _second = bus_of(config.clone()).await;
        assert_eq!(decided(&cluster, &namespace).await, "sharded");
        let refused = RedisBackend::connect(config.sharded(false)).await.map(drop);
        let error = refused.expect_err("all others are sharded");
        assert!(
            matches!(error, ConnectError::ShardedChannels { .. }),
            "{error:?}"
        );
    }
}

/// U18: a channel that a user may hear no longer is refused to who asks for it then, and heard again with the right.
#[tokio::test]
async fn a_right_that_is_taken_away_in_a_cluster_is_told_to_who_comes_later() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let url = url_of_guest(&cluster);
    for client in clients() {
        let ours = format!("ours-{client:?}");
        let admit = async |topic: &str| {
            let rights = format!(
                "on >open-sesame resetkeys resetchannels ~{{{ours}:* &{{{ours}:}}* &{{{ours}:{topic}}}* &{ours}:wake:* +@all"
            );
            let_in(&cluster, &rights).await;
        };
        admit("t").await;
        let bus = bus_of(config(client, &url, &ours)).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        admit("other").await;
        assert_eq!(next(&mut feed).await, FeedEvent::Disconnected);
        let began = Instant::now();
        loop {
            let again = bus.subscribe(&[TOPIC], Start::Now).await;
            match again.map(drop).expect_err("the guest may no longer") {
                BusError::Rejected { .. } => break,
                error => assert!(began.elapsed() < LONG, "{error:?}"),
            }
        }
        admit("t").await;
        until_heard(bus.as_ref(), &TOPIC, &mut feed).await;
    }
}

/// U18: when all must have followed a new decision, those are told of a loss who followed it, or came, while others had not.
#[tokio::test]
async fn what_was_lost_until_all_have_followed_is_told() {
    let Some(cluster) = cluster().await else {
        return;
    };
    for client in clients() {
        let namespace = format!("ours-{client:?}");
        let bus = bus_of(config(client, &cluster.url(), &namespace)).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        let key = identity(&namespace);
        let node = cluster.node_of(&key).await.expect("a node");
        let since = ["HINCRBY", &key, "pubsub_since", "-120000000"];
        node.ask(&since).await.expect("an answer");
        cut_bells(&cluster).await;
        assert_eq!(next(&mut feed).await, FeedEvent::Disconnected);
        assert_eq!(next(&mut feed).await, FeedEvent::Connected);
        cut_bells(&cluster).await;
        assert_eq!(until_heard(bus.as_ref(), &TOPIC, &mut feed).await, 0);
    }
}

/// Cuts those who listen to plain channels alone, as what looks at the store does.
async fn cut_bells(cluster: &Cluster) {
    for node in cluster.nodes() {
        let clients = node.ask(&["CLIENT", "LIST"]).await.expect("an answer");
        for line in clients.text().lines() {
            let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
            if field("sub=") != Some("0") && field("ssub=") == Some("0") {
                let id = field("id=").expect("each has one");
                let killed = node.ask(&["CLIENT", "KILL", "ID", id]).await;
                killed.expect("an answer");
            }
        }
    }
}

/// Waits until the topic is heard on channels of this kind alone.
async fn until_channels(cluster: &Cluster, namespace: &str, kind: &str) {
    let (used, unused) = match kind {
        "sharded" => ("SHARDCHANNELS", "CHANNELS"),
        _ => ("CHANNELS", "SHARDCHANNELS"),
    };
    let tag = format!("{{{namespace}:t}}");
    let node = cluster.node_of(&tag).await.expect("a node");
    let began = Instant::now();
    loop {
        let of_ours = async |kind| {
            let mut channels = channels(node, kind).await;
            channels.retain(|channel| channel.starts_with(&tag));
            channels.len()
        };
        if of_ours(used).await == 2 && of_ours(unused).await == 0 {
            return;
        }
        assert!(began.elapsed() < LONG, "it is not {kind}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// U18: where a node has no sharded channels, none are chosen; and whoever must use them says what to do.
#[tokio::test]
async fn nodes_without_sharded_channels_have_plain_ones() {
    let without = [("rename-command", "SPUBLISH \"\"")];
    let settings = if Redis::has_sharded_channels() {
        &without[..]
    } else {
        &[]
    };
    let started = Cluster::start(3, settings).await.expect("a cluster");
    let Some(cluster) = started else { return };
    for client in clients() {
        let namespace = format!("ours-{client:?}");
        let config = config(client, &cluster.url(), &namespace);
        let bus = bus_of(config.clone()).await;
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        assert_eq!(until_heard(bus.as_ref(), &TOPIC, &mut feed).await, 0);
        assert_eq!(decided(&cluster, &namespace).await, "plain");
        decide(&cluster, &namespace, "sharded").await;
        let error = RedisBackend::connect(config)
            .await
            .expect_err("they cannot");
        let ConnectError::NoShardedChannels { host, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(
            host.contains(&cluster.nodes()[0].port().to_string()),
            "{host}"
        );
        assert!(error.to_string().contains(&identity(&namespace)), "{error}");
    }
}

/// U18: the rights that an error prints are enough; a channel that a user may not hear is refused alone.
#[tokio::test]
async fn the_rights_of_a_namespace_are_enough_for_sharded_channels() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let url = url_of_guest(&cluster);
    for client in clients() {
        let ours = format!("ours-{client:?}");
        let rights = format!(
            "on >open-sesame resetkeys resetchannels ~{{{ours}:* &{{{ours}:}}* &{{{ours}:t}}* &{ours}:wake:* +@all -@dangerous \
             +info +config|get +cluster +role"
        );
        let_in(&cluster, &rights).await;
        let bus = bus_of(config(client, &url, &ours)).await;
        assert_eq!(decided(&cluster, &ours).await, "sharded");
        let mut feed = bus.subscribe(&[TOPIC], Start::Now).await.expect("a feed");
        let never = bus.subscribe(&[Topic::new("never")], Start::Now).await;
        let error = never.map(drop).expect_err("the guest may not");
        assert!(matches!(error, BusError::Rejected { .. }), "{error:?}");
        assert_eq!(until_heard(bus.as_ref(), &TOPIC, &mut feed).await, 0);
    }
}
