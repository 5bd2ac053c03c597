//! Waiting for a lease: in order, woken, and never for ever.

use coordinator_core::{Acquisition, Backend, Release};
use coordinator_memory::MemoryStore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::common::{claim, granted, locks, millis, seconds};

/// Waits, acquires, holds for a second, releases; answers when it was granted.
fn visit(backend: &Backend, name: &'static str, instance: u8) -> JoinHandle<Instant> {
    let locks = locks(backend);
    tokio::spawn(async move {
        let claim = claim(name, instance, 1);
        loop {
            match locks.acquire(&claim).await.expect("an answer") {
                Acquisition::Granted(token) => {
                    let at = Instant::now();
                    sleep(seconds(1)).await;
                    let release = locks.release(&claim, token, None).await;
                    assert_eq!(release.expect("an answer"), Release::Released);
                    return at;
                }
                Acquisition::HeldBy(_) => locks.wait_turn(&claim).await.expect("woken"),
            }
        }
    })
}

/// L3: in the order in which they began to wait, each at the moment of the release before.
#[tokio::test(start_paused = true)]
async fn waiters_get_the_lease_in_order_and_at_once() {
    let store = MemoryStore::new();
    let names = ["a", "b", "c", "d", "e"];
    let began = Instant::now();
    let mut visits = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let instance = u8::try_from(number).unwrap();
        visits.push(visit(&store.connect(name), name, instance));
        sleep(millis(1)).await;
    }
    for (number, visit) in visits.into_iter().enumerate() {
        let waited = visit.await.unwrap() - began;
        let turn = seconds(number as u64);
        assert!(
            (turn..turn + millis(20)).contains(&waited),
            "{number}: {waited:?}"
        );
    }
}

/// L4: the holder dies without a word; the first waiter is woken when the lease runs out.
#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_when_the_lease_of_a_dead_holder_runs_out() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    granted(&a, &claim("a", 1, 1)).await;
    store.link("a").crash();
    let began = Instant::now();
    let waited = visit(&b, "b", 2).await.unwrap() - began;
    assert!(
        (seconds(10)..seconds(10) + millis(5)).contains(&waited),
        "{waited:?}"
    );
}

/// E9, E19: waiters that give up leave nothing behind.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_holds_nobody_up() {
    let store = MemoryStore::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| store.connect(name));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let gone = visit(&b, "b", 2);
    sleep(millis(1)).await;
    let waiting = visit(&c, "c", 3);
    sleep(millis(1)).await;
    gone.abort();
    sleep(millis(1)).await;
    let began = Instant::now();
    locks(&a)
        .release(&claim("a", 1, 1), token, None)
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap(), began);
}

/// P10: the lease is handed to a named member, past those who wait longer.
#[tokio::test(start_paused = true)]
async fn a_released_lease_is_kept_for_the_member_it_was_handed_to() {
    let store = MemoryStore::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| store.connect(name));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let of_b = visit(&b, "b", 2);
    sleep(millis(1)).await;
    let of_c = visit(&c, "c", 3);
    sleep(millis(1)).await;
    let began = Instant::now();
    let next = Some("c".into());
    locks(&a)
        .release(&claim("a", 1, 1), token, next.as_ref())
        .await
        .unwrap();
    assert!(matches!(
        locks(&a).acquire(&claim("a", 1, 2)).await.unwrap(),
        Acquisition::HeldBy(holder) if holder.owner.as_str() == "c"
    ));
    assert_eq!(of_c.await.unwrap(), began);
    assert!(of_b.await.unwrap() >= began + seconds(1));
}

/// P10: the named member does not come; after a second the line moves on.
#[tokio::test(start_paused = true)]
async fn a_hand_over_to_nobody_ends_after_a_second() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let of_b = visit(&b, "b", 2);
    sleep(millis(1)).await;
    let began = Instant::now();
    let nobody = Some("nobody".into());
    locks(&a)
        .release(&claim("a", 1, 1), token, nobody.as_ref())
        .await
        .unwrap();
    let waited = of_b.await.unwrap() - began;
    assert!(
        (seconds(1)..seconds(1) + millis(5)).contains(&waited),
        "{waited:?}"
    );
}

/// E17: an observer hears of each change, expiry included.
#[tokio::test(start_paused = true)]
async fn observers_hear_of_grants_releases_and_expiries() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let watch = |key: &'static str| {
        let locks = locks(&b);
        tokio::spawn(async move { locks.changed(&key.into()).await })
    };
    let hint = watch("scheduler");
    sleep(millis(1)).await;
    let token = granted(&a, &claim("a", 1, 1)).await;
    hint.await.unwrap().unwrap();
    let hint = watch("scheduler");
    sleep(millis(1)).await;
    locks(&a)
        .release(&claim("a", 1, 1), token, None)
        .await
        .unwrap();
    hint.await.unwrap().unwrap();
    granted(&a, &claim("a", 1, 2)).await;
    let began = Instant::now();
    watch("scheduler").await.unwrap().unwrap();
    assert!(began.elapsed() >= seconds(10));
    assert!(
        locks(&b)
            .holder(&"scheduler".into())
            .await
            .unwrap()
            .is_none()
    );
}

/// A-STEP as an input: who waits for an expiry need not wait for the old clock.
#[tokio::test(start_paused = true)]
async fn setting_the_stores_clock_wakes_those_who_wait_for_an_expiry() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    granted(&a, &claim("a", 1, 1)).await;
    let began = Instant::now();
    let of_b = visit(&b, "b", 2);
    let observer = {
        let locks = locks(&a);
        tokio::spawn(async move {
            locks.changed(&"scheduler".into()).await.expect("a hint");
            Instant::now()
        })
    };
    sleep(seconds(1)).await;
    store.step_forward(seconds(9));
    assert_eq!(of_b.await.unwrap() - began, seconds(1));
    assert_eq!(observer.await.unwrap() - began, seconds(1));
}

/// After a restart of the store those who waited stand in line again, and nobody is forgotten.
#[tokio::test(start_paused = true)]
async fn waiters_outlive_a_restart_of_the_store() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let began = Instant::now();
    let of_b = visit(&b, "b", 2);
    sleep(seconds(1)).await;
    store.restart();
    sleep(seconds(1)).await;
    let release = locks(&a).release(&claim("a", 1, 1), token, None).await;
    assert_eq!(release.unwrap(), Release::Released);
    assert_eq!(of_b.await.unwrap() - began, seconds(2));
}
