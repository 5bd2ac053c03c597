//! What a server says in mid-work: no memory, no script, a value of another type.

use coordinator_node::{LockConfig, Node};
use coordinator_servers::Talk;
use coordinator_tests::servers::Redis;
use tokio::time::timeout;

use crate::kit::{CLIENTS, LONG, Member, Place, Tested, chain, ms};

/// Scripts that the server has forgotten are given to it again.
#[tokio::test]
async fn scripts_that_are_flushed_are_loaded_again_and_nobody_notices() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let mut member = Member::start("a", &place.url(), ms(1_000), &["lead x ttl=1000"])?;
        member.until("elected x").await?;
        for _ in 0..10 {
            server.ask(&["SCRIPT", "FLUSH"]).await?;
            member.listen(ms(250)).await;
        }
        assert_eq!(member.count("lost x").await, 0);
        assert_eq!(member.count("error").await, 0);
        member.quit().await?;
    }
    Ok(())
}

/// A server that has no memory left takes no writes: told with what to do, and over when it has some
/// again.
#[tokio::test]
async fn a_server_without_memory_is_told_and_the_work_goes_on_when_it_has_some() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let node = Node::builder("g").url(place.url()).start().await?;
        let mut shards = node.shards("k").await?;
        let shard = timeout(LONG, shards.next())
            .await?
            .expect("it is alone, and owns all");
        shard.save(1_u64).await?;
        server.ask(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
        // Tried again for as long as the shard is trusted: it is not, for long, while nobody renews.
        let saved = tokio::spawn(shard.save(2_u64));
        tokio::time::sleep(ms(300)).await;
        assert!(!saved.is_finished(), "nothing says that it was saved");
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        timeout(LONG, saved).await???;
        assert_eq!(shard.load::<u64>().await?, Some(2));
        drop((shard, shards));
        node.shutdown().await?;
    }
    Ok(())
}

/// Somebody has put a value of another type under a key of ours: refused at once, and the key is named.
#[tokio::test]
async fn a_key_that_holds_something_else_is_refused_and_named() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let node = Node::builder("g").url(place.url()).start().await?;
        let lock = node.lock(LockConfig::new("l"));
        lock.acquire().await?.release().await?;
        let mut talk = Talk::to(place.server())?;
        let keys = place.keys("lock")?;
        assert_eq!(keys.len(), 1, "{keys:?}");
        talk.ask(&["DEL", &keys[0]])?;
        talk.ask(&["SET", &keys[0], "something else"])?;
        let refused = timeout(LONG, lock.acquire()).await?;
        let text = chain(&refused.map(drop).expect_err("it is no lease"));
        println!("{text}");
        assert!(text.contains("WRONGTYPE"), "{text}");
        talk.ask(&["DEL", &keys[0]])?;
        timeout(LONG, lock.acquire()).await??.release().await?;
        node.shutdown().await?;
    }
    Ok(())
}
