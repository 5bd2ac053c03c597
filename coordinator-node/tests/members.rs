//! Members over the memory backend, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{Backend, MemberSource, Members, Node, StartError};
use support::{Watch, builder, node, pass, within};

fn names(members: &Members) -> Vec<String> {
    let current = members.current();
    current.iter().map(|member| member.id.to_string()).collect()
}

/// Waits until these members live.
async fn sees(members: &mut Members, wanted: &[&str]) {
    within(60.0, async {
        while names(members) != wanted {
            assert!(members.changed().await, "the node has not shut down");
        }
    })
    .await;
}

/// M1.
#[tokio::test(start_paused = true)]
async fn members_see_each_other_join_leave_and_die() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut members = a.members();
    sees(&mut members, &["a"]).await;
    let b = node(&store, "b").await;
    let _c = node(&store, "c").await;
    sees(&mut members, &["a", "b", "c"]).await;
    let watch = Watch::start();
    b.shutdown().await.expect("nothing is busy");
    sees(&mut members, &["a", "c"]).await;
    assert!(
        watch.seconds() < 1.0,
        "a leave is seen at once: {}",
        watch.seconds()
    );
    store.link("c").crash();
    let watch = Watch::start();
    sees(&mut members, &["a"]).await;
    assert!(
        watch.seconds() <= 10.5,
        "a death within a ttl: {}",
        watch.seconds()
    );
}

/// M2, G1: who comes back is another life.
#[tokio::test(start_paused = true)]
async fn a_member_that_expired_comes_back_as_another_incarnation() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut members = a.members();
    sees(&mut members, &["a", "b"]).await;
    let before = members.current()[1].incarnation;
    store.link("b").cut();
    sees(&mut members, &["a"]).await;
    store.link("b").heal();
    sees(&mut members, &["a", "b"]).await;
    assert!(members.current()[1].incarnation > before);
    b.shutdown().await.expect("it lives again");
}

/// M3, G7: its record is deleted underneath it.
#[tokio::test(start_paused = true)]
async fn a_member_whose_record_was_deleted_joins_anew() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut members = a.members();
    sees(&mut members, &["a"]).await;
    let before = members.current()[0].incarnation;
    assert_eq!(store.erase_member("test", "a"), 1);
    let back = async {
        while members
            .current()
            .first()
            .is_none_or(|member| member.incarnation == before)
        {
            assert!(members.changed().await);
        }
    };
    within(10.0, back).await;
}

/// M5: one heartbeat of three is lost.
#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_costs_nothing() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut members = a.members();
    sees(&mut members, &["a"]).await;
    let before = members.current()[0].incarnation;
    for _ in 0..10 {
        pass(5.0).await;
        store.link("a").lose_replies(true);
        pass(3.5).await;
        store.link("a").clear();
    }
    assert_eq!(members.current()[0].incarnation, before);
}

/// M7: the store is out for longer than the ttl.
#[tokio::test(start_paused = true)]
async fn after_a_long_outage_everybody_comes_back() {
    let store = MemoryStore::new();
    let (a, _b) = (node(&store, "a").await, node(&store, "b").await);
    let mut members = a.members();
    sees(&mut members, &["a", "b"]).await;
    let before: Vec<_> = members
        .current()
        .iter()
        .map(|member| member.incarnation)
        .collect();
    store.stop();
    pass(60.0).await;
    store.start();
    let back = || {
        let current = members.current();
        current.len() == 2
            && current
                .iter()
                .zip(&before)
                .all(|(now, old)| now.incarnation > *old)
    };
    within(15.0, async {
        while !back() {
            pass(0.01).await;
        }
    })
    .await;
}

/// G3: the others hear of it at once, and it survives a new life.
#[tokio::test(start_paused = true)]
async fn announced_metadata_reaches_the_others_and_stays_through_a_new_life() {
    let store = MemoryStore::new();
    let (a, b) = (
        builder(&store, "a").metadata("port", "80"),
        node(&store, "b").await,
    );
    let a = a.start().await.unwrap();
    let mut members = b.members();
    let port = |members: &Members| {
        let current = members.current();
        let found = current.iter().find(|member| member.id.as_str() == "a");
        found.and_then(|member| member.profile.metadata.get("port").cloned())
    };
    let sees_port = async |members: &mut Members, wanted: &str| {
        while port(members).as_deref() != Some(wanted) {
            assert!(members.changed().await);
        }
    };
    within(5.0, sees_port(&mut members, "80")).await;
    store.link("a").lose_requests(true);
    a.members()
        .announce([("port", "8080")])
        .expect("not too much");
    pass(1.0).await;
    store.link("a").clear();
    within(5.0, sees_port(&mut members, "8080")).await;
    store.link("a").cut();
    pass(30.0).await;
    store.link("a").heal();
    within(15.0, sees_port(&mut members, "8080")).await;
    let error = a
        .members()
        .announce([("x", "y".repeat(20_000))])
        .unwrap_err();
    assert_eq!((error.given, error.most), (20_001, 16_384));
}

/// G3, I2: what a store has lost is announced again. Found by the simulation: a member whose word that it
/// serves a keyspace was lost got no shard of it, for ever.
#[tokio::test(start_paused = true)]
async fn what_a_store_has_lost_in_a_fail_over_is_announced_again() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut members = b.members();
    sees(&mut members, &["a", "b"]).await;
    let replica = store.replica();
    let announced = |members: &Members| {
        let current = members.current();
        let found = current.iter().find(|member| member.id.as_str() == "a");
        found.is_some_and(|member| member.profile.metadata.contains_key("port"))
    };
    a.members()
        .announce([("port", "8080")])
        .expect("not too much");
    within(5.0, async {
        while !announced(&members) {
            assert!(members.changed().await);
        }
    })
    .await;
    store.fail_over(replica);
    pass(30.0).await;
    assert!(announced(&members), "{:?}", members.current());
}

/// G2.
#[tokio::test(start_paused = true)]
async fn a_static_name_that_lives_elsewhere_is_refused() {
    let store = MemoryStore::new();
    let _first = node(&store, "a").await;
    let watch = Watch::start();
    let error = within(60.0, builder(&store, "a").start())
        .await
        .unwrap_err();
    assert!(
        matches!(error, StartError::DuplicateName { ref member, .. } if member.as_str() == "a")
    );
    assert!(watch.seconds() < 11.0, "{}", watch.seconds());
}

/// G2: a restart under a static name waits for the end of the life before.
#[tokio::test(start_paused = true)]
async fn a_restart_after_a_crash_waits_for_its_own_old_life() {
    let store = MemoryStore::new();
    let first = node(&store, "a").await;
    store.link("a").crash();
    drop(first);
    let watch = Watch::start();
    let second = within(60.0, builder(&store, "a").start()).await;
    second.expect("the old life ends within its ttl");
    assert!(
        (5.0..11.0).contains(&watch.seconds()),
        "{}",
        watch.seconds()
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_without_a_store_gives_up_and_says_why() {
    let store = MemoryStore::new();
    store.stop();
    let watch = Watch::start();
    let error = within(60.0, builder(&store, "a").start())
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Unavailable { .. }), "{error}");
    assert!(watch.seconds() < 15.0, "{}", watch.seconds());
}

/// I5, I2: a store that has lost its memory, or is new and cannot tell, names the end of its quarantine:
/// a start under a static name waits for it, however short its own ttl is.
#[tokio::test(start_paused = true)]
async fn a_start_under_a_static_name_waits_for_the_end_of_a_quarantine() {
    let store = MemoryStore::new();
    store.forget_everything();
    let watch = Watch::start();
    let started = builder(&store, "a").ttl(Duration::from_secs(1)).start();
    let node = within(60.0, started).await;
    node.expect("the quarantine ends");
    let waited = watch.seconds();
    assert!((29.0..32.0).contains(&waited), "{waited}");
}

/// H17: handles outlive the node without a panic.
#[tokio::test(start_paused = true)]
async fn handles_go_on_after_shutdown_and_say_that_it_is_over() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut members = a.members();
    sees(&mut members, &["a"]).await;
    let waiting = async {
        while members.changed().await {}
        members.current().len()
    };
    let (left, ended) = tokio::join!(waiting, a.shutdown());
    ended.expect("nothing is busy");
    assert!(left <= 1);
    assert!(!a.members().changed().await);
    a.members()
        .announce([("late", "word")])
        .expect("nobody hears it");
}

/// A node on locks alone has no members, and starts all the same.
#[tokio::test(start_paused = true)]
async fn a_node_without_members_starts_and_shuts_down() {
    let store = MemoryStore::new();
    let backend = Backend {
        locks: store.connect("a").locks,
        clock: store.connect("a").clock,
        ..Backend::default()
    };
    let a = Node::builder("test")
        .backend(backend)
        .start()
        .await
        .unwrap();
    assert_eq!(a.members().current(), []);
    assert_eq!(a.members().source(), MemberSource::Nothing);
    let quiet = tokio::time::timeout(Duration::from_secs(60), async {
        let mut members = a.members();
        members.changed().await
    });
    assert!(quiet.await.is_err(), "nothing ever changes");
    a.shutdown().await.expect("nothing to leave");
}

/// M6.
#[tokio::test(start_paused = true)]
async fn groups_do_not_see_each_other() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let other = Node::builder("other")
        .member("a")
        .backend(store.connect("x"));
    let other = other.start().await.expect("the same name in another group");
    let mut members = a.members();
    sees(&mut members, &["a"]).await;
    pass(30.0).await;
    assert_eq!(names(&members), ["a"]);
    assert_eq!(names(&other.members()), ["a"]);
}

/// Versions are compared only within one memory of the store: after a fail-over they may be lower,
/// and yet be the newest.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_out_when_the_store_falls_back_looks_on_at_a_measured_pace() {
    let store = MemoryStore::new();
    let (a, _b) = (node(&store, "a").await, node(&store, "b").await);
    let members = a.members();
    let replica = store.replica();
    let c = node(&store, "c").await;
    pass(1.0).await;
    assert_eq!(members.current().len(), 3);
    store.link("a").pause();
    c.shutdown().await.expect("the store confirms");
    store.fail_over(replica);
    pass(60.0).await;
    store.link("a").resume();
    // Time itself would stand still if it read the store again and again.
    pass(60.0).await;
    let names: Vec<String> = members
        .current()
        .iter()
        .map(|it| it.id.to_string())
        .collect();
    assert_eq!(names, ["a", "b"]);
}
