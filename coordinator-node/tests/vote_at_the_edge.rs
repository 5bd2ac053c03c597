//! Elections by vote where their surroundings misbehave: odd buses, odd names, many campaigns of
//! one node, dropped futures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{
    Backend, BadFrame, BusError, Capabilities, ClusterBus, Feed, FeedEvent, Frame, Start, Topic,
    async_trait,
};
use coordinator_memory::MemoryStore;
use coordinator_node::{Election, ElectionConfig, Leadership, Node, Quorum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::{lead, pass, within};

const VOTERS: [&str; 3] = ["a", "b", "c"];

/// How a bus misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Oddity {
    None,
    SubscribePanics,
    SubscribeHangs,
    SubscribeFails,
    PublishPanics,
    PublishHangs,
    PublishFails,
    FeedPanics,
    FeedEnds,
}

const ALL: [Oddity; 8] = [
    Oddity::SubscribePanics,
    Oddity::SubscribeHangs,
    Oddity::SubscribeFails,
    Oddity::PublishPanics,
    Oddity::PublishHangs,
    Oddity::PublishFails,
    Oddity::FeedPanics,
    Oddity::FeedEnds,
];

/// The memory bus, in a mood that may change.
struct Odd {
    inner: Arc<dyn ClusterBus>,
    mood: Arc<AtomicU8>,
    /// So much rubbish comes before all else, at once.
    flood: Arc<AtomicU32>,
}

struct OddFeed {
    inner: Box<dyn Feed>,
    mood: Arc<AtomicU8>,
    flood: Arc<AtomicU32>,
}

fn is(mood: &AtomicU8, oddity: Oddity) -> bool {
    mood.load(Ordering::Relaxed) == oddity as u8
}

#[async_trait]
impl ClusterBus for Odd {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        assert!(!is(&self.mood, Oddity::PublishPanics), "a bug in the bus");
        if is(&self.mood, Oddity::PublishHangs) {
            return std::future::pending().await;
        }
        if is(&self.mood, Oddity::PublishFails) {
            return Err(BusError::unavailable("publish", Topic::new("*"), "away"));
        }
        self.inner.publish(batch).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        assert!(!is(&self.mood, Oddity::SubscribePanics), "a bug in the bus");
        if is(&self.mood, Oddity::SubscribeHangs) {
            return std::future::pending().await;
        }
        if is(&self.mood, Oddity::SubscribeFails) {
            return Err(BusError::unavailable("subscribe", Topic::new("*"), "away"));
        }
        let inner = self.inner.subscribe(topics, start).await?;
        let (mood, flood) = (self.mood.clone(), self.flood.clone());
        Ok(Box::new(OddFeed { inner, mood, flood }))
    }
}

#[async_trait]
impl Feed for OddFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        let drop = |left: u32| left.checked_sub(1);
        if self
            .flood
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, drop)
            .is_ok()
        {
            return Some(FeedEvent::Malformed(BadFrame::new("rubbish")));
        }
        let event = self.inner.next().await;
        assert!(!is(&self.mood, Oddity::FeedPanics), "a bug in the bus");
        event.filter(|_| !is(&self.mood, Oddity::FeedEnds))
    }
}

struct Voter {
    node: Node,
    mood: Arc<AtomicU8>,
    flood: Arc<AtomicU32>,
}

impl Voter {
    async fn start(store: &MemoryStore, name: &str, oddity: Oddity) -> Self {
        let mood = Arc::new(AtomicU8::new(oddity as u8));
        let flood = Arc::new(AtomicU32::new(0));
        let backend = store.connect(name);
        let bus: Arc<dyn ClusterBus> = Arc::new(Odd {
            inner: backend.bus.clone().expect("the memory backend has a bus"),
            mood: mood.clone(),
            flood: flood.clone(),
        });
        let backend = Backend {
            bus: Some(bus),
            locks: None,
            members: None,
            assignments: None,
            checkpoints: None,
            ..backend
        };
        let builder = Node::builder("test").member(name).backend(backend);
        let node = builder.start().await.expect("it needs nothing but a bus");
        Self { node, mood, flood }
    }

    fn is_now(&self, oddity: Oddity) {
        self.mood.store(oddity as u8, Ordering::Relaxed);
    }

    fn election(&self) -> Election {
        let config = ElectionConfig::new("e").by_vote(Quorum::fixed(VOTERS));
        self.node.election(config)
    }
}

async fn three(store: &MemoryStore, oddity: Oddity) -> [Voter; 3] {
    let [a, b, c] = VOTERS;
    [
        Voter::start(store, a, oddity).await,
        Voter::start(store, b, oddity).await,
        Voter::start(store, c, oddity).await,
    ]
}

async fn first(elections: &[Election]) -> Leadership {
    let campaigns = elections.iter().map(|one| Box::pin(one.campaign()));
    let (leads, _, others) = futures_util::future::select_all(campaigns).await;
    drop(others);
    leads.expect("somebody leads")
}

/// E7, E14: whatever the bus did to all voters when they started, it ends nobody's voter.
#[tokio::test(start_paused = true)]
async fn a_bus_that_misbehaved_at_the_start_costs_no_election() {
    for oddity in ALL {
        let store = MemoryStore::new();
        let voters = three(&store, oddity).await;
        let elections = voters.each_ref().map(Voter::election);
        let mut leads = Box::pin(first(&elections));
        let early = tokio::time::timeout(Duration::from_secs(20), &mut leads).await;
        assert!(early.is_err(), "{oddity:?}: no quorum can talk");
        for voter in &voters {
            voter.is_now(Oddity::None);
        }
        let leads = tokio::time::timeout(Duration::from_secs(20), leads).await;
        let leads = leads.unwrap_or_else(|_| panic!("{oddity:?}: nobody leads"));
        assert!(leads.token().is_ok(), "{oddity:?}");
    }
}

/// E8, E11: the same in the middle of a term: it may cost the term, and not the election.
#[tokio::test(start_paused = true)]
async fn a_bus_that_misbehaves_in_a_term_costs_the_term_at_most() {
    for oddity in ALL {
        let store = MemoryStore::new();
        let voters = three(&store, Oddity::None).await;
        let elections = voters.each_ref().map(Voter::election);
        let leads = first(&elections).await;
        pass(3.0).await;
        for voter in &voters {
            voter.is_now(oddity);
        }
        pass(10.0).await;
        for voter in &voters {
            voter.is_now(Oddity::None);
        }
        drop(leads);
        let leads = tokio::time::timeout(Duration::from_secs(20), first(&elections)).await;
        let leads = leads.unwrap_or_else(|_| panic!("{oddity:?}: nobody leads"));
        pass(10.0).await;
        assert!(leads.token().is_ok(), "{oddity:?}: and it stays");
    }
}

/// E3: rubbish on the topic, without end as far as anybody can see, keeps no leader from
/// resigning, and no thread to itself.
#[tokio::test(start_paused = true)]
async fn a_flood_of_rubbish_holds_up_no_wish() {
    let store = MemoryStore::new();
    let voters = three(&store, Oddity::None).await;
    let elections = voters.each_ref().map(Voter::election);
    let leads = first(&elections).await;
    let at = VOTERS
        .iter()
        .position(|name| leads.term().leader == (*name).into());
    let flood = &voters[at.expect("it is a voter")].flood;
    flood.store(1_000_000, Ordering::Relaxed);
    // Something has to wake the ear.
    pass(1.0).await;
    let before = flood.load(Ordering::Relaxed);
    flood.store(1_000_000, Ordering::Relaxed);
    let resign = leads.resign();
    resign.await.expect("it led");
    let after = flood.load(Ordering::Relaxed);
    assert!(after > 0, "{before}, {after}: the flood came first");
}

/// Tokens rise over all that were ever led under.
fn note(reigns: &Mutex<Vec<(u64, &'static str)>>, token: u64, leader: &'static str, seed: u64) {
    let mut reigns = reigns.lock().expect("nobody panicked");
    let taken = reigns.iter().find(|(term, _)| *term >= token).copied();
    assert_eq!(taken, None, "seed {seed}: E15, {token} of {leader}");
    reigns.push((token, leader));
}

/// E2, E15, E19, V7: claims of one node come and go at every moment. A term that one of them gave back is
/// nobody's, for its promises are void: no other claim may sit down in it.
#[tokio::test(start_paused = true)]
async fn campaigns_of_one_node_never_share_a_term() {
    for seed in 0..4 {
        let store = MemoryStore::new();
        let voters = three(&store, Oddity::None).await;
        for name in VOTERS {
            store.link(name).delay(Duration::from_millis(3));
        }
        let reigns: Arc<Mutex<Vec<(u64, &'static str)>>> = Arc::default();
        let mut campaigns = tokio::task::JoinSet::new();
        for (at, voter) in voters.iter().enumerate() {
            for more in 0..4 {
                let mut random = StdRng::seed_from_u64(seed * 64 + at as u64 * 8 + more);
                let (election, reigns) = (voter.election(), reigns.clone());
                campaigns.spawn(async move {
                    loop {
                        let patience = random.random_range(0..400);
                        let patience = Duration::from_millis(patience);
                        let leads = tokio::time::timeout(patience, election.campaign()).await;
                        let Ok(leads) = leads else {
                            continue;
                        };
                        let leads = leads.expect("it leads");
                        let token = leads.token().expect("it leads").get();
                        note(&reigns, token, VOTERS[at], seed);
                        let span = random.random_range(0..20);
                        tokio::time::sleep(Duration::from_millis(span)).await;
                        leads.resign().await.ok();
                    }
                });
            }
        }
        let failed = tokio::time::timeout(Duration::from_secs(20), campaigns.join_next()).await;
        assert!(failed.is_err(), "{failed:?}");
        let terms = reigns.lock().expect("nobody panicked").len();
        assert!(terms > 5, "seed {seed}: only {terms} terms");
    }
}

/// V9: names as long as they may be make topics that no bus takes, unless that is minded.
#[tokio::test(start_paused = true)]
async fn the_longest_names_elect_too() {
    let store = MemoryStore::new();
    let long = "x".repeat(512);
    let node = Voter::start(&store, &long, Oddity::None).await.node;
    let voters = Quorum::fixed([long.as_str()]);
    let election = node.election(ElectionConfig::new("y".repeat(512)).by_vote(voters));
    let leads = lead(&election).await;
    within(10.0, leads.resign()).await.expect("it led");
}

/// V9: a bus that takes no vote is told of, instead of an election that never ends.
#[tokio::test(start_paused = true)]
async fn a_bus_that_is_too_small_for_a_vote_is_refused() {
    let store = MemoryStore::builder().payload_limit(64).build();
    let node = Voter::start(&store, "a", Oddity::None).await.node;
    let election = node.election(ElectionConfig::new("e").by_vote(Quorum::fixed(["a"])));
    let error = within(30.0, election.campaign()).await;
    let error = error.expect_err("it cannot speak");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let told = source.is_some_and(|source| source.contains("the bus takes 64"));
    assert!(told, "{error:?}");
}
