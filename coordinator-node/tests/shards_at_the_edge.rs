//! Shards where work, documents and stores misbehave, in virtual time.
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
use coordinator_node::core::{
    AssignmentError, AssignmentStore, Bytes, Layout, Lead, StoreId, StoredDocument, Swap, Swapped,
    async_trait,
};
use coordinator_node::{
    AcquireError, Backend, DenseShard, Epoch, FencingToken, Group, Keyspace, Node, OwnedShard,
    RunError, SaveError, ShardConfig,
};
use fleet::{Log, Plan, Say, serve, until, work_on};
use support::{Watch, node, pass, within};

const QUICK: Duration = Duration::ZERO;

fn orders() -> ShardConfig {
    ShardConfig::new("orders", 6)
}

/// Serves `orders`: the first works keep their guards here and never end, later ones work.
fn wedge(node: &Node, log: &Log, first: usize) -> Arc<Mutex<Vec<OwnedShard>>> {
    let kept: Arc<Mutex<Vec<OwnedShard>>> = Arc::default();
    let (node, log, keeping) = (node.clone(), log.clone(), kept.clone());
    let begun = AtomicU32::new(0);
    tokio::spawn(async move {
        let me = node.id().clone();
        let work = move |shard: OwnedShard| {
            let wedged = begun.fetch_add(1, Ordering::Relaxed) < u32::try_from(first).unwrap();
            let (log, me, keeping) = (log.clone(), me.clone(), keeping.clone());
            async move {
                if wedged {
                    keeping.lock().unwrap().push(shard);
                    return std::future::pending().await;
                }
                let working = log.begin(&me, &shard);
                work_on(shard.view(), working, QUICK).await;
                drop(shard);
                Ok(())
            }
        };
        node.run_shards(orders(), work).await
    });
    kept
}

/// H12, S4: work that never ends costs its member its life. The next life is given no shard that
/// it could not serve, until what is left of the old work is gone.
#[tokio::test(start_paused = true)]
async fn a_member_with_wedged_work_of_an_earlier_life_is_given_no_shards_until_that_is_gone() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let a = node(&store, "a").await;
    let kept = wedge(&a, &log, 6);
    within(30.0, until(|| kept.lock().unwrap().len() == 6)).await;
    let b = node(&store, "b").await;
    drop(serve(&b, &log, orders(), QUICK));
    within(120.0, until(|| log.held_by("b").len() == 6)).await;
    // Rejoined long since; whatever it were given would be owned and idle.
    pass(120.0).await;
    assert_eq!(
        log.held_by("b").len(),
        6,
        "no shard rests with a stuck owner"
    );
    drop(std::mem::take(&mut *kept.lock().unwrap()));
    let shared = || log.held_by("a").len() == 3 && log.held_by("b").len() == 3;
    within(30.0, until(shared)).await;
    log.check_one_owner();
}

/// S11: the same for a dense keyspace, where one stuck part would hold a whole cut up.
#[tokio::test(start_paused = true)]
async fn a_dense_part_that_is_stuck_leaves_the_next_cut_to_the_others() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let a = node(&store, "a").await;
    let kept: Arc<Mutex<Vec<DenseShard>>> = Arc::default();
    let (stuck, keeping) = (a.clone(), kept.clone());
    tokio::spawn(async move {
        let work = move |part: DenseShard| {
            keeping.lock().unwrap().push(part);
            std::future::pending()
        };
        stuck.run_dense("mailer", work).await
    });
    within(30.0, until(|| kept.lock().unwrap().len() == 1)).await;
    let b = node(&store, "b").await;
    let (other, working) = (b.clone(), log.clone());
    tokio::spawn(async move {
        let me = other.id().clone();
        let work = move |part: DenseShard| {
            let working = working.begin(&me, &part);
            async move {
                work_on(part.view(), working, QUICK).await;
                drop(part);
                Ok(())
            }
        };
        other.run_dense("mailer", work).await
    });
    within(120.0, until(|| log.held_by("b") == [0])).await;
    pass(60.0).await;
    let whole = log.stints().into_iter().filter(|stint| stint.to.is_none());
    assert_eq!(whole.count(), 1, "b has the whole keyspace");
    drop(a);
}

/// ALL-OWNED: a node that takes its time to shut down hands on at once what it works on no longer,
/// where nothing is to be kept for its return.
#[tokio::test(start_paused = true)]
async fn a_slow_shutdown_without_grace_period_keeps_no_shard_unserved() {
    let (store, log, mails) = (MemoryStore::new(), Log::default(), Log::default());
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    drop(serve(&a, &log, orders(), QUICK));
    drop(serve(&b, &log, orders(), QUICK));
    let slow = ShardConfig::new("mails", 1).drain_timeout(Duration::from_secs(60));
    drop(serve(&a, &mails, slow, Duration::from_secs(50)));
    let shared = || log.held_by("a").len() == 3 && log.held_by("b").len() == 3;
    within(30.0, until(|| shared() && mails.held_by("a") == [0])).await;
    let watch = Watch::start();
    let ending = tokio::spawn(async move { a.shutdown().await });
    within(30.0, until(|| log.held_by("b").len() == 6)).await;
    assert!(watch.seconds() < 5.0, "{}", watch.seconds());
    ending.await.expect("no panic").expect("it drains in time");
    log.check_one_owner();
}

/// Stores what no planner of this version would write, over the present document.
async fn overwrite(store: &MemoryStore, keyspace: &str, document: &'static [u8]) -> Epoch {
    let assignments = store.connect("meddler").assignments.unwrap();
    let (group, keyspace) = (Group::from("test"), Keyspace::from(keyspace));
    // Above every planner's: none of them overwrites it.
    let token = FencingToken::new((1 << 53) - 1);
    let Ok(Lead::Led(stored)) = assignments.lead(&group, &keyspace, token).await else {
        panic!("nobody leads with a higher token");
    };
    let mut swap = Swap::new(group, keyspace, token, Bytes::from_static(document));
    swap.expected = stored.map(|stored| stored.epoch);
    match assignments.swap(&swap).await.unwrap() {
        Swapped::Stored(epoch) => epoch,
        other => panic!("not stored: {other:?}"),
    }
}

/// S10: a document of a version that is not known, or one that is damaged, is neither acted upon
/// nor acked; who holds shards goes on with them, and nobody panics.
#[tokio::test(start_paused = true)]
async fn a_document_that_cannot_be_read_is_not_acked_and_costs_no_shard() {
    let texts: [&[u8]; 4] = [&[2, 7, 7, 7], &[], &[1, 0xff, 0xff], b"{\"version\": 3}"];
    for text in texts {
        let (store, log) = (MemoryStore::new(), Log::default());
        let a = fleet::node(&store, "a").await;
        let _running = serve(&a, &log, orders(), QUICK);
        let mut plan = Plan::new(&store, "orders", Layout::Fixed { shards: 6 });
        plan.say(&[Say::Owned("a"); 6]).await;
        within(5.0, until(|| log.held_by("a").len() == 6)).await;
        let (router, seen) = (a.router("orders"), plan.report("a").await.seen);
        within(5.0, async {
            let mut router = router.clone();
            while router.owner_of("k").is_none() && router.changed().await {}
        })
        .await;
        let epoch = overwrite(&store, "orders", text).await;
        pass(60.0).await;
        assert_eq!(plan.report("a").await.seen, seen, "not acked");
        assert_eq!(log.held_by("a").len(), 6, "nothing told it to stop");
        assert_eq!(router.owner_of("k"), Some(a.id().clone()));
        // Who comes new is told why it cannot serve.
        let b = fleet::node(&store, "b").await;
        let refused = within(30.0, serve(&b, &log, orders(), QUICK))
            .await
            .unwrap();
        assert!(
            matches!(
                refused,
                Err(RunError::Acquire(AcquireError::Rejected { .. }))
            ),
            "{refused:?}"
        );
        // A document that it understands again is acted upon.
        plan.epoch = Some(epoch);
        let mut healed = Plan::new(&store, "orders", Layout::Fixed { shards: 6 });
        healed.epoch = Some(epoch);
        let fenced = healed.swap(&[Say::Free; 6], Vec::new()).await;
        assert!(matches!(fenced, Swapped::Fenced { .. }), "{fenced:?}");
        a.shutdown().await.expect("it drains in time");
    }
}

/// S9, S10: planners that cannot read the document give up in turns, slowly, and hurt nobody.
#[tokio::test(start_paused = true)]
async fn planners_that_cannot_read_the_document_leave_everyone_at_work() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    drop(serve(&a, &log, orders(), QUICK));
    drop(serve(&b, &log, orders(), QUICK));
    let shared = || log.held_by("a").len() == 3 && log.held_by("b").len() == 3;
    within(30.0, until(shared)).await;
    let grants = || {
        let entries = store.history();
        let granted = |it: &&coordinator_memory::Entry| {
            matches!(it.event, coordinator_memory::Event::Granted { .. })
        };
        entries.iter().filter(granted).count()
    };
    overwrite(&store, "orders", &[9]).await;
    let before = grants();
    pass(600.0).await;
    assert!(shared(), "nobody stopped");
    let elections = grants() - before;
    assert!(
        elections <= 60,
        "{elections} elections of planners in ten minutes"
    );
    for node in [a, b] {
        node.shutdown().await.expect("it drains in time");
    }
}

/// `run_shards` dropped and called again, at once and at every moment: the keyspace is never
/// refused, and served in the end.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_dropped_and_begun_again_at_once_is_served() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    drop(serve(&b, &log, orders(), QUICK));
    within(30.0, until(|| log.held_by("b").len() == 6)).await;
    for at in 0..60_u32 {
        let running = serve(&a, &log, orders(), QUICK);
        tokio::time::sleep(Duration::from_millis(u64::from(at * at))).await;
        assert!(!running.is_finished(), "never refused");
        running.abort();
        let cancelled = running.await.expect_err("it was dropped");
        assert!(cancelled.is_cancelled());
    }
    let by_hand = a
        .shards(orders())
        .await
        .expect("the keyspace is free again");
    drop(by_hand);
    let _running = serve(&a, &log, orders(), QUICK);
    let shared = || log.held_by("a").len() == 3 && log.held_by("b").len() == 3;
    within(60.0, until(shared)).await;
    log.check_one_owner();
}

/// By hand: dropped with shards taken and others waiting, all of them are handed on, the taken
/// ones when their guards are dropped.
#[tokio::test(start_paused = true)]
async fn shards_by_hand_that_are_dropped_in_the_middle_are_all_handed_on() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let (a, b) = (node(&store, "a").await, node(&store, "b").await);
    let mut shards = a.shards(orders()).await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(within(30.0, shards.next()).await.expect("it owns all"));
    }
    // A second service of the keyspace is refused as long as the first one lasts.
    let second = a.shards(orders()).await;
    assert!(matches!(second, Err(AcquireError::Rejected { .. })));
    drop(shards);
    within(1.0, taken[0].draining()).await;
    within(1.0, taken[1].draining()).await;
    assert!(taken[0].token().is_ok(), "asked to finish, and still owned");
    drop(serve(&b, &log, orders(), QUICK));
    within(15.0, until(|| log.held_by("b").len() == 4)).await;
    drop(taken);
    within(15.0, until(|| log.held_by("b").len() == 6)).await;
    log.check_one_owner();
}

/// S8: a group of members that take nothing owns nothing, quietly; whoever takes some gets all.
#[tokio::test(start_paused = true)]
async fn members_of_weight_zero_own_nothing_and_plan_nothing() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let mut idle = Vec::new();
    for name in ["a", "b"] {
        let node = support::builder(&store, name)
            .weight(0)
            .start()
            .await
            .unwrap();
        drop(serve(&node, &log, orders(), QUICK));
        drop(node.run_dense("mailer", |_| async { Ok(()) }));
        idle.push(node);
    }
    pass(120.0).await;
    assert_eq!(log.stints().len(), 0);
    let swaps = |entries: Vec<coordinator_memory::Entry>| {
        let swapped = |it: &&coordinator_memory::Entry| {
            matches!(it.event, coordinator_memory::Event::Swapped { .. })
        };
        entries.iter().filter(swapped).count()
    };
    assert!(swaps(store.history()) <= 1, "{}", swaps(store.history()));
    let c = node(&store, "c").await;
    drop(serve(&c, &log, orders(), QUICK));
    within(10.0, until(|| log.held_by("c").len() == 6)).await;
    c.shutdown().await.expect("it drains in time");
    pass(60.0).await;
    assert!(swaps(store.history()) <= 6, "{}", swaps(store.history()));
}

/// H14, C1: after the loss nothing is saved; what is stored and no position is never taken for none.
#[tokio::test(start_paused = true)]
async fn a_save_after_the_loss_is_refused_and_an_unreadable_position_is_an_error() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let mut shards = a.shards(ShardConfig::new("orders", 1)).await.unwrap();
    let shard = within(30.0, shards.next()).await.unwrap();
    assert_eq!(shard.load::<u64>().await.unwrap(), None);
    shard.save("ten").await.unwrap();
    let malformed = shard.load::<u64>().await.unwrap_err();
    assert!(
        matches!(malformed, SaveError::Malformed { .. }),
        "{malformed}"
    );
    let long = "x".repeat(64 * 1024 + 1);
    let rejected = shard.save(long).await.unwrap_err();
    assert!(matches!(rejected, SaveError::Rejected { .. }), "{rejected}");
    assert!(shard.token().is_ok(), "neither costs the shard");
    // Made before the loss, first polled after it.
    let late = shard.save("late");
    store.link("a").cut();
    within(30.0, shard.lost()).await;
    store.link("a").heal();
    for save in [tokio::spawn(late), tokio::spawn(shard.save("later"))] {
        let refused = save.await.unwrap().unwrap_err();
        assert!(matches!(refused, SaveError::Lost(_)), "{refused}");
    }
    let lost = shard.load::<String>().await.unwrap_err();
    assert!(matches!(lost, SaveError::Lost(_)), "{lost}");
    drop(shard);
    let again = within(60.0, shards.next()).await.unwrap();
    assert_eq!(
        again.load::<String>().await.unwrap(),
        Some("ten".to_owned())
    );
}

/// Its hints come at once, whether there is news or not: allowed by contract.
struct Jumpy {
    inner: Arc<dyn AssignmentStore>,
    loads: Arc<AtomicU32>,
    /// The first read is never answered.
    mute_at_first: bool,
}

#[async_trait]
impl AssignmentStore for Jumpy {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError> {
        let before = self.loads.fetch_add(1, Ordering::Relaxed);
        if self.mute_at_first && before == 0 {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
        self.inner.load(group, keyspace).await
    }

    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError> {
        self.inner.lead(group, keyspace, token).await
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError> {
        self.inner.swap(swap).await
    }

    async fn changed(
        &self,
        _: &Group,
        _: &Keyspace,
        _: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        Ok(())
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }
}

/// BOUNDED: a store whose hints mean nothing is not asked in a hot loop, whether there is a
/// document or not, by keepers or by routers.
#[tokio::test(start_paused = true)]
async fn hints_without_news_make_no_hot_loop() {
    let (store, loads) = (MemoryStore::new(), Arc::new(AtomicU32::new(0)));
    let backend = |name: &str| {
        let backend = fleet::unplanned(&store, name);
        let inner = backend.assignments.clone().unwrap();
        let loads = loads.clone();
        Backend {
            assignments: Some(Arc::new(Jumpy {
                inner,
                loads,
                mute_at_first: false,
            })),
            ..backend
        }
    };
    let a = Node::builder("test").member("a").backend(backend("a"));
    let a = a.start().await.unwrap();
    let log = Log::default();
    let _router = a.router("orders");
    let _running = serve(&a, &log, orders(), QUICK);
    pass(30.0).await;
    let without = loads.swap(0, Ordering::Relaxed);
    assert!(
        without < 3 * 30 * 10 + 50,
        "{without} reads of nothing in 30 s"
    );
    let mut plan = Plan::new(&store, "orders", Layout::Fixed { shards: 6 });
    plan.say(&[Say::Owned("a"); 6]).await;
    within(5.0, until(|| log.held_by("a").len() == 6)).await;
    loads.store(0, Ordering::Relaxed);
    pass(30.0).await;
    let with = loads.load(Ordering::Relaxed);
    assert!(
        with < 3 * 30 * 10 + 50,
        "{with} reads of one document in 30 s"
    );
}

/// BOUNDED: a read that is never answered is given up, and asked again.
#[tokio::test(start_paused = true)]
async fn a_router_outlives_a_read_that_is_never_answered() {
    let store = MemoryStore::new();
    let backend = fleet::unplanned(&store, "a");
    let assignments = Jumpy {
        inner: backend.assignments.clone().unwrap(),
        loads: Arc::default(),
        mute_at_first: true,
    };
    let assignments: Option<Arc<dyn AssignmentStore>> = Some(Arc::new(assignments));
    let backend = Backend {
        assignments,
        ..backend
    };
    let a = Node::builder("test").member("a").backend(backend);
    let a = a.start().await.unwrap();
    let mut plan = Plan::new(&store, "orders", Layout::Fixed { shards: 6 });
    plan.say(&[Say::Owned("a"); 6]).await;
    let router = a.router("orders");
    pass(15.0).await;
    assert_eq!(router.owner_of("x").as_ref(), Some(a.id()));
}
