//! Leases by row: R1 to R4.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Beat, Claim, ClaimId, FencingToken, Group, Heartbeat, Instance, Join,
    Joined, Key, LockBackend, MemberId, Renewal,
};
use coordinator_postgres::{Leases, PostgresConfig};
use coordinator_tests::servers::{PgBouncer, Pooling, Schema, fresh_schema};
use tokio::time::{sleep, timeout};

use crate::fixture::{client, connect, store};
use crate::warnings::Warnings;

fn by_row(config: PostgresConfig) -> PostgresConfig {
    config.leases(Leases::Row).trust_empty_store(true)
}

coordinator_conformance::lock_backend! { lock_backend, store(by_row).locks() }

const TTL: Duration = Duration::from_secs(2);

fn claim(owner: &str, instance: u8) -> Claim {
    let instance = Instance::from_bytes([instance; 16]);
    Claim::new(
        Key::from("g/lock/x"),
        MemberId::from(owner),
        instance,
        ClaimId::new(1),
        TTL,
    )
}

async fn locks(schema: &Schema, url: &str) -> Arc<dyn LockBackend> {
    locks_by(schema, by_row(PostgresConfig::new(url))).await
}

async fn locks_by(schema: &Schema, config: PostgresConfig) -> Arc<dyn LockBackend> {
    Backend::from(connect(schema, config).await)
        .locks
        .expect("locks")
}

async fn granted(locks: &Arc<dyn LockBackend>, claim: &Claim) -> FencingToken {
    match locks.acquire(claim).await.expect("an answer") {
        Acquisition::Granted(token) => token,
        Acquisition::HeldBy(by) => panic!("held by {by:?}"),
    }
}

/// R1, F2: a take-over waits for a fenced transaction of the old holder, renews its lease meanwhile, and the old holder
/// begins no new one.
#[tokio::test]
async fn a_take_over_waits_for_a_fenced_transaction_and_keeps_its_lease() {
    let Some(schema) = fresh_schema() else { return };
    let locks = locks(&schema, schema.url()).await;
    let (old, new) = (claim("a", 1), claim("b", 2));
    let token = granted(&locks, &old).await;
    let (mut writer, late) = (client(schema.url()).await, client(schema.url()).await);
    let fence = format!("select \"{}\".fence($1, $2)", schema.name());
    let number = i64::from(token);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&old.key.as_str(), &number];
    let tx = writer.transaction().await.expect("a transaction");
    tx.execute(&fence, &parameters)
        .await
        .expect("it is the newest");
    sleep(TTL).await;
    let taken = granted(&locks, &new);
    tokio::pin!(taken);
    // Longer than its TTL.
    assert!(
        timeout(TTL * 3 / 2, &mut taken).await.is_err(),
        "it did not wait"
    );
    late.execute(&fence, &parameters)
        .await
        .expect_err("another has taken over");
    let holder = locks.holder(&old.key).await.expect("an answer");
    assert_eq!(holder.map(|holder| holder.owner), Some(MemberId::from("b")));
    tx.commit().await.expect("a commit before the take-over");
    let taken = timeout(TTL, taken).await.expect("granted soon");
    assert!(taken > token);
    let renewal = locks.renew(&new, taken).await.expect("an answer");
    assert_eq!(renewal, Renewal::Renewed);
}

/// F3: who holds a take-over up is told, and is ended where that is asked for; also behind a pooler that moves
/// statements between sessions.
#[tokio::test]
async fn a_writer_that_holds_a_start_up_is_named_and_evicted_where_that_is_asked_for() {
    let Some(schema) = fresh_schema() else { return };
    let settings = [("default_pool_size", "4")];
    let pooler = PgBouncer::start(schema.url(), Pooling::Transaction, &settings).await;
    let pooler = pooler.expect("a pooler that starts");
    let urls = [
        Some(schema.url().to_owned()),
        pooler.as_ref().map(PgBouncer::url),
    ];
    let mut warnings = Warnings::listen();
    for (url, instance) in urls.into_iter().flatten().zip(1_u8..) {
        let old = locks(&schema, &url).await;
        let mut held = claim("a", 2 * instance);
        held.key = Key::from(format!("g/lock/{instance}"));
        held.ttl = TTL / 2;
        let mut wanted = held.clone();
        (wanted.owner, wanted.instance) =
            ("b".into(), Instance::from_bytes([2 * instance + 1; 16]));
        let token = granted(&old, &held).await;
        let writer = client(schema.url()).await;
        let fenced = format!(
            "begin; select token from {}.fence where key = '{}' for share",
            schema.name(),
            held.key
        );
        writer.batch_execute(&fenced).await.expect("fenced");
        let pid = writer.query_one("select pg_backend_pid()", &[]).await;
        let pid: i32 = pid.expect("its process").get(0);
        sleep(held.ttl).await;

        let taken = granted(&old, &wanted);
        tokio::pin!(taken);
        let named = [&*format!("writers=[{pid}]"), &*format!("key={} ", held.key)];
        let said = warnings.until(&named, TTL * 2);
        let said = tokio::select! {
            said = said => said,
            _ = &mut taken => panic!("it did not wait"),
        };
        assert!(said.contains("evicted=false"), "{said}");

        let evicts = by_row(PostgresConfig::new(&url)).evict_writers(true);
        let evicting = locks_by(&schema, evicts).await;
        let (mine, its) = tokio::join!(
            timeout(TTL * 2, taken),
            timeout(TTL * 2, granted(&evicting, &wanted))
        );
        let (mine, its) = (mine.expect("granted"), its.expect("granted"));
        assert!(mine == its && mine > token, "one claim, one grant");
        assert!(
            writer.batch_execute("commit").await.is_err(),
            "it was ended"
        );
    }
}

/// R3: a release is heard by who waits, in another process.
#[tokio::test]
async fn a_release_wakes_who_waits() {
    let Some(schema) = fresh_schema() else { return };
    let (here, there) = (
        locks(&schema, schema.url()).await,
        locks(&schema, schema.url()).await,
    );
    let (old, mut new) = (claim("a", 1), claim("b", 2));
    (new.ttl, new.id) = (TTL, ClaimId::new(9));
    let mut long = old.clone();
    long.ttl = Duration::from_secs(20);
    let token = granted(&here, &long).await;
    let waiter = tokio::spawn({
        let (there, new) = (there.clone(), new.clone());
        async move { there.wait_turn(&new).await }
    });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiter.is_finished(), "it is held");
    here.release(&long, token, None).await.expect("an answer");
    let woken = timeout(Duration::from_secs(2), waiter)
        .await
        .expect("woken, not polled");
    woken.expect("no panic").expect("an answer");
    granted(&there, &new).await;
}

/// R3: behind a pooler that moves statements between sessions leases and members work; waiters poll.
#[tokio::test]
async fn leases_and_members_work_behind_a_pooler_in_transaction_mode() {
    let Some(schema) = fresh_schema() else { return };
    let pooler = PgBouncer::start(schema.url(), Pooling::Transaction, &[]).await;
    let Some(pooler) = pooler.expect("a pooler that starts") else {
        return;
    };
    // Sessions of the server go from hand to hand.
    let (here, there) = (
        locks(&schema, &pooler.url()).await,
        locks(&schema, &pooler.url()).await,
    );
    assert!(!here.capabilities().wakes, "nobody can listen behind it");
    let (old, new) = (claim("a", 1), claim("b", 2));
    let token = granted(&here, &old).await;
    for _ in 0..4 {
        assert_eq!(
            here.renew(&old, token).await.expect("an answer"),
            Renewal::Renewed
        );
        let held = there.acquire(&new).await.expect("an answer");
        assert!(matches!(held, Acquisition::HeldBy(_)), "{held:?}");
    }
    // The holder says no more: its lease runs out, and who waits has a timer of its own.
    timeout(TTL * 4, there.wait_turn(&new))
        .await
        .expect("woken")
        .expect("an answer");
    assert!(granted(&there, &new).await > token);
    assert_eq!(
        here.renew(&old, token).await.expect("an answer"),
        Renewal::Lost
    );

    let config = by_row(PostgresConfig::new(pooler.url()));
    let members = Backend::from(connect(&schema, config).await)
        .members
        .expect("members");
    let instance = Instance::from_bytes([3; 16]);
    let join = Join::new(Group::from("g"), MemberId::from("a"), instance, TTL);
    let Joined::Member { incarnation, .. } = members.join(&join).await.expect("an answer") else {
        panic!("the name is free");
    };
    let beat = Heartbeat::new(join.group.clone(), join.id.clone(), incarnation, 1, TTL);
    let beat = members.heartbeat(&beat).await.expect("an answer");
    assert!(matches!(beat, Beat::Alive { .. }), "{beat:?}");
}
