//! Requests that are delayed, lost, or cut off.

use crate::common::{claim, granted, locks, millis, seconds};
use coordinator_core::{Acquisition, ErrorKind, Renewal};
use coordinator_memory::{Delay, Event, MemoryStore};
use tokio::time::{Instant, sleep};

/// W4, clause 4: the retry after a lost reply gets the same grant, not a second one.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_indeterminate_and_the_retry_gets_the_one_grant() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    store.link("a").lose_replies(true);
    let began = Instant::now();
    let error = locks(&a).acquire(&claim("a", 1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
    assert_eq!(began.elapsed(), seconds(5), "a bounded wait");
    store.link("a").lose_replies(false);
    let token = granted(&a, &claim("a", 1, 1)).await;
    let history = store.history();
    assert_eq!(history.len(), 1, "one grant: {history:?}");
    assert!(matches!(&history[0].event, Event::Granted { token: first, .. } if *first == token));
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_indeterminate_and_had_no_effect() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    store.link("a").lose_requests(true);
    let error = locks(&a).acquire(&claim("a", 1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
    granted(&b, &claim("b", 2, 1)).await;
}

/// E5: a cut link refuses what has not left, and never answers what was under way.
#[tokio::test(start_paused = true)]
async fn a_cut_link_is_unavailable_at_once_and_indeterminate_for_what_was_under_way() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let link = store.link("a");
    link.delay(millis(100));
    let cut = async {
        sleep(millis(150)).await;
        link.cut();
    };
    let request = claim("a", 1, 1);
    let locks = locks(&a);
    let (answer, ()) = tokio::join!(locks.acquire(&request), cut);
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Indeterminate);
    let began = Instant::now();
    let error = locks.acquire(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), began.elapsed()),
        (ErrorKind::Unavailable, seconds(0))
    );
    link.heal();
    link.delay(Delay::NONE);
    // It had taken effect: only the reply was cut off.
    granted(&a, &request).await;
    assert_eq!(store.history().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_way_cuts_stop_one_way() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    let link = store.link("a");
    link.cut_requests();
    sleep(seconds(6)).await;
    let error = locks(&a).renew(&claim("a", 1, 1), token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    link.heal();
    link.cut_replies();
    let error = locks(&a).renew(&claim("a", 1, 1), token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate);
    // The renewal at 6 s was heard: the lease lasts until 16 s.
    let held = locks(&b).acquire(&claim("b", 2, 1)).await;
    assert!(matches!(held, Ok(Acquisition::HeldBy(holder)) if holder.free_in == Some(seconds(5))));
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_drawn_from_its_range_each_way() {
    let store = MemoryStore::builder().seed(7).build();
    let a = store.connect("a");
    store.link("a").delay(millis(10)..millis(20));
    for _ in 0..50 {
        let began = Instant::now();
        locks(&a).holder(&"scheduler".into()).await.unwrap();
        let trip = began.elapsed();
        assert!((millis(20)..=millis(42)).contains(&trip), "{trip:?}");
    }
}

/// M7: the store is out as a whole; leases run on by its clock.
#[tokio::test(start_paused = true)]
async fn a_stopped_store_answers_nobody_and_forgets_nothing() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let token = granted(&a, &claim("a", 1, 1)).await;
    store.stop();
    let error = locks(&a).renew(&claim("a", 1, 1), token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    sleep(seconds(9)).await;
    store.start();
    let renewal = locks(&a).renew(&claim("a", 1, 1), token).await;
    assert_eq!(renewal.unwrap(), Renewal::Renewed);
    store.stop();
    sleep(seconds(10)).await;
    store.start();
    let renewal = locks(&a).renew(&claim("a", 1, 1), token).await;
    assert_eq!(renewal.unwrap(), Renewal::Lost);
}

/// Clause 9: waits end when their connection breaks, and the place in line is gone with it.
#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_its_connection_breaks() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    granted(&a, &claim("a", 1, 1)).await;
    let link = store.link("b");
    let cut = async {
        sleep(seconds(1)).await;
        link.cut();
    };
    let request = claim("b", 2, 1);
    let locks = locks(&b);
    let (turn, ()) = tokio::join!(locks.wait_turn(&request), cut);
    assert_eq!(turn.unwrap_err().kind(), ErrorKind::Unavailable);
}
