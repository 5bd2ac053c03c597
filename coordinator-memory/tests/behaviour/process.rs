//! Members that are frozen, and members that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{claim, granted, locks, millis, seconds};
use coordinator_core::{Acquisition, Backend, ErrorKind, Release};
use coordinator_memory::MemoryStore;
use tokio::time::{Instant, sleep, timeout};

/// Counts the seconds on the member's own executor.
fn tick(backend: &Backend) -> Arc<AtomicU64> {
    let ticks = Arc::new(AtomicU64::new(0));
    let counted = ticks.clone();
    let executor = backend.executor.clone().expect("it has an executor");
    executor.spawn(Box::pin(async move {
        loop {
            sleep(seconds(1)).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    ticks
}

/// E12: a stalled member does nothing, and then goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_paused_member_runs_nothing_while_time_goes_on_and_goes_on_after_that() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let (of_a, of_b) = (tick(&a), tick(&b));
    sleep(millis(5500)).await;
    store.link("a").pause();
    sleep(seconds(60)).await;
    assert_eq!(of_a.load(Ordering::Relaxed), 5);
    assert_eq!(of_b.load(Ordering::Relaxed), 65);
    store.link("a").resume();
    sleep(seconds(10)).await;
    // The sleep that the pause fell into was over at once.
    assert_eq!(of_a.load(Ordering::Relaxed), 15);
}

/// E12: the lease of a frozen holder runs out, and its next renewal finds out.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_paused_past_its_lease_has_lost_it_on_waking() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let link = store.link("a");
    link.pause();
    let frozen = {
        let (link, locks) = (link.clone(), locks(&a));
        tokio::spawn(async move {
            let renewal = async { locks.renew(&claim("a", 1, 1), token).await };
            link.run(renewal).await
        })
    };
    sleep(seconds(11)).await;
    let next = granted(&b, &claim("b", 2, 1)).await;
    assert!(next > token);
    assert!(!frozen.is_finished());
    link.resume();
    let renewal = frozen.await.expect("it does not panic");
    assert_eq!(
        renewal.expect("no crash").expect("an answer"),
        coordinator_core::Renewal::Lost
    );
}

/// A request that has left takes effect, whatever becomes of its sender.
#[tokio::test(start_paused = true)]
async fn a_request_under_way_takes_effect_though_its_sender_is_paused_or_gives_up() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    store.link("a").delay(millis(500));
    let request = claim("a", 1, 1);
    let locks_of_a = locks(&a);
    let asked = timeout(millis(100), locks_of_a.acquire(&request));
    assert!(asked.await.is_err(), "given up while under way");
    store.link("a").pause();
    sleep(seconds(1)).await;
    let holder = locks(&b).holder(&request.key).await.unwrap().unwrap();
    assert_eq!(holder.owner.as_str(), "a");
}

/// E4: a kill releases nothing; the lease runs out.
#[tokio::test(start_paused = true)]
async fn a_crash_drops_all_tasks_and_releases_nothing() {
    /// Tries to release on its way out, as a guard's `drop` may.
    struct Guard(Backend, Arc<AtomicU64>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let (locks, executor) = (locks(&self.0), self.0.executor.clone());
            let released = self.1.clone();
            executor.expect("it has one").spawn(Box::pin(async move {
                let token = coordinator_core::FencingToken::new(1);
                drop(locks.release(&claim("a", 1, 1), token, None).await);
                released.fetch_add(1, Ordering::Relaxed);
            }));
        }
    }
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let ticks = tick(&a);
    let released = Arc::new(AtomicU64::new(0));
    let guard = Guard(a.clone(), released.clone());
    let executor = a.executor.clone().expect("it has one");
    executor.spawn(Box::pin(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    }));
    let token = granted(&a, &claim("a", 1, 1)).await;
    sleep(millis(3500)).await;
    store.link("a").crash();
    sleep(seconds(6)).await;
    assert_eq!(ticks.load(Ordering::Relaxed), 3);
    assert_eq!(released.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&ticks), 1, "the task was dropped");
    assert!(matches!(
        locks(&b).acquire(&claim("b", 2, 1)).await,
        Ok(Acquisition::HeldBy(holder)) if holder.token == token
    ));
    sleep(seconds(1)).await;
    granted(&b, &claim("b", 2, 1)).await;
}

/// What the dead process's parts are asked does not reach the store.
#[tokio::test(start_paused = true)]
async fn a_crashed_process_can_ask_nothing_and_the_next_start_of_its_name_can() {
    let store = MemoryStore::new();
    let first = store.connect("a");
    let token = granted(&first, &claim("a", 1, 1)).await;
    store.link("a").crash();
    let mine = claim("a", 1, 1);
    let error = locks(&first).release(&mine, token, None).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    let second = store.connect("a");
    assert_ne!(first.seed, second.seed, "another start makes other choices");
    let taken = locks(&second).acquire(&claim("a", 2, 1)).await;
    assert!(matches!(taken, Ok(Acquisition::HeldBy(_))), "{taken:?}");
}

/// A kill ends a freeze: who starts again under the name runs.
#[tokio::test(start_paused = true)]
async fn what_connects_after_the_crash_of_a_paused_process_is_not_paused() {
    let store = MemoryStore::new();
    let before = tick(&store.connect("a"));
    store.link("a").pause();
    let frozen = tick(&store.connect("a"));
    store.link("a").crash();
    let after = tick(&store.connect("a"));
    sleep(millis(3500)).await;
    let ticks = [&before, &frozen, &after].map(|ticks| ticks.load(Ordering::Relaxed));
    assert_eq!(ticks, [0, 0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_future_of_the_tests_own_is_dropped_by_the_crash() {
    let store = MemoryStore::new();
    store.connect("a");
    let link = store.link("a");
    let crash = async {
        sleep(seconds(3)).await;
        link.crash();
    };
    let (ended, ()) = tokio::join!(link.run(std::future::pending::<()>()), crash);
    assert_eq!(ended, None);
}

/// L4: a frozen waiter is passed by; it costs its turn, not more.
#[tokio::test(start_paused = true)]
async fn a_paused_waiter_holds_up_those_behind_it_for_one_turn() {
    let store = MemoryStore::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| store.connect(name));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let wait = |backend: &Backend, name: &'static str, instance| {
        let (link, locks) = (store.link(name), locks(backend));
        tokio::spawn(async move {
            let turn = async { locks.wait_turn(&claim(name, instance, 1)).await };
            link.run(turn).await
        })
    };
    let of_b = wait(&b, "b", 2);
    sleep(millis(1)).await;
    let of_c = wait(&c, "c", 3);
    sleep(millis(1)).await;
    store.link("b").pause();
    let released = locks(&a).release(&claim("a", 1, 1), token, None).await;
    assert_eq!(released.unwrap(), Release::Released);
    let began = Instant::now();
    of_c.await.unwrap().expect("no crash").expect("woken");
    assert!(began.elapsed() >= Duration::from_millis(2500), "b's turn");
    assert!(began.elapsed() < Duration::from_millis(2600));
    granted(&c, &claim("c", 3, 1)).await;
    assert!(!of_b.is_finished());
}
