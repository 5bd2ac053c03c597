//! Roles, and what others have made under our names.

use coordinator_node::{ElectionConfig, LockConfig, Node, Topic};
use coordinator_postgres::{
    ConnectError, Fence as _, PostgresBackend, Spill, migration_sql, role_sql,
};
use coordinator_tests::servers::{Schema, fresh_schema};
use tokio::time::timeout;

use super::{SECRET, refusal};
use crate::kit::{LONG, Tested, connect};

const NEWS: Topic<String> = Topic::new("news");

/// A schema, and a role without rights that is dropped with it.
struct Guest {
    schema: Schema,
    role: String,
}

impl Guest {
    async fn new() -> Tested<Option<Self>> {
        let Some(mut schema) = fresh_schema() else {
            return Ok(None);
        };
        let role = format!("{}_guest", schema.name());
        let owner = connect(schema.url()).await?;
        let create = format!("create role {role} login password '{SECRET}'");
        owner.batch_execute(&create).await?;
        schema.afterwards(format!("drop role {role}"));
        schema.afterwards(format!("drop owned by {role}"));
        Ok(Some(Self { schema, role }))
    }

    fn url(&self) -> String {
        let host = self.schema.url().rsplit('@').next().unwrap_or_default();
        format!("postgres://{}:{SECRET}@{host}", self.role)
    }

    fn config(&self) -> coordinator_postgres::PostgresConfig {
        coordinator_postgres::PostgresConfig::new(self.url()).schema(self.schema.name())
    }
}

#[tokio::test]
async fn who_may_not_create_is_told_what_is_missing() -> Tested {
    let Some(guest) = Guest::new().await? else {
        return Ok(());
    };
    let (error, text) = refusal(guest.config()).await;
    assert!(matches!(error, ConnectError::NoRights { .. }), "{error:?}");
    assert!(
        text.contains("permission denied") && text.contains("role_sql"),
        "{text}"
    );

    let (error, text) = refusal(guest.config().migrate(false)).await;
    assert!(
        matches!(error, ConnectError::NotMigrated { found: 0, .. }),
        "{error:?}"
    );
    assert!(
        text.contains("migration_sql") && text.contains(guest.schema.name()),
        "{text}"
    );
    Ok(())
}

/// The least-privilege role: the owner applies the printed statements, and the role runs everything
/// with `migrate(false)`, but can make nothing.
#[tokio::test]
async fn the_role_that_the_printed_statements_make_can_do_all_that_a_node_does() -> Tested {
    let Some(guest) = Guest::new().await? else {
        return Ok(());
    };
    let owner = connect(guest.schema.url()).await?;
    owner
        .batch_execute(&migration_sql(&guest.config())?)
        .await?;
    let (error, text) = refusal(guest.config().migrate(false)).await;
    assert!(matches!(error, ConnectError::NoRights { .. }), "{error:?}");
    assert!(text.contains("permission denied for schema"), "{text}");

    owner
        .batch_execute(&role_sql(&guest.config(), &guest.role)?)
        .await?;
    let config = guest.config().migrate(false).spill(Spill::Always);
    let backend = PostgresBackend::connect(config).await?;
    let outbox = backend.outbox("g", "guest").expect("a bus");
    let node = Node::builder("g").backend(backend).start().await?;
    let lead = node.election(ElectionConfig::new("x"));
    timeout(LONG, lead.campaign()).await??.resign().await?;
    let lock = node.lock(LockConfig::new("l"));
    let held = timeout(LONG, lock.acquire()).await??;
    let pool = sqlx::PgPool::connect(&guest.url()).await?;
    let mut tx = pool.begin().await?;
    held.fence(&mut tx).await?;
    outbox.publish(&mut tx, &NEWS, &"kept".to_owned()).await?;
    tx.commit().await?;
    held.release().await?;
    let mut shards = node.shards("k").await?;
    let shard = timeout(LONG, shards.next())
        .await?
        .expect("it is alone, and owns all");
    shard.save(7_u64).await?;
    assert_eq!(shard.load::<u64>().await?, Some(7));
    drop((shard, shards));
    node.shutdown().await?;

    let itself = connect(&guest.url()).await?;
    for forbidden in [
        "create table {schema}.mine (a int)",
        "drop table {schema}.fence",
        "delete from {schema}.history",
    ] {
        let forbidden = forbidden.replace("{schema}", guest.schema.name());
        let error = itself
            .batch_execute(&forbidden)
            .await
            .expect_err("not its to do");
        let code = error.code().expect("the server says so").code();
        assert_eq!(code, "42501", "{forbidden}");
    }
    Ok(())
}

#[tokio::test]
async fn a_table_that_another_has_made_under_our_name_is_left_alone_and_named() -> Tested {
    for (made, named) in [
        ("create table {schema}.fence (a int)", "fence"),
        ("create table {schema}.history (a int)", "version"),
    ] {
        let Some(schema) = fresh_schema() else {
            return Ok(());
        };
        let other = connect(schema.url()).await?;
        let made = format!("create schema {{schema}}; {made}").replace("{schema}", schema.name());
        other.batch_execute(&made).await?;
        let config = coordinator_postgres::PostgresConfig::new(schema.url()).schema(schema.name());
        let (error, text) = refusal(config).await;
        assert!(
            matches!(error, ConnectError::ForeignObjects { .. }),
            "{error:?}"
        );
        assert!(
            text.contains(named) && text.contains("choose another schema"),
            "{text}"
        );
        // Nothing of ours was left beside it.
        let count = "select count(*) from pg_class where relnamespace = $1::text::regnamespace";
        let count: i64 = other.query_one(count, &[&schema.name()]).await?.get(0);
        assert_eq!(count, 1, "{made}");
    }
    Ok(())
}
