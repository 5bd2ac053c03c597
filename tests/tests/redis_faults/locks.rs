//! L: locks.

use std::time::{Duration, Instant};

use coordinator_node::{Held, LockConfig, Node};
use coordinator_redis::{FenceError, RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::servers::{Direction, Mode, Proxy};
use tokio::time::timeout;

use crate::kit::{CLIENTS, LONG, Member, Place, Tested, ms, one_at_a_time, reigns};

/// L4, D2: the holder dies, and the one that waits has the lock when the lease has run out.
#[tokio::test]
async fn l4_the_waiter_is_woken_when_the_holder_dies() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let start = |name: &str| Member::start(name, &place.url(), ms(1_000), &["hold l ttl=1000"]);
        let mut members = vec![start("a")?];
        members[0].until("elected l").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        place.until_waiting(1).await?;
        let killed = members[0].kill()?;
        let held = members[1].until("elected l").await?;
        let took = held.at.saturating_sub(killed);
        println!("L4 kill -9 to the waiter, {client}: {took:?}");
        assert!(took < ms(1_800), "{took:?}");
        one_at_a_time(&reigns(&mut members, "l").await, 2);
    }
    Ok(())
}

/// L4, D2: the wake-up is lost, because the one that waits hears nothing at that moment: it polls.
#[tokio::test]
async fn l4_a_wake_up_that_is_lost_is_made_up_for_by_a_poll() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let ttl = ms(3_000);
        let mut a = Member::start("a", &place.url(), ttl, &["hold l ttl=3000"])?;
        a.until("elected l").await?;
        let mut b = Member::start("b", &place.through(&proxy), ttl, &["hold l ttl=3000"])?;
        b.until("ready").await?;
        place.until_waiting(1).await?;
        proxy.set(Direction::ToClient, Mode::Lose);
        a.tell("resign l")?;
        let resigned = a.until("resigned l").await?;
        proxy.reset_all().await;
        proxy.set(Direction::ToClient, Mode::Pass);
        let held = b.until("elected l").await?;
        let took = held.at.saturating_sub(resigned.at);
        println!("L4 a lost wake-up to the waiter, {client}: {took:?}");
        assert!(took < ms(1_500 + 1_500), "{took:?}");
        one_at_a_time(&reigns([&mut a, &mut b], "l").await, 2);
    }
    Ok(())
}

/// L5, K1: a holder is cut off, and another takes over. What the first one writes afterwards, by
/// whatever way, is refused; what the other writes is applied.
#[tokio::test]
async fn l5_the_writes_of_a_superseded_holder_are_refused() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let (url, key) = (place.url(), format!("{}:written", place.namespace()));
        let mut held = Vec::new();
        for name in ["a", "b"] {
            let backend = RedisBackend::connect(RedisConfig::from_url(&url)?).await?;
            let node = Node::builder("g").backend(backend.clone()).member(name);
            let node = node.ttl(ms(2_000)).start().await?;
            let guard = timeout(LONG, node.lock("l").acquire()).await??;
            let value = format!("by {name}");
            let write = backend.fenced(&guard).set(&key, &value);
            write.apply().await?;
            if name == "a" {
                // As an administrator does: expired now, whatever its holder thinks.
                let lease = guard.lease()?.key.clone();
                let mut talk = Talk::to(place.server())?;
                for found in place.keys("lock")? {
                    if found.ends_with(lease.as_str()) {
                        talk.ask(&["HSET", &found, "expires", "0"])?;
                    }
                }
            }
            held.push((node, backend, guard));
        }
        let (_, backend, old) = &held[0];
        let refused = backend.fenced(old).set(&key, "too late").apply().await;
        assert!(
            matches!(
                &refused,
                Err(FenceError::Refused { .. } | FenceError::Lost(_))
            ),
            "{refused:?}"
        );
        let (_, backend, new) = &held[1];
        backend.fenced(new).set(&key, "still by b").apply().await?;
        let mut talk = Talk::to(place.server())?;
        assert_eq!(talk.ask(&["GET", &key])?.text(), "still by b");
        for (node, _, guard) in held {
            drop(guard);
            node.shutdown().await?;
        }
    }
    Ok(())
}

/// L5: a store is the same by whatever address it is reached; another namespace is another store.
#[tokio::test]
async fn l5_a_lease_guards_writes_that_reach_the_server_by_another_url() -> Tested {
    for client in CLIENTS {
        let (Some(place), Some(other)) = (Place::shared(client), Place::shared(client)) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let node = Node::builder("g").url(place.url()).start().await?;
        let guard = timeout(LONG, node.lock("l").acquire()).await??;
        let key = format!("{}:written", place.namespace());
        let around = RedisConfig::from_url(&place.through(&proxy))?;
        let around = RedisBackend::connect(around).await?;
        around.fenced(&guard).set(&key, "by a").apply().await?;
        let mut talk = Talk::to(place.server())?;
        assert_eq!(talk.ask(&["GET", &key])?.text(), "by a");
        let elsewhere = RedisBackend::connect(RedisConfig::from_url(&other.url())?).await?;
        let refused = elsewhere.fenced(&guard).set(&key, "no").apply().await;
        assert!(
            matches!(&refused, Err(FenceError::OtherStore { .. })),
            "{refused:?}"
        );
        drop(guard);
        node.shutdown().await?;
    }
    Ok(())
}

/// L3: a lock goes to and fro between two that want it all the time, and each turn is short.
#[tokio::test]
async fn l3_a_lock_goes_to_and_fro_by_push() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut nodes = Vec::new();
        for name in ["a", "b"] {
            let node = Node::builder("g").url(place.url()).member(name);
            nodes.push(node.ttl(Duration::from_secs(20)).start().await?);
        }
        let lock = LockConfig::new("l").ttl(Duration::from_secs(20));
        let mut held = timeout(LONG, nodes[0].lock(lock.clone()).acquire()).await??;
        let began = Instant::now();
        for turn in 1..=20 {
            let next = nodes[turn % 2].lock(lock.clone());
            let next = tokio::spawn(async move { next.acquire().await });
            place.until_waiting(1).await?;
            held.release().await?;
            held = timeout(LONG, next).await???;
        }
        held.release().await?;
        println!("L3 twenty turns, {client}: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10));
        for node in nodes {
            node.shutdown().await?;
        }
    }
    Ok(())
}
