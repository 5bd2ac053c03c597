//! Deaths of members that the server sees: all sessions of a process end, and nothing less.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Backend, Beat, EndReason, Group, Heartbeat, Incarnation, Instance, Join, Joined, MemberId,
    MemberState, MembershipStore,
};
use coordinator_postgres::PostgresConfig;
use coordinator_tests::servers::process::Program;
use coordinator_tests::servers::{Postgres, Proxy, Schema, Stop, fresh_schema};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::fixture::{client, connect};

/// So long that nothing here expires.
const TTL: Duration = Duration::from_secs(10);
/// Longer than it takes to notice that a session is silent.
const LONG: Duration = Duration::from_secs(29);
/// Much sooner than any expiry.
const SOON: Duration = Duration::from_secs(2);
/// Long enough to tell what does not come from what comes soon.
const A_WHILE: Duration = Duration::from_millis(1_500);

fn group() -> Group {
    Group::from("fleet")
}

/// A process: a backend of its own, whose sessions the server lists under its name.
struct Process {
    members: Arc<dyn MembershipStore>,
    id: MemberId,
    life: Incarnation,
    beat: u64,
    ttl: Duration,
    title: String,
}

impl Process {
    async fn join(schema: &Schema, name: &str) -> Self {
        Self::with(schema, name, PostgresConfig::new(schema.url())).await
    }

    async fn with(schema: &Schema, name: &str, config: PostgresConfig) -> Self {
        let title = format!("{}/{name}", schema.name());
        let config = config.application_name(title.clone());
        let backend = Backend::from(connect(schema, config).await);
        let members = backend.members.expect("members");
        let id = MemberId::from(name);
        let life = begin(&members, name, Instance::from_random(1))
            .await
            .expect("the name is free");
        Self {
            members,
            id,
            life,
            beat: 0,
            ttl: TTL,
            title,
        }
    }

    async fn heartbeat(&mut self) -> Beat {
        self.beat += 1;
        let beat = Heartbeat::new(group(), self.id.clone(), self.life, self.beat, self.ttl);
        self.members.heartbeat(&beat).await.expect("an answer")
    }

    /// How this process sees another.
    async fn sees(&self, other: &Self) -> MemberState {
        let snapshot = self.members.snapshot(&group()).await.expect("an answer");
        let seen = snapshot.get(&other.id, other.life);
        seen.expect("a record").state
    }

    async fn sees_dead_soon(&self, other: &Self) -> bool {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if is_dead(self.sees(other).await) {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// The server's processes for its sessions of a kind.
    async fn sessions(&self, server: &Client, which: &str) -> Vec<i32> {
        let asked =
            format!("select a.pid from pg_stat_activity a where application_name = $1 and {which}");
        let rows = server.query(&asked, &[&self.title]).await.expect("listed");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn session(&self, server: &Client, which: &str) -> i32 {
        match self.sessions(server, which).await.as_slice() {
            [one] => *one,
            other => panic!("{which}: {other:?}"),
        }
    }

    /// Ends its sessions of a kind on the server's side. Says how many.
    async fn lose(&self, server: &Client, which: &str) -> usize {
        let ended = format!(
            "select pg_terminate_backend(a.pid) from pg_stat_activity a where application_name = $1 and {which}"
        );
        server
            .query(&ended, &[&self.title])
            .await
            .expect("ended")
            .len()
    }
}

async fn begin(
    members: &Arc<dyn MembershipStore>,
    name: &str,
    instance: Instance,
) -> Option<Incarnation> {
    let join = Join::new(group(), MemberId::from(name), instance, TTL);
    match members.join(&join).await.expect("an answer") {
        Joined::Member { incarnation, .. } => Some(incarnation),
        Joined::Taken(_) => None,
    }
}

fn is_dead(state: MemberState) -> bool {
    matches!(
        state,
        MemberState::Ended {
            reason: EndReason::Died,
            ..
        }
    )
}

const ALL: &str = "true";
/// C and W share one lock; W alone holds the hint.
const WITNESS: &str = "exists (select from pg_locks l where l.pid = a.pid and locktype = 'advisory' \
    and granted and mode = 'ExclusiveLock')";
const CONTROL: &str = "exists (select from pg_locks l where l.pid = a.pid and locktype = 'advisory' \
    and granted and mode = 'ShareLock') and not exists (select from pg_locks l where l.pid = a.pid \
    and locktype = 'advisory' and granted and mode = 'ExclusiveLock')";

async fn says_direct(server: &Client, schema: &Schema, process: &Process) -> bool {
    let asked = format!(
        "select direct is not null from {}.member where name = $1 and incarnation = $2",
        schema.name()
    );
    let life = i64::from(process.life);
    let row = server
        .query_one(&asked, &[&process.id.as_str(), &life])
        .await;
    row.expect("a record").get(0)
}

/// Heartbeats until the record says again that there is evidence.
async fn recover(server: &Client, schema: &Schema, process: &mut Process) {
    let deadline = Instant::now() + SOON * 2;
    loop {
        let beat = process.heartbeat().await;
        assert!(matches!(beat, Beat::Alive { .. }), "{beat:?}");
        if says_direct(server, schema, process).await && locks(server, process).await == 3 {
            return;
        }
        assert!(Instant::now() < deadline, "both sessions hold it again");
        sleep(Duration::from_millis(50)).await;
    }
}

/// How many session locks it has, but for the one by which its witness says that the schema is in use.
async fn locks(server: &Client, process: &Process) -> i64 {
    let asked = "select count(*) from pg_locks l join pg_stat_activity a using (pid) \
        where application_name = $1 and locktype = 'advisory' and granted";
    let row = server.query_one(asked, &[&process.title]).await;
    row.expect("a count").get::<_, i64>(0) - 1
}

/// G5: with all its sessions its lock is free, and whoever watches it has the store declare it dead. What
/// is left to A-CLOSE: a process that lives all the same is told so by its next heartbeat.
#[tokio::test]
async fn a_member_whose_sessions_have_all_ended_is_dead_before_it_expires() {
    let Some(schema) = fresh_schema() else { return };
    let mut a = Process::join(&schema, "a").await;
    let mut b = Process::join(&schema, "b").await;
    let mut c = Process::join(&schema, "c").await;
    let server = client(schema.url()).await;
    for process in [&mut a, &mut b, &mut c] {
        recover(&server, &schema, process).await;
    }
    // Until the ring is closed: it is looked at again when it has been quiet for half a second.
    sleep(A_WHILE).await;
    let known = b.members.snapshot(&group()).await.expect("an answer");
    assert!(a.lose(&server, ALL).await >= 2);
    let told = tokio::time::timeout(SOON, b.members.changed(&group(), known.versions)).await;
    told.expect("the group is told").expect("no error");
    assert!(b.sees_dead_soon(&a).await);
    assert_eq!(a.heartbeat().await, Beat::Expired);
    // Its watch goes on: the next in the ring.
    sleep(A_WHILE).await;
    assert!(c.lose(&server, ALL).await >= 2);
    assert!(b.sees_dead_soon(&c).await);
}

/// G5: one closed session is a hint, never a reason; and what is left of the locks is made whole.
#[tokio::test]
async fn a_member_that_has_lost_one_of_its_sessions_lives() {
    let Some(schema) = fresh_schema() else { return };
    let mut a = Process::join(&schema, "a").await;
    let b = Process::join(&schema, "b").await;
    let server = client(schema.url()).await;
    assert!(says_direct(&server, &schema, &a).await, "from the join on");
    for which in [WITNESS, CONTROL, WITNESS] {
        assert_eq!(a.lose(&server, which).await, 1, "{which}");
        sleep(A_WHILE).await;
        let seen = b.sees(&a).await;
        assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
        recover(&server, &schema, &mut a).await;
    }
    sleep(A_WHILE).await;
    assert!(a.lose(&server, ALL).await >= 2);
    assert!(b.sees_dead_soon(&a).await, "evidence is evidence again");
}

/// G5: a member whose record denies the evidence is not dead, whatever becomes of its sessions; and one
/// heartbeat is enough to deny it.
#[tokio::test]
async fn what_a_heartbeat_denies_is_no_evidence() {
    let Some(schema) = fresh_schema() else { return };
    let mut a = Process::join(&schema, "a").await;
    let b = Process::join(&schema, "b").await;
    let server = client(schema.url()).await;
    assert_eq!(a.lose(&server, WITNESS).await, 1);
    // The client hears of its loss a moment later than the server's lists do.
    let deadline = Instant::now() + SOON;
    while says_direct(&server, &schema, &a).await {
        assert!(Instant::now() < deadline, "a heartbeat denies it");
        let alive = a.heartbeat().await;
        assert!(matches!(alive, Beat::Alive { .. }), "{alive:?}");
    }
    a.lose(&server, ALL).await;
    sleep(A_WHILE).await;
    let seen = b.sees(&a).await;
    assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
}

/// P7, G5: where something stands between, its closed connections tell nothing of the process.
#[tokio::test]
async fn a_member_behind_a_proxy_dies_of_its_ttl_alone() {
    let Some(schema) = fresh_schema() else { return };
    let proxy = Proxy::before(schema.url()).await.expect("a proxy");
    let behind = PostgresConfig::new(proxy.url(schema.url()));
    let a = Process::with(&schema, "a", behind).await;
    let b = Process::join(&schema, "b").await;
    let server = client(schema.url()).await;
    assert!(!says_direct(&server, &schema, &a).await);
    proxy.close_server_side().await;
    sleep(A_WHILE).await;
    let seen = b.sees(&a).await;
    assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
}

/// G2, G5: a name is free as soon as its last process is seen to be dead, also where nobody watched it.
#[tokio::test]
async fn the_name_of_a_dead_process_is_free_at_once() {
    let Some(schema) = fresh_schema() else { return };
    let a = Process::join(&schema, "a").await;
    let server = client(schema.url()).await;
    let config = PostgresConfig::new(schema.url()).application_name("other");
    let other = Backend::from(connect(&schema, config).await);
    let members = other.members.expect("members");
    let instance = Instance::from_random(2);
    assert!(begin(&members, "a", instance).await.is_none(), "a lives");
    assert!(a.lose(&server, ALL).await >= 2);
    let deadline = Instant::now() + SOON;
    let life = loop {
        if let Some(life) = begin(&members, "a", instance).await {
            break life;
        }
        assert!(Instant::now() < deadline, "the name is free");
        sleep(Duration::from_millis(10)).await;
    };
    assert!(life > a.life);
    let snapshot = members.snapshot(&group()).await.expect("an answer");
    let former = snapshot.get(&a.id, a.life).expect("a record").state;
    assert!(is_dead(former), "{former:?}");
}

/// G5 is each deployment's choice.
#[tokio::test]
async fn without_fast_death_nobody_is_seen_to_die() {
    let Some(schema) = fresh_schema() else { return };
    let config = PostgresConfig::new(schema.url()).fast_death(false);
    let a = Process::with(&schema, "a", config).await;
    let b = Process::join(&schema, "b").await;
    let server = client(schema.url()).await;
    assert_eq!(locks(&server, &a).await, 0);
    assert!(a.lose(&server, ALL).await >= 2);
    sleep(A_WHILE).await;
    let seen = b.sees(&a).await;
    assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
}

/// G5, I1: a server that begins anew frees the locks of all, and that is evidence of nobody's death: not of one who
/// has not come back yet. Where all are back, evidence is evidence again.
#[tokio::test]
async fn a_server_that_begins_anew_has_seen_nobody_die() {
    let Some(server) = Postgres::start(&[]).await.expect("a server") else {
        return;
    };
    for stays_up in [false, true] {
        let schema = Schema::at(server.url());
        let mut a = Process::join(&schema, "a").await;
        let mut b = Process::join(&schema, "b").await;
        let mut c = Process::join(&schema, "c").await;
        let look = client(schema.url()).await;
        for process in [&mut a, &mut b, &mut c] {
            recover(&look, &schema, process).await;
        }
        if stays_up {
            // Its first process lives on, and its start time with it.
            let pid = look.query_one("select pg_backend_pid()", &[]).await;
            let pid: i32 = pid.expect("a process").get(0);
            let pid = pid.try_into().expect("above zero");
            server.kill_session(pid).await.expect("killed");
        } else {
            server.restart(Stop::Fast).await.expect("restarted");
        }
        // Connections are still taken until the server has seen that it must begin anew.
        let deadline = Instant::now() + SOON * 4;
        while !look.is_closed() {
            assert!(Instant::now() < deadline, "the old run ends");
            sleep(Duration::from_millis(10)).await;
        }
        let look = until_up(&server).await;
        // It connects again no more, and nobody holds its locks in the new run.
        a.members = b.members.clone();
        recover(&look, &schema, &mut b).await;
        recover(&look, &schema, &mut c).await;
        sleep(A_WHILE).await;
        for other in [&a, &c] {
            let seen = b.sees(other).await;
            assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
        }
        assert!(c.lose(&look, ALL).await >= 2);
        assert!(b.sees_dead_soon(&c).await, "evidence is evidence again");
    }
}

/// Waits until a server that begins anew takes connections; gives one.
async fn until_up(server: &Postgres) -> Client {
    let deadline = Instant::now() + SOON * 4;
    loop {
        let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
        if let Ok((client, connection)) = connected {
            tokio::spawn(connection);
            return client;
        }
        assert!(Instant::now() < deadline, "it takes connections again");
        sleep(Duration::from_millis(20)).await;
    }
}

/// G5: a witness that is given up for its silence is kept open for as long as the record says that there is
/// evidence: closed by its own process, it would free the last of the life's locks. When a heartbeat has denied the
/// evidence, it may go.
#[tokio::test]
async fn a_witness_that_is_given_up_is_kept_until_a_heartbeat_says_so() {
    let Some(server) = Postgres::start(&[]).await.expect("a server") else {
        return;
    };
    let schema = Schema::at(server.url());
    let patient = || PostgresConfig::new(schema.url()).connect_timeout(LONG);
    let mut a = Process::with(&schema, "a", patient()).await;
    let mut b = Process::with(&schema, "b", patient()).await;
    let look = client(schema.url()).await;
    for process in [&mut a, &mut b] {
        process.ttl = LONG;
        recover(&look, &schema, process).await;
    }
    // Until the ring is closed: `b` watches `a`.
    sleep(A_WHILE).await;
    let witness = a.session(&look, WITNESS).await;
    signal(witness, Signal::STOP);
    let another = format!("query = 'select 1' and pid <> {witness}");
    let deadline = Instant::now() + SOON * 10;
    while a.sessions(&look, &another).await.is_empty() {
        assert!(Instant::now() < deadline, "its silence is noticed");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        says_direct(&look, &schema, &a).await,
        "no heartbeat denied it"
    );
    a.lose(&look, &format!("pid <> {witness}")).await;
    signal(witness, Signal::CONT);
    sleep(A_WHILE).await;
    let seen = b.sees(&a).await;
    assert!(matches!(seen, MemberState::Live { .. }), "{seen:?}");
    assert_eq!(
        a.sessions(&look, &format!("pid = {witness}")).await.len(),
        1
    );

    recover(&look, &schema, &mut a).await;
    let deadline = Instant::now() + SOON;
    while !a
        .sessions(&look, &format!("pid = {witness}"))
        .await
        .is_empty()
    {
        assert!(Instant::now() < deadline, "the former witness is closed");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(a.lose(&look, ALL).await >= 2);
    assert!(b.sees_dead_soon(&a).await, "evidence is evidence again");
}

fn signal(session: i32, signal: Signal) {
    let pid = Pid::from_raw(session).expect("a process");
    kill_process(pid, signal).expect("a session of the test's own server");
}

fn node(schema: &Schema, name: &str) -> Program {
    let url = PostgresUrl(schema).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg_node"));
    command
        .args(["--url", &url, "--member", name, "--ttl", "10000"])
        .arg("shards jobs 12");
    Program::start(&mut command).expect("a program of this package")
}

struct PostgresUrl<'a>(&'a Schema);

impl std::fmt::Display for PostgresUrl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.0.url();
        let joint = if url.contains('?') { '&' } else { '?' };
        write!(f, "{url}{joint}schema={}", self.0.name())
    }
}

/// E3, G5: the shards of a killed process are run by others long before its membership expires.
#[tokio::test]
async fn the_shards_of_a_killed_process_pass_on_at_once() {
    let Some(schema) = fresh_schema() else { return };
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let mut node = node(&schema, name);
        node.until("ready", TTL).await.expect("a node");
        nodes.push(node);
    }
    sleep(A_WHILE * 2).await;
    let mut killed = nodes.pop().expect("a node");
    let at = killed.kill().expect("killed");
    for node in &mut nodes {
        let mut last = at;
        let mut taken = 0;
        while taken < 2 {
            let event = node.until("elected jobs/", SOON).await.expect("a shard");
            if event.at > at {
                taken += 1;
                last = event.at;
            }
        }
        let within = last.saturating_sub(at);
        assert!(within < SOON, "{taken} shards within {within:?}");
    }
}
