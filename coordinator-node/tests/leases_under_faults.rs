//! Elections and locks of a fleet under random faults: pauses, cuts, crashes, losses of memory,
//! clocks that differ, work that misbehaves. Every promise is checked in true time.
//!
//! `COORDINATOR_SEEDS` sets how many seeds are run (by default a few, for a quick check), and
//! `COORDINATOR_SEED` the first one: a failure names its own.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here is to fail the test"
)]

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{FencingToken, LostCause};
use coordinator_memory::{Delay, Event, Link, MemoryStore, Replica};
use coordinator_node::{
    BoxError, ElectionConfig, Leadership, LeaseView, LockConfig, LockGuard, Node, WorkResult,
};
use futures_util::FutureExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

const MEMBERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const TTL: Duration = Duration::from_secs(2);
/// What a store that lost its memory waits for.
const MAX_TTL: Duration = Duration::from_secs(4);
const DRAIN: Duration = Duration::from_millis(1_500);
const CHAOS: Duration = Duration::from_secs(45);
/// From the end of all faults to a leader: a quarantine, the rest of a lease, a guard that outlives
/// its term, a cool-down and a pause between two attempts.
const RECOVERY: Duration = Duration::from_millis(4_000 + 2 * 2_000 + 1_500 + 1_000 + 2_000);
/// A shutdown: the drain, what its deadline needs, the last words of leases and of the bus.
const SHUTDOWN: Duration = Duration::from_millis(1_500 + 2_000 + 2_000 + 2_000 + 5_000);

const WILD: u8 = 0;
const CALM: u8 = 1;
const OVER: u8 = 2;

/// One term, as somebody outside of all processes sees it.
struct Seen {
    key: &'static str,
    by: &'static str,
    view: LeaseView,
    cause: Option<LostCause>,
}

struct World {
    seed: u64,
    store: MemoryStore,
    phase: AtomicU8,
    terms: AtomicU32,
    seen: Mutex<Vec<Seen>>,
    /// The guarded resource: the highest token that each key wrote with.
    written: Mutex<BTreeMap<&'static str, FencingToken>>,
}

impl World {
    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Relaxed) == phase
    }

    /// A term begins: nobody else may be trusted at this instant.
    fn begins(&self, key: &'static str, by: &'static str, view: LeaseView) {
        self.terms.fetch_add(1, Ordering::Relaxed);
        let cause = None;
        let seen = Seen {
            key,
            by,
            view,
            cause,
        };
        self.seen.lock().unwrap().push(seen);
        self.check();
    }

    /// ONE-LEADER, and one cause for each loss, at this instant.
    fn check(&self) {
        let (seed, at) = (self.seed, self.store.elapsed());
        let mut holders = BTreeMap::new();
        for term in self.seen.lock().unwrap().iter_mut() {
            match (term.view.token(), term.cause) {
                (Ok(token), None) => {
                    let other = holders.insert(term.key, (term.by, token));
                    let this = (term.by, token);
                    assert!(
                        other.is_none(),
                        "seed {seed}: at {at:?} two hold `{}`: {this:?} and {other:?}",
                        term.key
                    );
                }
                (Err(lost), None) => term.cause = Some(lost.cause),
                (Err(lost), Some(cause)) => {
                    assert_eq!(
                        lost.cause, cause,
                        "seed {seed}: the first cause stays (E18)"
                    );
                }
                (Ok(_), Some(cause)) => panic!("seed {seed}: a term came back after `{cause}`"),
            }
        }
    }

    /// An effect of the work, which the resource takes or refuses by the token alone.
    fn write(&self, key: &'static str, view: &LeaseView) -> Result<(), BoxError> {
        self.check();
        let token = view.token()?;
        let mut written = self.written.lock().unwrap();
        let highest = written.entry(key).or_insert(token);
        // FENCED, from the other side: who is trusted at this instant is never refused.
        assert!(
            *highest <= token,
            "seed {}: at {:?} `{key}` is trusted with {token}, and {highest} was there before",
            self.seed,
            self.store.elapsed(),
        );
        *highest = token;
        Ok(())
    }

    fn has_leader(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .any(|term| term.key == "leader" && term.view.token().is_ok())
    }

    /// TOKENS-RISE, by the store's own account.
    fn check_tokens(&self) {
        let mut last = BTreeMap::new();
        for entry in self.store.history() {
            if let Event::Granted { key, token, .. } = entry.event {
                let former = last.insert(key.clone(), token);
                let seed = self.seed;
                assert!(
                    former.is_none_or(|former| former < token),
                    "seed {seed}: {key} was granted with {former:?}, then with {token}"
                );
            }
        }
    }
}

/// What runs in one process.
struct App {
    world: Arc<World>,
    node: Node,
    name: &'static str,
    link: Link,
    random: StdRng,
}

impl App {
    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..most))
    }

    async fn live(mut self) {
        let mut draining = Box::pin(self.node.draining());
        while self.world.is(WILD) && (&mut draining).now_or_never().is_none() {
            self.act().await;
            let pause = self.millis(300);
            sleep(pause).await;
            if self.random.random_bool(0.03) {
                return self.shut_down().await;
            }
        }
        let stop = async {
            while !self.world.is(OVER) {
                sleep(Duration::from_millis(100)).await;
            }
            self.shut_down().await;
        };
        let election = self.node.election("leader");
        let led = election.run(async |term| {
            self.world.begins("leader", self.name, term.view());
            while term.tick(Duration::from_millis(200)).await {
                self.world.write("leader", &term.view())?;
            }
            Ok(())
        });
        let (led, ()) = tokio::join!(led, stop);
        let seed = self.world.seed;
        led.unwrap_or_else(|error| panic!("seed {seed}: a shutdown is no error: {error:?}"));
    }

    async fn shut_down(&self) {
        let (seed, began) = (self.world.seed, Instant::now());
        let began_wild = self.world.is(WILD);
        let mut ended = timeout(SHUTDOWN, self.node.shutdown()).await;
        if began_wild && !self.world.is(WILD) && ended.is_err() {
            // A process that was frozen is late without its doing: the bound begins anew.
            ended = timeout(SHUTDOWN, self.node.shutdown()).await;
        }
        if self.world.is(WILD) {
            return;
        }
        let ended = ended.unwrap_or_else(|_| {
            let (name, waited) = (self.name, began.elapsed());
            panic!("seed {seed}: {name} does not shut down within {waited:?}")
        });
        // Faults may keep the store from confirming; without them it must.
        if let Err(error) = ended
            && !began_wild
        {
            panic!("seed {seed}: {error}");
        }
    }

    async fn act(&mut self) {
        let patience = self.millis(6_000);
        let (way, span) = (self.random.random_range(0..12), self.millis(5_000));
        let (election, lock) = (
            ElectionConfig::new("leader").stall_limit(Duration::from_secs(3)),
            LockConfig::new("lock"),
        );
        let (world, name, link) = (self.world.clone(), self.name, self.link.clone());
        match way {
            0..5 => {
                let how = self.random.random_range(0..7);
                let election = self.node.election(election);
                let led =
                    election.run(|term| lead(world.clone(), name, link.clone(), term, how, span));
                drop(
                    AssertUnwindSafe(timeout(patience, led))
                        .catch_unwind()
                        .await,
                );
            }
            5..7 => {
                let lock = self.node.lock(lock);
                let held = lock.run(|held| hold(world, name, held, span));
                drop(timeout(patience, held).await);
            }
            7..9 => {
                let election = self.node.election(election);
                if let Ok(Ok(term)) = timeout(patience, election.campaign()).await {
                    world.begins("leader", name, term.view());
                    drop(term.run(sleep(span)).await);
                    drop(world.write("leader", &term.view()));
                    if span.as_millis() % 2 == 0 {
                        drop(timeout(patience, term.resign()).await);
                    }
                }
            }
            9 => {
                if let Ok(Ok(Some(held))) =
                    timeout(patience, self.node.lock(lock).try_acquire()).await
                {
                    world.begins("lock", name, held.view());
                    drop(held.run(sleep(span)).await);
                    drop(timeout(patience, held.release()).await);
                }
            }
            10 => {
                let to = MEMBERS[self.random.random_range(0..MEMBERS.len())];
                let election = self.node.election(election);
                drop(timeout(patience, election.transfer_to(&to.into())).await);
            }
            _ => {
                let mut observer = self.node.election(election).observe();
                while let Ok(true) = timeout(patience, observer.changed()).await {}
            }
        }
    }
}

/// Work that behaves, or not.
async fn lead(
    world: Arc<World>,
    name: &'static str,
    link: Link,
    term: Leadership,
    how: u8,
    span: Duration,
) -> WorkResult {
    world.begins("leader", name, term.view());
    match how {
        0 => {
            sleep(span).await;
            panic!("a bug in the work");
        }
        1 => {
            sleep(span).await;
            return Err("the work has failed".into());
        }
        2 => {
            // Deaf to the drain: dropped at its deadline.
            loop {
                sleep(Duration::from_millis(100)).await;
                term.progress();
                world.write("leader", &term.view())?;
            }
        }
        3 => {
            // The guard is left behind in a task of its own.
            drop(tokio::spawn(async move {
                drop(link.run(term.run(sleep(span * 2))).await);
            }));
            return Ok(());
        }
        4 => {
            sleep(span).await;
            drop(term.resign().await);
            sleep(span).await;
            return Ok(());
        }
        5 => return std::future::pending().await,
        _ => {}
    }
    while term.tick(Duration::from_millis(150)).await {
        world.write("leader", &term.view())?;
    }
    Ok(())
}

async fn hold(
    world: Arc<World>,
    name: &'static str,
    held: LockGuard,
    span: Duration,
) -> WorkResult {
    world.begins("lock", name, held.view());
    let until = Instant::now() + span;
    while Instant::now() < until {
        world.write("lock", &held.view())?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Starts a member again and again, as whatever supervises processes does.
async fn supervise(world: Arc<World>, name: &'static str, index: u64) {
    let link = world.store.link(name);
    let mut starts = 0;
    while !world.is(OVER) {
        starts += 1;
        let builder = Node::builder("test")
            .member(name)
            .backend(world.store.connect(name))
            .ttl(TTL)
            .drain_timeout(DRAIN);
        let random = StdRng::seed_from_u64(world.seed * 10_007 + index * 101 + starts);
        let (world, own) = (world.clone(), link.clone());
        let life = async move {
            if let Ok(node) = builder.start().await {
                let link = own;
                let app = App {
                    world,
                    node,
                    name,
                    link,
                    random,
                };
                app.live().await;
            }
        };
        // `None`: it crashed. Another start follows.
        link.run(life).await.unwrap_or_default();
        sleep(Duration::from_millis(300)).await;
    }
}

/// One random fault after the other, then none.
async fn torment(world: &World) {
    let mut random = StdRng::seed_from_u64(world.seed);
    let (store, began) = (&world.store, Instant::now());
    let mut replica: Option<Replica> = None;
    let mut stepped = began;
    while began.elapsed() < CHAOS {
        sleep(Duration::from_millis(random.random_range(20..1_200))).await;
        world.check();
        let link = store.link(MEMBERS[random.random_range(0..MEMBERS.len())]);
        let some = Duration::from_millis(random.random_range(1..700));
        match random.random_range(0..30) {
            0..4 => link.cut(),
            4..6 => link.cut_requests(),
            6..8 => link.cut_replies(),
            8..10 => link.pause(),
            10 => link.crash(),
            11 => link.lose_replies(true),
            12 => link.delay(Duration::ZERO..some),
            13 => link.request_loss(0.3),
            14 => link.clock_jump(some),
            15 => link.clock_rate(random.random_range(0.999..=1.001)),
            16 => store.stop(),
            17 => store.restart(),
            18 if random.random_bool(0.3) => store.forget_everything(),
            19 => replica = Some(store.replica()),
            20 if random.random_bool(0.5) => {
                if let Some(replica) = replica.take() {
                    store.fail_over(replica);
                }
            }
            // A-STEP: together with what timers are late, less than the margin, once a ttl.
            21 if stepped.elapsed() > TTL * 2 => {
                store.step_forward(some / 8);
                stepped = Instant::now();
            }
            22 => store.step_back(some),
            23 => store.partition(&MEMBERS[..2], &MEMBERS[2..]),
            24 => store.heal_partitions(),
            25 => store.start(),
            26..28 => link.resume(),
            _ => link.clear(),
        }
        world.check();
    }
    store.start();
    store.heal_partitions();
    for name in MEMBERS {
        store.link(name).clear();
        store.link(name).resume();
        store.link(name).clock_rate(1.0);
        store.link(name).delay(Delay::NONE);
    }
}

async fn run_seed(seed: u64) -> u32 {
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    let store = MemoryStore::builder().seed(seed).max_ttl(MAX_TTL).build();
    let world = Arc::new(World {
        seed,
        store,
        phase: AtomicU8::new(WILD),
        terms: AtomicU32::new(0),
        seen: Mutex::default(),
        written: Mutex::default(),
    });
    let fleet: Vec<_> = (0..)
        .zip(MEMBERS)
        .map(|(index, name)| tokio::spawn(supervise(world.clone(), name, index)))
        .collect();
    torment(&world).await;
    world.phase.store(CALM, Ordering::Relaxed);
    let healed = Instant::now();
    while !world.has_leader() {
        let waited = healed.elapsed();
        assert!(
            waited < RECOVERY,
            "seed {seed}: no leader {waited:?} after the last fault"
        );
        sleep(Duration::from_millis(20)).await;
        world.check();
    }
    sleep(TTL).await;
    world.check();
    world.phase.store(OVER, Ordering::Relaxed);
    for member in fleet {
        let ended = timeout(Duration::from_mins(2), member).await;
        ended
            .unwrap_or_else(|_| panic!("seed {seed}: a member does not end"))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    world.check();
    world.check_tokens();
    // What the store itself still carries: late replies, and lines that nobody stands in.
    sleep(Duration::from_mins(1)).await;
    assert_eq!(
        alive(),
        before,
        "seed {seed}: tasks live on after the shutdown of their nodes"
    );
    world.terms.load(Ordering::Relaxed)
}

/// E4, E5, E8, E9, E11, E12, E13, E14, E15, E18, E19, E20, E21, L4; T1 to T6, K4, I2, I6, W1 to W6.
#[test]
fn no_fault_makes_two_holders_and_every_fleet_recovers() {
    let number = |name: &str, default: u64| -> u64 {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
    };
    let first = number("COORDINATOR_SEED", 0);
    let mut terms = 0;
    for seed in first..first + number("COORDINATOR_SEEDS", 12) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        terms += runtime.block_on(run_seed(seed));
    }
    assert!(terms > 0, "there was something to check");
}
