//! Shards under a planner by hand: what a member does with each document, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/shards.rs"]
mod fleet;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::{Layout, Swapped};
use coordinator_node::{
    AcquireError, LostCause, MemberSource, OnError, OwnedShard, RunError, SaveError, ShardConfig,
    ShutdownError,
};
use fleet::{Log, Plan, Say, node, serve, unplanned, until};
use support::{Watch, pass, within};

const TWO: Layout = Layout::Fixed { shards: 2 };
const QUICK: Duration = Duration::ZERO;

fn orders() -> ShardConfig {
    ShardConfig::new("orders", 2)
}

/// S1, S3.
#[tokio::test(start_paused = true)]
async fn a_member_works_on_what_is_granted_to_it_under_the_epoch_of_the_grant() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let running = serve(&a, &log, orders(), QUICK);
    let mut plan = Plan::new(&store, "orders", TWO);
    let epoch = plan.say(&[Say::Owned("a"), Say::Free]).await;
    within(1.0, until(|| log.held_by("a") == [0])).await;
    assert_eq!(log.stints()[0].token, epoch.get());
    a.shutdown().await.expect("nothing is busy");
    running
        .await
        .expect("no panic")
        .expect("a shutdown is a clean end");
    assert!(log.held_by("a").is_empty());
}

/// H8, S4.
#[tokio::test(start_paused = true)]
async fn a_shard_is_acked_only_when_its_work_has_drained() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), Duration::from_secs(5));
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Owned("a")]).await;
    until(|| log.held_by("a") == [0, 1]).await;
    let watch = Watch::start();
    plan.say(&[Say::Revoking("a", token), Say::Still("a", token)])
        .await;
    within(30.0, plan.acked("a")).await;
    assert!((5.0..5.5).contains(&watch.seconds()), "{}", watch.seconds());
    assert_eq!(log.held_by("a"), [1], "the other goes on");
}

/// H8, S4: cancelled at the deadline, then acked.
#[tokio::test(start_paused = true)]
async fn a_drain_that_overruns_is_cancelled_at_its_deadline() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), Duration::from_hours(1));
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Free]).await;
    until(|| log.held_by("a") == [0]).await;
    let watch = Watch::start();
    plan.say(&[Say::Revoking("a", token), Say::Free]).await;
    within(30.0, plan.acked("a")).await;
    assert!(
        (10.0..10.5).contains(&watch.seconds()),
        "{}",
        watch.seconds()
    );
    assert!(log.held_by("a").is_empty());
}

/// S4: a guard that outlives its cancelled work holds the ack back, and the shutdown names it.
#[tokio::test(start_paused = true)]
async fn a_guard_that_outlives_its_work_is_never_acked_and_is_named_at_shutdown() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let kept: Arc<Mutex<Vec<OwnedShard>>> = Arc::default();
    let keeping = kept.clone();
    let config = orders().drain_timeout(Duration::from_secs(3));
    let runner = a.clone();
    let _running = tokio::spawn(async move {
        let work = move |shard: OwnedShard| {
            keeping.lock().unwrap().push(shard);
            std::future::pending()
        };
        runner.run_shards(config, work).await
    });
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Free]).await;
    until(|| kept.lock().unwrap().len() == 1).await;
    plan.say(&[Say::Revoking("a", token), Say::Free]).await;
    pass(20.0).await;
    let report = plan.report("a").await;
    assert_eq!(
        report.draining.len(),
        1,
        "the work is gone, the guard is not"
    );
    assert_eq!(
        kept.lock().unwrap()[0].token().unwrap_err().cause,
        LostCause::Overran
    );
    let error = a.shutdown().await.expect_err("the guard is still there");
    let ShutdownError::Overran { names } = error else {
        panic!("{error}");
    };
    assert_eq!(names, ["shard orders/0"]);
}

/// H5, T1, S1: it stops by its own deadline, and comes back with nothing.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_stops_at_the_end_of_trust_and_comes_back_with_nothing() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), QUICK);
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Owned("a")]).await;
    until(|| log.held_by("a") == [0, 1]).await;
    let old = plan.life("a").await;
    let watch = Watch::start();
    store.link("a").cut();
    until(|| log.held_by("a").is_empty()).await;
    assert!(watch.seconds() <= 9.1, "{}", watch.seconds());
    let early = plan
        .swap(&[Say::Free, Say::Free], vec![("a".into(), old)])
        .await;
    assert!(
        matches!(early, Swapped::NotEnded(_)),
        "the store's lease is longer than trust"
    );
    pass(5.0).await;
    store.link("a").heal();
    pass(20.0).await;
    assert!(plan.life("a").await > old);
    assert!(log.held_by("a").is_empty());
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    within(1.0, until(|| log.held_by("a") == [0])).await;
    log.check_one_owner();
}

/// T5, S3: frozen past the end of trust, it finds on waking that everything is over.
#[tokio::test(start_paused = true)]
async fn a_member_that_was_frozen_past_its_lease_finds_everything_lost_on_waking() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let late = Arc::new(AtomicU32::new(0));
    let (runner, counting, clock) = (a.clone(), late.clone(), Arc::new(Watch::start()));
    let _running = tokio::spawn(async move {
        let work = move |shard: OwnedShard| {
            let (counting, clock) = (counting.clone(), clock.clone());
            async move {
                while shard.tick(Duration::from_millis(100)).await {
                    if clock.seconds() > 20.0 && clock.seconds() < 70.0 && shard.token().is_ok() {
                        counting.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            }
        };
        runner.run_shards(orders(), work).await
    });
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    pass(10.0).await;
    store.link("a").pause();
    pass(50.0).await;
    store.link("a").resume();
    pass(50.0).await;
    assert_eq!(late.load(Ordering::Relaxed), 0);
}

/// H9, S3.
#[tokio::test(start_paused = true)]
async fn every_member_goes_from_plan_to_plan_and_never_back() {
    let store = MemoryStore::new();
    let (a, b, log) = (
        node(&store, "a").await,
        node(&store, "b").await,
        Log::default(),
    );
    let _running = (
        serve(&a, &log, orders(), QUICK),
        serve(&b, &log, orders(), QUICK),
    );
    let mut plan = Plan::new(&store, "orders", TWO);
    let first = plan.say(&[Say::Owned("a"), Say::Owned("b")]).await;
    until(|| log.held_by("a") == [0] && log.held_by("b") == [1]).await;
    plan.say(&[Say::Revoking("a", first), Say::Still("b", first)])
        .await;
    plan.acked("a").await;
    store.link("a").delay(Duration::from_secs(2));
    plan.say(&[Say::Owned("b"), Say::Still("b", first)]).await;
    until(|| log.held_by("b") == [0, 1]).await;
    pass(10.0).await;
    assert!(log.held_by("a").is_empty());
    log.check_one_owner();
}

/// H11.
#[tokio::test(start_paused = true)]
async fn another_shard_count_than_the_stored_one_is_an_error_that_names_both() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Free, Say::Free]).await;
    let work = |_: OwnedShard| async { Ok(()) };
    let error = a
        .run_shards(ShardConfig::new("orders", 3), work)
        .await
        .unwrap_err();
    let RunError::Acquire(AcquireError::Rejected { source, .. }) = error else {
        panic!("{error}");
    };
    let text = source.to_string();
    assert!(
        text.contains("fixed(2)") && text.contains("fixed(3)"),
        "{text}"
    );
    let dense = a
        .run_dense("orders", |_| async { Ok(()) })
        .await
        .unwrap_err();
    assert!(matches!(
        dense,
        RunError::Acquire(AcquireError::Rejected { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_not_allowed_say_what_is() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let refused = async |config: ShardConfig| match a.shards(config).await {
        Err(AcquireError::Rejected { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    let none = refused(ShardConfig::new("orders", 0)).await;
    assert_eq!(none, "0 shards are not allowed: choose 1 to 65535");
    let empty = refused(ShardConfig::new("", 1)).await;
    assert!(empty.contains("empty"), "{empty}");
    let zero = refused(orders().drain_timeout(Duration::ZERO)).await;
    assert!(zero.contains("drain_timeout"), "{zero}");
    let _first = a.shards(orders()).await.expect("the first service");
    let second = refused(orders()).await;
    assert!(second.contains("already"), "{second}");
}

/// H12: the heartbeat that carries the ack is lost; the next one carries it again.
#[tokio::test(start_paused = true)]
async fn an_ack_that_was_lost_is_repeated() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), Duration::from_secs(1));
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Free]).await;
    until(|| log.held_by("a") == [0]).await;
    plan.say(&[Say::Revoking("a", token), Say::Free]).await;
    pass(0.5).await;
    store.link("a").lose_requests(true);
    pass(2.0).await;
    assert_eq!(plan.report("a").await.draining.len(), 1);
    store.link("a").clear();
    within(9.0, plan.acked("a")).await;
}

/// H14, C1: a checkpoint is refused from an old owner, and never goes back.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_claimed_by_the_new_owner_and_refused_from_the_old() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut by_a = a.shards(orders()).await.unwrap();
    let mut by_b = b.shards(orders()).await.unwrap();
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    let old = within(5.0, by_a.next()).await.expect("a shard");
    assert_eq!(old.load::<u64>().await.unwrap(), None);
    old.save(7).await.unwrap();
    // Against all rules: the store says that `b` owns it while `a` still holds its guard.
    plan.say(&[Say::Owned("b"), Say::Free]).await;
    let new = within(5.0, by_b.next()).await.expect("a shard");
    assert_eq!(new.load::<u64>().await.unwrap(), Some(7));
    let refused = old.save(6).await.unwrap_err();
    assert!(matches!(refused, SaveError::Lost(ref lost) if lost.cause == LostCause::Superseded));
    new.save(8).await.unwrap();
    assert_eq!(new.load::<u64>().await.unwrap(), Some(8));
    let malformed = new.load::<std::net::IpAddr>().await.unwrap_err();
    assert!(matches!(malformed, SaveError::Malformed { ref found, .. } if found == "8"));
}

/// A save is retried with the same number until the store answers; dropped, it goes on.
#[tokio::test(start_paused = true)]
async fn a_save_outlives_an_outage_and_its_own_future() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut shards = a.shards(orders()).await.unwrap();
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    let shard = within(5.0, shards.next()).await.expect("a shard");
    assert_eq!(shard.load::<u64>().await.unwrap(), None);
    store.link("a").lose_replies(true);
    let dropped = tokio::time::timeout(Duration::from_secs(1), shard.save(5)).await;
    assert!(dropped.is_err(), "no reply arrives");
    store.link("a").clear();
    pass(3.0).await;
    assert_eq!(shard.load::<u64>().await.unwrap(), Some(5));
    store.link("a").lose_requests(true);
    let saved = tokio::join!(shard.save(6), async {
        pass(2.0).await;
        store.link("a").clear();
    });
    saved.0.expect("answered in the end");
    assert_eq!(shard.load::<u64>().await.unwrap(), Some(6));
}

/// E14 for shards: a panic or an error restarts the work with a growing pause, under one token.
#[tokio::test(start_paused = true)]
async fn work_that_fails_or_panics_is_started_again_while_the_shard_is_held() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let (attempts, log) = (Arc::new(AtomicU32::new(0)), Log::default());
    let (runner, counting, logging) = (a.clone(), attempts.clone(), log.clone());
    let _running = tokio::spawn(async move {
        let me = runner.id().clone();
        let work = move |shard: OwnedShard| {
            let attempt = counting.fetch_add(1, Ordering::Relaxed);
            let working = logging.begin(&me, &shard);
            assert!(attempt != 0, "the first attempt panics");
            async move {
                let _working = working;
                assert!(attempt != 1, "the second panics, too, a little later");
                if attempt == 2 {
                    return Err("the third fails".into());
                }
                shard.draining().await;
                Ok(())
            }
        };
        runner.run_shards(orders(), work).await
    });
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    within(10.0, until(|| attempts.load(Ordering::Relaxed) == 4)).await;
    pass(60.0).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 4);
    assert_eq!(log.held_by("a"), [0]);
    log.check_one_owner();
    a.shutdown().await.expect("the last attempt drains");
}

#[tokio::test(start_paused = true)]
async fn a_failure_ends_run_shards_where_that_is_wanted() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let runner = a.clone();
    let running = tokio::spawn(async move {
        let work = |shard: OwnedShard| async move {
            if shard.id().get() == 0 {
                return Err("no such table".into());
            }
            shard.draining().await;
            Ok(())
        };
        runner
            .run_shards(orders().on_error(OnError::Stop), work)
            .await
    });
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Owned("a")]).await;
    let error = within(20.0, running).await.expect("no panic").unwrap_err();
    let RunError::Work { name, source } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (name.as_str(), source.to_string().as_str()),
        ("orders/0", "no such table")
    );
}

/// A member that stops serving one keyspace while its node lives keeps acking, and loses nothing.
#[tokio::test(start_paused = true)]
async fn a_keyspace_that_is_served_no_longer_is_drained_acked_and_the_others_go_on() {
    let store = MemoryStore::new();
    let (a, other) = (node(&store, "a").await, Log::default());
    let mut shards = a.shards(orders()).await.unwrap();
    let _running = serve(&a, &other, ShardConfig::new("mails", 1), QUICK);
    let mut mails = Plan::new(&store, "mails", Layout::Fixed { shards: 1 });
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Owned("a")]).await;
    mails.say(&[Say::Owned("a")]).await;
    let taken = within(5.0, shards.next()).await.expect("a shard");
    let served = || {
        let members = a.members().current();
        members
            .iter()
            .any(|member| member.profile.keyspaces.contains(&"orders".into()))
    };
    until(served).await;
    drop(shards);
    within(5.0, taken.draining()).await;
    until(|| !served()).await;
    // Revoked after it is served no longer: acked all the same, when the guard is gone.
    plan.say(&[Say::Revoking("a", token), Say::Revoking("a", token)])
        .await;
    pass(2.0).await;
    assert_eq!(
        plan.report("a").await.draining.len(),
        1,
        "the shard never taken is gone"
    );
    drop(taken);
    within(5.0, plan.acked("a")).await;
    let life = plan.life("a").await;
    pass(60.0).await;
    assert_eq!(plan.life("a").await, life, "it was never put out");
    assert_eq!(other.held_by("a"), [0]);
    // And served again, it gets shards again.
    let mut again = a.shards(orders()).await.unwrap();
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    assert!(within(5.0, again.next()).await.is_some());
}

/// Dropped, `run_shards` drops its work without drain, and the shards are handed on.
#[tokio::test(start_paused = true)]
async fn a_dropped_run_drops_its_work_at_once_and_acks_in_the_background() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let running = serve(&a, &log, orders(), Duration::from_hours(1));
    let mut plan = Plan::new(&store, "orders", TWO);
    let token = plan.say(&[Say::Owned("a"), Say::Free]).await;
    until(|| log.held_by("a") == [0]).await;
    running.abort();
    within(0.1, until(|| log.held_by("a").is_empty())).await;
    plan.say(&[Say::Revoking("a", token), Say::Free]).await;
    within(5.0, plan.acked("a")).await;
}

/// S12: swaps are lost in a fail-over; who acted upon them stops, leaves and joins anew.
#[tokio::test(start_paused = true)]
async fn a_member_whose_grant_the_store_forgot_stops_and_joins_anew() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), QUICK);
    let mut plan = Plan::new(&store, "orders", TWO);
    let first = plan.say(&[Say::Free, Say::Owned("a")]).await;
    until(|| log.held_by("a") == [1]).await;
    pass(5.0).await;
    let replica = store.replica();
    plan.say(&[Say::Owned("a"), Say::Still("a", first)]).await;
    until(|| log.held_by("a") == [0, 1]).await;
    let old = plan.life("a").await;
    let watch = Watch::start();
    store.fail_over(replica);
    until(|| log.held_by("a").is_empty()).await;
    // With the first heartbeat that the new primary answers, long before the quarantine ends.
    assert!(watch.seconds() < 4.0, "{}", watch.seconds());
    pass(15.0).await;
    assert!(plan.life("a").await > old);
    assert!(log.held_by("a").is_empty());
}

/// S12: nothing was lost that was acted upon: the fail-over costs no shard.
#[tokio::test(start_paused = true)]
async fn a_fail_over_that_lost_no_swap_costs_no_shard() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let _running = serve(&a, &log, orders(), QUICK);
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Owned("a")]).await;
    until(|| log.held_by("a") == [0, 1]).await;
    pass(5.0).await;
    let replica = store.replica();
    pass(2.0).await;
    store.fail_over(replica);
    pass(60.0).await;
    assert_eq!(log.held_by("a"), [0, 1]);
    assert_eq!(log.stints().len(), 2, "none was interrupted");
}

/// H17.
#[tokio::test(start_paused = true)]
async fn nothing_runs_after_shutdown_has_returned() {
    let store = MemoryStore::new();
    let (a, log) = (node(&store, "a").await, Log::default());
    let running = serve(&a, &log, orders(), Duration::from_secs(3));
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    until(|| log.held_by("a") == [0]).await;
    a.shutdown().await.expect("it drains in time");
    assert!(log.held_by("a").is_empty());
    assert!(running.await.expect("no panic").is_ok());
    pass(30.0).await;
    assert_eq!(log.stints().len(), 1);
    let refused = a.shards(orders()).await.unwrap_err();
    assert!(matches!(refused, AcquireError::ShuttingDown { .. }));
    assert!(!a.members().changed().await);
}

/// A node without the parts says which one is missing; a router without a store knows nobody.
#[tokio::test(start_paused = true)]
async fn missing_parts_are_named() {
    let store = MemoryStore::new();
    let mut backend = unplanned(&store, "a");
    backend.checkpoints = None;
    let a = support::builder(&store, "a")
        .backend(backend)
        .start()
        .await
        .unwrap();
    let mut shards = a.shards(orders()).await.unwrap();
    let mut plan = Plan::new(&store, "orders", TWO);
    plan.say(&[Say::Owned("a"), Say::Free]).await;
    let shard = within(5.0, shards.next()).await.unwrap();
    let error = shard.save(1).await.unwrap_err();
    assert!(matches!(error, SaveError::MissingPart { .. }), "{error}");

    let mut backend = store.connect("b");
    (backend.members, backend.assignments) = (None, None);
    let b = support::builder(&store, "b")
        .backend(backend)
        .start()
        .await
        .unwrap();
    let error = b.shards(orders()).await.unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::MissingPart {
                part: "assignments",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(b.router("orders").owner_of("x"), None);
    assert_eq!(b.members().source(), MemberSource::Bus, "members it has");
}

/// The router follows the document, on any node.
#[tokio::test(start_paused = true)]
async fn a_router_tells_who_owns_a_key() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut router = b.router("orders");
    assert_eq!(router.owner_of("x"), None);
    let mut plan = Plan::new(&store, "orders", Layout::Fixed { shards: 1 });
    let token = plan.say(&[Say::Owned("a")]).await;
    assert!(within(5.0, router.changed()).await);
    assert_eq!(router.owner_of("x").as_ref(), Some(a.id()));
    plan.say(&[Say::Revoking("a", token)]).await;
    assert!(within(5.0, router.changed()).await);
    assert_eq!(
        router.owner_of("x").as_ref(),
        Some(a.id()),
        "until it has drained"
    );
    plan.say(&[Say::Free]).await;
    assert!(within(5.0, router.changed()).await);
    assert_eq!(router.owner_of("x"), None);
    b.shutdown().await.unwrap();
    assert!(!router.changed().await);
}
