//! A projection in parts: effect, position and fence are one transaction, so every event counts once,
//! though members come and go.
//!
//! `cargo run --example postgres_projection postgres://user:password@host/database`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use anyhow::ensure;
use coordinator_examples::Scratch;
use coordinator_node::{Node, OwnedShard, RunError, ShardConfig, WorkResult};
use coordinator_postgres::{PostgresBackend, SaveIn};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

const SHARDS: u16 = 8;
const EVENTS: i64 = 4_000;

/// Two tables: what has happened, and what is made of it.
const TABLES: [&str; 3] = [
    "create table events (id bigint primary key, shard integer, account text, cents bigint)",
    "create table balances (account text primary key, cents bigint, events bigint)",
    "insert into events select n, n % 8, 'account-' || n % 40, n from generate_series(1, 4000) n",
];

const APPLY: &str = "\
    with batch as (select * from events where shard = $1 and id > $2 order by id limit 10), \
    applied as ( \
        insert into balances as b select account, sum(cents), count(*) from batch group by account \
        on conflict (account) do update \
        set cents = b.cents + excluded.cents, events = b.events + excluded.events) \
    select max(id) from batch";

async fn project(node: Node, pool: PgPool) -> Result<(), RunError> {
    let config = ShardConfig::new("balances", SHARDS);
    node.run_shards(config, move |shard| fold(shard, pool.clone()))
        .await
}

/// One part of it, for as long as it is this member's.
async fn fold(shard: OwnedShard, pool: PgPool) -> WorkResult {
    while shard.tick(Duration::from_millis(20)).await {
        let mut tx = pool.begin().await?;
        let from: i64 = shard.load_in(&mut tx).await?.unwrap_or(0);
        let applied: Option<i64> = sqlx::query_scalar(APPLY)
            .bind(i32::from(shard.id().get()))
            .bind(from)
            .fetch_one(&mut *tx)
            .await?;
        if let Some(upto) = applied {
            shard.save_in(&mut tx, upto).await?; // refused unless our token is still the highest
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Waits until so many events are applied.
async fn reach(pool: &PgPool, events: i64) -> anyhow::Result<()> {
    while applied(pool).await? < events {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn applied(pool: &PgPool) -> anyhow::Result<i64> {
    let sum = sqlx::query_scalar("select coalesce(sum(events), 0)::bigint from balances");
    Ok(sum.fetch_one(pool).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::of_example()?;
    let start = async |name: &str| {
        let backend = PostgresBackend::connect(scratch.config()?).await?;
        let node = Node::builder("bank").member(name).backend(backend);
        anyhow::Ok(node.start().await?)
    };
    let (a, b, pool) = (start("a").await?, start("b").await?, scratch.pool());
    for statement in TABLES {
        sqlx::query(statement).execute(pool).await?;
    }
    let first = tokio::spawn(project(a.clone(), pool.clone()));
    let second = tokio::spawn(project(b.clone(), pool.clone()));
    let limit = Duration::from_secs(30);
    timeout(limit, reach(pool, EVENTS / 4)).await??;
    a.shutdown().await?; // it finishes its batches, and b goes on where it has come to
    println!("a leaves after {} events of both", applied(pool).await?);
    timeout(limit, reach(pool, EVENTS)).await??;
    b.shutdown().await?;
    first.await??;
    second.await??;
    let wrong = "select count(*) from balances full join \
        (select account, sum(cents) as cents from events group by account) as e using (account) \
        where balances.cents is distinct from e.cents";
    let wrong: i64 = sqlx::query_scalar(wrong).fetch_one(pool).await?;
    ensure!(wrong == 0, "{wrong} balances differ from the events");
    println!("{} events, each counted once", applied(pool).await?);
    scratch.remove().await
}
