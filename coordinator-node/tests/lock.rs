//! Locks with fencing tokens, over the memory backend, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{AcquireError, Lock, LockConfig, LostCause, ReleaseError, RunError};
use support::{Watch, node, pass, within};

/// L2, L3: waiters are served in order, one wake-up for each release.
#[tokio::test(start_paused = true)]
async fn waiters_get_the_lock_in_the_order_in_which_they_came() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let lock = a.lock("account/42");
    let first = lock.acquire().await.unwrap();
    let (order, _rest) = (std::sync::Mutex::new(Vec::new()), ());
    let wait = async |number: u32| {
        pass(f64::from(number)).await;
        let guard = within(60.0, lock.acquire()).await.unwrap();
        order.lock().unwrap().push((number, guard.token().unwrap()));
        guard.release().await.unwrap();
    };
    let watch = Watch::start();
    tokio::join!(wait(3), wait(1), wait(2), async {
        pass(5.0).await;
        first.release().await.unwrap();
    });
    let order = order.into_inner().unwrap();
    let numbers: Vec<u32> = order.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(
        order.is_sorted_by_key(|(_, token)| *token),
        "E15: {order:?}"
    );
    assert!(watch.seconds() < 5.2, "{}", watch.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_another_holds_is_not_waited_for_by_a_try() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let held = a
        .lock("report")
        .try_acquire()
        .await
        .unwrap()
        .expect("it is free");
    assert!(b.lock("report").try_acquire().await.unwrap().is_none());
    held.release().await.unwrap();
    assert!(b.lock("report").try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_try_in_an_outage_says_so_and_leaves_nothing_behind() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    store.link("a").lose_replies(true);
    let error = within(20.0, a.lock("report").try_acquire())
        .await
        .expect_err("no answer");
    assert!(matches!(error, AcquireError::Unavailable { .. }), "{error}");
    store.link("a").lose_replies(false);
    pass(3.0).await;
    assert!(
        b.lock("report").try_acquire().await.unwrap().is_some(),
        "handed back"
    );
}

/// `timeout(span, lock.acquire())` is right.
#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_gives_its_place_up() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let lock: Lock = a.lock("l");
    let held = lock.acquire().await.unwrap();
    assert!(
        tokio::time::timeout(Duration::from_secs(3), lock.acquire())
            .await
            .is_err()
    );
    drop(held);
    let watch = Watch::start();
    drop(within(60.0, lock.acquire()).await.unwrap());
    assert!(watch.seconds() < 0.5, "{}", watch.seconds());
}

/// A process that restarts under its static name is not the holder that it was.
#[tokio::test(start_paused = true)]
async fn a_crashed_holder_is_followed_after_its_ttl_and_its_restart_is_another() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let held = a
        .lock(LockConfig::new("l").ttl(Duration::from_secs(4)))
        .acquire()
        .await
        .unwrap();
    let token = held.token().unwrap();
    store.link("a").crash();
    let watch = Watch::start();
    let again = node(&store, "a").await;
    let next = again.lock("l").acquire().await.unwrap();
    assert!(next.token().unwrap() > token);
    assert!(
        watch.seconds() >= 3.6,
        "before the first holder's trust had ended"
    );
    assert!(held.token().is_err());
}

#[tokio::test(start_paused = true)]
async fn run_drops_the_work_when_the_lock_is_lost() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let done = a
        .lock("l")
        .run(async |held| Ok(held.token()?))
        .await
        .expect("it is held");
    assert!(done.get() > 0);
    let lock = a.lock("l");
    let running = lock.run(async |_held| -> Result<(), _> { std::future::pending().await });
    let (ended, ()) = tokio::join!(running, async {
        pass(1.0).await;
        store.link("a").cut();
    });
    assert!(matches!(ended, Err(RunError::Lost(lost)) if lost.cause == LostCause::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_not_confirmed_says_when_it_is_over_all_the_same() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let held = a.lock("l").acquire().await.unwrap();
    store.stop();
    let error = within(60.0, held.release())
        .await
        .expect_err("nobody confirms");
    assert!(matches!(error, ReleaseError::Unconfirmed { .. }), "{error}");
}

/// M6: groups do not share their locks.
#[tokio::test(start_paused = true)]
async fn groups_are_isolated() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let other = coordinator_node::Node::builder("other").backend(store.connect("b"));
    let b = other.start().await.unwrap();
    let _held = a.lock("l").acquire().await.unwrap();
    assert!(b.lock("l").try_acquire().await.unwrap().is_some());
}

/// I2, I6: a store that forgot everything costs a holder nothing, and grants nobody else anything
/// while the holder may trust.
#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_everything_does_not_make_two_holders() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let held = a.lock("l").acquire().await.unwrap();
    let token = held.token().unwrap();
    store.forget_everything();
    let lock = b.lock("l");
    let stolen = tokio::time::timeout(Duration::from_secs(120), lock.acquire()).await;
    assert!(stolen.is_err(), "the holder has re-registered its lease");
    assert_eq!(held.token().unwrap(), token);
    held.release().await.unwrap();
    let next = within(60.0, lock.acquire()).await.unwrap();
    assert!(
        next.token().unwrap() > token,
        "E20: tokens rise through the loss of memory"
    );
}
