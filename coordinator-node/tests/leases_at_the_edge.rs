//! Leases where their surroundings misbehave: odd backends, odd clocks, odd spans, dropped futures.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here is to fail the test"
)]

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_core::{
    Acquisition, Claim, Clock, FencingToken, Holder, Instance, Key, LockBackend, LockCapabilities,
    LockError, MemberId, Moment, Release, Renewal, StoreId, async_trait,
};
use coordinator_memory::MemoryStore;
use coordinator_node::{
    AcquireError, Backend, ElectionConfig, LockConfig, LostCause, Node, RunError, ShutdownError,
};
use futures_util::FutureExt;
use support::{Watch, builder, lead, node, pass, within};

/// What is asked of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Acquire,
    Renew,
    Release,
    Holder,
    Wait,
}

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// It behaves.
    None,
    Panics,
    NeverAnswers,
    Refuses,
    QuarantinedForEver,
    HeldForEver,
    /// It takes a second.
    Slow,
    /// A lease is granted, and its answer lost.
    NeverTells,
    /// A hint comes at once.
    Ready,
    /// A call, or a hint, fails at once.
    Fails,
}

type Mood = Box<dyn Fn(Call) -> Oddity + Send + Sync>;

/// The locks of the memory backend, in a mood.
struct Odd {
    inner: Arc<dyn LockBackend>,
    mood: Mood,
    acquires: AtomicU32,
    renewing: AtomicBool,
    /// Whether a release left while a renewal was under way.
    overtaken: AtomicBool,
}

impl Odd {
    async fn ask<T>(&self, call: Call, key: &Key) -> Result<Option<T>, LockError> {
        match (self.mood)(call) {
            Oddity::None | Oddity::HeldForEver | Oddity::NeverTells | Oddity::Ready => Ok(None),
            Oddity::Slow => {
                pass(1.0).await;
                Ok(None)
            }
            Oddity::Panics => panic!("a bug in the backend"),
            Oddity::NeverAnswers => std::future::pending().await,
            Oddity::Refuses => Err(LockError::rejected("ask", key, "not here")),
            Oddity::QuarantinedForEver => Err(LockError::quarantined("ask", key, Duration::MAX)),
            Oddity::Fails => Err(LockError::unavailable("ask", key, "it is away")),
        }
    }
}

#[async_trait]
impl LockBackend for Odd {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        self.acquires.fetch_add(1, Ordering::Relaxed);
        if (self.mood)(Call::Acquire) == Oddity::HeldForEver {
            let (other, token) = (Instance::from_random(7), FencingToken::new(7));
            let holder = Holder::new("z".into(), other, token).free_in(Duration::MAX);
            return Ok(Acquisition::HeldBy(holder));
        }
        self.ask::<()>(Call::Acquire, &claim.key).await?;
        let told = (self.mood)(Call::Acquire) != Oddity::NeverTells;
        let answer = self.inner.acquire(claim).await;
        if told {
            answer
        } else {
            std::future::pending().await
        }
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        self.renewing.store(true, Ordering::Relaxed);
        let odd = self.ask::<()>(Call::Renew, &claim.key).await;
        self.renewing.store(false, Ordering::Relaxed);
        odd?;
        self.inner.renew(claim, token).await
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let overtakes = self.renewing.load(Ordering::Relaxed);
        self.overtaken.fetch_or(overtakes, Ordering::Relaxed);
        self.ask::<()>(Call::Release, &claim.key).await?;
        self.inner.release(claim, token, next).await
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        self.ask::<()>(Call::Holder, key).await?;
        self.inner.holder(key).await
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        self.ask::<()>(Call::Wait, &claim.key).await?;
        if (self.mood)(Call::Wait) == Oddity::Ready {
            return Ok(());
        }
        self.inner.wait_turn(claim).await
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        self.inner.changed(key).await
    }

    fn capabilities(&self) -> LockCapabilities {
        self.inner.capabilities()
    }

    fn store(&self) -> StoreId {
        self.inner.store()
    }
}

fn odd_locks(
    store: &MemoryStore,
    name: &str,
    mood: impl Fn(Call) -> Oddity + Send + Sync + 'static,
) -> (Backend, Arc<Odd>) {
    let backend = store.connect(name);
    let odd = Arc::new(Odd {
        inner: backend.locks.clone().expect("the memory backend has locks"),
        mood: Box::new(mood),
        acquires: AtomicU32::new(0),
        renewing: AtomicBool::new(false),
        overtaken: AtomicBool::new(false),
    });
    let locks: Option<Arc<dyn LockBackend>> = Some(odd.clone());
    (Backend { locks, ..backend }, odd)
}

async fn start(name: &str, backend: Backend) -> Node {
    let builder = Node::builder("test").member(name).backend(backend);
    builder.start().await.expect("its members behave")
}

async fn odd_node(
    store: &MemoryStore,
    name: &str,
    mood: impl Fn(Call) -> Oddity + Send + Sync + 'static,
) -> (Node, Arc<Odd>) {
    let (backend, odd) = odd_locks(store, name, mood);
    (start(name, backend).await, odd)
}

/// A `false` from `tick` means "finish", and the work obeys; that it was a loss, and no wish to
/// end, must not end the run as well.
#[tokio::test(start_paused = true)]
async fn work_that_sees_the_loss_before_its_run_does_is_led_again() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let (election, terms) = (a.election("e"), AtomicU32::new(0));
    let work = election.run(async |term| {
        terms.fetch_add(1, Ordering::Relaxed);
        while term.tick(Duration::from_secs(1)).await {
            if terms.load(Ordering::Relaxed) == 1 {
                // The machine was suspended, and woke in the middle of the work.
                store.link("a").clock_jump(Duration::from_mins(1));
            }
        }
        Ok(())
    });
    tokio::select! {
        biased;
        ended = work => panic!("it was not done: {ended:?}"),
        () = pass(60.0) => {}
    }
    assert_eq!(terms.load(Ordering::Relaxed), 2);
}

/// W1, E13: the process is frozen in the middle of its shutdown, and wakes when all of it is late.
#[tokio::test(start_paused = true)]
async fn work_that_was_frozen_in_its_shutdown_is_dropped_all_the_same() {
    for frozen in [1.0, 5.0, 9.5, 11.0, 13.0, 40.0] {
        let store = MemoryStore::new();
        let a = node(&store, "a").await;
        let election = a.election("e");
        let running = tokio::spawn(async move {
            let work = election.run(async |_term| std::future::pending().await);
            work.await
        });
        pass(1.0).await;
        let (ending, link) = (a.clone(), store.link("a"));
        let ending = tokio::spawn(async move { ending.shutdown().await });
        pass(0.5).await;
        link.pause();
        pass(frozen).await;
        link.resume();
        drop(within(40.0, ending).await.expect("no panic"));
        let ended = within(40.0, running).await.expect("no panic");
        ended.unwrap_or_else(|error| panic!("frozen for {frozen} s: {error}"));
    }
}

/// W1, A-RATE: by the slow clock of its machine a long drain is not over when its node gives up.
#[tokio::test(start_paused = true)]
async fn work_that_a_slow_clock_would_let_run_on_is_dropped_when_its_node_ends() {
    let store = MemoryStore::new();
    store.link("a").clock_rate(0.999);
    let builder = builder(&store, "a").drain_timeout(Duration::from_hours(1));
    let a = builder.start().await.unwrap();
    let election = a.election("e");
    let running = tokio::spawn(async move {
        let work = election.run(async |_term| std::future::pending().await);
        work.await
    });
    pass(1.0).await;
    let ended = within(3_700.0, a.shutdown()).await;
    assert!(
        matches!(ended, Err(ShutdownError::Overran { .. })),
        "{ended:?}"
    );
    let ran = within(30.0, running).await.expect("no panic");
    ran.expect("a shutdown is no error");
}

/// "No limit" is a span like any other.
#[tokio::test(start_paused = true)]
async fn spans_without_an_end_overflow_nowhere() {
    let store = MemoryStore::new();
    let endless = Duration::MAX;
    let a = builder(&store, "a")
        .drain_timeout(endless)
        .start()
        .await
        .unwrap();
    a.lock(
        LockConfig::new("l")
            .stall_limit(endless)
            .drain_timeout(endless),
    )
    .run(async |held| Ok(held.token()?))
    .await
    .expect("it is free");
    let config = ElectionConfig::new("e")
        .cool_down(endless)
        .stall_limit(endless);
    let election = a.election(config);
    let running = tokio::spawn(async move {
        let work = async |term: coordinator_node::Leadership| {
            while term.tick(Duration::MAX).await {}
            Ok(())
        };
        election.run(work).await
    });
    pass(30.0).await;
    a.election("e").transfer_to(a.id()).await.expect("it leads");
    within(5.0, a.shutdown())
        .await
        .expect("all of it ends at once");
    running.await.unwrap().expect("a shutdown is no error");
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_lets_others_run_between_the_ticks() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let term = lead(&a.election("e")).await;
    let others = tokio::spawn(async move {
        let mut turns = 0;
        while turns < 100 {
            tokio::task::yield_now().await;
            turns += 1;
        }
    });
    let mut ticks = 0;
    while !others.is_finished() && ticks < 1_000_000 {
        assert!(term.tick(Duration::ZERO).await);
        ticks += 1;
    }
    assert!(others.is_finished(), "it starved");
}

/// A signal ends the node as fast as a call does.
#[tokio::test(start_paused = true)]
async fn a_shutdown_by_signal_waits_for_nothing_but_the_work() {
    let store = MemoryStore::new();
    let (signal, asked) = tokio::sync::oneshot::channel::<()>();
    let a = builder(&store, "a")
        .shutdown_on(async move { drop(asked.await) })
        .start()
        .await
        .unwrap();
    let election = a.election("e");
    let running = async {
        let work = async |term: coordinator_node::Leadership| {
            while term.tick(Duration::from_secs(1)).await {}
            Ok(())
        };
        election.run(work).await
    };
    let watch = Watch::start();
    let (ran, ()) = tokio::join!(running, async {
        pass(2.5).await;
        signal.send(()).unwrap();
    });
    ran.expect("a shutdown is no error");
    a.shutdown().await.expect("all is well");
    assert!(watch.seconds() < 2.6, "{}", watch.seconds());
}

/// A start that is dropped must not go on as a member that nobody ends.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_leaves_no_member_that_beats_for_ever() {
    let store = MemoryStore::new();
    store.link("a").delay(Duration::from_millis(50));
    for millis in [10, 60, 99] {
        let starting = builder(&store, "a").start();
        let span = Duration::from_millis(millis);
        assert!(
            tokio::time::timeout(span, starting).await.is_err(),
            "{millis} ms"
        );
        store.link("a").clear();
        let again = builder(&store, "a").start();
        drop(within(30.0, again).await.expect("the former start is over"));
        pass(30.0).await;
        store.link("a").delay(Duration::from_millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_not_confirmed_counts_the_longest_lease() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let term = lead(&a.election(ElectionConfig::new("e").ttl(Duration::from_secs(30)))).await;
    store.stop();
    drop(term);
    let Err(ShutdownError::Unconfirmed { ends_within }) = a.shutdown().await else {
        panic!("nobody can have confirmed it");
    };
    assert!(ends_within >= Duration::from_secs(30), "{ends_within:?}");
}

/// W4, E19: an old acquire without an answer must not hide a new one.
#[tokio::test(start_paused = true)]
async fn a_campaign_that_is_dropped_late_hands_back_its_last_grant() {
    let store = MemoryStore::new();
    let mute = Arc::new(AtomicBool::new(true));
    let muted = mute.clone();
    let (a, _odd) = odd_node(&store, "a", move |call| {
        if call == Call::Acquire && muted.load(Ordering::Relaxed) {
            Oddity::NeverTells
        } else {
            Oddity::None
        }
    })
    .await;
    let b = node(&store, "b").await;
    let held = lead(&b.election("e")).await;
    let election = a.election("e");
    let campaign = tokio::spawn(async move { election.campaign().await });
    // One acquire of long ago was never answered, and neither is the one that is granted.
    pass(4.0).await;
    mute.store(false, Ordering::Relaxed);
    pass(60.0).await;
    mute.store(true, Ordering::Relaxed);
    held.resign().await.unwrap();
    pass(0.5).await;
    let locks = store.connect("w").locks.unwrap();
    let key = Key::scoped(&"test".into(), "election", "e");
    let owner = locks.holder(&key).await.unwrap().map(|holder| holder.owner);
    assert_eq!(owner, Some(a.id().clone()), "granted, and told in vain");
    campaign.abort();
    pass(0.1).await;
    mute.store(false, Ordering::Relaxed);
    let watch = Watch::start();
    let _next = lead(&b.election("e")).await;
    assert!(watch.seconds() < 3.0, "{} after {owner:?}", watch.seconds());
}

/// T2, W1: whoever looks may see the end of trust a moment before the driver does. Then the lease is
/// not renewed behind the back of a guard that knows that it is lost.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_between_any_two_readings_leaves_no_lease_that_nobody_trusts() {
    struct Jumps {
        inner: Arc<dyn Clock>,
        readings: AtomicI64,
        ahead: AtomicU64,
    }
    impl Clock for Jumps {
        fn now(&self) -> Moment {
            if self.readings.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.ahead.store(7, Ordering::Relaxed);
            }
            self.inner.now() + Duration::from_secs(self.ahead.load(Ordering::Relaxed))
        }

        fn steady(&self) -> Moment {
            self.inner.steady()
        }

        fn wall_millis(&self) -> u64 {
            self.inner.wall_millis()
        }
    }
    let mut losses = 0;
    for reading in 1..30 {
        let store = MemoryStore::new();
        let b = node(&store, "b").await;
        let inner = store
            .connect("probe")
            .clock
            .expect("the memory backend's clock");
        let clock = Arc::new(Jumps {
            inner,
            readings: AtomicI64::new(0),
            ahead: AtomicU64::new(0),
        });
        let (armed, jumping) = (AtomicBool::new(true), clock.clone());
        let (backend, _odd) = odd_locks(&store, "a", move |call| {
            if call == Call::Renew && armed.swap(false, Ordering::Relaxed) {
                jumping.readings.store(reading, Ordering::Relaxed);
            }
            Oddity::None
        });
        let local: Option<Arc<dyn Clock>> = Some(clock.clone());
        let a = start(
            "a",
            Backend {
                clock: local,
                ..backend
            },
        )
        .await;
        let kept = lead(&a.election("e")).await;
        while clock.ahead.load(Ordering::Relaxed) == 0 {
            pass(0.5).await;
            drop(kept.token());
        }
        // Beyond the trust from before the renewal, and within the one that it gives.
        let Err(lost) = kept.token() else { continue };
        losses += 1;
        assert_eq!(lost.cause, LostCause::Expired, "{reading}");
        let successor = within(30.0, b.election("e").campaign()).await;
        assert!(successor.is_ok(), "after the jump at reading {reading}");
    }
    assert!(losses > 0, "some readings decide");
}

/// A backend's panic is a request without an answer.
#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_costs_answers_and_no_driver() {
    let store = MemoryStore::new();
    let mood = Arc::new(Mutex::new(None));
    let current = mood.clone();
    let (a, _odd) = odd_node(&store, "a", move |call| {
        if *current.lock().unwrap() == Some(call) {
            Oddity::Panics
        } else {
            Oddity::None
        }
    })
    .await;
    let panics_in = |call| *mood.lock().unwrap() = call;

    panics_in(Some(Call::Acquire));
    let error = within(30.0, a.lock("l").try_acquire()).await.unwrap_err();
    assert!(matches!(error, AcquireError::Unavailable { .. }), "{error}");
    let election = a.election("e");
    let campaign = election.campaign();
    let (term, ()) = tokio::join!(within(60.0, campaign), async {
        pass(5.0).await;
        panics_in(None);
    });
    let term = term.expect("a campaign waits outages out");

    panics_in(Some(Call::Renew));
    assert_eq!(within(12.0, term.lost()).await.cause, LostCause::Expired);
    drop(term);
    panics_in(Some(Call::Wait));
    let (b, term) = (node(&store, "b").await, lead(&election).await);
    let waiting = b.election("e");
    let (again, ()) = tokio::join!(lead(&waiting), async {
        pass(2.0).await;
        panics_in(Some(Call::Release));
        drop(term);
    });
    drop(again);
    panics_in(None);
    pass(5.0).await;
    within(20.0, a.shutdown())
        .await
        .expect("nothing is held any more");
}

/// E13: whatever a backend does or does not, waiting can be given up, and a node be shut down.
#[tokio::test(start_paused = true)]
async fn no_backend_keeps_a_node_from_its_shutdown() {
    let odd = [
        Oddity::Panics,
        Oddity::NeverAnswers,
        Oddity::Refuses,
        Oddity::QuarantinedForEver,
        Oddity::HeldForEver,
        Oddity::Fails,
    ];
    for oddity in odd {
        let store = MemoryStore::new();
        let (a, _odd) = odd_node(&store, "a", move |_| oddity).await;
        let mut observer = a.election("e").observe();
        let tried = within(10.0, a.lock("l").try_acquire()).await;
        match oddity {
            Oddity::HeldForEver => assert!(matches!(tried, Ok(None)), "{tried:?}"),
            Oddity::Refuses => assert!(matches!(tried, Err(AcquireError::Rejected { .. }))),
            _ => assert!(
                matches!(tried, Err(AcquireError::Unavailable { .. })),
                "{tried:?}"
            ),
        }
        let election = a.election("e");
        let running = tokio::spawn(async move { election.run(async |_term| Ok(())).await });
        let lock = a.lock("l");
        let acquiring = tokio::spawn(async move { lock.acquire().await });
        pass(120.0).await;
        drop(within(20.0, a.shutdown()).await);
        let (ran, acquired) = (within(1.0, running).await, within(1.0, acquiring).await);
        let acquired = acquired.expect("no panic").map(drop);
        if oddity == Oddity::Refuses {
            assert!(matches!(ran, Ok(Err(RunError::Acquire(_)))), "{ran:?}");
            assert!(matches!(acquired, Err(AcquireError::Rejected { .. })));
        } else {
            assert!(matches!(ran, Ok(Ok(()))), "{oddity:?}: {ran:?}");
            let given_up = matches!(acquired, Err(AcquireError::ShuttingDown { .. }));
            assert!(given_up, "{oddity:?}: {acquired:?}");
        }
        within(1.0, async { while observer.changed().await {} }).await;
    }
}

/// Clause 9: hints that come for no reason, or fail at once, make no hot loop.
#[tokio::test(start_paused = true)]
async fn senseless_hints_make_no_hot_loop() {
    for oddity in [Oddity::Ready, Oddity::Fails, Oddity::Panics] {
        let store = MemoryStore::new();
        let b = node(&store, "b").await;
        let _held = lead(&b.election("e")).await;
        let mood = move |call| {
            if call == Call::Wait {
                oddity
            } else {
                Oddity::None
            }
        };
        let (a, odd) = odd_node(&store, "a", mood).await;
        let election = a.election("e");
        drop(tokio::time::timeout(Duration::from_mins(10), election.campaign()).await);
        let asked = odd.acquires.load(Ordering::Relaxed);
        assert!(asked < 600 * 8, "{oddity:?}: {asked} in 10 minutes");
    }
}

/// E10, L3: one wake-up a release, however many wait.
#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_are_no_herd() {
    let store = MemoryStore::new();
    let (a, odd) = odd_node(&store, "a", |_| Oddity::None).await;
    let lock = a.lock("l");
    let first = lock.acquire().await.unwrap();
    let taken = Arc::new(AtomicU32::new(0));
    for _ in 0..1_000 {
        let (lock, taken) = (lock.clone(), taken.clone());
        drop(tokio::spawn(async move {
            let held = lock.acquire().await;
            taken.fetch_add(1, Ordering::Relaxed);
            drop(held);
        }));
    }
    pass(1.0).await;
    assert_eq!(
        odd.acquires.load(Ordering::Relaxed),
        1_001,
        "each has asked once"
    );
    let watch = Watch::start();
    drop(first);
    within(60.0, async {
        while taken.load(Ordering::Relaxed) < 1_000 {
            pass(0.01).await;
        }
    })
    .await;
    let asked = odd.acquires.load(Ordering::Relaxed);
    assert!(
        asked < 1_001 + 1_200,
        "{asked} for 1,000 turns in {} s",
        watch.seconds()
    );
}

/// E17: an observer gets over a request that is never answered.
#[tokio::test(start_paused = true)]
async fn an_observer_gets_over_an_answer_that_never_comes() {
    let store = MemoryStore::new();
    let b = node(&store, "b").await;
    let _held = lead(&b.election("e")).await;
    let first = AtomicBool::new(true);
    let (a, _odd) = odd_node(&store, "a", move |call| {
        if call == Call::Holder && first.swap(false, Ordering::Relaxed) {
            Oddity::NeverAnswers
        } else {
            Oddity::None
        }
    })
    .await;
    let mut observer = a.election("e").observe();
    let term = within(30.0, observer.leader())
        .await
        .expect("it looks again");
    assert_eq!(term.leader.as_str(), "b");
    a.shutdown().await.unwrap();
    assert!(!within(1.0, observer.changed()).await, "the node is down");
    assert!(!within(1.0, a.election("e").observe().changed()).await);
}

/// E19, W4: dropped after any number of polls.
#[tokio::test(start_paused = true)]
async fn a_campaign_that_is_dropped_after_any_poll_leaves_no_lease_behind() {
    for polls in 0..12 {
        let store = MemoryStore::new();
        let (a, b) = (node(&store, "a").await, node(&store, "b").await);
        store.link("a").delay(Duration::from_millis(3));
        {
            let election = a.election("e");
            let mut campaign = Box::pin(election.campaign());
            for _ in 0..polls {
                if campaign.as_mut().now_or_never().is_some() {
                    break;
                }
                pass(0.001).await;
            }
        }
        let watch = Watch::start();
        let _next = lead(&b.election("e")).await;
        assert!(watch.seconds() < 0.5, "{polls} polls: {}", watch.seconds());
    }
}

/// W6: a renewal that arrived after the release could bring the lease back, in a store that has
/// just lost its memory (I6).
#[tokio::test(start_paused = true)]
async fn no_release_leaves_while_a_renewal_is_under_way() {
    let store = MemoryStore::new();
    let slow = |call| {
        if call == Call::Renew {
            Oddity::Slow
        } else {
            Oddity::None
        }
    };
    let (a, odd) = odd_node(&store, "a", slow).await;
    let term = lead(&a.election("e")).await;
    while !odd.renewing.load(Ordering::Relaxed) {
        pass(0.1).await;
    }
    within(5.0, term.resign())
        .await
        .expect("the store confirms");
    assert!(!odd.overtaken.load(Ordering::Relaxed));
    assert!(!odd.renewing.load(Ordering::Relaxed));
}

/// Two handles and two campaigns of one node are two candidates, and one leads.
#[tokio::test(start_paused = true)]
async fn two_campaigns_of_one_node_never_lead_together() {
    let store = MemoryStore::new();
    let a = node(&store, "a").await;
    let (one, other) = (a.election("e"), a.election("e"));
    let campaigns = async { tokio::join!(one.campaign(), one.campaign(), other.campaign()) };
    assert!(
        tokio::time::timeout(Duration::from_mins(1), campaigns)
            .await
            .is_err()
    );
    let term = lead(&one).await;
    let token = term.token().unwrap();
    let (next, ()) = tokio::join!(lead(&other), async {
        pass(3.0).await;
        assert!(term.token().is_ok());
        drop(term);
    });
    assert!(next.token().unwrap() > token);
}

/// W5: guards and nodes may be dropped where no runtime is, and outlive the one they had.
#[test]
fn a_guard_that_is_dropped_without_a_runtime_harms_nobody() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    let first = runtime();
    let (store, a, b, held, kept) = first.block_on(async {
        let store = MemoryStore::new();
        let (a, b) = (node(&store, "a").await, node(&store, "b").await);
        let (held, kept) = (
            lead(&a.election("e")).await,
            lead(&a.election("kept")).await,
        );
        (store, a, b, held, kept)
    });
    drop(held);
    first.block_on(async {
        let watch = Watch::start();
        drop(lead(&b.election("e")).await);
        assert!(watch.seconds() < 0.5, "it was released in the background");
    });
    drop(first);
    let dropped = std::panic::catch_unwind(AssertUnwindSafe(move || {
        drop((kept.view().token(), kept, a, b, store));
    }));
    assert!(dropped.is_ok(), "the runtime is gone, and nothing panics");
}
