//! Schemas that are dropped under those who use them, and made again: a new one must not grant what holders
//! of the old one trust still.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, ErrorKind, FencingToken, Group, Instance, Join, Key,
    LockBackend, LockError, MemberId, Renewal,
};
use coordinator_postgres::{Leases, PostgresBackend, PostgresConfig};
use coordinator_tests::servers::{Schema, fresh_schema};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::fixture::{client, connect};

const TTL: Duration = Duration::from_secs(2);
/// Of the schemas here: how long a quarantine lasts.
const MAX_TTL: Duration = Duration::from_secs(3);

fn config(schema: &Schema, leases: Leases) -> PostgresConfig {
    PostgresConfig::new(schema.url())
        .leases(leases)
        .max_ttl(MAX_TTL)
        .application_name(schema.name())
}

fn locks(backend: PostgresBackend) -> Arc<dyn LockBackend> {
    Backend::from(backend).locks.expect("locks")
}

fn claim(owner: &str, instance: u8) -> Claim {
    let instance = Instance::from_bytes([instance; 16]);
    let (key, owner) = (Key::from("k"), MemberId::from(owner));
    Claim::new(key, owner, instance, ClaimId::new(1), TTL)
}

async fn granted(locks: &Arc<dyn LockBackend>, claim: &Claim) -> FencingToken {
    match locks.acquire(claim).await {
        Ok(Acquisition::Granted(token)) => token,
        other => panic!("it is free, and yet: {other:?}"),
    }
}

/// Within how long it may grant.
async fn quarantine(locks: &Arc<dyn LockBackend>, claim: &Claim) -> Duration {
    match locks.acquire(claim).await {
        Err(LockError::Quarantined { ends_within, .. }) => ends_within,
        other => panic!("who held it may trust still, and yet: {other:?}"),
    }
}

async fn drop_schema(server: &Client, schema: &Schema) {
    let dropped = format!("drop schema {} cascade", schema.name());
    server.batch_execute(&dropped).await.expect("dropped");
}

/// Waits until the server has seen all sessions of the schema's processes end.
async fn until_nobody(server: &Client, schema: &Schema) {
    let asked = "select count(*) from pg_stat_activity where application_name = $1";
    let name = &schema.name();
    let deadline = Instant::now() + TTL;
    while server
        .query_one(asked, &[name])
        .await
        .expect("a count")
        .get::<_, i64>(0)
        > 0
    {
        assert!(Instant::now() < deadline, "their sessions end with them");
        sleep(Duration::from_millis(10)).await;
    }
}

/// I2, I5, K1: a schema that was dropped under a process that lives grants nothing for the longest ttl, and lets no
/// unknown static name in; one that nobody uses grants at once.
#[tokio::test]
async fn a_schema_that_was_dropped_under_its_holders_is_quarantined() {
    let Some(schema) = fresh_schema() else { return };
    let server = client(schema.url()).await;
    let old = locks(connect(&schema, config(&schema, Leases::Advisory)).await);
    let token = granted(&old, &claim("a", 1)).await;

    drop_schema(&server, &schema).await;
    let new = Backend::from(connect(&schema, config(&schema, Leases::Advisory)).await);
    let (locks_anew, members) = (new.locks.expect("locks"), new.members.expect("members"));
    let ends_within = quarantine(&locks_anew, &claim("b", 2)).await;
    assert!(ends_within <= MAX_TTL, "{ends_within:?}");
    let mut join = Join::new(
        Group::from("g"),
        MemberId::from("b"),
        Instance::from_random(2),
        TTL,
    );
    join.fixed = true;
    let refused = members.join(&join).await;
    let error = refused.expect_err("the store cannot number it yet");
    assert!(
        matches!(error.kind(), ErrorKind::Quarantined { .. }),
        "{error}"
    );
    let since = Instant::now();
    let next = async {
        loop {
            match locks_anew.acquire(&claim("b", 2)).await {
                Ok(Acquisition::Granted(next)) => return next,
                Err(LockError::Quarantined { ends_within, .. }) => sleep(ends_within).await,
                other => panic!("after the quarantine it is free: {other:?}"),
            }
        }
    };
    let next = timeout(MAX_TTL * 2, next).await.expect("it ends");
    assert!(next > token && since.elapsed() + Duration::from_millis(50) >= ends_within);

    drop((
        old,
        locks_anew,
        members,
        new.bus,
        new.checkpoints,
        new.assignments,
    ));
    until_nobody(&server, &schema).await;
    drop_schema(&server, &schema).await;
    let alone = locks(connect(&schema, config(&schema, Leases::Advisory)).await);
    granted(&alone, &claim("c", 3)).await;
}

/// I5, I6: behind poolers no session tells who lives, so a schema of row leases waits when it is made, unless it is
/// trusted to be new; and holders of one that was dropped hold on.
#[tokio::test]
async fn a_schema_of_row_leases_waits_unless_it_is_trusted_to_be_new() {
    let Some(schema) = fresh_schema() else { return };
    let server = client(schema.url()).await;
    let first = locks(connect(&schema, config(&schema, Leases::Row)).await);
    quarantine(&first, &claim("a", 1)).await;
    drop(first);

    drop_schema(&server, &schema).await;
    let trusting = config(&schema, Leases::Row).trust_empty_store(true);
    let old = locks(connect(&schema, trusting).await);
    let held = claim("a", 1);
    let token = granted(&old, &held).await;

    drop_schema(&server, &schema).await;
    let new = locks(connect(&schema, config(&schema, Leases::Row)).await);
    quarantine(&new, &claim("b", 2)).await;
    let renewed = old.renew(&held, token).await.expect("an answer");
    assert_eq!(renewed, Renewal::Renewed, "nobody was granted it since");
    let other = new.acquire(&claim("b", 2)).await.expect("an answer");
    assert!(matches!(other, Acquisition::HeldBy(_)), "{other:?}");
}

/// I1, I2: a schema that was dropped and came back from a dump, with every row as it was then, is another memory.
#[tokio::test]
async fn a_schema_that_was_restored_from_a_dump_is_quarantined() {
    let Some(schema) = fresh_schema() else { return };
    let server = client(schema.url()).await;
    let locks = locks(connect(&schema, config(&schema, Leases::Advisory)).await);
    granted(&locks, &claim("a", 1)).await;
    // What a restore does to this table: another with the same columns and rows.
    let restored = "alter table {schema}.identity rename to lost; \
        create table {schema}.identity (like {schema}.lost including all); \
        insert into {schema}.identity select * from {schema}.lost; drop table {schema}.lost";
    let restored = restored.replace("{schema}", schema.name());
    server.batch_execute(&restored).await.expect("restored");
    let mut other = claim("b", 2);
    other.key = Key::from("another");
    let ends_within = quarantine(&locks, &other).await;
    assert!(ends_within <= MAX_TTL, "{ends_within:?}");
}
