//! What a server says in mid-work: a full disk, a lost table. It is made to say it by triggers, with the
//! codes that it has for them.

use coordinator_node::{Node, SaveError};
use coordinator_postgres::PostgresBackend;
use coordinator_tests::servers::Postgres;
use tokio::time::timeout;

use super::chain;
use crate::kit::{LONG, Place, Tested, connect};

/// A full disk changes nothing, is told with what to do, and is over when there is space again.
#[tokio::test]
async fn a_full_disk_is_told_and_the_work_goes_on_when_there_is_space() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let node = Node::builder("g").url(place.url()).start().await?;
    let mut shards = node.shards("k").await?;
    let shard = timeout(LONG, shards.next())
        .await?
        .expect("it is alone, and owns all");
    shard.save(1_u64).await?;
    let owner = connect(place.server()).await?;
    owner
        .batch_execute(&place.sql(
            "create function {schema}.full() returns trigger language plpgsql as $$ begin \
                 raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; \
             end $$; \
             create trigger full_disk before insert or update on {schema}.checkpoint \
                 for each row execute function {schema}.full()",
        ))
        .await?;
    // Tried again for as long as the shard is trusted: it is not, for long, while nobody renews.
    let saved = tokio::spawn(shard.save(2_u64));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!saved.is_finished(), "nothing says that it was saved");
    owner
        .batch_execute(&place.sql("drop trigger full_disk on {schema}.checkpoint"))
        .await?;
    timeout(LONG, saved).await???;
    assert_eq!(shard.load::<u64>().await?, Some(2));
    drop((shard, shards));
    node.shutdown().await?;
    Ok(())
}

/// A table that was dropped in mid-work: refused with what to do, at once.
#[tokio::test]
async fn a_table_that_is_gone_is_refused_at_once() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let node = Node::builder("g").url(place.url()).start().await?;
    let mut shards = node.shards("k").await?;
    let shard = timeout(LONG, shards.next())
        .await?
        .expect("it is alone, and owns all");
    let owner = connect(place.server()).await?;
    owner
        .batch_execute(&place.sql("drop table {schema}.checkpoint cascade"))
        .await?;
    let error = timeout(LONG, shard.save(1_u64))
        .await?
        .expect_err("no table");
    assert!(matches!(error, SaveError::Rejected { .. }), "{error:?}");
    let text = chain(&error);
    assert!(text.contains("migration_sql"), "{text}");
    drop((shard, shards));
    node.shutdown().await?;
    Ok(())
}

/// Whoever prints what describes a connection gives no password away.
#[tokio::test]
async fn no_password_is_shown_by_what_describes_a_backend() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let place = Place::on(&server);
    let password = place.server().split([':', '@']).nth(2).unwrap_or_default();
    assert!(!password.is_empty(), "{}", place.server());
    let config = place.config();
    let backend = PostgresBackend::connect(config.clone()).await?;
    for shown in [format!("{config:?}"), format!("{backend:?}")] {
        assert!(!shown.contains(password), "{shown}");
    }
    Ok(())
}
