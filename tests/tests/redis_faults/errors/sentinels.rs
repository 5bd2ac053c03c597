//! Sentinels that have a password of their own.

use coordinator_node::{Node, connect};
use coordinator_redis::fred::clients::Client;
use coordinator_redis::fred::types::config::Config;
use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::{SENTINEL_NAME, Sentinels};
use tokio::time::timeout;

use super::{SECRET, refusal};
use crate::kit::{CLIENTS, LONG, Place, Tested, ms};

/// Longer than this test: nobody is promoted.
const SILENT: u64 = 60_000;

/// A primary, its replica, and a Sentinel to which nobody may talk but one user.
struct Guarded {
    primary: Redis,
    _replica: Redis,
    sentinels: Sentinels,
    /// That of the Sentinel.
    port: u16,
}

async fn guarded() -> Tested<Option<Guarded>> {
    let Some(primary) = Redis::start(&[]).await? else {
        return Ok(None);
    };
    let replica = Redis::replica_of(&primary, primary.port(), &[]).await?;
    let sentinels = Sentinels::of(&primary, 1, ms(SILENT)).await?;
    let [sentinel] = sentinels.all() else {
        anyhow::bail!("there is one");
    };
    let password = format!(">{SECRET}");
    let guard = [
        "ACL", "SETUSER", "guard", "on", &password, "~*", "&*", "+@all",
    ];
    sentinel.ask(&guard).await?;
    sentinel.ask(&["ACL", "SETUSER", "default", "off"]).await?;
    let port = sentinel.port();
    Ok(Some(Guarded {
        primary,
        _replica: replica,
        sentinels,
        port,
    }))
}

async fn works(node: Node) -> Tested {
    let guard = timeout(LONG, node.lock("x").acquire()).await??;
    assert!(guard.token().is_ok());
    drop(guard);
    timeout(LONG, node.shutdown()).await??;
    Ok(())
}

#[tokio::test]
async fn a_password_of_sentinels_is_used_and_a_wrong_one_told() -> Tested {
    let Some(all) = guarded().await? else {
        return Ok(());
    };
    for client in CLIENTS {
        let place = Place::on(client, &all.primary).with("trust_empty_store", "true");
        let bare = place.at(&all.sentinels.url(&all.primary));
        let with = |password| format!("{bare}&sentinel_user=guard&sentinel_password={password}");
        for url in [&bare, &with("wrong")] {
            let (error, text) = refusal(RedisConfig::from_url(url)?).await;
            assert!(
                matches!(error, ConnectError::SentinelRefused { .. }),
                "{error:?}"
            );
            assert!(
                text.contains("sentinel_password") && !error.is_transient(),
                "{text}"
            );
        }
        let backend = timeout(LONG, connect(&with(SECRET))).await??;
        works(Node::builder("g").backend(backend).start().await?).await?;
    }
    Ok(())
}

/// The same by a client of the application.
#[tokio::test]
async fn a_password_of_sentinels_is_taken_from_a_client_of_fred() -> Tested {
    let Some(all) = guarded().await? else {
        return Ok(());
    };
    let (password, port) = (all.primary.password(), all.port);
    let url = format!(
        "redis-sentinel://:{password}@127.0.0.1:{port}?sentinelServiceName={SENTINEL_NAME}\
         &sentinelUsername=guard&sentinelPassword={SECRET}"
    );
    let client = Client::new(Config::from_url(&url)?, None, None, None);
    let config = RedisConfig::new("not looked at").trust_empty_store(true);
    let backend = RedisBackend::connect_with_fred(&client, config).await?;
    works(Node::builder("g").backend(backend).start().await?).await
}
