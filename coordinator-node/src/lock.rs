//! Locks: exactly one member of the group holds each, with a fencing token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::lease::Patience;
use coordinator_core::{BoxError, Key};
use tokio::sync::Notify;

use crate::election::{check_spans, release, trust};
use crate::errors::{AcquireError, ReleaseError, RunError};
use crate::lease::{Campaign, CampaignConfig, Ended, Grip, HeldLease, guard_words, while_held};
use crate::shared::Shared;

/// How a lock is held. A bare name is a configuration: `node.lock("nightly-report")`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockConfig {
    /// What is locked. One holder for each name and group. 1 to 512 bytes.
    pub name: String,
    /// How long it is held without a renewal, by the store's clock. 200 ms to 30 s; the node's by
    /// default.
    pub ttl: Option<Duration>,
    /// By how much trust ends before the ttl. A tenth of it, at least 50 ms, by default.
    pub margin: Option<Duration>,
    /// How long the work has to finish when the node shuts down; the node's by default.
    pub drain_timeout: Option<Duration>,
    /// Hold it only while the work reports progress at least this often. Off by default.
    pub stall_limit: Option<Duration>,
}

impl LockConfig {
    /// A lock of this name, with defaults for all else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ttl: None,
            margin: None,
            drain_timeout: None,
            stall_limit: None,
        }
    }

    /// Sets [`Self::ttl`].
    pub fn ttl(mut self, span: Duration) -> Self {
        self.ttl = Some(span);
        self
    }

    /// Sets [`Self::margin`].
    pub fn margin(mut self, span: Duration) -> Self {
        self.margin = Some(span);
        self
    }

    /// Sets [`Self::drain_timeout`].
    pub fn drain_timeout(mut self, span: Duration) -> Self {
        self.drain_timeout = Some(span);
        self
    }

    /// Sets [`Self::stall_limit`].
    pub fn stall_limit(mut self, span: Duration) -> Self {
        self.stall_limit = Some(span);
        self
    }
}

impl From<&str> for LockConfig {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for LockConfig {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// One lock. A cheap clone.
#[derive(Clone)]
pub struct Lock {
    shared: Arc<Shared>,
    config: Arc<LockConfig>,
    key: Key,
}

impl Lock {
    pub(crate) fn new(shared: &Arc<Shared>, config: LockConfig) -> Self {
        let key = Key::scoped(&shared.context.group, "lock", &config.name);
        Self {
            shared: shared.clone(),
            config: Arc::new(config),
            key,
        }
    }

    /// Waits for the lock, through outages and quarantines. Cancel safe: dropped, it gives the
    /// place up, and a grant that is under way is handed back: `timeout(span, lock.acquire())` is
    /// right.
    ///
    /// # Errors
    /// Only what waiting cannot mend: a setting that is not allowed, a backend without locks, a
    /// node that shuts down.
    pub async fn acquire(&self) -> Result<LockGuard, AcquireError> {
        let held = self.campaign(Patience::Wait).await?;
        held.ok_or_else(|| AcquireError::ShuttingDown { name: self.name() })
    }

    /// Takes the lock if it is free; `None`: another holds it. Cancel safe, as [`Self::acquire`].
    ///
    /// # Errors
    /// As for [`Self::acquire`], and [`AcquireError::Unavailable`] if the store does not answer.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, AcquireError> {
        self.campaign(Patience::Once).await
    }

    /// Waits for the lock, runs the work with its guard, and releases. The work is dropped the
    /// moment the lock is lost. Dropped, it drops the work without a drain, and releases in the
    /// background.
    ///
    /// # Errors
    /// The work's own, the loss, or that the lock cannot be had here.
    pub async fn run<T, F, Fut>(&self, work: F) -> Result<T, RunError>
    where
        F: FnOnce(LockGuard) -> Fut,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        let guard = self.acquire().await?;
        let (view, mut control) = (guard.view(), guard.held.control());
        let ended = while_held(&view, &self.shared.context.stopping, work(guard)).await;
        if let Ended::Work(_) = ended {
            // The next one may begin when this returns. A guard that the work has given away is
            // asked to finish; it keeps the lock, at most its drain timeout.
            control.drain(None);
            let patience = self.drain_timeout().saturating_add(self.ttl());
            drop(tokio::time::timeout(patience, control.finished()).await);
        }
        match ended {
            Ended::Work(result) => result.map_err(|source| RunError::Work {
                name: self.name(),
                source,
            }),
            Ended::Lost(lost) => Err(lost.into()),
        }
    }

    async fn campaign(&self, patience: Patience) -> Result<Option<LockGuard>, AcquireError> {
        let context = &self.shared.context;
        let rejected = |source| AcquireError::Rejected {
            name: self.name(),
            source,
        };
        self.check().map_err(rejected)?;
        let trust =
            trust(self.config.ttl, self.config.margin, context.trust.ttl()).map_err(rejected)?;
        let locks = context.backend.locks.clone();
        let locks = locks.ok_or_else(|| AcquireError::MissingPart {
            name: self.name(),
            part: "locks",
        })?;
        let config = CampaignConfig {
            key: self.key.clone(),
            name: self.name(),
            // Locks are named by accounts and files: their names would be too many labels.
            label: "lock".into(),
            trust,
            patience,
            stall_limit: self.config.stall_limit,
            drain_timeout: self.drain_timeout(),
            floor: None,
            changed: Arc::new(Notify::new()),
        };
        let held = Campaign::start(context, &locks, config)
            .elected(&self.name())
            .await?;
        Ok(held.map(|held| LockGuard {
            held,
            shared: self.shared.clone(),
        }))
    }

    fn check(&self) -> Result<(), BoxError> {
        coordinator_core::check_name("lock", &self.config.name)?;
        check_spans(self.config.drain_timeout, self.config.stall_limit)
    }

    fn ttl(&self) -> Duration {
        self.config.ttl.unwrap_or(self.shared.context.trust.ttl())
    }

    fn drain_timeout(&self) -> Duration {
        self.config
            .drain_timeout
            .unwrap_or(self.shared.context.drain_timeout)
    }

    fn name(&self) -> String {
        format!("lock/{}", self.config.name)
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What the holder of a lock has. Dropping it says that the work has stopped, and releases the
/// lock in the background.
#[must_use = "dropping the guard releases the lock"]
pub struct LockGuard {
    held: HeldLease,
    shared: Arc<Shared>,
}

guard_words!(LockGuard);

impl LockGuard {
    fn grip(&self) -> &Arc<Grip> {
        self.held.grip()
    }

    /// Releases the lock, and waits until the store knows. Goes on in the background if dropped.
    ///
    /// # Errors
    /// The lock was lost before, or the store did not confirm: then it ends by itself.
    pub async fn release(self) -> Result<(), ReleaseError> {
        release(self.held, &self.shared).await
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LockGuard").field(self.grip()).finish()
    }
}
