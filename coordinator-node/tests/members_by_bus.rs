//! Members where there is a bus and nothing else, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

#[cfg(feature = "metrics")]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::machine::hearing::{Sign, Word};
use coordinator_node::core::{
    BusError, ClusterBus, Feed, FeedEvent, Frame, Instance, Profile, async_trait,
};
use coordinator_node::{
    AcquireError, Backend, Bytes, MemberSource, Members, Node, NodeBuilder, RunError, ShardConfig,
    Standing, Start, StartError, Topic,
};
use support::{Watch, pass, within};

/// Nothing but the store's bus; and its clock, its executor and its seed.
fn only_bus(all: Backend) -> Backend {
    Backend {
        locks: None,
        members: None,
        assignments: None,
        checkpoints: None,
        ..all
    }
}

/// A node of the group `test` whose backend is nothing but the store's bus.
fn builder(store: &MemoryStore, name: &str) -> NodeBuilder {
    let backend = only_bus(store.connect(name));
    Node::builder("test").member(name).backend(backend)
}

async fn node(store: &MemoryStore, name: &str) -> Node {
    builder(store, name)
        .start()
        .await
        .expect("nothing is asked of the store")
}

async fn fleet(store: &MemoryStore, names: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(node(store, name).await);
    }
    for node in &nodes {
        sees(&mut node.members(), names).await;
    }
    nodes
}

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

fn is_isolated(node: &Node) -> bool {
    node.health().membership == Standing::Listening { isolated: true }
}

/// M1, G6: who joins is known in a moment, who leaves is gone at once, who crashes after a ttl.
#[tokio::test(start_paused = true)]
async fn members_see_each_other_join_leave_and_die_with_nothing_but_a_bus() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    assert_eq!(a.members().source(), MemberSource::Bus);
    assert_eq!(names(&a.members()), ["a"], "it knows itself from the start");
    let mut members = a.members();
    let watch = Watch::start();
    let b = node(&store, "b").await;
    let _c = node(&store, "c").await;
    sees(&mut members, &["a", "b", "c"]).await;
    sees(&mut b.members(), &["a", "b", "c"]).await;
    assert!(
        watch.seconds() < 1.1,
        "a newcomer asks, and is told: {}",
        watch.seconds()
    );
    let watch = Watch::start();
    b.shutdown().await.expect("nothing is busy");
    sees(&mut members, &["a", "c"]).await;
    assert!(
        watch.seconds() < 0.1,
        "a goodbye is heard at once: {}",
        watch.seconds()
    );
    assert_eq!(b.health().membership, Standing::Left);
    pass(5.0).await;
    store.link("c").crash();
    let watch = Watch::start();
    sees(&mut members, &["a"]).await;
    let took = watch.seconds();
    assert!(
        (6.5..=11.1).contains(&took),
        "a death within a ttl and a tenth: {took}"
    );
}

/// G6: who is cut off suspects itself, and drops nobody; the others drop it after a ttl.
#[tokio::test(start_paused = true)]
async fn who_is_cut_off_suspects_itself_and_the_others_miss_it() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b", "c"]).await;
    store.link("c").cut();
    sees(&mut nodes[0].members(), &["a", "b"]).await;
    sees(&mut nodes[1].members(), &["a", "b"]).await;
    pass(60.0).await;
    assert_eq!(names(&nodes[2].members()), ["a", "b", "c"]);
    assert!(is_isolated(&nodes[2]) && nodes[2].health().is_ready());
    assert!(!is_isolated(&nodes[0]));
    store.link("c").heal();
    let watch = Watch::start();
    sees(&mut nodes[0].members(), &["a", "b", "c"]).await;
    assert!(watch.seconds() < 1.5, "{}", watch.seconds());
    pass(2.0).await;
    assert!(!is_isolated(&nodes[2]));
    for node in nodes {
        node.shutdown().await.expect("nothing is busy");
    }
}

/// The same where no broker says that the connection is gone: not even its own beats come back.
#[tokio::test(start_paused = true)]
async fn who_hears_nothing_without_being_told_why_suspects_itself_too() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b", "c"]).await;
    store.link("c").bus_loss(1.0);
    pass(60.0).await;
    assert!(is_isolated(&nodes[2]));
    assert_eq!(names(&nodes[2].members()), ["a", "b", "c"]);
    assert_eq!(
        names(&nodes[0].members()),
        ["a", "b", "c"],
        "they still hear it"
    );
    store.link("c").clear();
    pass(5.0).await;
    assert!(!is_isolated(&nodes[2]));
    assert_eq!(names(&nodes[2].members()), ["a", "b", "c"]);
}

/// G6: where the bus is parted, each side sees its own half; and afterwards all see all.
#[tokio::test(start_paused = true)]
async fn the_views_of_two_halves_differ_and_meet_again() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b", "c", "d"]).await;
    store.partition(&["a", "b"], &["c", "d"]);
    sees(&mut nodes[0].members(), &["a", "b"]).await;
    sees(&mut nodes[3].members(), &["c", "d"]).await;
    store.heal_partitions();
    for node in &nodes {
        within(4.0, sees(&mut node.members(), &["a", "b", "c", "d"])).await;
    }
}

/// A bus that counts what is published, and by whom.
struct Counting {
    inner: Arc<dyn ClusterBus>,
    published: Arc<AtomicUsize>,
}

#[async_trait]
impl ClusterBus for Counting {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        self.published.fetch_add(batch.len(), Ordering::Relaxed);
        self.inner.publish(batch).await
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        self.inner.subscribe(topics, start).await
    }
}

async fn counted(store: &MemoryStore, name: &str, published: &Arc<AtomicUsize>) -> Node {
    let all = store.connect(name);
    let bus = Counting {
        inner: all.bus.clone().expect("it has one"),
        published: published.clone(),
    };
    let backend = only_bus(Backend {
        bus: Some(Arc::new(bus)),
        ..all
    });
    let node = Node::builder("test").member(name).backend(backend);
    node.start().await.expect("nothing is asked of the store")
}

/// M7, G6: the whole bus is out for six ttl. Nobody is missed by anybody, and on return each beats
/// once, spread over a second.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_whole_bus_costs_nobody_its_place_and_ends_without_a_storm() {
    let (store, published) = (MemoryStore::new(), Arc::default());
    let wanted: Vec<String> = (0..20).map(|number| format!("m{number:02}")).collect();
    let mut nodes = Vec::new();
    for name in &wanted {
        nodes.push(counted(&store, name, &published).await);
    }
    pass(5.0).await;
    let mut watchers: Vec<_> = nodes.iter().map(Node::members).collect();
    for watcher in &mut watchers {
        assert!(watcher.changed().await);
        assert_eq!(names(watcher), wanted);
    }
    store.stop();
    published.store(0, Ordering::Relaxed);
    pass(60.0).await;
    assert_eq!(
        published.load(Ordering::Relaxed),
        0,
        "nothing is sent into the void"
    );
    assert!(nodes.iter().all(is_isolated));
    store.start();
    pass(1.1).await;
    assert_eq!(published.load(Ordering::Relaxed), 20, "one beat of each");
    pass(30.0).await;
    assert!(!nodes.iter().any(is_isolated));
    for watcher in &mut watchers {
        assert_eq!(names(watcher), wanted);
        let change = tokio::time::timeout(Duration::from_secs(1), watcher.changed());
        assert!(change.await.is_err(), "nothing has changed for anybody");
    }
}

/// M5: a short pause costs nothing; a long one the pausing member's place, for as long as it
/// lasts, and nobody else's.
#[tokio::test(start_paused = true)]
async fn a_paused_member_is_missed_and_misses_nobody() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b", "c"]).await;
    let mut watcher = nodes[0].members();
    assert!(watcher.changed().await);
    for _ in 0..5 {
        store.link("c").pause();
        pass(5.0).await;
        store.link("c").resume();
        pass(4.0).await;
    }
    let change = tokio::time::timeout(Duration::from_millis(1), watcher.changed());
    assert!(change.await.is_err(), "a missed beat is tolerated");
    store.link("c").pause();
    pass(60.0).await;
    assert_eq!(names(&watcher), ["a", "b"]);
    let mut own = nodes[2].members();
    assert!(own.changed().await);
    store.link("c").resume();
    within(1.0, sees(&mut watcher, &["a", "b", "c"])).await;
    pass(30.0).await;
    let change = tokio::time::timeout(Duration::from_millis(1), own.changed());
    assert!(change.await.is_err(), "it never missed anybody");
}

/// M4: its clock jumps by an hour: no false end, on either side, and no hot loop.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_by_an_hour_costs_nobody_its_place() {
    let (store, published) = (MemoryStore::new(), Arc::default());
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(counted(&store, name, &published).await);
    }
    pass(5.0).await;
    let mut watchers: Vec<_> = nodes.iter().map(Node::members).collect();
    for watcher in &mut watchers {
        assert!(watcher.changed().await);
        assert_eq!(names(watcher), ["a", "b", "c"]);
    }
    published.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        store.link("b").clock_jump(Duration::from_hours(1));
        pass(10.0).await;
    }
    let beats = published.load(Ordering::Relaxed);
    assert!(
        (27..=40).contains(&beats),
        "{beats} beats of three in three ttl"
    );
    assert!(!nodes.iter().any(is_isolated));
    for watcher in &mut watchers {
        let change = tokio::time::timeout(Duration::from_millis(1), watcher.changed());
        assert!(change.await.is_err(), "{:?}", names(watcher));
    }
}

/// M6: groups do not hear each other.
#[tokio::test(start_paused = true)]
async fn two_groups_on_one_bus_are_two_fleets() {
    let store = MemoryStore::new();
    let mut nodes = Vec::new();
    for (group, name) in [
        ("g", "a"),
        ("g", "b"),
        ("g/members", "a"),
        ("g%2Fmembers", "c"),
    ] {
        let backend = only_bus(store.connect(format!("{group}-{name}")));
        let node = Node::builder(group).member(name).backend(backend);
        nodes.push(node.start().await.unwrap());
    }
    pass(5.0).await;
    let seen: Vec<_> = nodes.iter().map(|node| names(&node.members())).collect();
    assert_eq!(seen[0], ["a", "b"]);
    assert_eq!(seen[1], ["a", "b"]);
    assert_eq!(seen[2], ["a"]);
    assert_eq!(seen[3], ["c"]);
}

/// G6: 50 that start at once know each other within two seconds, at a few beats each;
/// and idle, each beats three times a ttl, or a little more for the jitter.
#[tokio::test(start_paused = true)]
async fn fifty_members_know_each_other_at_a_bounded_price() {
    let (store, published) = (MemoryStore::new(), Arc::<AtomicUsize>::default());
    let mut nodes = Vec::new();
    for number in 0..50 {
        nodes.push(counted(&store, &format!("m{number:02}"), &published).await);
    }
    pass(2.0).await;
    let all: Vec<_> = nodes
        .iter()
        .map(|node| names(&node.members()).len())
        .collect();
    assert_eq!(all, vec![50; 50]);
    let joining = published.swap(0, Ordering::Relaxed);
    assert!(joining <= 50 * 4, "{joining} beats");
    pass(100.0).await;
    let idle = published.load(Ordering::Relaxed);
    assert!((1_450..=1_950).contains(&idle), "{idle} beats in ten ttl");
}

/// A node starts where the bus cannot be reached, says so, and finds the others when it can.
#[tokio::test(start_paused = true)]
async fn a_node_starts_without_its_bus_and_hears_the_others_when_that_is_there() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    store.link("b").cut();
    let b = node(&store, "b").await;
    pass(30.0).await;
    assert!(is_isolated(&b) && !is_isolated(&a));
    assert_eq!(names(&b.members()), ["b"]);
    store.link("b").heal();
    within(7.0, sees(&mut b.members(), &["a", "b"])).await;
    sees(&mut a.members(), &["a", "b"]).await;
    pass(5.0).await;
    assert!(!is_isolated(&b));
}

/// What a member announces reaches the others within a thirtieth of a ttl, and newcomers as well.
#[tokio::test(start_paused = true)]
async fn an_announcement_is_heard_by_all() {
    let store = MemoryStore::new();
    let a = builder(&store, "a")
        .metadata("port", "80")
        .zone("eu")
        .weight(3);
    let (a, b) = (a.start().await.unwrap(), node(&store, "b").await);
    let port = |members: &Members| {
        let current = members.current();
        let found = current.iter().find(|member| member.id.as_str() == "a");
        found.map(|member| member.profile.clone())
    };
    let mut members = b.members();
    sees(&mut members, &["a", "b"]).await;
    let told = port(&members).unwrap();
    assert_eq!((told.metadata["port"].as_str(), told.weight), ("80", 3));
    assert_eq!(told.zone.as_deref(), Some("eu"));
    a.members()
        .announce([("port", "8080")])
        .expect("it is small");
    within(0.4, async {
        while port(&members).unwrap().metadata["port"] != "8080" {
            assert!(members.changed().await);
        }
    })
    .await;
    let c = node(&store, "c").await;
    sees(&mut c.members(), &["a", "b", "c"]).await;
    assert_eq!(port(&c.members()).unwrap().metadata["port"], "8080");
}

/// What the bus cannot carry is refused, not silently unheard.
#[tokio::test(start_paused = true)]
async fn metadata_that_the_bus_cannot_carry_is_refused() {
    let store = MemoryStore::builder().payload_limit(300).build();
    let a = node(&store, "a").await;
    let error = a.members().announce([("k", "v".repeat(300))]).unwrap_err();
    assert_eq!(error.given, 301);
    assert!((150..300).contains(&error.most), "{error}");
    let fits = error.most - 1;
    a.members()
        .announce([("k", "v".repeat(fits))])
        .expect("as it says");
    let b = node(&store, "b").await;
    sees(&mut b.members(), &["a", "b"]).await;
    let refused = builder(&store, "c").metadata("k", "v".repeat(300)).start();
    assert!(matches!(refused.await, Err(StartError::Rejected { .. })));
}

/// A restart under a static name replaces the life before at once; its last one is no other life.
#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_name_takes_its_place_at_once() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b"]).await;
    let before = nodes[0].members().current()[1].clone();
    store.link("b").crash();
    pass(1.0).await;
    let again = node(&store, "b").await;
    let mut members = nodes[0].members();
    within(0.1, async {
        while members.current()[1].instance == before.instance {
            assert!(members.changed().await);
        }
    })
    .await;
    assert!(members.current()[1].incarnation > before.incarnation);
    drop(again);
}

fn sign(group: &str, id: &str, word: Word) -> Bytes {
    let sign = Sign {
        group: group.into(),
        id: id.into(),
        instance: Instance::from_random(99),
        beat: 1,
        age: Duration::ZERO,
        word,
    };
    sign.to_bytes()
}

/// Rubbish, another group's and a later version's beats are dropped, and change nothing.
#[tokio::test(start_paused = true)]
async fn what_is_no_beat_of_the_group_is_dropped() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b"]).await;
    let bus = store.connect("noise").bus.unwrap();
    let beat = |group: &str, id: &str| {
        let word = Word::Beat(coordinator_node::core::machine::hearing::Beat {
            ttl: Duration::from_secs(10),
            asks: true,
            fixed: false,
            profile: Profile::new(),
        });
        sign(group, id, word)
    };
    let mut later = beat("test", "z").to_vec();
    later[..2].copy_from_slice(&[2, 2]);
    let noise = [
        Bytes::from_static(b"\xff\xff\xff"),
        Bytes::new(),
        beat("other", "z"),
        later.into(),
    ];
    let publish = async |payload: Bytes| {
        let topic = Topic::new("test/members/beats");
        let frame = Frame::new(topic, "z".into(), Instance::from_random(99), payload);
        bus.publish(&[frame]).await.unwrap();
    };
    for payload in noise {
        publish(payload).await;
    }
    pass(1.0).await;
    assert_eq!(names(&nodes[0].members()), ["a", "b"]);
    // The topic was the right one: a true beat is heard there.
    publish(beat("test", "z")).await;
    sees(&mut nodes[0].members(), &["a", "b", "z"]).await;
}

/// A feed that ends or panics is opened again, and nobody is missed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_feed_that_breaks_is_opened_again() {
    struct Breaking(Arc<dyn ClusterBus>);
    struct Short(Box<dyn Feed>, u32);
    #[async_trait]
    impl ClusterBus for Breaking {
        async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
            self.0.publish(batch).await
        }
        async fn subscribe(&self, t: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
            Ok(Box::new(Short(self.0.subscribe(t, start).await?, 12)))
        }
    }
    #[async_trait]
    impl Feed for Short {
        async fn next(&mut self) -> Option<FeedEvent> {
            self.1 = self.1.checked_sub(1)?;
            assert_ne!(self.1, 3, "a bug in a backend");
            self.0.next().await
        }
    }
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b"]).await;
    let all = store.connect("c");
    let backend = only_bus(Backend {
        bus: Some(Arc::new(Breaking(all.bus.unwrap()))),
        ..store.connect("c")
    });
    let c = Node::builder("test").member("c").backend(backend);
    let c = c.start().await.unwrap();
    let mut members = nodes[0].members();
    sees(&mut members, &["a", "b", "c"]).await;
    sees(&mut c.members(), &["a", "b", "c"]).await;
    pass(300.0).await;
    assert_eq!(names(&members), ["a", "b", "c"]);
    assert_eq!(names(&c.members()), ["a", "b", "c"]);
}

/// A shutdown with the bus cut off, or silent, ends, and soon.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_bus_that_is_gone() {
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b", "c"]).await;
    store.link("a").cut();
    store.link("b").lose_requests(true);
    for node in &nodes[..2] {
        let watch = Watch::start();
        within(10.0, node.shutdown())
            .await
            .expect("nothing is busy");
        assert!(watch.seconds() <= 7.5, "{}", watch.seconds());
    }
    sees(&mut nodes[2].members(), &["c"]).await;
}

/// G6: what needs a store of members still says so.
#[tokio::test(start_paused = true)]
async fn shards_are_never_run_on_hearsay() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let run = a.run_shards(ShardConfig::new("orders", 4), async |_| Ok(()));
    let error = run.await.unwrap_err();
    let missing = matches!(error, RunError::Acquire(AcquireError::MissingPart { .. }));
    assert!(missing, "{error}");
    let all = store.connect("b");
    let backend = Backend {
        members: None,
        ..all
    };
    let b = Node::builder("test").member("b").backend(backend);
    let b = b.start().await.unwrap();
    assert_eq!(b.members().source(), MemberSource::Bus);
    let run = b.run_shards(ShardConfig::new("orders", 4), async |_| Ok(()));
    let error = run.await.unwrap_err();
    let part = match error {
        RunError::Acquire(AcquireError::MissingPart { part, .. }) => part,
        other => panic!("{other}"),
    };
    assert_eq!(part, "members");
}

/// The same seed, the same run: who was seen when.
#[tokio::test(start_paused = true)]
async fn runs_repeat() {
    async fn history(seed: u64) -> Vec<(Duration, Vec<String>)> {
        let store = MemoryStore::builder().seed(seed).build();
        let _others = fleet(&store, &["a", "b", "c", "d"]).await;
        let node = node(&store, "e").await;
        let mut members = node.members();
        store.link("b").bus_loss(0.4);
        store.link("c").bus_loss(0.4);
        let mut seen = Vec::new();
        let watch = async {
            while members.changed().await {
                seen.push((store.elapsed(), names(&members)));
            }
        };
        let stop = async {
            pass(20.0).await;
            store.link("d").crash();
            pass(100.0).await;
        };
        tokio::select! {
            biased;
            () = stop => {}
            () = watch => {}
        }
        seen
    }
    let first = history(1).await;
    assert!(first.len() >= 2, "{first:?}");
    assert_eq!(first, history(1).await);
    assert_ne!(first, history(2).await);
}

/// One static name in two live processes: each is told, and the others see one member.
#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn a_duplicate_name_is_reported_once_by_each() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let store = MemoryStore::new();
    let nodes = fleet(&store, &["a", "b"]).await;
    pass(20.0).await;
    let twin = only_bus(store.connect("twin"));
    let twin = Node::builder("test").member("b").backend(twin);
    let twin = twin.start().await.unwrap();
    pass(60.0).await;
    for node in [&nodes[0], &nodes[1], &twin] {
        assert_eq!(names(&node.members()), ["a", "b"]);
    }
    let totals = snapshotter.snapshot().into_vec().into_iter();
    let totals: BTreeMap<String, u64> = totals
        .filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) => Some((key.key().name().to_owned(), count)),
            DebugValue::Gauge(_) | DebugValue::Histogram(_) => None,
        })
        .collect();
    assert_eq!(totals["coordinator_duplicate_names_total"], 3);
}
