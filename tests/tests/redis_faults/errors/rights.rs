//! Users without rights.

use coordinator_node::{ElectionConfig, Node};
use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
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

/// A right that anything needs is missed when the node connects, and not in the middle of its work; and what the error
/// says to do is enough.
#[tokio::test]
async fn each_missing_right_is_told_at_once_with_the_command_that_gives_it() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let all = ["~*", "&*", "+@all"];
    for client in CLIENTS {
        let place = Place::on(client, &server);
        for (missing, named) in [
            (&["-publish"][..], "PUBLISH"),
            (&["-hset", "-xadd"], "HSET, XADD"),
            (&["-zrangebyscore"], "ZRANGEBYSCORE"),
            (&["-subscribe"], "subscribe"),
            (&["-evalsha"], "evalsha"),
            (&["-time"], "ours"),
            (&["resetkeys", "~{other:*"], "keys"),
            (&["resetchannels", "&{ours:*"], "PUBLISH"),
            (&["resetchannels", "&ours:wake:*"], "PUBLISH"),
        ] {
            let url = place.at(&user(&server, &[&all[..], missing].concat()).await?);
            let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
            assert!(text.contains(named), "{missing:?}: {text}");
            let rule = text
                .split('`')
                .find(|part| part.starts_with("ACL SETUSER guest "));
            let rule = rule.ok_or_else(|| anyhow::anyhow!("no command in: {text}"))?;
            user(&server, &[]).await?;
            server.ask(&rule.split(' ').collect::<Vec<_>>()).await?;
            RedisBackend::connect(RedisConfig::from_url(&url)?).await?;
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
        let keys = format!("~{{{}:*", place.namespace());
        let channels = format!("&{{{}:*", place.namespace());
        let wake = format!("&{}:wake:*", place.namespace());
        let rights = [&keys, &channels, &wake, "+@all", "-@dangerous", "+info"];
        let url = place.at(&user(&server, &rights).await?);
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

/// Names and passwords may have any letters.
#[tokio::test]
async fn a_password_may_have_spaces_quotes_and_more() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    for (number, password) in ["a b", "it's", "say \"no\"", "\\x41", "%", "ü€", "a\tb"]
        .into_iter()
        .enumerate()
    {
        let name = format!("guest-{number}");
        let given = format!(">{password}");
        let rights = ["on", &given, "~*", "&*", "+@all"];
        server
            .ask(&[&["ACL", "SETUSER", &name], rights.as_slice()].concat())
            .await?;
        let bytes = password.bytes().map(|byte| format!("%{byte:02x}"));
        let (word, port) = (bytes.collect::<String>(), server.port());
        for client in CLIENTS {
            let place = Place::on(client, &server);
            let url = place.at(&format!("redis://{name}:{word}@127.0.0.1:{port}"));
            let connected = RedisBackend::connect(RedisConfig::from_url(&url)?);
            timeout(LONG, connected).await??;
            let wrong = place.at(&format!("redis://{name}:{word}x@127.0.0.1:{port}"));
            let (error, _) = refusal(RedisConfig::from_url(&wrong)?).await;
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
        }
    }
    Ok(())
}
