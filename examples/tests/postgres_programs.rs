//! The programs that show what a database adds to the public face, as they would stand in a service:
//! whoever changes a signature sees here what that costs.
#![allow(clippy::unused_async, reason = "a real service would wait here")]
#![allow(clippy::unwrap_used, reason = "what the tests stand on fails them")]

use std::time::Duration;

use coordinator_node::{BoxError, Json, Node, OwnedShard, RunError, Topic, WorkResult};
use coordinator_postgres::{Fence, Outbox, PostgresBackend, PostgresConfig, SaveIn, Spill};
use coordinator_tests::servers::{Schema, fresh_schema};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, PgTransaction};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
struct OrderPlaced {
    order: i64,
}

async fn run_due_jobs() -> Result<(), BoxError> {
    Ok(())
}

async fn wait_for_events() {
    sleep(Duration::from_millis(20)).await;
}

async fn apply_events(tx: &mut PgTransaction<'_>, from: u64) -> Result<u64, BoxError> {
    sqlx::query("update applied set times = times + 1")
        .execute(&mut **tx)
        .await?;
    Ok(from + 1)
}

async fn ask_payment_provider(_account: i64, _patience: Duration) -> Result<i64, BoxError> {
    Ok(5)
}

/// 1. A scheduler on the leader only, the whole program.
async fn scheduler(
    url: String,
    terminated: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let node = Node::builder("billing")
        .url(url)
        .shutdown_on(terminated)
        .start()
        .await?;
    node.election("scheduler")
        .run(async |term| {
            while term.tick(Duration::from_mins(1)).await {
                run_due_jobs().await?;
            }
            Ok(())
        })
        .await?;
    Ok(node.shutdown().await?)
}

/// 5. A projection: effect, position and fence in one transaction.
async fn run_balances(node: Node, pool: PgPool) -> Result<(), RunError> {
    node.run_shards("balances", move |shard| balances(shard, pool.clone()))
        .await
}

async fn balances(shard: OwnedShard, pool: PgPool) -> WorkResult {
    while shard.until_drain(wait_for_events()).await.is_some() {
        let mut tx = pool.begin().await?;
        let from: u64 = shard.load_in(&mut tx).await?.unwrap_or(0);
        let upto = apply_events(&mut tx, from).await?;
        shard.save_in(&mut tx, upto).await?; // refused unless our token is still the highest
        tx.commit().await?;
    }
    Ok(())
}

const PLACED: Topic<Json<OrderPlaced>> = Topic::new("orders/placed");

/// 7. Publish inside the caller's transaction: announced if, and only if, it commits.
async fn place_order(pool: &PgPool, outbox: &Outbox, order: i64) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("insert into orders (id) values ($1)")
        .bind(order)
        .execute(&mut *tx)
        .await?;
    outbox
        .publish(&mut tx, &PLACED, &Json(OrderPlaced { order }))
        .await?;
    Ok(tx.commit().await?)
}

/// 8. A lock: its token around a write anywhere.
async fn charge(node: Node, pool: PgPool, account: i64) -> Result<bool, RunError> {
    node.lock(format!("account/{account}"))
        .run(async |held| {
            let amount = ask_payment_provider(account, held.trust_left()).await?;
            let update =
                "update accounts set due = due - $1, fence = $2 where id = $3 and fence <= $2";
            let written = sqlx::query(update)
                .bind(amount)
                .bind(i64::from(held.token()?))
                .bind(account)
                .execute(&pool)
                .await?;
            Ok(written.rows_affected() == 1)
        })
        .await
}

/// 8. The same, fenced by Postgres itself.
async fn settle(node: Node, pool: PgPool, account: i64) -> Result<(), RunError> {
    node.lock(format!("account/{account}"))
        .run(async |held| {
            let mut tx = pool.begin().await?;
            held.fence(&mut tx).await?; // a take-over waits for this transaction, or it is refused
            sqlx::query("update accounts set due = 0 where id = $1")
                .bind(account)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
}

/// A node, its backend, and a pool whose statements find the tables of the schema.
async fn start(schema: &Schema) -> (Node, PostgresBackend, PgPool) {
    let options: PgConnectOptions = schema.url().parse().unwrap();
    let options = options.options([("search_path", schema.name())]);
    let pool = PgPoolOptions::new().max_connections(4);
    let pool = pool.connect_lazy_with(options);
    let config = PostgresConfig::new(schema.url()).schema(schema.name());
    let config = config.spill(Spill::Always);
    let backend = PostgresBackend::connect(config).await.unwrap();
    let node = Node::builder("app").backend(backend.clone());
    (node.start().await.unwrap(), backend, pool)
}

async fn make(pool: &PgPool, tables: &[&'static str]) {
    for table in tables {
        sqlx::query(*table).execute(pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_scheduler_needs_a_url_and_no_more() {
    let Some(schema) = fresh_schema() else { return };
    let joint = if schema.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{joint}schema={}", schema.url(), schema.name());
    let ended = tokio::spawn(scheduler(url, sleep(Duration::from_millis(500))));
    timeout(LIMIT, ended).await.unwrap().unwrap().unwrap();
}

/// What a transaction has not committed is not there, and what it has is there once.
#[tokio::test]
async fn a_projection_counts_as_many_effects_as_its_positions_tell() {
    let Some(schema) = fresh_schema() else { return };
    let (node, _backend, pool) = start(&schema).await;
    let tables = [
        "create table applied (times bigint)",
        "insert into applied values (0)",
    ];
    make(&pool, &tables).await;
    let running = tokio::spawn(run_balances(node.clone(), pool.clone()));
    let applied = async || -> i64 {
        let times = sqlx::query_scalar("select times from applied");
        times.fetch_one(&pool).await.unwrap()
    };
    let some = async {
        while applied().await < 20 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, some).await.unwrap();
    node.shutdown().await.unwrap();
    running.await.unwrap().unwrap();
    let positions: i64 = sqlx::query_scalar("select sum(position::bigint)::bigint from checkpoint")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(applied().await, positions);
}

#[tokio::test]
async fn an_order_is_announced_if_it_commits() {
    let Some(schema) = fresh_schema() else { return };
    let (node, backend, pool) = start(&schema).await;
    make(&pool, &["create table orders (id bigint primary key)"]).await;
    let mut placed = node.bus().subscribe(&PLACED).await.unwrap();
    let outbox = backend.outbox("app", node.id().clone()).unwrap();
    place_order(&pool, &outbox, 1).await.unwrap();
    let again = place_order(&pool, &outbox, 1).await;
    assert!(again.is_err(), "the order exists");
    place_order(&pool, &outbox, 2).await.unwrap();
    for expected in [1, 2] {
        let next = timeout(LIMIT, placed.next()).await.unwrap();
        let Some(coordinator_node::Incoming::Message(message)) = next else {
            panic!("not a message: {next:?}");
        };
        assert_eq!(message.payload.0.order, expected);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_account_is_charged_and_settled_under_its_lock() {
    let Some(schema) = fresh_schema() else { return };
    let (node, _backend, pool) = start(&schema).await;
    let tables = [
        "create table accounts (id bigint primary key, due bigint, fence bigint)",
        "insert into accounts values (42, 12, 0)",
    ];
    make(&pool, &tables).await;
    let charged = tokio::spawn(charge(node.clone(), pool.clone(), 42));
    assert!(charged.await.unwrap().unwrap());
    let due = async || -> i64 {
        let due = sqlx::query_scalar("select due from accounts");
        due.fetch_one(&pool).await.unwrap()
    };
    assert_eq!(due().await, 7);
    let settled = tokio::spawn(settle(node.clone(), pool.clone(), 42));
    settled.await.unwrap().unwrap();
    assert_eq!(due().await, 0);
    node.shutdown().await.unwrap();
}
