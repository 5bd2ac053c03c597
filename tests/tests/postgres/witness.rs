//! The witness of a living holder: given up when it is silent, and kept open all the same.

use std::time::Duration;

use coordinator_core::{Acquisition, Backend, Claim, ClaimId, Instance, Key, Renewal};
use coordinator_postgres::PostgresConfig;
use coordinator_tests::servers::Postgres;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::fixture::client;

const TTL: Duration = Duration::from_secs(25);
/// A probe every 5 s, and 2 s for its answer; and the machine may be busy.
const NOTICED: Duration = Duration::from_secs(20);

/// Which sessions hold session locks, and whether the beat says that there is a witness.
async fn holders(server: &Client) -> Vec<i32> {
    let asked = "select distinct pid from pg_locks where locktype = 'advisory' and granted";
    let rows = server.query(asked, &[]).await.expect("an answer");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn says_witness(server: &Client) -> bool {
    let rows = server
        .query("select witness from coordinator.beat", &[])
        .await;
    rows.expect("an answer").iter().all(|row| row.get(0))
}

/// The session that holds a lock, and does not ping.
async fn witness_of(server: &Client) -> i32 {
    let asked = "select distinct lock.pid from pg_locks as lock join pg_stat_activity as session using (pid) \
        where lock.locktype = 'advisory' and lock.granted and session.query not like '%lease_ping%'";
    let row = server.query_one(asked, &[]).await;
    row.expect("two sessions hold locks, and one of them pings")
        .get(0)
}

/// Whether it waits for what its client says next.
async fn is_idle(server: &Client, session: i32) -> bool {
    let asked = "select count(*) from pg_stat_activity where pid = $1 and state = 'idle' and wait_event = 'ClientRead'";
    let row = server.query_one(asked, &[&session]).await;
    row.expect("an answer").get::<_, i64>(0) == 1
}

fn signal(session: i32, signal: Signal) {
    let pid = Pid::from_raw(session).expect("a process");
    kill_process(pid, signal).expect("a session of the test's own server");
}

async fn until(what: &str, within: Duration, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done().await {
        assert!(Instant::now() < deadline, "{what} within {within:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// P6: a holder whose witness is silent closes it only when the store knows that there is none: its
/// term lock, freed sooner, would pass for the death of the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_witness_is_kept_open_until_the_store_knows_of_it() {
    let Some(server) = Postgres::start(&[]).await.expect("a server") else {
        return;
    };
    let config = PostgresConfig::new(server.url()).application_name("ann");
    let backend = coordinator_postgres::PostgresBackend::connect(config).await;
    let locks = Backend::from(backend.expect("a connection")).locks;
    let locks = locks.expect("leases by session lock");
    let instance = Instance::from_random(7);
    let key = Key::from("k");
    let claim = Claim::new(key, "ann".into(), instance, ClaimId::new(1), TTL);
    let Ok(Acquisition::Granted(token)) = locks.acquire(&claim).await else {
        panic!("the key is free");
    };
    let told = locks.renew(&claim, token).await.expect("an answer");
    assert_eq!(told, Renewal::Renewed);
    let look = client(&server.url()).await;
    assert!(says_witness(&look).await);
    let witness = witness_of(&look).await;

    signal(witness, Signal::STOP);
    let alarm = timeout(NOTICED, locks.alarm(&claim, token)).await;
    signal(witness, Signal::CONT);
    alarm.expect("the silence is noticed").expect("no error");
    // Had we closed it, it would end now that it runs again, and not do as it is told.
    until("it has answered the probe", NOTICED, async || {
        is_idle(&look, witness).await
    })
    .await;
    let told = "select pg_log_backend_memory_contexts($1)";
    look.query_one(told, &[&witness]).await.expect("an answer");
    let logged = format!("logging memory contexts of PID {witness}");
    until("it does as it is told", NOTICED, async || {
        server.log().contains(&logged)
    })
    .await;
    assert!(
        holders(&look).await.contains(&witness),
        "the term lock is kept"
    );

    let told = locks.renew(&claim, token).await.expect("an answer");
    assert_eq!(told, Renewal::Renewed);
    until("the former witness is closed", NOTICED, async || {
        !holders(&look).await.contains(&witness)
    })
    .await;
    until("another witness holds the term lock", NOTICED, async || {
        let told = locks.renew(&claim, token).await.expect("an answer");
        assert_eq!(told, Renewal::Renewed);
        says_witness(&look).await
    })
    .await;
    assert_eq!(holders(&look).await.len(), 2);
}
