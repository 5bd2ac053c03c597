//! Elections by lease, over the memory backend, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{
    AcquireError, ElectionConfig, LostCause, ReleaseError, RunError, ShutdownError,
};
use support::{Watch, builder, lead, node, pass, sees_leader, within};

/// E1, E17.
#[tokio::test(start_paused = true)]
async fn one_member_that_campaigns_alone_is_elected_at_once_and_seen() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let watch = Watch::start();
    let leadership = lead(&a.election("e")).await;
    assert!(watch.seconds() < 0.1, "{}", watch.seconds());
    let term = sees_leader(&a.election("e"), |_| true).await;
    assert_eq!(term, leadership.term());
    assert_eq!(term.leader.as_str(), "a");
}

/// E2, E11, E17.
#[tokio::test(start_paused = true)]
async fn a_second_member_stays_a_follower_and_sees_who_leads() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let leadership = lead(&a.election("e")).await;
    let election = b.election("e");
    let campaign = election.campaign();
    assert!(
        tokio::time::timeout(Duration::from_secs(300), campaign)
            .await
            .is_err()
    );
    assert!(
        leadership.token().is_ok(),
        "five minutes later it still leads"
    );
    assert_eq!(sees_leader(&election, |_| true).await, leadership.term());
}

/// E3.
#[tokio::test(start_paused = true)]
async fn a_resignation_hands_over_by_push() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let first = lead(&a.election("e")).await;
    let token = first.token().unwrap();
    let (election, watch) = (b.election("e"), Watch::start());
    let (successor, resigned) = tokio::join!(lead(&election), async {
        pass(1.0).await;
        first.resign().await
    });
    resigned.expect("the store confirms");
    assert!(watch.seconds() < 1.05, "{}", watch.seconds());
    assert!(successor.token().unwrap() > token, "E15");
}

/// E4, E5, T1: whoever is cut off stops by its own clock before its successor starts.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_steps_down_before_its_successor_starts() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let first = lead(&a.election("e")).await;
    let lost = first.lost();
    let (election, watch) = (b.election("e"), Watch::start());
    store.link("a").cut();
    let (lost_at, started_at) = tokio::join!(
        async {
            assert_eq!(lost.await.cause, LostCause::Expired);
            watch.seconds()
        },
        async {
            let _successor = lead(&election).await;
            watch.seconds()
        },
    );
    assert!(
        lost_at <= 9.0 + 0.1 && lost_at < started_at,
        "{lost_at} {started_at}"
    );
    assert!(started_at < 13.0, "{started_at}");
}

/// E12: a paused leader wakes, and finds itself fenced before it can do anything.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_paused_past_its_lease_has_lost_it_when_it_wakes() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let first = lead(&a.election("e")).await;
    store.link("a").pause();
    let second = lead(&b.election("e")).await;
    // What a task of the paused process would see first of all:
    assert!(first.token().is_err());
    store.link("a").resume();
    pass(30.0).await;
    assert!(first.token().is_err());
    assert!(second.token().is_ok(), "E12: waking up usurps nothing");
}

/// E13: start twice, stop twice, stop in an outage, restart after a stop, drop without a stop.
#[tokio::test(start_paused = true)]
async fn stopping_is_idempotent_and_bounded_also_in_an_outage() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let leadership = lead(&a.election("e")).await;
    store.stop();
    let watch = Watch::start();
    drop(leadership);
    let (one, two) = tokio::join!(a.shutdown(), a.shutdown());
    assert!(
        matches!(one, Err(ShutdownError::Unconfirmed { .. })),
        "{one:?}"
    );
    assert_eq!(one, two);
    assert!(watch.seconds() < 15.0, "{}", watch.seconds());
    store.start();
    let error = a.election("e").campaign().await.expect_err("it is down");
    assert!(
        matches!(error, AcquireError::ShuttingDown { .. }),
        "{error}"
    );
    let again = node(&store, "a").await;
    drop(lead(&again.election("e")).await);
}

/// E13.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_dropped_without_a_stop_gives_everything_back() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let leadership = lead(&a.election("e")).await;
    drop(a);
    pass(5.0).await;
    assert!(leadership.token().is_ok(), "a guard keeps its node alive");
    drop(leadership);
    let watch = Watch::start();
    let _successor = lead(&b.election("e")).await;
    assert!(watch.seconds() < 1.0, "{}", watch.seconds());
    pass(1.0).await;
    let members = b.members();
    assert_eq!(members.current().len(), 1, "the dropped node has left");
}

/// E14, W5: a panic unwinds through `run`, and the next one leads at once.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_work_ends_its_term_and_not_the_node() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let election = a.election("e");
    let work = tokio::spawn(async move {
        election
            .run(async |_term| panic!("a bug in the user's work"))
            .await
    });
    assert!(
        work.await
            .expect_err("the panic reaches the caller")
            .is_panic()
    );
    let watch = Watch::start();
    let _successor = lead(&b.election("e")).await;
    assert!(watch.seconds() < 1.0, "{}", watch.seconds());
    drop(lead(&a.election("other")).await);
}

/// E18: each way to end a term ends it once, for the cause that came first.
#[tokio::test(start_paused = true)]
async fn each_term_ends_once_with_the_first_cause() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let election = a.election(ElectionConfig::new("e").stall_limit(Duration::from_secs(20)));

    let resigned = lead(&election).await;
    let (view, lost) = (resigned.view(), resigned.lost());
    resigned.resign().await.unwrap();
    assert_eq!(lost.await.cause, LostCause::Released);
    assert_eq!(view.token().unwrap_err().cause, LostCause::Released);

    let stalled = lead(&election).await;
    assert_eq!(within(31.0, stalled.lost()).await.cause, LostCause::Stalled);
    store.stop();
    assert_eq!(
        stalled.lost().await.cause,
        LostCause::Stalled,
        "the first cause stays"
    );
    store.start();
    let error = stalled.resign().await.expect_err("it was lost before");
    assert!(matches!(error, ReleaseError::Lost(lost) if lost.cause == LostCause::Stalled));
}

/// E19, W4: an acquire that is dropped, at any moment, leaves no lease that nobody holds.
#[tokio::test(start_paused = true)]
async fn a_dropped_campaign_leaves_no_lease_behind() {
    for millis in 0..40 {
        let store = MemoryStore::new();
        let (a, b) = (node(&store, "a").await, node(&store, "b").await);
        store.link("a").delay(Duration::from_millis(7));
        let election = a.election("e");
        let campaign = tokio::time::timeout(Duration::from_millis(millis), election.campaign());
        drop(campaign.await);
        let watch = Watch::start();
        let _leadership = lead(&b.election("e")).await;
        assert!(
            watch.seconds() < 1.0,
            "dropped after {millis} ms: {}",
            watch.seconds()
        );
    }
}

/// E19, W4: also when the answers are lost.
#[tokio::test(start_paused = true)]
async fn a_dropped_campaign_whose_grant_was_never_answered_is_handed_back() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    store.link("a").lose_replies(true);
    let election = a.election("e");
    drop(tokio::time::timeout(Duration::from_secs(2), election.campaign()).await);
    store.link("a").lose_replies(false);
    let watch = Watch::start();
    let _leadership = lead(&b.election("e")).await;
    assert!(watch.seconds() < 5.0, "{}", watch.seconds());
}

/// E21, W3.
#[tokio::test(start_paused = true)]
async fn a_stuck_leader_leads_no_longer_than_its_stall_limit_and_a_ttl() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let election = a.election(ElectionConfig::new("e").stall_limit(Duration::from_secs(5)));
    let rounds = AtomicU32::new(0);
    let watch = Watch::start();
    let stuck = election.run(async |term| {
        while term.tick(Duration::from_secs(1)).await {
            if rounds.fetch_add(1, Ordering::Relaxed) == 60 {
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    });
    let next = b.election("e");
    tokio::select! {
        ended = stuck => panic!("it campaigns again: {ended:?}"),
        _successor = async { pass(30.0).await; lead(&next).await } => {}
    }
    let after = watch.seconds();
    assert!((60.0..60.0 + 5.0 + 11.0).contains(&after), "{after}");
}

/// A leader that waits for work is not stuck.
#[tokio::test(start_paused = true)]
async fn waiting_for_work_is_not_stalling() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let election = a.election(ElectionConfig::new("e").stall_limit(Duration::from_secs(5)));
    let leadership = lead(&election).await;
    let waited = leadership.until_drain(pass(120.0)).await;
    assert!(waited.is_some() && leadership.token().is_ok());
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_ends_its_run() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    a.election("e")
        .run(async |_term| Ok(()))
        .await
        .expect("done is done");
    let error = a
        .election("e")
        .run(async |_term| Err("no disk".into()))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RunError::Work { name, .. } if name == "election/e"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_lease_is_dropped_and_led_again_after_the_heal() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let terms = Arc::new(Mutex::new(Vec::new()));
    let (election, seen) = (a.election("e"), terms.clone());
    let running = tokio::spawn(async move {
        election
            .run(async |term| {
                seen.lock().unwrap().push(term.token()?);
                std::future::pending().await
            })
            .await
    });
    pass(5.0).await;
    store.link("a").cut();
    pass(30.0).await;
    store.link("a").heal();
    pass(30.0).await;
    let tokens = terms.lock().unwrap().clone();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert!(tokens[0] < tokens[1], "E15");
    a.shutdown()
        .await
        .expect("the work is dropped at its drain timeout");
    running.await.unwrap().expect("a shutdown is no error");
}

/// W1: work has its drain timeout, keeps its lease meanwhile, and is dropped at the end of it.
#[tokio::test(start_paused = true)]
async fn a_shutdown_drains_the_work_and_drops_it_at_its_deadline() {
    let store = MemoryStore::new();
    let a = builder(&store, "a")
        .drain_timeout(Duration::from_secs(25))
        .start()
        .await
        .unwrap();
    let b = node(&store, "b").await;
    let election = a.election("e");
    let finishing = tokio::spawn({
        let a = a.clone();
        async move {
            a.election("finishing")
                .run(async |term| {
                    term.draining().await;
                    pass(20.0).await;
                    term.token()?;
                    Ok(())
                })
                .await
        }
    });
    let wedged = tokio::spawn(async move {
        election
            .run(async |_term| std::future::pending().await)
            .await
    });
    pass(1.0).await;
    let watch = Watch::start();
    let (ended, _successor) = tokio::join!(a.shutdown(), async { lead(&b.election("e")).await });
    ended.expect("the wedged work was dropped, and its lease released");
    assert!(
        (25.0..26.0).contains(&watch.seconds()),
        "{}",
        watch.seconds()
    );
    finishing.await.unwrap().expect("it had the time it needed");
    wedged.await.unwrap().expect("the node shuts down");
}

/// W1: a guard that outlives its drain timeout is not released under its work.
#[tokio::test(start_paused = true)]
async fn a_guard_that_outlives_its_drain_timeout_is_named_and_runs_out_by_itself() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let kept = lead(&a.election("e")).await;
    let watch = Watch::start();
    let error = a.shutdown().await.expect_err("the guard is still there");
    let names = vec!["election/e".to_owned()];
    assert_eq!(error, ShutdownError::Overran { names });
    assert_eq!(kept.token().unwrap_err().cause, LostCause::Overran);
    let _successor = lead(&b.election("e")).await;
    let seconds = watch.seconds();
    assert!(
        (16.0..24.0).contains(&seconds),
        "after the drain and the rest of the ttl: {seconds}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_is_not_allowed_says_what_was_given_and_what_is_allowed() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let bad = [
        (
            ElectionConfig::new("e").ttl(Duration::ZERO),
            "a ttl of 0ns is not allowed",
        ),
        (
            ElectionConfig::new("e").ttl(Duration::from_millis(60)),
            "choose 200ms to 30s",
        ),
        (
            ElectionConfig::new("e").margin(Duration::from_secs(6)),
            "choose 30ms to 5s",
        ),
        (
            ElectionConfig::new("e").stall_limit(Duration::ZERO),
            "a stall_limit of 0s",
        ),
        (ElectionConfig::new(""), "the election name is empty"),
        (
            ElectionConfig::new("x".repeat(513)),
            "has 513 bytes, allowed are 1 to 512",
        ),
    ];
    for (config, expected) in bad {
        let error = a.election(config).campaign().await.expect_err(expected);
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(
            source.as_ref().is_some_and(|text| text.contains(expected)),
            "{source:?}"
        );
    }
}

/// A guard is `Send`, and so is all that `run` needs, also when it is spawned.
#[tokio::test(start_paused = true)]
async fn the_short_program_can_be_spawned() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let ticks = Arc::new(AtomicU32::new(0));
    let (leader, counted) = (a.clone(), ticks.clone());
    let running = tokio::spawn(async move {
        leader
            .election("scheduler")
            .run(async |term| {
                while term.tick(Duration::from_secs(60)).await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
            .await
    });
    pass(150.0).await;
    a.shutdown().await.expect("it drains at once");
    running.await.unwrap().expect("a shutdown is no error");
    assert_eq!(ticks.load(Ordering::Relaxed), 3);
}

/// Who resigns may say a last word; not one that outlives the node.
#[tokio::test(start_paused = true)]
async fn work_that_goes_on_after_it_has_resigned_ends_with_its_node() {
    let store = MemoryStore::new();
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let election = a.election("e");
    let last_word = AtomicU32::new(0);
    let resigning = election.run(async |term| {
        term.resign().await?;
        last_word.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    });
    let (ended, ()) = tokio::join!(within(60.0, resigning), async {
        let _successor = lead(&b.election("e")).await;
        pass(5.0).await;
        a.shutdown().await.expect("nothing is held any more");
    });
    ended.expect("a shutdown is no error");
    assert_eq!(last_word.load(Ordering::Relaxed), 1);
}
