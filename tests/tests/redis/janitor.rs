//! What is forgotten, and what is kept: K3, I6.

use std::time::{Duration, Instant, SystemTime};

use coordinator_core::{Acquisition, Backend, Claim, ClaimId, Instance, Key};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use tokio::time::sleep;

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
    let Some(space) = fresh_space() else { return };
    let config = RedisConfig::new(space.url()).namespace(space.name());
    let config = config.clean_every(Duration::from_millis(100));
    let backend = RedisBackend::connect(config.trust_empty_store(true)).await;
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
