//! Users without rights.

use coordinator_node::{ElectionConfig, Node};
use coordinator_redis::{ConnectError, RedisConfig};
use coordinator_tests::servers::Redis;
use tokio::time::timeout;

use super::{SECRET, refusal, start_refusal};
use crate::kit::{CLIENTS, LONG, Place, Tested};

/// A user who may do only this, and a URL for it.
async fn user(server: &Redis, rights: &[&str]) -> Tested<String> {
    let password = format!(">{SECRET}");
    let set = ["ACL", "SETUSER", "guest", "reset", "on", &password];
    server.ask(&[&set, rights].concat()).await?;
    Ok(format!(
        "redis://guest:{SECRET}@127.0.0.1:{}",
        server.port()
    ))
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_is_missing() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    for client in CLIENTS {
        let place = Place::on(client, &server);
        let url = place.at(&user(&server, &["+ping", "+hello", "+client"]).await?);
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
        assert!(!error.is_transient(), "{error:?}");
        assert!(text.contains("'info'") && text.contains("ACL"), "{text}");
        for rights in [
            ["~*", "&*", "+@all", "-eval", "-evalsha"],
            ["~other:*", "&*", "+@all", "-flushall", "-flushdb"],
        ] {
            let url = place.at(&user(&server, &rights).await?);
            let (_, text) = start_refusal(&url).await;
            println!("{text}");
            assert!(text.contains("permission"), "{text}");
        }
    }
    Ok(())
}

/// The least rights that the documents name do for everything.
#[tokio::test]
async fn a_user_with_the_rights_on_its_own_keys_and_channels_can_do_all_that_a_node_does() -> Tested
{
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    for client in CLIENTS {
        let place = Place::on(client, &server)
            .with("trust_empty_store", "true")
            .with("max_ttl_seconds", "20");
        let keys = format!("~*{}*", place.namespace());
        let channels = format!("&*{}*", place.namespace());
        let url = place.at(&user(
            &server,
            &[&keys, &channels, "+@all", "-@dangerous", "+info", "+role"],
        )
        .await?);
        let node = Node::builder("g").url(&url).start().await?;
        let lead = node.election(ElectionConfig::new("x"));
        timeout(LONG, lead.campaign()).await??.resign().await?;
        timeout(LONG, node.lock("l").acquire())
            .await??
            .release()
            .await?;
        let mut shards = node.shards("k").await?;
        let shard = timeout(LONG, shards.next())
            .await?
            .expect("it is alone, and owns all");
        shard.save(7_u64).await?;
        assert_eq!(shard.load::<u64>().await?, Some(7));
        drop((shard, shards));
        node.shutdown().await?;
    }
    Ok(())
}
