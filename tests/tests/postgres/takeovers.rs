//! Take-overs of leases by session lock: sessions that end, holders that learn of it, and successors
//! that start no sooner than they may.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, FencingToken, Instance, Key, LockBackend, LockError,
    Release, Renewal,
};
use coordinator_postgres::{Leases, PostgresBackend, PostgresConfig, Takeover};
use coordinator_tests::servers::{Schema, fresh_schema};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::fixture::{client, connect};
use crate::warnings::Warnings;

const TTL: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(2);
/// Long enough to tell what does not come from what comes soon.
const A_WHILE: Duration = Duration::from_millis(300);

/// A process: a backend of its own, whose sessions the server lists under its name.
struct Process {
    locks: Arc<dyn LockBackend>,
    name: String,
    instance: Instance,
}

impl Process {
    async fn start(schema: &Schema, name: &str, takeover: Takeover) -> Self {
        Self::with(schema, name, |config| config.takeover(takeover)).await
    }

    async fn with(
        schema: &Schema,
        name: &str,
        change: impl FnOnce(PostgresConfig) -> PostgresConfig,
    ) -> Self {
        let name = format!("{}/{name}", schema.name());
        let config = PostgresConfig::new(schema.url()).application_name(name.clone());
        let backend = Backend::from(connect(schema, change(config)).await);
        Self {
            locks: backend.locks.expect("leases by session lock"),
            instance: Instance::from_random(bits_of(&name)),
            name,
        }
    }

    fn claim(&self, key: &str, id: u64, ttl: Duration) -> Claim {
        let owner = self.name.rsplit('/').next().unwrap_or("?");
        Claim::new(
            Key::from(key),
            owner.into(),
            self.instance,
            ClaimId::new(id),
            ttl,
        )
    }

    async fn granted(&self, claim: &Claim) -> FencingToken {
        match self.locks.acquire(claim).await {
            Ok(Acquisition::Granted(token)) => token,
            other => panic!("{} is free, and yet: {other:?}", claim.key),
        }
    }

    /// Waits for its turn, and takes it.
    async fn next(&self, claim: &Claim) -> FencingToken {
        self.locks.wait_turn(claim).await.expect("a turn");
        self.granted(claim).await
    }
}

fn bits_of(name: &str) -> u128 {
    name.bytes().fold(7, |sum: u128, byte| {
        sum.wrapping_mul(0x0100_0000_01b3) ^ u128::from(byte)
    })
}

/// Ends the sessions of a process for which this holds, on the server's side. Says how many.
async fn end_sessions(server: &Client, process: &Process, which: &str) -> usize {
    let ended = format!(
        "select pg_terminate_backend(a.pid) from pg_stat_activity a where application_name = $1 and {which}"
    );
    let name: &str = &process.name[..process.name.len().min(63)];
    server.query(&ended, &[&name]).await.expect("ended").len()
}

/// L holds the key's lock, and W the term's.
const LOCKS: &str = "exists (select from pg_locks l where l.pid = a.pid and locktype = 'advisory')";

fn of_lease() -> String {
    format!("{LOCKS} and (query like '%lease_begin%' or query like '%lease_ping%')")
}

fn of_witness() -> String {
    format!("{LOCKS} and query not like '%lease_%'")
}

async fn waits(wait: &mut (impl Future<Output = FencingToken> + Unpin), why: &str) {
    assert!(timeout(A_WHILE, wait).await.is_err(), "{why}");
}

/// P3, E19: a wait that is dropped leaves the server's queue, whenever it is dropped.
#[tokio::test]
async fn a_dropped_wait_leaves_no_session_behind() {
    let Some(schema) = fresh_schema() else { return };
    let (a, b) = (
        Process::start(&schema, "a", Takeover::Evidence).await,
        Process::start(&schema, "b", Takeover::Evidence).await,
    );
    let server = client(schema.url()).await;
    let claim = a.claim("k", 1, TTL);
    let token = a.granted(&claim).await;
    for micros in [0, 300, 1_000, 3_000, 10_000, 50_000] {
        let waiting = b.claim("k", micros + 1, TTL);
        let wait = b.locks.wait_turn(&waiting);
        assert!(timeout(Duration::from_micros(micros), wait).await.is_err());
    }
    let sessions = "select count(*) from pg_stat_activity where application_name = $1";
    let name: &str = &b.name[..b.name.len().min(63)];
    let began = Instant::now();
    loop {
        let row = server.query_one(sessions, &[&name]).await.expect("counted");
        // C and W.
        if row.get::<_, i64>(0) == 2 {
            break;
        }
        assert!(
            began.elapsed() < SOON,
            "sessions are left of waits that were dropped"
        );
        sleep(Duration::from_millis(10)).await;
    }
    let released = a.locks.release(&claim, token, None).await;
    assert!(matches!(released, Ok(Release::Released)), "{released:?}");
    b.granted(&b.claim("k", 99, TTL)).await;
}

/// P6, P8, E6: whoever loses the session of its lease learns it at once; the next one waits for its
/// word, and no longer.
#[tokio::test]
async fn a_holder_whose_session_is_ended_yields_before_the_next_one_starts() {
    let Some(schema) = fresh_schema() else { return };
    let (a, b) = (
        Process::start(&schema, "a", Takeover::Evidence).await,
        Process::start(&schema, "b", Takeover::Evidence).await,
    );
    let server = client(schema.url()).await;
    let (held, wanted) = (a.claim("k", 1, TTL), b.claim("k", 1, TTL));
    let token = a.granted(&held).await;
    let mut next = Box::pin(b.next(&wanted));
    waits(&mut next, "it is held").await;
    let alarm = a.locks.alarm(&held, token);
    let which = of_lease();
    let (ended, alarm) = tokio::join!(end_sessions(&server, &a, &which), timeout(SOON, alarm));
    assert_eq!(ended, 1, "one session is the lease's");
    alarm.expect("the holder is alarmed").expect("alarmed");
    let renewed = a.locks.renew(&held, token).await;
    assert!(matches!(renewed, Ok(Renewal::Lost)), "{renewed:?}");
    waits(&mut next, "its work may still run").await;
    a.locks
        .release(&held, token, None)
        .await
        .expect("its work has stopped");
    let later = timeout(SOON, next).await.expect("it starts");
    assert!(later > token);
}

/// P6: the store hears at once that the witness is gone, and that it is back; the term goes on.
#[tokio::test]
async fn a_holder_that_loses_its_witness_says_so_and_stays() {
    let Some(schema) = fresh_schema() else { return };
    let a = Process::start(&schema, "a", Takeover::Evidence).await;
    let server = client(schema.url()).await;
    let claim = a.claim("k", 1, TTL);
    let token = a.granted(&claim).await;
    let witness = format!("select witness from {}.beat", schema.name());
    let witnessed = async || {
        server
            .query_one(&witness, &[])
            .await
            .expect("a beat")
            .get(0)
    };
    assert!(witnessed().await, "at first");
    let mut ended = 0;
    let mut told = Vec::new();
    let began = Instant::now();
    while told.last() != Some(&true) || ended == 0 {
        if ended == 0 {
            ended = end_sessions(&server, &a, &of_witness()).await;
            assert_eq!(ended, 1, "one session is the witness");
        }
        let alarm = timeout(SOON, a.locks.alarm(&claim, token)).await;
        alarm.expect("an alarm").expect("an alarm");
        let renewed = a.locks.renew(&claim, token).await;
        assert!(matches!(renewed, Ok(Renewal::Renewed)), "{renewed:?}");
        told.push(witnessed().await);
        assert!(began.elapsed() < SOON * 2, "{told:?}");
    }
}

/// P5.4: with `WaitOut`, and with every session of a living holder ended from outside, nobody starts
/// before the rest of its window has passed.
#[tokio::test]
async fn without_evidence_the_rest_of_the_window_is_waited_out() {
    let Some(schema) = fresh_schema() else { return };
    let ttl = Duration::from_millis(1_500);
    let (a, b) = (
        Process::start(&schema, "a", Takeover::WaitOut).await,
        Process::start(&schema, "b", Takeover::WaitOut).await,
    );
    let server = client(schema.url()).await;
    let (held, wanted) = (a.claim("k", 1, ttl), b.claim("k", 1, ttl));
    let asked = Instant::now();
    a.granted(&held).await;
    let mut next = Box::pin(b.next(&wanted));
    waits(&mut next, "it is held").await;
    assert_eq!(end_sessions(&server, &a, "true").await, 3, "L, W and C");
    timeout(ttl + SOON, next).await.expect("it starts");
    assert!(asked.elapsed() >= ttl, "after {:?}", asked.elapsed());
}

/// E1, E3: a process that is gone passes its lease on in milliseconds, and one that resigns, too.
#[tokio::test]
async fn a_lease_passes_on_in_milliseconds() {
    let Some(schema) = fresh_schema() else { return };
    let mut holder = Process::start(&schema, "p0", Takeover::Evidence).await;
    holder.granted(&holder.claim("k", 1, TTL)).await;
    let (mut killed, mut resigned) = (Vec::new(), Vec::new());
    for round in 1..=10 {
        let next = Process::start(&schema, &format!("p{round}"), Takeover::Evidence).await;
        let claim = next.claim("k", 1, TTL);
        let mut turn = Box::pin(next.next(&claim));
        waits(&mut turn, "it is held").await;
        let gone = Instant::now();
        drop(holder);
        let token = timeout(TTL / 2, turn)
            .await
            .expect("at once, not after a window");
        killed.push(gone.elapsed());
        let again = next.claim("k", 2, TTL);
        let mut turn = Box::pin(next.next(&again));
        waits(&mut turn, "it is held").await;
        let gone = Instant::now();
        let released = next.locks.release(&claim, token, None);
        let (released, turn) = tokio::join!(released, timeout(SOON, turn));
        released.expect("released");
        turn.expect("at once");
        resigned.push(gone.elapsed());
        holder = next;
    }
    killed.sort();
    resigned.sort();
    // A machine that does other work besides is slower; a window that is waited out takes seconds.
    for spans in [killed, resigned] {
        assert!(spans[5] < TTL / 10, "{spans:?}");
    }
}

/// F3: a take-over that a fenced transaction holds up is given up by nobody, and may end the writer.
#[tokio::test]
async fn a_writer_that_holds_a_start_up_is_evicted_where_that_is_asked_for() {
    let Some(schema) = fresh_schema() else { return };
    let ttl = Duration::from_millis(600);
    let a = Process::start(&schema, "a", Takeover::Evidence).await;
    let b = Process::with(&schema, "b", |config| config.evict_writers(true)).await;
    let claim = a.claim("k", 1, ttl);
    let token = a.granted(&claim).await;
    let mut warnings = Warnings::listen();
    let writer = client(schema.url()).await;
    let fenced = format!("begin; select token from {}.fence for share", schema.name());
    writer.batch_execute(&fenced).await.expect("fenced");
    let pid = writer.query_one("select pg_backend_pid()", &[]).await;
    let pid: i32 = pid.expect("its process").get(0);
    // The mark of a clean release would wait behind the writer, as a start does.
    drop(a);
    let later = timeout(ttl * 4, b.next(&b.claim("k", 1, ttl))).await;
    assert!(later.expect("the writer is ended") > token);
    let named = format!("writers=[{pid}]");
    let said = warnings.until(&[&named, "key=k "], SOON).await;
    assert!(said.contains("evicted=true"), "{said}");
    assert!(
        writer.batch_execute("commit").await.is_err(),
        "it was ended"
    );
}

/// P11: two keys that hash to one session lock are told apart by the stored name.
#[tokio::test]
async fn a_collision_of_hashes_is_rejected_with_both_names() {
    let Some(schema) = fresh_schema() else { return };
    let a = Process::start(&schema, "a", Takeover::Evidence).await;
    let claim = a.claim("k", 1, TTL);
    let token = a.granted(&claim).await;
    a.locks
        .release(&claim, token, None)
        .await
        .expect("released");
    let server = client(schema.url()).await;
    let other = format!(
        "update {}.fence set id = gen_random_uuid(), key = 'of another name'",
        schema.name()
    );
    server
        .batch_execute(&other)
        .await
        .expect("a row of another key");
    let answer = a.locks.acquire(&a.claim("k", 2, TTL)).await;
    let Err(error @ LockError::Rejected { .. }) = answer else {
        panic!("{answer:?}");
    };
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = format!("{error}: {}", source.unwrap_or_default());
    assert!(
        text.contains("`k`") && text.contains("`of another name`"),
        "{text}"
    );
}

/// P11: at most eight campaigns of a process wait in sessions of their own; the others are woken by the
/// bell.
#[tokio::test]
async fn the_ninth_campaign_of_a_process_waits_without_a_session() {
    let Some(schema) = fresh_schema() else { return };
    let (a, b) = (
        Process::start(&schema, "a", Takeover::Evidence).await,
        Process::start(&schema, "b", Takeover::Evidence).await,
    );
    let server = client(schema.url()).await;
    let mut grants = Vec::new();
    for number in 0..10 {
        let claim = a.claim(&format!("k{number}"), number + 1, Duration::from_secs(20));
        let token = a.granted(&claim).await;
        grants.push((claim, token));
    }
    let b = Arc::new(b);
    let mut waiting = Vec::new();
    for number in 0..10 {
        let (b, claim) = (b.clone(), b.claim(&format!("k{number}"), number + 1, TTL));
        waiting.push(tokio::spawn(async move { b.next(&claim).await }));
        sleep(Duration::from_millis(20)).await;
    }
    sleep(A_WHILE).await;
    let sessions = "select count(*) from pg_stat_activity where application_name = $1";
    let name: &str = &b.name[..b.name.len().min(63)];
    let row = server.query_one(sessions, &[&name]).await.expect("counted");
    assert_eq!(row.get::<_, i64>(0), 8 + 2, "eight wait, C, and W");
    for ((claim, token), wait) in grants.into_iter().zip(waiting).rev() {
        a.locks
            .release(&claim, token, None)
            .await
            .expect("released");
        let later = timeout(SOON, wait).await.expect("woken").expect("granted");
        assert!(later > token);
    }
}

/// One kind of lease does not see the renewals of the other, so a schema has one.
#[tokio::test]
async fn a_schema_has_one_kind_of_lease() {
    let Some(schema) = fresh_schema() else { return };
    let first = Process::start(&schema, "a", Takeover::Evidence).await;
    let config = PostgresConfig::new(schema.url())
        .schema(schema.name())
        .leases(Leases::Row);
    let refused = PostgresBackend::connect(config).await.map(drop);
    let error = refused.expect_err("another kind").to_string();
    assert!(
        error.contains("holds leases by `advisory`, this process by `row`"),
        "{error}"
    );
    drop(first);
}
