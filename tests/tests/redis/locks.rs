//! Leases: D1 to D3, and what conformance asks of every backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, FencingToken, Instance, Key, LockBackend, MemberId,
    Release, Renewal,
};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::fixture::{CLIENTS, Change, by_fred, by_redis, connect, store};

coordinator_conformance::lock_backend! { lock_backend, store(by_redis).locks() }
coordinator_conformance::lock_backend! { lock_backend_by_fred, store(by_fred).locks() }

/// So long that no poll of a waiter, which comes after half of it, is taken for a wake-up.
const TTL: Duration = Duration::from_secs(20);
/// Long enough for a waiter to be in line, short against any poll.
const BEGUN: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(1);

fn claim(owner: &str, id: u64, ttl: Duration) -> Claim {
    let first = owner.bytes().next().unwrap_or_default();
    let instance = Instance::from_bytes([first; 16]);
    let key = Key::from("g/lock/x");
    Claim::new(key, MemberId::from(owner), instance, ClaimId::new(id), ttl)
}

async fn locks(client: Change, space: &Space) -> Arc<dyn LockBackend> {
    Backend::from(connect(client, space).await)
        .locks
        .expect("locks")
}

async fn granted(locks: &Arc<dyn LockBackend>, claim: &Claim) -> FencingToken {
    match locks.acquire(claim).await.expect("an answer") {
        Acquisition::Granted(token) => token,
        Acquisition::HeldBy(by) => panic!("held by {by:?}"),
    }
}

/// Waits in line from now on, and takes the lease. Says when.
async fn stand_in_line(
    locks: &Arc<dyn LockBackend>,
    claim: &Claim,
) -> JoinHandle<(FencingToken, Instant)> {
    let (locks, claim) = (locks.clone(), claim.clone());
    let waiter = tokio::spawn(async move {
        locks.wait_turn(&claim).await.expect("an answer");
        (granted(&locks, &claim).await, Instant::now())
    });
    sleep(BEGUN).await;
    assert!(!waiter.is_finished(), "it is held");
    waiter
}

/// D2: a release wakes the first in line, in another process, and nobody else; a dead waiter is passed over.
#[tokio::test]
async fn a_release_wakes_the_first_who_still_waits() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let (here, there) = (locks(client, &space).await, locks(client, &space).await);
        let held = claim("a", 1, TTL);
        let token = granted(&here, &held).await;
        // Its process ends without a word: the runtime drops the wait, and nobody sends that it has left.
        let url = space.url().to_owned();
        let name = space.name().to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async {
                let config = coordinator_redis::RedisConfig::new(url).namespace(name);
                let backend = coordinator_redis::RedisBackend::connect(client(config)).await;
                let dead = Backend::from(backend.expect("connected"))
                    .locks
                    .expect("locks");
                // A short TTL: its place lapses soon.
                let gone = claim("d", 1, Duration::from_millis(200));
                drop(timeout(BEGUN, dead.wait_turn(&gone)).await);
            });
        })
        .join()
        .expect("a thread");
        let (first, second) = (claim("b", 1, TTL), claim("c", 1, TTL));
        let first_waits = stand_in_line(&there, &first).await;
        let second_waits = stand_in_line(&there, &second).await;
        sleep(Duration::from_secs(3)).await;
        let at = Instant::now();
        let released = here.release(&held, token, None).await.expect("an answer");
        assert_eq!(released, Release::Released);
        let (token, taken) = timeout(SOON, first_waits)
            .await
            .expect("woken")
            .expect("no panic");
        assert!(taken.duration_since(at) < SOON, "woken, not polled");
        assert!(!second_waits.is_finished(), "one wake-up a release");
        there.release(&first, token, None).await.expect("an answer");
        let taken = timeout(SOON, second_waits).await.expect("woken");
        taken.expect("no panic");
    }
}

/// D2: a waiter whose wake-up is lost has a timer of its own at the end of the lease.
#[tokio::test]
async fn a_waiter_takes_over_at_the_end_of_a_lease_that_nobody_releases() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let (here, there) = (locks(client, &space).await, locks(client, &space).await);
        let ttl = Duration::from_millis(500);
        let held = claim("a", 1, ttl);
        let at = Instant::now();
        let token = granted(&here, &held).await;
        let waiter = stand_in_line(&there, &claim("b", 1, ttl)).await;
        let (next, taken) = timeout(SOON, waiter)
            .await
            .expect("taken over")
            .expect("no panic");
        let after = taken.duration_since(at);
        assert!(
            after >= ttl && after < ttl + Duration::from_millis(100),
            "{after:?}"
        );
        assert!(next > token);
        let renewal = here.renew(&held, token).await.expect("an answer");
        assert_eq!(renewal, Renewal::Lost);
    }
}

/// D2: a waiter that is dropped gives its turn back.
#[tokio::test]
async fn a_dropped_wait_is_in_nobody_s_way() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let (here, there) = (locks(client, &space).await, locks(client, &space).await);
        let held = claim("a", 1, TTL);
        let token = granted(&here, &held).await;
        let dropped = stand_in_line(&there, &claim("b", 1, TTL)).await;
        let waiter = stand_in_line(&there, &claim("c", 1, TTL)).await;
        dropped.abort();
        sleep(BEGUN).await;
        here.release(&held, token, None).await.expect("an answer");
        timeout(SOON, waiter)
            .await
            .expect("woken")
            .expect("no panic");
    }
}

/// P10: a hand-over passes the others in line by.
#[tokio::test]
async fn a_hand_over_goes_to_whom_it_names() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let (here, there) = (locks(client, &space).await, locks(client, &space).await);
        let held = claim("a", 1, TTL);
        let token = granted(&here, &held).await;
        let first = stand_in_line(&there, &claim("b", 1, TTL)).await;
        let named = claim("c", 1, TTL);
        let second = stand_in_line(&there, &named).await;
        let next = MemberId::from("c");
        here.release(&held, token, Some(&next))
            .await
            .expect("an answer");
        let (token, _) = timeout(SOON, second)
            .await
            .expect("woken")
            .expect("no panic");
        assert!(!first.is_finished());
        // To somebody who is not there: the first in line has it when the second has passed.
        let nobody = MemberId::from("z");
        there
            .release(&named, token, Some(&nobody))
            .await
            .expect("an answer");
        timeout(SOON * 2, first)
            .await
            .expect("woken")
            .expect("no panic");
    }
}

/// The holder is told at once when another has its lease, as after a fail-over that has lost it.
#[tokio::test]
async fn a_holder_is_alarmed_by_another_grant_and_not_by_its_own() {
    for client in CLIENTS {
        let Some(space) = fresh_space() else { return };
        let locks = locks(client, &space).await;
        let held = claim("a", 1, TTL);
        let token = granted(&locks, &held).await;
        let alarm = tokio::spawn({
            let (locks, held) = (locks.clone(), held.clone());
            async move { locks.alarm(&held, token).await }
        });
        sleep(BEGUN).await;
        locks.renew(&held, token).await.expect("an answer");
        sleep(BEGUN).await;
        assert!(!alarm.is_finished(), "nothing has happened");
        // As a fail-over does that has lost the grant.
        let mut talk = Talk::to(space.url()).expect("a connection");
        for key in space.keys().expect("keys") {
            if key.contains(":lock:") {
                talk.ask(&["HSET", &key, "released", "1"])
                    .expect("an answer");
            }
        }
        let next = granted(&locks, &claim("b", 1, TTL)).await;
        assert!(next > token);
        let alarmed = timeout(SOON, alarm).await.expect("alarmed");
        alarmed.expect("no panic").expect("an answer");
        let renewal = locks.renew(&held, token).await.expect("an answer");
        assert_eq!(renewal, Renewal::Lost);
    }
}
