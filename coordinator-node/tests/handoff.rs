//! Fleets that share shards by themselves, through joins, leaves, crashes, cuts and pauses: at no
//! instant two owners, and in the end every shard has one. In virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/shards.rs"]
mod fleet;
mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{DenseShard, Handoff, Node, OwnedShard, ShardConfig};
use fleet::{Log, serve, until, work_on};
use support::{Watch, node, pass, within};

const SHARDS: u16 = 12;
const QUICK: Duration = Duration::ZERO;

fn orders() -> ShardConfig {
    ShardConfig::new("orders", SHARDS)
}

fn all() -> Vec<u16> {
    (0..SHARDS).collect()
}

/// Whether these members work on every shard, `SHARDS / n` each.
fn balanced(log: &Log, names: &[&str]) -> bool {
    let held: Vec<Vec<u16>> = names.iter().map(|name| log.held_by(name)).collect();
    let mut together: Vec<u16> = held.concat();
    together.sort_unstable();
    let share = usize::from(SHARDS) / names.len();
    together == all() && held.iter().all(|shards| shards.len() == share)
}

async fn join(store: &MemoryStore, log: &Log, name: &str, drain: Duration) -> Node {
    let node = node(store, name).await;
    drop(serve(&node, log, orders(), drain));
    node
}

/// H1, H2, H3, H8: from one to three and back; survivors keep what they can, and no two ever own
/// one shard.
#[tokio::test(start_paused = true)]
async fn shards_follow_members_that_come_and_go() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let drain = Duration::from_secs(2);
    let a = join(&store, &log, "a", drain).await;
    within(20.0, until(|| balanced(&log, &["a"]))).await;
    let b = join(&store, &log, "b", drain).await;
    within(20.0, until(|| balanced(&log, &["a", "b"]))).await;
    let (of_a, of_b) = (log.held_by("a"), log.held_by("b"));
    let _c = join(&store, &log, "c", drain).await;
    within(20.0, until(|| balanced(&log, &["a", "b", "c"]))).await;
    let kept = |name: &str, before: &[u16]| log.held_by(name).iter().all(|it| before.contains(it));
    assert!(
        kept("a", &of_a) && kept("b", &of_b),
        "H2: survivors got nothing new"
    );
    let (of_a, of_c) = (log.held_by("a"), log.held_by("c"));
    b.shutdown().await.expect("it drains in time");
    within(20.0, until(|| balanced(&log, &["a", "c"]))).await;
    let keeps = |name: &str, before: &[u16]| before.iter().all(|it| log.held_by(name).contains(it));
    assert!(
        keeps("a", &of_a) && keeps("c", &of_c),
        "H3: what was theirs stays theirs"
    );
    a.shutdown().await.expect("it drains in time");
    within(20.0, until(|| balanced(&log, &["c"]))).await;
    log.check_one_owner();
}

/// H4: each in turn, the planner's included.
#[tokio::test(start_paused = true)]
async fn the_shards_of_a_member_that_crashed_are_taken_over_whoever_planned() {
    let names = ["a", "b", "c"];
    for victim in names {
        let (store, log) = (MemoryStore::new(), Log::default());
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(join(&store, &log, name, QUICK).await);
        }
        within(30.0, until(|| balanced(&log, &names))).await;
        let watch = Watch::start();
        store.link(victim).crash();
        let others: Vec<&str> = names.into_iter().filter(|name| *name != victim).collect();
        within(60.0, until(|| balanced(&log, &others))).await;
        assert!(watch.seconds() < 25.0, "{victim}: {}", watch.seconds());
        log.check_one_owner();
    }
}

/// H5, G1, S1.
#[tokio::test(start_paused = true)]
async fn an_isolated_owner_stops_before_anybody_else_starts_and_comes_back_with_nothing() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let _a = join(&store, &log, "a", QUICK).await;
    let _b = join(&store, &log, "b", QUICK).await;
    within(30.0, until(|| balanced(&log, &["a", "b"]))).await;
    let before = log.stints().len();
    store.link("b").cut();
    within(60.0, until(|| log.held_by("a") == all())).await;
    assert!(log.held_by("b").is_empty());
    store.link("b").heal();
    within(60.0, until(|| balanced(&log, &["a", "b"]))).await;
    let back: Vec<_> = log.stints().into_iter().skip(before).collect();
    let regained = back
        .iter()
        .filter(|stint| stint.member.as_str() == "b")
        .count();
    assert_eq!(regained, 6, "each was granted to it anew, once");
    log.check_one_owner();
}

/// M3, G7: the record is deleted underneath a live member.
#[tokio::test(start_paused = true)]
async fn the_shards_of_a_deleted_record_are_granted_only_after_its_trust_has_ended() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let _a = join(&store, &log, "a", QUICK).await;
    let _b = join(&store, &log, "b", QUICK).await;
    within(30.0, until(|| balanced(&log, &["a", "b"]))).await;
    // Cut off as well: it cannot even learn of it, and works on until its own deadline.
    store.link("b").cut();
    store.erase_member("test", "b");
    within(120.0, until(|| log.held_by("a") == all())).await;
    log.check_one_owner();
    store.link("b").heal();
    within(60.0, until(|| balanced(&log, &["a", "b"]))).await;
    log.check_one_owner();
}

/// S12, H4: the store fails over to a replica that missed the last hand-over.
#[tokio::test(start_paused = true)]
async fn a_fail_over_that_lost_a_hand_over_leaves_no_shard_with_two_owners() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let _a = join(&store, &log, "a", QUICK).await;
    within(30.0, until(|| balanced(&log, &["a"]))).await;
    pass(5.0).await;
    let replica = store.replica();
    let _b = join(&store, &log, "b", QUICK).await;
    within(30.0, until(|| balanced(&log, &["a", "b"]))).await;
    store.fail_over(replica);
    pass(5.0).await;
    log.check_one_owner();
    within(180.0, until(|| balanced(&log, &["a", "b"]))).await;
    log.check_one_owner();
}

/// S4: work that does not end costs its member its life, and then its shards.
#[tokio::test(start_paused = true)]
async fn a_wedged_shard_is_taken_over_after_its_member_was_put_out() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let a = node(&store, "a").await;
    let kept: Arc<Mutex<Vec<OwnedShard>>> = Arc::default();
    let (runner, keeping) = (a.clone(), kept.clone());
    let _running = tokio::spawn(async move {
        let work = move |shard: OwnedShard| {
            keeping.lock().unwrap().push(shard);
            std::future::pending()
        };
        runner.run_shards(orders(), work).await
    });
    within(30.0, until(|| kept.lock().unwrap().len() == 12)).await;
    let watch = Watch::start();
    let _b = join(&store, &log, "b", QUICK).await;
    // Drain timeout, ttl of patience, ttl until the member is due, and two rounds.
    within(120.0, until(|| log.held_by("b").len() >= 6)).await;
    assert!(
        (20.0..45.0).contains(&watch.seconds()),
        "{}",
        watch.seconds()
    );
    let held = |shard: &OwnedShard| shard.token().is_ok();
    let taken = log.held_by("b");
    let kept = kept.lock().unwrap();
    let mut old = kept
        .iter()
        .filter(|shard| taken.contains(&shard.id().get()));
    assert!(
        !old.any(held),
        "whatever still has the guard is told that it is lost"
    );
}

/// H16: a rolling restart inside the grace period moves no shard.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_with_static_names_moves_no_shard() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let config = || orders().grace_period(Duration::from_secs(30));
    let names = ["a", "b", "c"];
    let mut nodes = Vec::new();
    for name in names {
        let node = node(&store, name).await;
        drop(serve(&node, &log, config(), QUICK));
        nodes.push(node);
    }
    within(30.0, until(|| balanced(&log, &names))).await;
    let before = names.map(|name| log.held_by(name));
    for (at, name) in names.into_iter().enumerate() {
        nodes[at].shutdown().await.expect("it drains in time");
        pass(3.0).await;
        nodes[at] = node(&store, name).await;
        drop(serve(&nodes[at], &log, config(), QUICK));
        within(30.0, until(|| balanced(&log, &names))).await;
    }
    assert_eq!(names.map(|name| log.held_by(name)), before);
    log.check_one_owner();
}

/// H16, S5: also while other work of the node takes its time to drain, nobody takes the shards
/// that are kept for its return.
#[tokio::test(start_paused = true)]
async fn a_slow_shutdown_within_the_grace_period_moves_no_shard_either() {
    let (store, log, mails) = (MemoryStore::new(), Log::default(), Log::default());
    let config = || orders().grace_period(Duration::from_secs(30));
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    drop(serve(&a, &log, config(), QUICK));
    drop(serve(&b, &log, config(), QUICK));
    drop(serve(
        &a,
        &mails,
        ShardConfig::new("mails", 1),
        Duration::from_secs(6),
    ));
    within(
        30.0,
        until(|| balanced(&log, &["a", "b"]) && mails.held_by("a") == [0]),
    )
    .await;
    let before = log.held_by("a");
    let watch = Watch::start();
    a.shutdown().await.expect("it drains in time");
    assert!(watch.seconds() >= 6.0, "{}", watch.seconds());
    let a = node(&store, "a").await;
    drop(serve(&a, &log, config(), QUICK));
    within(30.0, until(|| balanced(&log, &["a", "b"]))).await;
    assert_eq!(log.held_by("a"), before);
    log.check_one_owner();
}

/// A keyspace that is served no longer goes to the others, and its member lives on.
#[tokio::test(start_paused = true)]
async fn a_keyspace_that_a_member_stops_serving_goes_to_the_others() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let _a = join(&store, &log, "a", QUICK).await;
    let b = node(&store, "b").await;
    let running = serve(&b, &log, orders(), QUICK);
    within(30.0, until(|| balanced(&log, &["a", "b"]))).await;
    let members = b.members();
    let life = || {
        members
            .current()
            .iter()
            .find(|it| it.id.as_str() == "b")
            .map(|it| it.incarnation)
    };
    let before = life();
    running.abort();
    within(30.0, until(|| log.held_by("a") == all())).await;
    pass(60.0).await;
    assert_eq!(life(), before, "it acked, and was not put out");
    log.check_one_owner();
}

/// Serves a dense keyspace; every part takes `drain` to finish.
fn serve_dense(node: &Node, log: &Log, drain: Duration) {
    let (node, log) = (node.clone(), log.clone());
    tokio::spawn(async move {
        let me = node.id().clone();
        let work = move |shard: DenseShard| {
            let working = log.begin(&me, &shard);
            async move {
                work_on(shard.view(), working, drain).await;
                drop(shard);
                Ok(())
            }
        };
        node.run_dense("mailer", work).await
    });
}

/// S11: cuts never overlap, and each covers the whole.
#[tokio::test(start_paused = true)]
async fn dense_cuts_follow_the_members_and_never_overlap() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let parts = |names: &[&str]| {
        let held: Vec<u16> = names.iter().flat_map(|name| log.held_by(name)).collect();
        let distinct: BTreeSet<u16> = held.iter().copied().collect();
        held.len() == names.len() && distinct == (0..u16::try_from(names.len()).unwrap()).collect()
    };
    let a = node(&store, "a").await;
    serve_dense(&a, &log, Duration::from_secs(1));
    within(30.0, until(|| parts(&["a"]))).await;
    let b = node(&store, "b").await;
    serve_dense(&b, &log, Duration::from_secs(2));
    within(30.0, until(|| parts(&["a", "b"]))).await;
    let c = node(&store, "c").await;
    serve_dense(&c, &log, Duration::from_secs(1));
    within(30.0, until(|| parts(&["a", "b", "c"]))).await;
    store.link("b").crash();
    within(60.0, until(|| parts(&["a", "c"]))).await;
    a.shutdown().await.expect("it drains in time");
    within(30.0, until(|| parts(&["c"]))).await;
    log.check_one_cut();
}

/// S11, `immediate`: who accepts overlap does not wait for the old cut.
#[tokio::test(start_paused = true)]
async fn with_immediate_handoff_a_new_cut_starts_while_the_old_one_drains() {
    let (store, kept) = (MemoryStore::new(), Arc::new(Mutex::new(Vec::new())));
    let run = |node: Node, kept: Arc<Mutex<Vec<DenseShard>>>| async move {
        let config = ShardConfig::from("mailer").handoff(Handoff::Immediate);
        let work = move |shard: DenseShard| {
            kept.lock().unwrap().push(shard);
            std::future::pending()
        };
        node.run_dense(config, work).await
    };
    let _a = tokio::spawn(run(node(&store, "a").await, kept.clone()));
    within(30.0, until(|| kept.lock().unwrap().len() == 1)).await;
    let watch = Watch::start();
    let _b = tokio::spawn(run(node(&store, "b").await, kept.clone()));
    within(30.0, until(|| kept.lock().unwrap().len() == 3)).await;
    assert!(watch.seconds() < 5.0, "{}", watch.seconds());
    let kept = kept.lock().unwrap();
    assert!(kept[0].token().is_ok(), "the old cut drains meanwhile");
    let (one, other) = (&kept[1], &kept[2]);
    assert_eq!((one.count().get(), other.count().get()), (2, 2));
    assert_eq!(one.epoch(), other.epoch());
    for key in 0..100_u32 {
        let owners = [one, other].map(|part| part.owns(key.to_be_bytes()));
        assert_ne!(owners[0], owners[1], "each key is one part's: {key}");
    }
}

/// Two groups share nothing (H6), and one node may serve several keyspaces.
#[tokio::test(start_paused = true)]
async fn groups_and_keyspaces_do_not_disturb_each_other() {
    let (store, one, other, mails) = (
        MemoryStore::new(),
        Log::default(),
        Log::default(),
        Log::default(),
    );
    let a = join(&store, &one, "a", QUICK).await;
    drop(serve(&a, &mails, ShardConfig::new("mails", 3), QUICK));
    let elsewhere = Node::builder("elsewhere")
        .member("a")
        .backend(store.connect("x"));
    let elsewhere = elsewhere.start().await.expect("another group");
    drop(serve(&elsewhere, &other, orders(), QUICK));
    within(
        30.0,
        until(|| balanced(&one, &["a"]) && balanced(&other, &["a"])),
    )
    .await;
    within(30.0, until(|| mails.held_by("a") == [0, 1, 2])).await;
    elsewhere.shutdown().await.expect("it drains");
    pass(30.0).await;
    assert!(balanced(&one, &["a"]));
}

/// H4, H5, H12, H15's first half: random faults; ONE-OWNER all the while, and ALL-OWNED once they
/// have stopped.
#[tokio::test(start_paused = true)]
async fn random_faults_never_give_a_shard_two_owners_and_leave_none_without() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    for seed in 0..5 {
        let store = MemoryStore::builder().seed(seed).build();
        let mut random = StdRng::seed_from_u64(seed);
        let log = Log::default();
        let names = ["a", "b", "c", "d"];
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(join(&store, &log, name, Duration::from_millis(300)).await);
        }
        for _ in 0..25 {
            let at = random.random_range(0..names.len());
            let link = store.link(names[at]);
            match random.random_range(0..7) {
                0 => link.cut(),
                1 | 2 => {
                    link.heal();
                    link.clear();
                }
                3 => link.pause(),
                4 => link.resume(),
                5 => link.lose_replies(true),
                _ => link.delay(Duration::from_millis(random.random_range(0..3_000))),
            }
            pass(random.random_range(0.1..12.0)).await;
        }
        for name in names {
            let link = store.link(name);
            link.resume();
            link.heal();
            link.clear();
        }
        within(200.0, until(|| balanced(&log, &names))).await;
        log.check_one_owner();
        drop(nodes);
    }
}

/// The node's own name may be random, too.
#[tokio::test(start_paused = true)]
async fn members_without_a_name_of_their_own_share_as_well() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let mut nodes = Vec::new();
    for at in 0..3 {
        let backend = store.connect(format!("process-{at}"));
        let node = Node::builder("test")
            .backend(backend)
            .start()
            .await
            .unwrap();
        drop(serve(&node, &log, orders(), QUICK));
        nodes.push(node);
    }
    let names: Vec<&str> = nodes.iter().map(|node| node.id().as_str()).collect();
    within(30.0, until(|| balanced(&log, &names))).await;
    log.check_one_owner();
}
