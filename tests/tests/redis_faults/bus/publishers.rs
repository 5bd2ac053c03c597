//! Many that begin at once, publishes that are refused, and connections that come and go.

use std::time::Instant;

use coordinator_node::{Bytes, Incoming, Node, Topic, connect};
use coordinator_tests::servers::{Proxy, Redis};
use futures_util::future::try_join_all;
use tokio::time::timeout;

use crate::kit::{CLIENTS, LONG, Member, Place, Tested, chain, got, ms, rise};

/// B14, I4: 24 begin at once in a namespace that is new: all agree on its identity.
#[tokio::test]
async fn b14_many_that_begin_a_namespace_at_once_all_find_the_same_store() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let url = place.url();
        let connects = (0..24).map(|_| connect(&url));
        let backends = timeout(LONG * 2, try_join_all(connects)).await??;
        let stores: Vec<_> = backends
            .iter()
            .filter_map(|backend| backend.locks.as_ref().map(|locks| locks.store()))
            .collect();
        assert_eq!(stores.len(), 24);
        assert!(stores.iter().all(|store| *store == stores[0]), "{stores:?}");
    }
    Ok(())
}

/// B13: a publish that is refused is refused at once, and what comes before and after it arrives.
#[tokio::test]
async fn b13_a_publish_that_is_refused_fails_fast_and_poisons_nothing() -> Tested {
    const T: Topic<Bytes> = Topic::new("t");
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let node = Node::builder("g").url(place.url()).start().await?;
        let bus = node.bus();
        let mut messages = bus.subscribe(&T).await?;
        let too_big = Bytes::from(vec![0; 257 * 1024 * 1024]);
        for round in 0..5_u8 {
            let before = bus.publish(&T, &Bytes::from(vec![round; 100]));
            let began = Instant::now();
            let refused = bus.publish(&T, &too_big).await;
            let text = chain(&refused.expect_err("it does not fit"));
            assert!(began.elapsed() < ms(2_000), "{:?}", began.elapsed());
            assert!(text.contains(&too_big.len().to_string()), "{text}");
            before.await?;
            // The one that was refused had a number: that it is missing is told, and nothing else is.
            let mut missing = 0;
            let message = loop {
                match timeout(LONG, messages.next()).await? {
                    Some(Incoming::Gap(gap)) => missing += gap.missing.unwrap_or(u64::MAX),
                    Some(Incoming::Message(message)) => break message,
                    other => panic!("no message, but {other:?}"),
                }
            };
            assert_eq!(message.payload[0], round);
            assert!(missing <= 1, "{missing}");
        }
        node.shutdown().await?;
    }
    Ok(())
}

/// B13: a hundred reconnects leak no connection and double no message.
#[tokio::test]
async fn b13_a_hundred_reconnects_leave_no_connection_and_double_nothing() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let proxy = Proxy::before(place.server()).await?;
        let mut publisher = Member::start("p", &place.url(), LONG, &[])?;
        publisher.until("ready").await?;
        let mut subscriber = Member::start("s", &place.through(&proxy), LONG, &["subscribe t"])?;
        subscriber.until("subscribed").await?;
        let connected = async || -> Tested<usize> {
            Ok(server.info("clients", "connected_clients").await?.parse()?)
        };
        let before = connected().await?;
        for round in 0..100_u64 {
            proxy.reset_all().await;
            publisher.tell(&format!("publish t 1 from={round}"))?;
            publisher.until("published t all").await?;
        }
        // Live again, and all that was left behind is gone.
        let mut last = 100;
        loop {
            publisher.tell(&format!("publish t 1 from={last}"))?;
            let got = format!("got t p {last} ");
            if subscriber.until_within(&got, ms(500)).await.is_ok() {
                break;
            }
            last += 1;
            anyhow::ensure!(last < 160, "it is not live again");
        }
        let numbers = got(&mut subscriber, "t").await;
        rise(&numbers);
        let deadline = Instant::now() + LONG;
        while connected().await? > before {
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} connections, and {before} before",
                connected().await?
            );
            tokio::time::sleep(ms(20)).await;
        }
    }
    Ok(())
}
