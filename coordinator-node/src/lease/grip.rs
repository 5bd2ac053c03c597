//! Trust in one lease or shard, as its guard, its views and its driver share it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use coordinator_core::{Clock, FencingToken, Lease, Lost, LostCause, Moment};
use tokio_util::sync::CancellationToken;

use crate::tasks::sleep_until;

/// Trust in one lease or shard.
///
/// The end of trust is compared with the clock at every use (rule T5): no timer has to fire, and
/// no task to run, for the lease to be seen as lost. The first cause wins (W6).
pub(crate) struct Grip {
    lease: Lease,
    clock: Arc<dyn Clock>,
    look_every: Duration,
    stall_limit: Option<Duration>,
    /// The end of trust, in nanoseconds since the clock's origin.
    until: AtomicU64,
    cause: OnceLock<LostCause>,
    lost: CancellationToken,
    draining: CancellationToken,
    /// The last progress, in nanoseconds since the clock's origin.
    progress: AtomicU64,
    /// How many `until_drain` and `tick` wait for work: who waits for work is not stalled.
    waiting: AtomicU32,
    next_tick: Mutex<Option<Moment>>,
}

/// What a [`Grip`] is made of.
pub(crate) struct GripParts {
    pub(crate) lease: Lease,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) look_every: Duration,
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) until: Moment,
}

impl Grip {
    pub(crate) fn new(parts: GripParts) -> Arc<Self> {
        let now = parts.clock.now();
        Arc::new(Self {
            lease: parts.lease,
            clock: parts.clock,
            look_every: parts.look_every,
            stall_limit: parts.stall_limit,
            until: AtomicU64::new(nanos(parts.until)),
            cause: OnceLock::new(),
            lost: CancellationToken::new(),
            draining: CancellationToken::new(),
            progress: AtomicU64::new(nanos(now)),
            waiting: AtomicU32::new(0),
            next_tick: Mutex::new(None),
        })
    }

    // For the driver.

    /// Trust lasts until `until`, unless it has ended already: nothing revives it (T2). Then, how
    /// it has ended.
    pub(crate) fn extend(&self, until: Moment) -> Result<(), Lost> {
        self.held()?;
        self.until.fetch_max(nanos(until), Ordering::AcqRel);
        // Somebody may have seen the end of it in between.
        self.held().map(drop)
    }

    /// Trust ends now. Only the first cause counts, and is returned.
    pub(crate) fn lose(&self, cause: LostCause) -> LostCause {
        let first = *self.cause.get_or_init(|| cause);
        self.lost.cancel();
        first
    }

    /// The work is asked to finish.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// When the work last showed progress; waiting for work is progress.
    pub(crate) fn last_progress(&self) -> Moment {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return self.clock.now();
        }
        Moment::since_origin(Duration::from_nanos(self.progress.load(Ordering::Acquire)))
    }

    // For guards and views.

    pub(crate) fn lease(&self) -> Result<&Lease, Lost> {
        self.held().map(|_| &self.lease)
    }

    /// The lease, whether it is still held or not.
    pub(crate) fn terms(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn token(&self) -> Result<FencingToken, Lost> {
        self.held().map(|_| self.lease.token)
    }

    pub(crate) fn trust_left(&self) -> Duration {
        self.held()
            .map_or(Duration::ZERO, |until| until.since(self.clock.now()))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(crate) fn progress(&self) {
        self.progress
            .fetch_max(nanos(self.clock.now()), Ordering::AcqRel);
    }

    /// Ends when trust does.
    pub(crate) async fn lost(&self) -> Lost {
        loop {
            let until = match self.held() {
                Ok(until) => until,
                Err(lost) => return lost,
            };
            tokio::select! {
                biased;
                () = self.lost.cancelled() => {}
                () = sleep_until(&*self.clock, Some(until), self.look_every) => {}
            }
        }
    }

    /// Ends when the work is asked to finish.
    pub(crate) async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Drops `f` the moment the lease is lost.
    pub(crate) async fn run<F: Future>(&self, f: F) -> Result<F::Output, Lost> {
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost),
            output = f => Ok(output),
        }
    }

    /// Waits for work, until the work is asked to finish, or the lease is lost.
    pub(crate) async fn until_drain<F: Future>(&self, f: F) -> Option<F::Output> {
        let _waiting = self.wait();
        tokio::select! {
            biased;
            () = self.draining.cancelled() => None,
            _ = self.lost() => None,
            output = f => Some(output),
        }
    }

    /// `true` at once, then every `period`; `false` when the work is to finish, or the lease lost.
    pub(crate) async fn tick(&self, period: Duration) -> bool {
        let due = *self
            .next_tick
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = due.unwrap_or_else(|| self.clock.now());
        let ticked = self.until_drain(sleep_until(
            &*self.clock,
            Some(due),
            period.min(self.look_every),
        ));
        if ticked.await.is_none() {
            return false;
        }
        // With a period that is over at once, the loop around this must let others run all the same.
        tokio::task::coop::consume_budget().await;
        // Ticks that were missed are not made up for.
        let next = (due + period).max(self.clock.now());
        *self
            .next_tick
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(next);
        true
    }

    /// The end of trust, or why it has ended.
    fn held(&self) -> Result<Moment, Lost> {
        if let Some(cause) = self.cause.get() {
            return Err(self.loss(*cause));
        }
        let until = Moment::since_origin(Duration::from_nanos(self.until.load(Ordering::Acquire)));
        let now = self.clock.now();
        if now < until {
            return Ok(until);
        }
        let cause = if self.stalled(now) {
            LostCause::Stalled
        } else {
            LostCause::Expired
        };
        Err(self.loss(self.lose(cause)))
    }

    fn stalled(&self, now: Moment) -> bool {
        let limit = self.stall_limit.filter(|_| !self.is_draining());
        limit.is_some_and(|limit| now.since(self.last_progress()) > limit)
    }

    fn loss(&self, cause: LostCause) -> Lost {
        Lost::new(self.lease.key.clone(), cause)
    }

    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }
}

impl std::fmt::Debug for Grip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grip")
            .field("lease", &self.lease)
            .field("lost", &self.cause.get())
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}

/// Somebody waits for work. What comes after the wait is progress.
struct Waiting<'a>(&'a Grip);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.progress();
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Saturates after 584 years.
fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.as_duration().as_nanos()).unwrap_or(u64::MAX)
}
