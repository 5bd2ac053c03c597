//! Publish in your own transaction: what rolls back is never announced, what commits always is; and
//! follow from a cursor that is kept with the data, so that nothing is missed or done twice.
//!
//! `cargo run --example postgres_outbox postgres://user:password@host/database`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use coordinator_examples::Scratch;
use coordinator_node::{Bus, Cursor, Incoming, Json, Node, Start, Topic};
use coordinator_postgres::{Outbox, PostgresBackend, Spill};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::time::timeout;

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order: i64,
}

const PLACED: Topic<Json<OrderPlaced>> = Topic::new("orders/placed");

const TABLES: [&str; 3] = [
    "create table orders (id bigint primary key)",
    "create table shipments (id bigint primary key)",
    "create table followed (one boolean primary key default true, cursor text)",
];

/// A handler, as of any web framework: announced if, and only if, it commits.
async fn place_order(pool: &PgPool, outbox: &Outbox, order: i64) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    let insert = sqlx::query("insert into orders (id) values ($1)").bind(order);
    insert.execute(&mut *tx).await?;
    outbox
        .publish(&mut tx, &PLACED, &Json(OrderPlaced { order }))
        .await?;
    ensure!(order % 3 != 0, "order {order} is not paid"); // dropped: rolled back
    Ok(tx.commit().await?)
}

/// Ships what is announced, up to this order. It may be stopped and started again anywhere.
async fn ship(bus: &Bus, pool: &PgPool, upto: i64) -> anyhow::Result<()> {
    let kept = sqlx::query_scalar::<_, String>("select cursor from followed");
    let start = match kept.fetch_optional(pool).await? {
        Some(cursor) => Start::After(cursor.parse::<Cursor>()?),
        None => Start::Oldest,
    };
    println!("follows from {start:?}");
    let mut placed = bus.subscribe(&PLACED).start(start).await?;
    while let Some(incoming) = placed.next().await {
        let message = match incoming {
            Incoming::Message(message) => message,
            Incoming::Gap(gap) => bail!("away for longer than messages are kept: {gap:?}"),
            Incoming::Malformed(bad) => bail!("nobody can read this: {}", bad.error),
        };
        let order = message.payload.0.order;
        let mut tx = pool.begin().await?;
        let insert = sqlx::query("insert into shipments (id) values ($1)").bind(order);
        insert.execute(&mut *tx).await?;
        let keep = "insert into followed (cursor) values ($1) \
            on conflict (one) do update set cursor = excluded.cursor";
        let cursor = message.cursor.map(|cursor| cursor.to_string());
        sqlx::query(keep).bind(cursor).execute(&mut *tx).await?;
        tx.commit().await?;
        println!("order {order} is shipped");
        if order >= upto {
            break;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::of_example()?;
    let config = scratch.config()?.spill(Spill::Always);
    let backend = PostgresBackend::connect(config).await?;
    let node = Node::builder("shop")
        .backend(backend.clone())
        .start()
        .await?;
    let outbox = backend.outbox("shop", node.id().clone());
    let outbox = outbox.context("through a pooler there is no bus")?;
    let pool = scratch.pool();
    for statement in TABLES {
        sqlx::query(statement).execute(pool).await?;
    }
    let limit = Duration::from_secs(30);
    for (orders, last) in [(1..=4, 4), (5..=8, 8)] {
        for order in orders {
            if let Err(error) = place_order(pool, &outbox, order).await {
                println!("{error}");
            }
        }
        // Ended and begun anew in between, it misses nothing.
        timeout(limit, ship(&node.bus(), pool, last)).await??;
    }
    let shipped: Vec<i64> = sqlx::query_scalar("select id from shipments order by id")
        .fetch_all(pool)
        .await?;
    ensure!(shipped == [1, 2, 4, 5, 7, 8], "shipped: {shipped:?}");
    println!("shipped: {shipped:?}");
    node.shutdown().await?;
    drop((backend, outbox));
    scratch.remove().await
}
