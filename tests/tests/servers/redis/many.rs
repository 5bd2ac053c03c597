//! Several servers that know each other.

use std::time::Duration;

use coordinator_tests::servers::redis::{Cluster, Sentinels};
use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};

use crate::support::Tested;

#[tokio::test]
async fn a_replica_that_was_cut_off_is_promoted_without_the_last_writes() -> Tested {
    let Some(primary) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let proxy = Proxy::to(primary.address())?;
    primary.ask(&["SET", "a", "1"]).await?;
    let replica = Redis::replica_of(&primary, proxy.port(), &[]).await?;
    assert_eq!(replica.ask(&["GET", "a"]).await?.text(), "1");
    let refused = replica.ask(&["SET", "a", "0"]).await.unwrap_err();
    assert!(refused.to_string().contains("READONLY"), "{refused}");

    proxy.set(Direction::Both, Mode::Hold);
    primary.ask(&["SET", "a", "2"]).await?;
    primary.crash().await?;
    replica.promote().await?;
    assert_eq!(replica.ask(&["GET", "a"]).await?.text(), "1");
    replica.ask(&["SET", "a", "3"]).await?;
    Ok(())
}

#[tokio::test]
async fn sentinels_promote_the_replica_of_a_primary_that_is_gone() -> Tested {
    let Some(primary) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let replica = Redis::replica_of(&primary, primary.port(), &[]).await?;
    let sentinels = Sentinels::of(&primary, 3, Duration::from_millis(500)).await?;
    sentinels.until_primary(primary.port()).await?;
    primary.ask(&["SET", "a", "1"]).await?;
    replica
        .until_info("replication", "master_link_status", "up")
        .await?;
    assert_eq!(primary.ask(&["WAIT", "1", "0"]).await?.text(), "1");

    primary.crash().await?;
    sentinels.until_primary(replica.port()).await?;
    replica.until_info("replication", "role", "master").await?;
    assert_eq!(replica.ask(&["GET", "a"]).await?.text(), "1");
    // Who comes back follows.
    primary.start_again().await?;
    primary.until_info("replication", "role", "slave").await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_sends_each_key_to_one_of_its_nodes() -> Tested {
    let Some(cluster) = Cluster::start(3, &[]).await? else {
        return Ok(());
    };
    let right = cluster.node_of("{a}:b").await?.port();
    for node in cluster.nodes() {
        let set = node.ask(&["SET", "{a}:b", "1"]).await;
        if node.port() == right {
            assert_eq!(set?.text(), "OK");
        } else {
            let refused = set.unwrap_err().to_string();
            assert!(refused.contains(&format!("127.0.0.1:{right}")), "{refused}");
        }
    }
    Ok(())
}
