//! Messages that are part of transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_node::{Incoming, Node, Start, Subscription, Topic};
use coordinator_postgres::{Cursors, Outbox, PostgresBackend, Spill};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use crate::kit::{LONG, Place, Tested, connect, ms};

const NEWS: Topic<String> = Topic::new("news");
const CURSORS: [Cursors; 2] = [Cursors::Watermark, Cursors::Counter];

struct Shop {
    node: Node,
    outbox: Outbox,
    pool: PgPool,
    place: Place,
}

impl Shop {
    async fn open(cursors: Cursors) -> Tested<Option<Self>> {
        let Some(place) = Place::shared() else {
            return Ok(None);
        };
        let pool = PgPoolOptions::new().max_connections(12);
        let pool = pool.connect(place.server()).await?;
        let config = place.config().spill(Spill::Always).cursors(cursors);
        let backend = PostgresBackend::connect(config).await?;
        let outbox = backend.outbox("g", "shop").expect("no pooler is between");
        let node = Node::builder("g").backend(backend).start().await?;
        Ok(Some(Self {
            node,
            outbox,
            pool,
            place,
        }))
    }

    async fn publish(&self, text: &str, wait: Duration, commits: bool) -> Tested {
        let mut tx = self.pool.begin().await?;
        self.outbox
            .publish(&mut tx, &NEWS, &text.to_owned())
            .await?;
        tokio::time::sleep(wait).await;
        if commits {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(())
    }
}

async fn next(news: &mut Subscription<String>) -> Tested<(String, coordinator_node::Cursor)> {
    match timeout(LONG, news.next()).await? {
        Some(Incoming::Message(message)) => {
            Ok((message.payload, message.cursor.expect("it is durable")))
        }
        other => anyhow::bail!("no message, but {other:?}"),
    }
}

/// B15, B18: transactions of many writers publish and end in any order, some by rollback. A reader that
/// follows, and one that resumes from each of its cursors, get what was committed, once, and nothing else.
#[tokio::test]
async fn b18_whoever_resumes_from_any_cursor_misses_no_commit_that_was_overtaken() -> Tested {
    for cursors in CURSORS {
        let Some(shop) = Shop::open(cursors).await? else {
            return Ok(());
        };
        let mut draw = StdRng::seed_from_u64(18);
        let mut follows = shop
            .node
            .bus()
            .subscribe(&NEWS)
            .start(Start::Oldest)
            .await?;
        let mut plan = |writer: u32| -> Vec<(String, Duration, bool)> {
            let one = |number: u32| {
                let commits = draw.random_range(0..4) != 0;
                (
                    format!("{writer}.{number}"),
                    ms(draw.random_range(0..60)),
                    commits,
                )
            };
            (0..12).map(one).collect()
        };
        let plans: Vec<_> = (0..8).map(&mut plan).collect();
        let committed: BTreeSet<_> = plans
            .iter()
            .flatten()
            .filter(|one| one.2)
            .map(|one| one.0.clone())
            .collect();
        let writers = plans.iter().map(async |plan| -> Tested {
            for (text, wait, commits) in plan {
                shop.publish(text, *wait, *commits).await?;
            }
            Ok(())
        });
        let write = futures_util::future::try_join_all(writers);
        let resumes = async {
            let (mut got, mut from) = (Vec::new(), Start::Oldest);
            while got.len() < committed.len() {
                let mut news = shop.node.bus().subscribe(&NEWS).start(from).await?;
                let (text, cursor) = next(&mut news).await?;
                got.push(text);
                from = Start::After(cursor);
            }
            anyhow::Ok(got)
        };
        let (written, resumed) = tokio::join!(write, resumes);
        written?;
        let resumed = resumed?;
        let mut followed = Vec::new();
        while followed.len() < committed.len() {
            followed.push(next(&mut follows).await?.0);
        }
        assert_eq!(resumed, followed, "one order for all");
        assert_eq!(followed.into_iter().collect::<BTreeSet<_>>(), committed);
        println!(
            "B18 {cursors:?}: {} committed, none lost, none twice",
            committed.len()
        );
        shop.node.shutdown().await?;
    }
    Ok(())
}

/// B19: a long transaction elsewhere. Replay by watermark waits for it and skips nothing, by counter it
/// does not even wait.
#[tokio::test]
async fn b19_a_long_transaction_elsewhere_delays_at_worst_and_skips_nothing() -> Tested {
    for cursors in CURSORS {
        let Some(shop) = Shop::open(cursors).await? else {
            return Ok(());
        };
        let mut news = shop.node.bus().subscribe(&NEWS).await?;
        let other = connect(shop.place.server()).await?;
        other
            .batch_execute("begin; select pg_current_xact_id()")
            .await?;
        for number in 0..5 {
            shop.publish(&number.to_string(), Duration::ZERO, true)
                .await?;
        }
        if cursors == Cursors::Watermark {
            assert!(
                timeout(ms(1_500), news.next()).await.is_err(),
                "it passed an open transaction"
            );
            other.batch_execute("commit").await?;
        }
        for number in 0..5 {
            assert_eq!(next(&mut news).await?.0, number.to_string());
        }
        other.batch_execute("rollback").await?;
        shop.node.shutdown().await?;
    }
    Ok(())
}
