//! What the server guarantees: demanded, refused, and looked at again.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, Guarantee, Instance, Key, LockBackend, LockError,
};
use coordinator_node::{Node, StartError};
use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
use coordinator_tests::servers::Redis;
use tokio::time::{sleep, timeout};

use super::refusal;
use crate::kit::{CLIENTS, LONG, Place, Tested, chain, ms};

/// A cut: what a server says of itself is asked for again behind it.
async fn cut(server: &Redis) -> Tested {
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
    Ok(())
}

async fn acquire(locks: &Arc<dyn LockBackend>, key: &str) -> Result<Acquisition, LockError> {
    let (instance, ttl) = (Instance::from_bytes([7; 16]), Duration::from_secs(5));
    let claim = Claim::new(Key::from(key), "m".into(), instance, ClaimId::new(1), ttl);
    locks.acquire(&claim).await
}

/// A guarantee that is demanded and not given refuses the start, with what was found and what to do; given, and lost
/// later, it stops new grants and is shown.
#[tokio::test]
async fn a_demanded_guarantee_is_refused_where_it_is_missing_and_missed_when_it_goes() -> Tested {
    for client in CLIENTS {
        let memory = [("appendonly", "yes"), ("appendfsync", "everysec")];
        let Some(server) = Redis::start(&memory).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let demanding = || {
            let node = Node::builder("g").url(place.url());
            node.require([Guarantee::SurvivesCrash]).start()
        };
        let refused = timeout(LONG, demanding()).await?;
        let error = refused.map(drop).expect_err("a second may be lost");
        assert!(
            matches!(error, StartError::MissingGuarantee { .. }),
            "{error:?}"
        );
        let text = chain(&error);
        println!("{text}");
        assert!(text.contains("appendfsync = everysec"), "{text}");
        assert!(
            text.contains("set `appendonly yes` and `appendfsync always`"),
            "{text}"
        );

        server
            .ask(&["CONFIG", "SET", "appendfsync", "always"])
            .await?;
        let node = timeout(LONG, demanding()).await??;
        assert_eq!(node.health().missing, None);
        server
            .ask(&["CONFIG", "SET", "appendfsync", "everysec"])
            .await?;
        cut(&server).await?;
        let missed = timeout(LONG, async {
            while node.health().missing.is_none() {
                sleep(ms(10)).await;
            }
        });
        missed.await?;
        assert_eq!(node.health().missing, Some(Guarantee::SurvivesCrash));
        node.shutdown().await?;
    }
    Ok(())
}

/// D3: a server that begins to evict under a running process grants nothing more, and says why; what is held is renewed.
#[tokio::test]
async fn d3_a_server_that_begins_to_evict_grants_nothing_until_it_stops() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let backend = RedisBackend::connect(RedisConfig::from_url(&place.url())?).await?;
        let locks = Backend::from(backend).locks.expect("locks");
        let mut number = 0;
        for (policy, is_granted) in [("allkeys-lru", false), ("noeviction", true)] {
            server
                .ask(&["CONFIG", "SET", "maxmemory-policy", policy])
                .await?;
            cut(&server).await?;
            let looked = timeout(LONG, async {
                loop {
                    number += 1;
                    let answer = acquire(&locks, &format!("g/lock/{number}")).await;
                    if answer.is_ok() == is_granted {
                        break answer;
                    }
                    sleep(ms(10)).await;
                }
            });
            if let Err(error) = looked.await? {
                assert!(matches!(error, LockError::Unavailable { .. }), "{error:?}");
                let text = chain(&error);
                println!("{text}");
                assert!(
                    text.contains(policy) && text.contains("noeviction"),
                    "{text}"
                );
            }
        }
    }
    Ok(())
}

/// I4: a process that names another longest TTL is refused when it connects, with both.
#[tokio::test]
async fn i4_another_longest_ttl_is_refused_with_both() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let config = RedisConfig::from_url(&place.url())?;
        let first = config.clone().max_ttl(Duration::from_secs(20));
        let _first = RedisBackend::connect(first).await?;
        let (error, text) = refusal(config.max_ttl(Duration::from_secs(7))).await;
        assert!(
            matches!(error, ConnectError::OtherMaxTtl { .. }),
            "{error:?}"
        );
        assert!(text.contains("20s") && text.contains("7s"), "{text}");
        assert!(!error.is_transient(), "{error:?}");
    }
    Ok(())
}
