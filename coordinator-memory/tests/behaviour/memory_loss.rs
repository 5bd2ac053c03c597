//! A store that forgets: everything, its last writes, or one member.

use crate::common::{claim, granted, group, heartbeat, joined, locks, members, seconds};
use coordinator_core::{
    Acquisition, Beat, Bytes, ErrorKind, Eviction, FencingToken, LockError, MemberState, Renewal,
    Swap, Swapped,
};
use coordinator_memory::MemoryStore;
use tokio::time::sleep;

/// I5: nothing was forgotten yet.
#[tokio::test(start_paused = true)]
async fn a_new_store_grants_at_once() {
    let store = MemoryStore::new();
    granted(&store.connect("a"), &claim("a", 1, 1)).await;
    assert_eq!(store.quarantine(), None);
}

/// E20, I2, K4: nothing is granted for one `max_ttl`, and tokens rise.
#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_everything_grants_nothing_for_the_longest_ttl() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    store.forget_everything();
    sleep(seconds(29)).await;
    let refused = locks(&b).acquire(&claim("b", 2, 1)).await.unwrap_err();
    let left = ErrorKind::Quarantined {
        ends_within: seconds(1),
    };
    assert_eq!(refused.kind(), left);
    sleep(seconds(1)).await;
    assert!(granted(&b, &claim("b", 2, 1)).await > token);
}

/// I6: a flush costs no term, if the holder renews within the quarantine.
#[tokio::test(start_paused = true)]
async fn a_holder_keeps_its_token_through_the_quarantine_and_beyond() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let mine = claim("a", 1, 1);
    let token = granted(&a, &mine).await;
    store.forget_everything();
    assert_eq!(locks(&b).holder(&mine.key).await.unwrap(), None);
    for _ in 0..10 {
        let renewal = locks(&a).renew(&mine, token).await.unwrap();
        assert_eq!(renewal, Renewal::Renewed);
        sleep(seconds(4)).await;
    }
    assert_eq!(store.quarantine(), None);
    let held = locks(&b).acquire(&claim("b", 2, 1)).await.unwrap();
    assert!(matches!(held, Acquisition::HeldBy(holder) if holder.token == token));
}

/// I6 ends with the quarantine: a holder that comes later has lost.
#[tokio::test(start_paused = true)]
async fn a_holder_that_missed_the_quarantine_is_lost() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let token = granted(&a, &claim("a", 1, 1)).await;
    store.forget_everything();
    sleep(seconds(30)).await;
    let renewal = locks(&a).renew(&claim("a", 1, 1), token).await.unwrap();
    assert_eq!(renewal, Renewal::Lost);
}

/// A quarantine is not shortened by setting the wall clock.
#[tokio::test(start_paused = true)]
async fn the_quarantine_lasts_in_true_time() {
    let store = MemoryStore::builder().max_ttl(seconds(10)).build();
    let a = store.connect("a");
    store.forget_everything();
    store.step_forward(seconds(60));
    assert_eq!(store.quarantine(), Some(seconds(10)));
    let refused = locks(&a).acquire(&claim("a", 1, 1)).await;
    assert!(matches!(refused, Err(LockError::Quarantined { .. })));
}

/// I5: the option for tests that do not care.
#[tokio::test(start_paused = true)]
async fn a_trusted_empty_store_grants_at_once() {
    let store = MemoryStore::builder().trust_empty_store(true).build();
    let a = store.connect("a");
    let token = granted(&a, &claim("a", 1, 1)).await;
    store.forget_everything();
    // Rises, though the key is forgotten and the clock stands: by the floor that was seen.
    let again = claim("a", 1, 2).floor(Some(token));
    assert!(granted(&a, &again).await > token);
}

/// E20, K4: the last writes are lost with the old primary; tokens go on above what was seen.
#[tokio::test(start_paused = true)]
async fn a_fail_over_that_loses_writes_waits_and_then_grants_higher_tokens() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let first = granted(&a, &claim("a", 1, 1)).await;
    let replica = store.replica();
    locks(&a)
        .release(&claim("a", 1, 1), first, None)
        .await
        .unwrap();
    let second = granted(&b, &claim("b", 2, 1)).await;
    store.fail_over(replica);
    // By the replica's account a holds the lease; b, who does, may say so (I6).
    let renewal = locks(&b).renew(&claim("b", 2, 1), second).await.unwrap();
    assert_eq!(renewal, Renewal::Renewed);
    let renewal = locks(&a).renew(&claim("a", 1, 1), first).await.unwrap();
    assert_eq!(renewal, Renewal::Lost);
    sleep(seconds(30)).await;
    let third = granted(&a, &claim("a", 1, 2)).await;
    assert!(third > second, "{third} is not above {second}");
}

/// S12, clause 10: each heartbeat's answer names the memory, and the unknown are told to rejoin.
#[tokio::test(start_paused = true)]
async fn members_learn_of_the_new_memory_and_join_anew_in_quarantine() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let life = joined(&a, "a", 1).await;
    let memory = |beat| match beat {
        Beat::Alive { memory, .. } => memory,
        other => panic!("{other:?}"),
    };
    let before = members(&a)
        .heartbeat(&heartbeat("a", life, 1))
        .await
        .unwrap();
    let replica = store.replica();
    store.fail_over(replica);
    let after = members(&a)
        .heartbeat(&heartbeat("a", life, 2))
        .await
        .unwrap();
    assert_ne!(memory(before), memory(after));
    store.forget_everything();
    let beat = members(&a).heartbeat(&heartbeat("a", life, 3)).await;
    assert_eq!(beat.unwrap(), Beat::Expired);
    assert!(joined(&a, "a", 1).await > life);
}

/// A fail-over must not make old versions look new, or new ones old.
#[tokio::test(start_paused = true)]
async fn after_a_fail_over_every_member_hears_the_news() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let life = joined(&a, "a", 1).await;
    let replica = store.replica();
    joined(&a, "lost", 2).await;
    let known = members(&a).snapshot(&group()).await.unwrap().versions;
    store.fail_over(replica);
    joined(&a, "other", 3).await;
    let mut beat = heartbeat("a", life, 1);
    beat.known = known;
    let Beat::Alive {
        news: Some(news), ..
    } = members(&a).heartbeat(&beat).await.unwrap()
    else {
        panic!("the snapshot is another");
    };
    assert_eq!(news.members.len(), 2);
}

/// The same, where nothing but the wall clock could tell the versions apart, and it stands.
#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_empty_tells_no_version_twice() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    for name in ["a", "b", "c", "d", "e"] {
        joined(&a, name, 1).await;
    }
    let before = members(&a).snapshot(&group()).await.unwrap().versions;
    store.forget_everything();
    joined(&a, "a", 1).await;
    let after = members(&a).snapshot(&group()).await.unwrap().versions;
    assert!(after.members > before.members && after.reports > before.reports);
}

/// G7, M3: a record that was deleted underneath ends nobody before `max_ttl` has passed.
#[tokio::test(start_paused = true)]
async fn an_erased_member_is_not_ended_until_it_was_evicted_and_could_not_trust_any_more() {
    let store = MemoryStore::new();
    let a = store.connect("a");
    let life = joined(&a, "a", 1).await;
    assert_eq!(store.erase_member("fleet", "a"), 1);
    let beat = members(&a).heartbeat(&heartbeat("a", life, 1)).await;
    assert_eq!(beat.unwrap(), Beat::Expired);
    let assignments = a.assignments.clone().expect("it has assignments");
    let document = Bytes::from_static(b"x");
    let mut swap = Swap::new(group(), "orders".into(), FencingToken::new(1), document);
    swap.ended = vec![("a".into(), life)];
    let refused = assignments.swap(&swap).await.unwrap();
    assert_eq!(refused, Swapped::NotEnded(swap.ended.clone()));
    let eviction = members(&a).evict(&group(), &"a".into(), life).await;
    assert_eq!(eviction.unwrap(), Eviction::Entered);
    sleep(seconds(29)).await;
    let refused = assignments.swap(&swap).await.unwrap();
    assert_eq!(refused, Swapped::NotEnded(swap.ended.clone()));
    sleep(seconds(1)).await;
    let stored = assignments.swap(&swap).await.unwrap();
    assert!(matches!(stored, Swapped::Stored(_)));
    let snapshot = members(&a).snapshot(&group()).await.unwrap();
    let state = snapshot.members[0].state;
    assert!(matches!(state, MemberState::Ended { .. }), "{state:?}");
}

/// I2, clause 7 of the assignments.
#[tokio::test(start_paused = true)]
async fn no_assignment_is_swapped_in_quarantine() {
    let store = MemoryStore::new();
    let assignments = store.connect("a").assignments.expect("it has assignments");
    let document = Bytes::from_static(b"x");
    let swap = Swap::new(group(), "orders".into(), FencingToken::new(1), document);
    store.forget_everything();
    let refused = assignments.swap(&swap).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Quarantined { .. }));
    sleep(seconds(30)).await;
    let stored = assignments.swap(&swap).await.unwrap();
    assert!(matches!(stored, Swapped::Stored(_)));
}

/// A-STEP as an input: a store clock that is set forward ends leases early.
#[tokio::test(start_paused = true)]
async fn setting_the_stores_clock_forward_ends_leases_and_back_prolongs_them() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    store.step_forward(seconds(10));
    let next = granted(&b, &claim("b", 2, 1)).await;
    assert!(next > token);
    store.step_back(seconds(60));
    sleep(seconds(60)).await;
    let held = locks(&a).acquire(&claim("a", 1, 2)).await.unwrap();
    assert!(matches!(held, Acquisition::HeldBy(holder) if holder.free_in == Some(seconds(10))));
    sleep(seconds(10)).await;
    assert!(granted(&a, &claim("a", 1, 2)).await > next);
}

/// K4: ended by an administrator, the lease is free, and the row stays.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_ended_by_hand_is_granted_again_under_a_higher_token() {
    let store = MemoryStore::new();
    let (a, b) = (store.connect("a"), store.connect("b"));
    let token = granted(&a, &claim("a", 1, 1)).await;
    assert!(store.expire_lease("scheduler"));
    assert!(!store.expire_lease("scheduler"));
    assert!(granted(&b, &claim("b", 2, 1)).await > token);
}
