//! Where one check works: its namespace, its connections, its deadlines.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{ErrorKind, Instance};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::fixture::{Fault, Faults, Fixture, LocalFuture, Settings};
use crate::random::Random;
use crate::report::{Stop, Verdict, broken, skip};

/// A TTL that outlasts every check.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// The first TTL of checks that wait for its end; doubled where a slow store made the look at it
/// say nothing.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// How often such a check is tried again.
const ATTEMPTS: u32 = 4;
/// How long to pause between two looks at a store whose change is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long at least a store is away that loses its memory.
const AWAY: Duration = Duration::from_millis(10);

/// One check's place of work.
pub(crate) struct Lab<P: ?Sized> {
    fixture: Fixture<P>,
    namespace: String,
    seed: u64,
    random: RefCell<Random>,
    attempt: Cell<u32>,
}

/// What a look taken within a time limit showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// What was looked for, in time.
    Told,
    /// The store answered too late for the look to say anything.
    TooLate,
}

impl<P: ?Sized + 'static> Lab<P> {
    pub(crate) fn new(fixture: Fixture<P>, namespace: String, seed: u64) -> Self {
        Self {
            fixture,
            namespace,
            seed,
            random: RefCell::new(Random::new(seed)),
            attempt: Cell::new(0),
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn settings(&self) -> Settings {
        self.fixture.settings
    }

    /// A TTL that outlasts the check, as far as the namespace allows one.
    pub(crate) fn long(&self) -> Duration {
        LONG.min(self.settings().max_ttl)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.fixture.settings.patience
    }

    /// One more connection in the check's own namespace.
    pub(crate) async fn connect(&self) -> Result<Arc<P>, Stop> {
        self.dial(&self.namespace).await
    }

    /// A connection in another namespace.
    pub(crate) async fn connect_elsewhere(&self) -> Result<Arc<P>, Stop> {
        self.dial(&format!("{}_b", self.namespace)).await
    }

    async fn dial(&self, namespace: &str) -> Result<Arc<P>, Stop> {
        let connected = self.within("connecting", (self.fixture.connect)(namespace));
        connected
            .await?
            .ok_or_else(|| skip("the backend has no such part"))
    }

    /// The answer, if it comes before patience ends.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        answer: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let patience = self.patience();
        timeout(patience, answer)
            .await
            .map_err(|_| broken(format!("an answer to {what} within {patience:?}"), "none"))
    }

    /// The answer; an error in its place is a failure.
    pub(crate) async fn answer<T, E: fmt::Debug>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Stop> {
        let answered = self.within(what, answer).await?;
        answered.map_err(|error| broken(format!("an answer to {what}"), error))
    }

    /// That the backend refuses for good.
    pub(crate) async fn rejected<T: fmt::Debug, E: fmt::Debug>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, E>>,
        kind: fn(&E) -> ErrorKind,
    ) -> Verdict {
        match self.within(what, answer).await? {
            Err(error) if kind(&error) == ErrorKind::Rejected => Ok(()),
            other => Err(broken(format!("{what} to be `Rejected`"), other)),
        }
    }

    /// That the backend refuses because its store lost its memory; says for how long still.
    pub(crate) async fn quarantined<T: fmt::Debug, E: fmt::Debug>(
        &self,
        what: &str,
        answer: impl Future<Output = Result<T, E>>,
        kind: fn(&E) -> ErrorKind,
    ) -> Result<Duration, Stop> {
        let answered = self.within(what, answer).await?;
        match answered.as_ref().map_err(kind) {
            Err(ErrorKind::Quarantined { ends_within }) => Ok(ends_within),
            _ => Err(broken(format!("{what} to be `Quarantined`"), answered)),
        }
    }

    /// Tries until `done` says so. `limit` is how long the contract lets the change take; patience
    /// comes on top.
    pub(crate) async fn eventually<F>(&self, what: &str, limit: Duration, mut done: F) -> Verdict
    where
        F: AsyncFnMut() -> Result<bool, Stop>,
    {
        let deadline = Instant::now() + limit + self.patience();
        while !done().await? {
            if Instant::now() >= deadline {
                return Err(broken(
                    format!("{what} after {limit:?} at the latest"),
                    "still not",
                ));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Runs an experiment that must look at the store within a short TTL; again with a longer one
    /// while the store, or this machine, was too slow to tell.
    pub(crate) async fn timed<'a, F>(&self, mut experiment: F) -> Verdict
    where
        F: FnMut(Duration, String) -> LocalFuture<'a, Result<Look, Stop>>,
    {
        let mut ttl = SHORT;
        for _ in 0..ATTEMPTS {
            self.attempt.set(self.attempt.get() + 1);
            if experiment(ttl, format!("try-{}", self.attempt.get())).await? == Look::Told {
                return Ok(());
            }
            ttl = (ttl * 2).min(self.settings().max_ttl);
        }
        Err(broken(
            format!("answers fast enough to look at a lease of {:?}", ttl / 2),
            "each came too late to tell anything",
        ))
    }

    /// Does a fault; skips the check where the fixture has no way to do it.
    pub(crate) async fn fault(
        &self,
        what: &str,
        fault: impl AsyncFnOnce(&dyn Faults, &str) -> Fault,
    ) -> Verdict {
        match fault(&*self.fixture.faults, &self.namespace).await {
            Fault::Done => Ok(()),
            Fault::NotOffered => Err(skip(format!("the fixture offers no way to {what}"))),
        }
    }

    pub(crate) async fn forget(&self) -> Verdict {
        self.fault("make the store lose its memory", async |faults, at| {
            faults.forget(at).await
        })
        .await?;
        // It is away for a moment: its clock is all that it has to go by afterwards (K4).
        sleep(AWAY).await;
        Ok(())
    }

    pub(crate) async fn restart(&self) -> Verdict {
        self.fault("restart the store", async |faults, at| {
            faults.restart(at).await
        })
        .await
    }

    pub(crate) async fn mark(&self) -> Verdict {
        self.fault("make the store lose its last writes", async |faults, at| {
            faults.mark(at).await
        })
        .await
    }

    pub(crate) async fn roll_back(&self) -> Verdict {
        self.fault("make the store lose its last writes", async |faults, at| {
            faults.roll_back(at).await
        })
        .await
    }

    pub(crate) async fn cut(&self, connection: usize) -> Verdict {
        self.fault("cut a connection", async move |faults, at| {
            faults.cut(at, connection).await
        })
        .await
    }

    pub(crate) async fn heal(&self, connection: usize) -> Verdict {
        self.fault("heal a connection", async move |faults, at| {
            faults.heal(at, connection).await
        })
        .await
    }

    /// A new instance, the next of the check's seed.
    pub(crate) fn instance(&self) -> Instance {
        let mut random = self.random.borrow_mut();
        let bits = (u128::from(random.next()) << 64) | u128::from(random.next());
        Instance::from_random(bits)
    }

    /// A generator of its own for a random sequence.
    pub(crate) fn random(&self) -> Random {
        Random::new(self.random.borrow_mut().next())
    }
}

/// Whether an answer that arrived just now arrived before `limit` had passed since `asked`. A
/// hundredth is left to the difference of two clocks.
pub(crate) fn told_within(asked: Instant, limit: Duration) -> Look {
    if asked.elapsed() + limit / 100 < limit {
        Look::Told
    } else {
        Look::TooLate
    }
}

/// Waits until so much has passed since `asked`: time itself is what is awaited.
pub(crate) async fn until(asked: Instant, passed: Duration) {
    sleep_until(asked + passed).await;
}
