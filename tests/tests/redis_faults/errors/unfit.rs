//! Servers that are there and will not do: those that only read, and those that forget at will.

use std::time::Duration;

use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
use coordinator_tests::servers::Redis;
use tokio::time::timeout;

use super::refusal;
use crate::kit::{CLIENTS, LONG, Member, Place, Tested, first_of, ms, one_at_a_time, reigns};

#[tokio::test]
async fn a_read_only_replica_is_refused_and_says_so() -> Tested {
    let Some(primary) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let replica = Redis::replica_of(&primary, primary.port(), &[]).await?;
    for client in CLIENTS {
        let url = Place::on(client, &replica).url();
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(matches!(error, ConnectError::Replica { .. }), "{error:?}");
        assert!(
            error.is_transient() && text.contains("connect to the primary"),
            "{text}"
        );
    }
    Ok(())
}

/// A primary that is demoted under its leader: the leader steps down by its own clock, nobody leads
/// on a server that only reads, and one leads when it is a primary again.
#[tokio::test]
async fn a_demoted_primary_is_stepped_down_from() -> Tested {
    for client in CLIENTS {
        let (Some(server), Some(other)) = (Redis::start(&[]).await?, Redis::start(&[]).await?)
        else {
            return Ok(());
        };
        let place = Place::on(client, &server)
            .with("trust_empty_store", "true")
            .with("max_ttl_seconds", "2");
        let ttl = Duration::from_secs(1);
        let start = |name: &str| Member::start(name, &place.url(), ttl, &["lead x ttl=1000"]);
        let mut members = vec![start("a")?];
        members[0].until("elected x").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;

        // Of a primary that it cannot follow: it keeps what it has, and takes no writes.
        let port = other.port().to_string();
        other.stop().await?;
        server.ask(&["REPLICAOF", "127.0.0.1", &port]).await?;
        members[0].until("lost x").await?;
        for member in &mut members {
            member.listen(ms(1_500)).await;
            assert_eq!(member.count("error").await, 0);
        }
        assert_eq!(members[1].count("elected x").await, 0);
        server.promote().await?;
        first_of(&mut members, "elected x").await?;
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// D3: a server that evicts what it likes loses leases: it is refused unless that is accepted by name.
#[tokio::test]
async fn d3_a_server_that_evicts_is_refused_unless_accepted() -> Tested {
    for policy in ["allkeys-lru", "allkeys-random", "volatile-lru"] {
        let settings = [("maxmemory", "100mb"), ("maxmemory-policy", policy)];
        let Some(server) = Redis::start(&settings).await? else {
            return Ok(());
        };
        for client in CLIENTS {
            let place = Place::on(client, &server).with("trust_empty_store", "true");
            let config = RedisConfig::from_url(&place.url())?;
            let (error, text) = refusal(config.clone()).await;
            assert!(matches!(error, ConnectError::Evicts { .. }), "{error:?}");
            assert!(
                text.contains(policy) && text.contains("noeviction"),
                "{text}"
            );
            // Another one by name is not this one.
            refusal(config.clone().accept_eviction("allkeys-lfu")).await;
            let accepted = config.accept_eviction(policy);
            timeout(LONG, RedisBackend::connect(accepted)).await??;
        }
    }
    Ok(())
}
