//! Fenced transactions: F1 to F4, C2.

use std::time::{Duration, Instant};

use coordinator_core::{
    Backend, Bytes, CheckpointStore, FencingToken, Group, Held, HeldShard, Key, Keyspace, Lease,
    Load, Lost, LostCause, MemberId, Position, Save, ShardId, StoreId, Swap,
};
use coordinator_postgres::{Fence, FenceError, PostgresBackend, PostgresConfig, SaveIn};
use coordinator_tests::servers::{Schema, fresh_schema};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, PgTransaction};
use std::sync::Arc;
use tokio::time::{sleep, timeout};

use crate::fixture::connect;

const LEVELS: [&str; 3] = ["read committed", "repeatable read", "serializable"];
const KEY: &str = "fleet/lock/ledger";

/// A guard, as a node gives them.
#[derive(Debug, Clone)]
struct Guard {
    lease: Result<Lease, Lost>,
    keyspace: Keyspace,
    shard: ShardId,
}

impl Held for Guard {
    fn lease(&self) -> Result<&Lease, Lost> {
        self.lease.as_ref().map_err(Clone::clone)
    }
}

impl HeldShard for Guard {
    fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn shard(&self) -> ShardId {
        self.shard
    }
}

/// A schema, its backend, and the application's pool.
struct Place {
    backend: PostgresBackend,
    pool: PgPool,
    schema: Schema,
}

impl Place {
    async fn new() -> Option<Self> {
        let schema = fresh_schema()?;
        let backend = connect(&schema, PostgresConfig::new(schema.url())).await;
        let pool = PgPoolOptions::new()
            .max_connections(6)
            .connect(schema.url())
            .await;
        let pool = pool.expect("a pool");
        let place = Self {
            backend,
            pool,
            schema,
        };
        place.run("create table {schema}.ledger (line text)").await;
        Some(place)
    }

    async fn run(&self, statement: &str) {
        let statement = statement.replace("{schema}", self.schema.name());
        let done = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&self.pool)
            .await;
        done.expect("a statement of the test");
    }

    fn guard(&self, key: &str, token: u64) -> Guard {
        let (key, owner) = (Key::from(key), MemberId::from("m"));
        let lease = Lease::new(key, owner, FencingToken::new(token), self.backend.store());
        Guard {
            lease: Ok(lease),
            keyspace: Keyspace::from("orders/eu"),
            shard: ShardId::new(3),
        }
    }

    /// The guard of shard 3 of a keyspace with a name that needs care.
    fn shard(&self, token: u64) -> Guard {
        let key = Key::scoped(&Group::from("fl/ee%t"), "shard", "orders/eu/3");
        self.guard(key.as_str(), token)
    }

    /// What a take-over does (F2): the announcement alone.
    async fn announce(&self, token: u64) {
        let statement = format!(
            "insert into {{schema}}.closing (id, key, token) select id, key, {token} from {{schema}}.fence \
             on conflict (id) do update set token = excluded.token"
        );
        self.run(&statement).await;
    }

    async fn raise(&self, token: u64) {
        self.run(&format!("update {{schema}}.fence set token = {token}"))
            .await;
    }

    async fn grant(&self, token: u64) {
        let statement = format!(
            "insert into {{schema}}.fence (id, key, token, owner, instance, attempt, ttl, path, session_identity, memory_identity) \
             values (gen_random_uuid(), '{KEY}', {token}, 'm', gen_random_uuid(), 1, 10000, 'row', '', '')"
        );
        self.run(&statement).await;
    }

    async fn begin(&self, level: &str) -> PgTransaction<'static> {
        let mut tx = self.pool.begin().await.expect("a transaction");
        let level = format!("set transaction isolation level {level}");
        let set = sqlx::query(AssertSqlSafe(level)).execute(&mut *tx).await;
        set.expect("a level");
        tx
    }

    async fn write(&self, tx: &mut PgTransaction<'_>, line: &str) {
        let insert = format!("insert into {}.ledger values ($1)", self.schema.name());
        let written = sqlx::query(AssertSqlSafe(insert))
            .bind(line)
            .execute(&mut **tx)
            .await;
        written.expect("a write");
    }

    async fn lines(&self) -> Vec<String> {
        let select = format!(
            "select line from {}.ledger order by line",
            self.schema.name()
        );
        let lines = sqlx::query_scalar(AssertSqlSafe(select))
            .fetch_all(&self.pool)
            .await;
        lines.expect("lines")
    }

    /// A keyspace that is assigned, as each is whose shards are owned.
    async fn assign(&self) -> Arc<dyn CheckpointStore> {
        let backend = Backend::from(self.backend.clone());
        let assignments = backend.assignments.expect("assignments");
        let swap = Swap::new(
            Group::from("fl/ee%t"),
            "orders/eu".into(),
            FencingToken::new(1),
            Bytes::new(),
        );
        assignments.swap(&swap).await.expect("an answer");
        backend.checkpoints.expect("checkpoints")
    }

    async fn load(&self, checkpoints: &Arc<dyn CheckpointStore>, token: u64) -> Load {
        let (group, keyspace) = (Group::from("fl/ee%t"), Keyspace::from("orders/eu"));
        let load = checkpoints.load(&group, &keyspace, ShardId::new(3), FencingToken::new(token));
        load.await.expect("an answer")
    }
}

/// F1, L5: the newest token passes; an older one is refused at every level, and its transaction cannot be committed.
#[tokio::test]
async fn an_old_token_is_refused_at_every_isolation_level() {
    let Some(place) = Place::new().await else {
        return;
    };
    place.grant(7).await;
    for level in LEVELS {
        let mut tx = place.begin(level).await;
        place.write(&mut tx, level).await;
        place
            .guard(KEY, 7)
            .fence(&mut tx)
            .await
            .expect("it is the newest");
        tx.commit().await.expect("a commit");

        let mut tx = place.begin(level).await;
        place.write(&mut tx, "of a zombie").await;
        let refused = place.guard(KEY, 6).fence(&mut tx).await;
        let by = FencingToken::new(7);
        assert!(
            matches!(&refused, Err(FenceError::Refused { higher, .. }) if *higher == by),
            "{level}: {refused:?}"
        );
        // Whoever commits all the same commits nothing.
        drop(tx.commit().await);
    }
    let mut lines = LEVELS.map(str::to_owned);
    lines.sort();
    assert_eq!(place.lines().await, lines);
}

/// F1: a snapshot from before the take-over does not hide it.
#[tokio::test]
async fn a_stale_snapshot_does_not_hide_a_take_over() {
    let Some(place) = Place::new().await else {
        return;
    };
    for (number, level) in LEVELS.into_iter().enumerate() {
        let token = 10 * (number as u64 + 1);
        place
            .run("delete from {schema}.fence; delete from {schema}.closing")
            .await;
        place.grant(token).await;
        let mut tx = place.begin(level).await;
        place.write(&mut tx, "of a zombie").await;
        place.announce(token + 1).await;
        place.raise(token + 1).await;
        let refused = place.guard(KEY, token).fence(&mut tx).await;
        let told = matches!(
            refused,
            Err(FenceError::Refused { .. } | FenceError::Conflict { .. })
        );
        assert!(told, "{level}: {refused:?}");
        drop(tx.commit().await);
    }
    assert_eq!(place.lines().await, Vec::<String>::new());
}

/// F1, F4: a take-over waits until the fenced transaction has ended.
#[tokio::test]
async fn a_take_over_waits_for_a_transaction_in_flight() {
    let Some(place) = Place::new().await else {
        return;
    };
    place.grant(7).await;
    for level in LEVELS {
        place
            .run("update {schema}.fence set token = 7; delete from {schema}.closing")
            .await;
        let mut tx = place.begin(level).await;
        place
            .guard(KEY, 7)
            .fence(&mut tx)
            .await
            .expect("it is the newest");
        place.announce(8).await;
        let raise = place.raise(8);
        tokio::pin!(raise);
        assert!(
            timeout(Duration::from_millis(200), &mut raise)
                .await
                .is_err(),
            "{level}: it did not wait"
        );
        place.write(&mut tx, level).await;
        tx.commit().await.expect("a commit before the take-over");
        raise.await;
    }
    assert_eq!(place.lines().await.len(), LEVELS.len());
}

/// F2: writers that follow one another closely do not hold a take-over up for longer than the one in flight.
#[tokio::test]
async fn short_writers_do_not_starve_a_take_over() {
    const HOLDS: Duration = Duration::from_millis(200);
    let Some(place) = Place::new().await else {
        return;
    };
    place.grant(7).await;
    let writers = [0, 1].map(|number| {
        let (pool, guard) = (place.pool.clone(), place.guard(KEY, 7));
        tokio::spawn(async move {
            sleep(HOLDS / 2 * number).await;
            loop {
                let mut tx = pool.begin().await.expect("a transaction");
                if let Err(error) = guard.fence(&mut tx).await {
                    return error;
                }
                sleep(HOLDS).await;
                tx.commit().await.expect("a commit");
            }
        })
    });
    sleep(HOLDS * 2).await;
    let begun = Instant::now();
    place.announce(8).await;
    place.raise(8).await;
    let took = begun.elapsed();
    for writer in writers {
        let refused = writer.await.expect("no panic");
        assert!(matches!(refused, FenceError::Refused { .. }), "{refused:?}");
    }
    assert!(took < HOLDS * 5, "the take-over took {took:?}");
}

/// What is no lease of this store is not fenced by it.
#[tokio::test]
async fn leases_of_other_stores_lost_ones_and_unknown_ones_are_told_apart() {
    let Some(place) = Place::new().await else {
        return;
    };
    place.grant(7).await;
    let store = place.backend.store();
    let elsewhere = [
        "redis:somewhere".to_owned(),
        store.as_str().replacen("postgres:", "postgres:9", 1),
        store
            .as_str()
            .replace(place.schema.name(), "no_such_schema"),
    ];
    for other in elsewhere {
        let mut guard = place.guard(KEY, 7);
        guard.lease.as_mut().expect("held").store = StoreId::from(other.as_str());
        let mut tx = place.begin(LEVELS[0]).await;
        let refused = guard.fence(&mut tx).await;
        assert!(
            matches!(refused, Err(FenceError::OtherStore { .. })),
            "{other}: {refused:?}"
        );
    }
    let mut tx = place.begin(LEVELS[0]).await;
    let unknown = place.guard("fleet/lock/another", 7).fence(&mut tx).await;
    assert!(
        matches!(unknown, Err(FenceError::NoRow { .. })),
        "{unknown:?}"
    );
    let mut lost = place.guard(KEY, 7);
    lost.lease = Err(Lost::new(Key::from(KEY), LostCause::Expired));
    let mut tx = place.begin(LEVELS[0]).await;
    let refused = lost.fence(&mut tx).await;
    assert!(matches!(refused, Err(FenceError::Lost(_))), "{refused:?}");
}

/// The same rule for other languages.
#[tokio::test]
async fn the_function_of_sql_fences_too() {
    let Some(place) = Place::new().await else {
        return;
    };
    place.grant(7).await;
    let call = format!("select {}.fence($1, $2)", place.schema.name());
    for (token, passes) in [(7_i64, true), (6, false), (8, true)] {
        let fenced = sqlx::query(AssertSqlSafe(call.clone()))
            .bind(KEY)
            .bind(token)
            .execute(&place.pool)
            .await;
        assert_eq!(fenced.is_ok(), passes, "{token}: {fenced:?}");
    }
}

/// C2: the work's writes, its position and the fence are one transaction; the next owner's claim ends it for the earlier one.
#[tokio::test]
async fn a_position_commits_with_the_work_or_not_at_all() {
    let Some(place) = Place::new().await else {
        return;
    };
    let checkpoints = place.assign().await;
    for (number, level) in LEVELS.into_iter().enumerate() {
        let token = 10 * (number as u64 + 1);
        let (owner, next) = (place.shard(token), place.shard(token + 1));
        let mut tx = place.begin(level).await;
        let before = owner
            .load_in::<u64>(&mut tx)
            .await
            .expect("it is the newest");
        place.write(&mut tx, level).await;
        owner
            .save_in(&mut tx, number)
            .await
            .expect("it is the newest");
        tx.commit().await.expect("a commit");
        assert_eq!(before, number.checked_sub(1).map(|number| number as u64));

        let mut undone = place.begin(level).await;
        owner
            .save_in(&mut undone, 99)
            .await
            .expect("it is the newest");
        undone.rollback().await.expect("a rollback");

        let loaded = place.load(&checkpoints, token + 1).await;
        assert_eq!(
            loaded,
            Load::Loaded(Some(Position::new(number.to_string())))
        );
        let mut tx = place.begin(level).await;
        let refused = owner.save_in(&mut tx, 77).await;
        assert!(
            matches!(refused, Err(FenceError::Refused { .. })),
            "{level}: {refused:?}"
        );
        let mut tx = place.begin(level).await;
        let refused = owner.fence(&mut tx).await;
        assert!(
            matches!(refused, Err(FenceError::Refused { .. })),
            "{level}: {refused:?}"
        );
        let mut tx = place.begin(level).await;
        next.fence(&mut tx).await.expect("it has claimed");
    }
}

/// C2, F2: a claim waits for the transaction of the earlier owner, who begins no new one; and holds nothing else up.
#[tokio::test]
async fn a_claim_waits_for_a_transaction_and_holds_up_nothing_else() {
    let Some(place) = Place::new().await else {
        return;
    };
    let checkpoints = place.assign().await;
    place.load(&checkpoints, 5).await;
    let mut tx = place.begin(LEVELS[0]).await;
    place
        .shard(5)
        .save_in(&mut tx, "twelve")
        .await
        .expect("it is the newest");
    let claim = place.load(&checkpoints, 6);
    tokio::pin!(claim);
    assert!(
        timeout(Duration::from_millis(200), &mut claim)
            .await
            .is_err(),
        "it did not wait"
    );
    let mut late = place.begin(LEVELS[0]).await;
    let refused = place.shard(5).fence(&mut late).await;
    assert!(
        matches!(refused, Err(FenceError::Refused { .. })),
        "{refused:?}"
    );
    // Calls of the same backend go on meanwhile.
    let group = Group::from("fl/ee%t");
    let members = Backend::from(place.backend.clone())
        .members
        .expect("members");
    let answer = timeout(Duration::from_secs(2), members.snapshot(&group)).await;
    answer.expect("not behind the claim").expect("an answer");
    tx.commit().await.expect("a commit before the claim");
    assert_eq!(claim.await, Load::Loaded(Some(Position::new("twelve"))));
    let late = coordinator_core::Checkpoint::new(
        group,
        "orders/eu".into(),
        ShardId::new(3),
        FencingToken::new(5),
        Position::new("thirteen"),
    );
    let save = checkpoints.save(&late).await.expect("an answer");
    assert!(matches!(save, Save::Fenced { by: Some(_) }), "{save:?}");
}
