//! What is forgotten, and what is kept: K3, I6.

use std::time::{Duration, Instant, SystemTime};

use coordinator_core::{
    Acquisition, Backend, Bytes, Claim, ClaimId, FencingToken, Group, Instance, Join, Joined, Key,
    MemberId, ShardId, Swap,
};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use tokio::time::sleep;

use crate::fixture::CLIENTS;

const TTL: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_hours(24);

async fn take(backend: &Backend, name: &str) {
    let instance = Instance::from_bytes([7; 16]);
    let claim = Claim::new(Key::from(name), "m".into(), instance, ClaimId::new(1), TTL);
    let locks = backend.locks.as_ref().expect("locks");
    let Acquisition::Granted(token) = locks.acquire(&claim).await.expect("an answer") else {
        panic!("it is free");
    };
    let released = locks.release(&claim, token, None).await;
    released.expect("an answer");
}

/// Makes a lease as old as if it had been granted so long ago.
fn age(space: &Space, talk: &mut Talk, name: &str, by: Duration) {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    let at = now.checked_sub(by).expect("an old clock").as_millis();
    let (token, expires) = (at.to_string(), format!("{at}000"));
    let tag = format!("{{{}:g}}", space.name());
    let lease = format!("{tag}:lock:{name}");
    talk.ask(&["HSET", &lease, "token", &token, "expires", &expires])
        .expect("an answer");
    talk.ask(&["ZADD", &format!("{tag}:leases:"), &token, name])
        .expect("an answer");
}

/// K3: a lease that is free and older than seven days is forgotten; a younger one is kept, for its token is needed.
#[tokio::test]
async fn only_leases_are_forgotten_whose_tokens_the_clock_alone_exceeds() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let config = RedisConfig::new(space.url()).namespace(space.name());
        let config = config.clean_every(Duration::from_millis(100));
        let backend = RedisBackend::connect(client(config.trust_empty_store(true))).await;
        let backend = Backend::from(backend.expect("a server that runs takes connections"));
        let mut talk = Talk::to(space.url()).expect("a connection");
        take(&backend, "g/lock/old").await;
        take(&backend, "g/lock/young").await;
        age(&space, &mut talk, "g/lock/young", DAY * 6);
        age(&space, &mut talk, "g/lock/old", DAY * 8);
        let began = Instant::now();
        let has = |name: &str| {
            let keys = space.keys().expect("keys");
            keys.iter().any(|key| key.ends_with(name))
        };
        while has(":lock:g/lock/old") {
            assert!(began.elapsed() < Duration::from_secs(10), "it is kept");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(has(":lock:g/lock/young"), "its token is needed");
    }
}

/// What a group leaves behind.
struct Remains<'a> {
    space: &'a Space,
    parts: &'a Backend,
    group: Group,
    tag: String,
}

impl<'a> Remains<'a> {
    /// Of a group whose member has planned a keyspace.
    async fn new(space: &'a Space, parts: &'a Backend, name: &str) -> Self {
        let (group, id) = (Group::from(name), MemberId::from("m"));
        let join = Join::new(group.clone(), id, Instance::from_bytes([1; 16]), TTL * 12);
        let members = parts.members.as_ref().expect("members");
        let joined = members.join(&join).await.expect("an answer");
        assert!(matches!(joined, Joined::Member { .. }), "{joined:?}");
        let (token, plan) = (FencingToken::new(1), Bytes::from_static(b"plan"));
        let swap = Swap::new(group.clone(), "k".into(), token, plan);
        let assignments = parts.assignments.as_ref().expect("assignments");
        assignments.swap(&swap).await.expect("an answer");
        Self {
            tag: format!("{{{}:{name}}}", space.name()),
            space,
            parts,
            group,
        }
    }

    /// Its member has left, and the hour of its tombstone has passed.
    async fn bury(&self, talk: &mut Talk) {
        let names = self.ask(talk, &["HGET", "names", "m"]);
        let incarnation = names.split(' ').next().and_then(|last| last.parse().ok());
        let incarnation = incarnation.expect("the last incarnation");
        let members = self.parts.members.as_ref().expect("members");
        let left = members.leave(&self.group, &"m".into(), incarnation).await;
        left.expect("an answer");
        let life = format!("{incarnation}:m");
        let two_hours_ago = format!("{}000", before(Duration::from_hours(2)));
        self.ask(talk, &["ZADD", "graves", &two_hours_ago, &life]);
        self.ask(talk, &["HSET", "group", "swept", "0"]);
        until("the tombstone is kept", || !self.has("lives")).await;
    }

    /// All that is left is as if it had been written so long ago.
    fn age(&self, talk: &mut Talk, by: Duration) {
        let at = before(by);
        self.ask(talk, &["HSET", "names", "m", &format!("{at} ")]);
        self.ask(talk, &["HSET", "group", "members", &at, "reports", &at]);
        let changed = format!("{at}000");
        let document = ["epoch", at.as_str(), "changed", &changed];
        self.ask(talk, &[&["HSET", "assignment"][..], &document].concat());
    }

    /// Runs a command on one of its keys: the second word.
    fn ask(&self, talk: &mut Talk, command: &[&str]) -> String {
        let mut words: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        words[1] = self.key(command[1]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        talk.ask(&words).expect("an answer").text()
    }

    fn key(&self, kind: &str) -> String {
        let rest = if kind == "assignment" || kind == "checkpoints" {
            "k"
        } else {
            ""
        };
        format!("{}:{kind}:{rest}", self.tag)
    }

    fn has(&self, kind: &str) -> bool {
        let keys = self.space.keys().expect("keys");
        keys.contains(&self.key(kind))
    }

    fn is_gone(&self) -> bool {
        let keys = self.space.keys().expect("keys");
        !keys.iter().any(|key| key.starts_with(&self.tag))
    }

    /// When it was last looked at.
    fn looked_at(&self, talk: &mut Talk) -> String {
        let index = format!("{{{}:}}:tags:", self.space.name());
        let score = talk.ask(&["ZSCORE", &index, &self.tag]);
        score.expect("an answer").text()
    }
}

/// So long ago, in milliseconds.
fn before(by: Duration) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    let at = now.checked_sub(by).expect("an old clock");
    at.as_millis().to_string()
}

async fn until(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{otherwise}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// K3, G7: a group without members is forgotten with its plans when all its numbers are older than seven days; one that is younger, or
/// lives, or has positions, is kept; and the namespace remembers that it is not new.
#[tokio::test]
async fn only_groups_are_forgotten_that_are_empty_old_and_without_positions() {
    let Some(space) = fresh_space() else { return };
    let config = RedisConfig::new(space.url()).namespace(space.name());
    let config = config.clean_every(Duration::from_millis(100));
    let backend = RedisBackend::connect(config.trust_empty_store(true)).await;
    let parts = Backend::from(backend.expect("a server that runs takes connections"));
    let mut talk = Talk::to(space.url()).expect("a connection");
    let old = Remains::new(&space, &parts, "old").await;
    let young = Remains::new(&space, &parts, "young").await;
    let placed = Remains::new(&space, &parts, "placed").await;
    let living = Remains::new(&space, &parts, "living").await;
    let (keyspace, token) = ("k".into(), FencingToken::new(1));
    let checkpoints = parts.checkpoints.as_ref().expect("checkpoints");
    let load = checkpoints.load(&placed.group, &keyspace, ShardId::new(1), token);
    load.await.expect("an answer");
    for remains in [&old, &young, &placed] {
        remains.bury(&mut talk).await;
    }
    young.age(&mut talk, DAY * 6);
    placed.age(&mut talk, DAY * 8);
    let document = before(DAY * 8);
    living.ask(&mut talk, &["HSET", "assignment", "epoch", &document]);
    old.age(&mut talk, DAY * 8);
    until("an old group is kept", || old.is_gone()).await;
    until("its hash tag is looked at for ever", || {
        old.looked_at(&mut talk).is_empty()
    })
    .await;
    // Twice from here on: the first look has ended.
    for _ in 0..2 {
        for remains in [&young, &placed, &living] {
            let last = remains.looked_at(&mut talk);
            until("nobody looks", || remains.looked_at(&mut talk) != last).await;
        }
    }
    for kind in ["group", "names", "assignment"] {
        assert!(young.has(kind), "six days: {kind}");
    }
    for kind in ["group", "assignment", "checkpoints"] {
        assert!(placed.has(kind), "it has positions: {kind}");
    }
    assert!(
        !placed.has("names"),
        "nobody needs the numbers of its members"
    );
    for kind in ["group", "names", "lives", "assignment"] {
        assert!(living.has(kind), "it lives: {kind}");
    }
    let identity = format!("{{{}:}}:identity:", space.name());
    assert!(space.keys().expect("keys").contains(&identity));
}
