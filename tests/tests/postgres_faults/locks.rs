//! L: locks.

use std::time::{Duration, Instant};

use coordinator_node::{Held, LockConfig, Node};
use coordinator_postgres::{Fence, PostgresBackend};
use coordinator_tests::servers::{PgBouncer, Pooling};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::kit::{LONG, Member, Place, Sessions, Tested, connect, ms, one_at_a_time, reigns};

/// L4: the holder dies, and the one that waits is woken: long before the ttl by session lock, at its
/// end by rows.
#[tokio::test]
async fn l4_the_waiter_is_woken_when_the_holder_dies() -> Tested {
    for (leases, ttl) in [("advisory", 10_000), ("row", 1_000)] {
        let Some(place) = Place::shared() else {
            return Ok(());
        };
        let place = place.with("leases", leases);
        let order = format!("hold l ttl={ttl}");
        let start = |name: &str| Member::start(name, &place.url(), ms(ttl), &[order.as_str()]);
        let mut members = vec![start("a")?];
        members[0].until("elected l").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        if leases == "advisory" {
            Sessions::of(&place).await?.until_waiting(1).await?;
        }
        let killed = members[0].kill()?;
        let held = members[1].until("elected l").await?;
        let took = held.at.saturating_sub(killed);
        println!("L4 kill -9 to the waiter, {leases}: {took:?}");
        assert!(took < ms(2_500), "{took:?}");
        one_at_a_time(&reigns(&mut members, "l").await, 2);
    }
    Ok(())
}

/// L5: a holder loses its session in the middle of a fenced transaction. The next one starts when that
/// has committed, and not before; what the old holder begins afterwards is refused at every level.
#[tokio::test]
async fn l5_a_take_over_waits_for_the_transaction_in_flight_and_refuses_the_next() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let node = async |name: &str| -> Tested<Node> {
        let config = place.config().application_name(place.sessions_of(name));
        let backend = PostgresBackend::connect(config).await?;
        Ok(Node::builder("g")
            .backend(backend)
            .member(name)
            .ttl(ms(3_000))
            .start()
            .await?)
    };
    let (a, b) = (node("a").await?, node("b").await?);
    let pool = PgPool::connect(place.server()).await?;
    sqlx::query(sqlx::AssertSqlSafe(
        place.sql("create table {schema}.t_written (token bigint)"),
    ))
    .execute(&pool)
    .await?;
    let write = place.sql("insert into {schema}.t_written values ($1)");
    let held = a.lock("l").acquire().await?;
    let (key, old) = (held.lease()?.key.clone(), i64::from(held.token()?));
    let mut tx = pool.begin().await?;
    held.fence(&mut tx).await?;
    sqlx::query(sqlx::AssertSqlSafe(write.clone()))
        .bind(old)
        .execute(&mut *tx)
        .await?;

    let lock = b.lock("l");
    let mut next = Box::pin(lock.acquire());
    let sessions = Sessions::of(&place).await?;
    sessions.terminate(&[sessions.holder("a").await?]).await?;
    timeout(LONG, held.lost()).await?;
    drop(held);
    assert!(
        timeout(ms(800), &mut next).await.is_err(),
        "it has not waited"
    );
    tx.commit().await?;
    let next = timeout(LONG, next).await??;
    let new = i64::from(next.token()?);
    assert!(new > old);

    let fence = place.sql("select {schema}.fence($1, $2)");
    for level in ["read committed", "repeatable read", "serializable"] {
        for (token, passes) in [(old, false), (new, true)] {
            let mut tx = pool.begin().await?;
            let level = format!("set transaction isolation level {level}");
            sqlx::query(sqlx::AssertSqlSafe(level))
                .execute(&mut *tx)
                .await?;
            let fenced = sqlx::query(sqlx::AssertSqlSafe(fence.clone()))
                .bind(key.as_str())
                .bind(token)
                .execute(&mut *tx)
                .await;
            assert_eq!(fenced.is_ok(), passes, "{token}: {fenced:?}");
            tx.rollback().await?;
        }
    }
    next.release().await?;
    a.shutdown().await?;
    b.shutdown().await?;
    Ok(())
}

/// L6: by rows a pooler in transaction mode is no hindrance: who waits has the lock after a release
/// and after a death, and nothing is left locked at the server.
#[tokio::test]
async fn l6_by_rows_locks_work_behind_a_pooler_in_transaction_mode() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let place = place.with("leases", "row");
    let settings = [
        ("default_pool_size", "2"),
        ("server_reset_query_always", "1"),
    ];
    let pooler = PgBouncer::start(place.server(), Pooling::Transaction, &settings).await?;
    let Some(pooler) = pooler else { return Ok(()) };
    let url = place.at(&pooler.url());
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let mut member = Member::start(name, &url, ms(1_000), &["lead x ttl=1000"])?;
        member.until("ready").await?;
        members.push(member);
    }
    members[0].until("elected x").await?;
    members[0].kill()?;
    let (next, _) = crate::kit::first_of(&mut members[1..], "elected x").await?;
    members[1 + next].tell("resign x")?;
    members[1 + next].until("resigned x").await?;
    members[2 - next].until("elected x").await?;
    one_at_a_time(&reigns(&mut members, "x").await, 3);

    let node = Node::builder("g").url(&url).ttl(ms(2_000)).start().await?;
    let lock = node.lock(LockConfig::new("l"));
    let began = Instant::now();
    for _ in 0..5 {
        timeout(LONG, lock.acquire()).await??.release().await?;
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    node.shutdown().await?;
    let left = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
        where l.locktype = 'advisory' and a.application_name = any($1)";
    let ours = ["a", "b", "c"].map(|name| place.sessions_of(name));
    let count: i64 = connect(place.server())
        .await?
        .query_one(left, &[&ours.as_slice()])
        .await?
        .get(0);
    assert_eq!(count, 0);
    Ok(())
}
