//! Many that begin at once, and publishes that are refused.

use std::time::Instant;

use coordinator_node::{Bytes, Incoming, Node, Topic};
use coordinator_postgres::PostgresBackend;
use futures_util::future::try_join_all;
use tokio::time::timeout;

use crate::kit::{LONG, Place, Tested, connect, ms};

/// B14: 24 processes' worth of sessions create the schema at once: one does, the others find it.
#[tokio::test]
async fn b14_many_that_create_the_schema_at_once_all_find_it_made() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let connects = (0..24).map(|_| PostgresBackend::connect(place.config()));
    let backends = timeout(LONG * 2, try_join_all(connects)).await??;
    assert!(
        backends
            .iter()
            .all(|backend| backend.store() == backends[0].store())
    );
    let made = place.sql("select count(*) from {schema}.history");
    let count: i64 = connect(place.server())
        .await?
        .query_one(&made, &[])
        .await?
        .get(0);
    assert_eq!(count, 1);
    Ok(())
}

/// B13: a publish that is refused is refused at once, and what comes before and after it arrives.
#[tokio::test]
async fn b13_a_publish_that_is_refused_fails_fast_and_poisons_nothing() -> Tested {
    const T: Topic<Bytes> = Topic::new("t");
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let place = place.with("spill", "never");
    let node = Node::builder("g").url(place.url()).start().await?;
    let mut messages = node.bus().subscribe(&T).await?;
    let bus = node.bus();
    for round in 0..5_u8 {
        let before = bus.publish(&T, &Bytes::from(vec![round; 100]));
        let began = Instant::now();
        let refused = bus.publish(&T, &Bytes::from(vec![0; 100_000])).await;
        let text = super::super::errors::chain(&refused.expect_err("it does not fit"));
        assert!(began.elapsed() < ms(2_000), "{:?}", began.elapsed());
        assert!(text.contains("100000"), "{text}");
        before.await?;
        match timeout(LONG, messages.next()).await? {
            Some(Incoming::Message(message)) => assert_eq!(message.payload[0], round),
            other => panic!("no message, but {other:?}"),
        }
    }
    node.shutdown().await?;
    Ok(())
}
