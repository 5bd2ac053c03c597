//! Clusters in pieces, and what is none.

use coordinator_node::{Bytes, Incoming, Node, Topic, connect};
use coordinator_redis::fred;
use coordinator_redis::redis::Client;
use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::Cluster;
use tokio::time::timeout;

use super::{SECRET, refusal};
use crate::kit::{CLIENTS, LONG, Place, Tested};

/// A cluster in which slots have no node: told, and not for ever; it works when they have one again.
#[tokio::test]
async fn a_cluster_that_is_down_says_so_and_what_to_do() -> Tested {
    let Some(cluster) = Cluster::start(3, &[]).await? else {
        return Ok(());
    };
    let [first, others @ ..] = cluster.nodes() else {
        anyhow::bail!("there are three");
    };
    for client in CLIENTS {
        let place = Place::on(client, first).with("trust_empty_store", "true");
        let url = place.at(&cluster.url());
        let node = timeout(LONG, Node::builder("g").url(&url).start()).await??;
        timeout(LONG, node.shutdown()).await??;
        // The first knows that two thirds of the slots are gone, and serves nothing.
        for server in others {
            server.stop().await?;
        }
        first.until_cluster("cluster_state:fail").await?;
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(
            matches!(error, ConnectError::ClusterDown { .. }),
            "{error:?}"
        );
        assert!(
            error.is_transient() && text.contains("start the primaries"),
            "{text}"
        );
        for server in others {
            server.start_again().await?;
        }
        cluster.until_well().await?;
        timeout(LONG, connect(&url)).await??;
    }
    Ok(())
}

/// A single server where a cluster is expected, a node of a cluster where a single server is, and what is no Sentinel.
#[tokio::test]
async fn what_is_of_another_kind_than_the_url_says_is_told() -> Tested {
    let (Some(server), Some(cluster)) = (Redis::start(&[]).await?, Cluster::start(3, &[]).await?)
    else {
        return Ok(());
    };
    for client in CLIENTS {
        let place = Place::on(client, &server);
        let alone = server.url();
        let password = server.password();
        for (url, advice) in [
            (alone.replace("redis://", "redis-cluster://"), "redis://"),
            (cluster.nodes()[0].url(), "redis-cluster://"),
            (
                format!(
                    "{}/name?sentinel_password={password}",
                    alone.replace("redis://", "redis-sentinel://")
                ),
                "Sentinel",
            ),
        ] {
            let (error, text) = refusal(RedisConfig::from_url(&place.at(&url))?).await;
            assert!(text.contains(advice), "{error:?}: {text}");
        }
    }
    Ok(())
}

/// The application's own client: it is used for all, and what it says of the server counts, not the URL.
#[tokio::test]
async fn an_application_hands_in_its_own_client() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let client = Client::open(server.url())?;
    let config = RedisConfig::new("not looked at").trust_empty_store(true);
    let backend = RedisBackend::connect_with(client, config.clone()).await?;
    let node = Node::builder("g").backend(backend).start().await?;
    let guard = timeout(LONG, node.lock("x").acquire()).await??;
    assert!(guard.token().is_ok());
    drop(guard);
    timeout(LONG, node.shutdown()).await??;
    // A password that is wrong is told as by a URL.
    let wrong = server.url().replace(&server.password(), SECRET);
    let client = Client::open(wrong)?;
    let refused = RedisBackend::connect_with(client, config).await;
    let error = refused.map(drop).expect_err("the password is wrong");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    Ok(())
}

/// The same by `fred`, to a server and to a cluster.
#[tokio::test]
async fn an_application_hands_in_its_own_client_of_fred() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let Some(cluster) = Cluster::start(3, &[]).await? else {
        return Ok(());
    };
    let in_a_cluster = cluster.nodes()[0].url();
    let in_a_cluster = in_a_cluster.replace("redis://", "redis-cluster://");
    let config = RedisConfig::new("not looked at").trust_empty_store(true);
    for url in [server.url(), in_a_cluster] {
        let client = fred_of(&url)?;
        let backend = RedisBackend::connect_with_fred(&client, config.clone()).await?;
        let shown = format!("{backend:?}");
        assert!(!shown.contains(&server.password()), "{shown}");
        let node = Node::builder("g").backend(backend).start().await?;
        let guard = timeout(LONG, node.lock("x").acquire()).await??;
        assert!(guard.token().is_ok());
        drop(guard);
        let topic = Topic::<Bytes>::named("t".to_owned());
        let mut messages = timeout(LONG, node.bus().subscribe(&topic)).await??;
        timeout(LONG, node.bus().publish(&topic, &Bytes::from_static(b"7"))).await??;
        let heard = timeout(LONG, messages.next()).await?;
        assert!(
            matches!(&heard, Some(Incoming::Message(message)) if message.payload == "7"),
            "{heard:?}"
        );
        timeout(LONG, node.shutdown()).await??;
    }
    let wrong = fred_of(&server.url().replace(&server.password(), SECRET))?;
    let refused = RedisBackend::connect_with_fred(&wrong, config).await;
    let error = refused.map(drop).expect_err("the password is wrong");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    Ok(())
}

fn fred_of(url: &str) -> Tested<fred::clients::Client> {
    let config = fred::types::config::Config::from_url(url)?;
    Ok(fred::clients::Client::new(config, None, None, None))
}
