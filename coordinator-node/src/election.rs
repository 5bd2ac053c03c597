//! Leader elections: exactly one member of the group leads.

mod config;
mod control;
mod leadership;
mod observer;
mod transfer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_core::machine::lease::Patience;
use coordinator_core::trust::Trust;
use coordinator_core::{FencingToken, Key, LockBackend, LostCause, Moment};
use tokio::sync::Notify;
use tracing::warn;

pub use self::config::ElectionConfig;
pub(crate) use self::config::{check_spans, trust};
pub(crate) use self::control::Elections;
pub(crate) use self::leadership::release;
pub use self::leadership::{Leadership, WorkResult};
pub use self::observer::{Observer, Term};
use crate::errors::{AcquireError, RunError};
use crate::lease::{Campaign, CampaignConfig, Ended, TermControl, while_held};
use crate::shared::Shared;
use crate::tasks::sleep_until;
use crate::vote::{LiveLocks, Place, Quorum, Votes};

/// One election. A cheap clone.
#[derive(Clone)]
pub struct Election {
    shared: Arc<Shared>,
    inner: Arc<Inner>,
}

struct Inner {
    config: ElectionConfig,
    key: Key,
    memory: Mutex<Memory>,
    /// Told of each term that begins or ends here.
    changed: Arc<Notify>,
}

/// Who grants the lease of an election.
struct Source {
    locks: Arc<dyn LockBackend>,
    votes: Option<Arc<Votes>>,
}

/// What an election remembers between its terms.
#[derive(Default)]
struct Memory {
    /// The highest token seen: the next one will be higher (K1).
    floor: Option<FencingToken>,
    /// No campaign before this, after a loss.
    not_before: Option<Moment>,
}

impl Election {
    pub(crate) fn new(shared: &Arc<Shared>, config: ElectionConfig) -> Self {
        let key = Key::scoped(&shared.context.group, "election", &config.name);
        let inner = Inner {
            config,
            key,
            memory: Mutex::default(),
            changed: Arc::new(Notify::new()),
        };
        Self {
            shared: shared.clone(),
            inner: Arc::new(inner),
        }
    }

    /// Leads with `work`, term after term: campaigns, runs the work with the [`Leadership`], and
    /// drops it the moment the lease is lost.
    ///
    /// | the work | then |
    /// |---|---|
    /// | returns `Ok` unasked | it is done: release, `Ok` |
    /// | ends while it is asked to finish | release; `Ok` if the node shuts down, else campaign again |
    /// | outlives the lease | it is dropped; campaign again after the cool-down |
    /// | fails while the lease is held | release, [`RunError::Work`] |
    /// | fails after the loss | a consequence: logged, and campaign again |
    /// | overruns its drain timeout | it is dropped, then released |
    /// | panics | the panic unwinds through `run`, and the lease is released on its way |
    ///
    /// Dropped, it drops the work without a drain, and releases in the background.
    ///
    /// # Errors
    /// The work's own, or that campaigning is not possible here.
    pub async fn run<F, Fut>(&self, mut work: F) -> Result<(), RunError>
    where
        F: FnMut(Leadership) -> Fut,
        Fut: Future<Output = WorkResult>,
    {
        loop {
            let leadership = match self.campaign().await {
                Ok(leadership) => leadership,
                Err(AcquireError::ShuttingDown { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let (view, control) = (leadership.view(), leadership.control());
            let ended = while_held(&view, &self.shared.context.stopping, work(leadership)).await;
            // `false` from `tick` means either; the work may see a loss before we do.
            let lost = (view.token()).is_err_and(|lost| lost.cause != LostCause::Released);
            let asked = lost || view.is_draining();
            self.settle(control, lost).await;
            match ended {
                Ended::Work(Err(source)) => {
                    return Err(RunError::Work {
                        name: self.name(),
                        source,
                    });
                }
                Ended::Work(Ok(())) if !asked => return Ok(()),
                Ended::Work(Ok(())) | Ended::Lost(_) => {}
            }
            if self.shared.context.draining.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits until this member leads, through outages and quarantines. Cancel safe: dropped, it
    /// gives the place up, and a grant that is under way is handed back.
    ///
    /// # Errors
    /// Only what waiting cannot mend: a setting that is not allowed, a backend without locks, a
    /// node that shuts down.
    pub async fn campaign(&self) -> Result<Leadership, AcquireError> {
        let trust = self.check()?;
        let Source { locks, votes } = self.source(&trust)?;
        if self.inner.config.priority > 0 && !self.shared.elections.has_bus() {
            return Err(AcquireError::MissingPart {
                name: self.name(),
                part: "bus",
            });
        }
        self.cool_down(&trust).await?;
        let config = CampaignConfig {
            key: self.inner.key.clone(),
            name: self.name(),
            label: self.name(),
            trust,
            patience: Patience::Wait,
            stall_limit: self.inner.config.stall_limit,
            drain_timeout: self.drain_timeout(),
            floor: self.memory().floor,
            changed: self.inner.changed.clone(),
        };
        // While it is waited for, and not longer, the voter campaigns.
        let _standing = votes.map(|votes| votes.stand(config.floor));
        let campaign = Campaign::start(&self.shared.context, &locks, config);
        let name = self.name();
        let elected = tokio::select! {
            biased;
            elected = campaign.elected(&name) => elected?,
            () = self.stand_as_candidate() => None,
        };
        match elected {
            Some(held) => {
                let (elections, priority) = (&self.shared.elections, self.inner.config.priority);
                elections.enter(&self.inner.key, held.control(), priority);
                let token = held.grip().terms().token;
                let mut memory = self.memory();
                memory.floor = memory.floor.max(Some(token));
                drop(memory);
                Ok(Leadership::new(self.shared.clone(), held))
            }
            // A campaign that waits never ends so.
            None => Err(AcquireError::ShuttingDown { name: self.name() }),
        }
    }

    /// Watches who leads, without taking part.
    pub fn observe(&self) -> Observer {
        // What cannot be had, or is not allowed, `campaign` says; nobody is seen to lead.
        let source = self.check().and_then(|trust| self.source(&trust));
        let locks = source.ok().map(|source| source.locks);
        Observer::start(&self.shared, locks, &self.inner.key, &self.inner.changed)
    }

    /// Waits out the cool-down after a loss.
    async fn cool_down(&self, trust: &Trust) -> Result<(), AcquireError> {
        let context = &self.shared.context;
        let Some(not_before) = self.memory().not_before else {
            return Ok(());
        };
        tokio::select! {
            biased;
            () = context.draining.cancelled() => {
                Err(AcquireError::ShuttingDown { name: self.name() })
            }
            () = sleep_until(&*context.clock, Some(not_before), trust.look_every()) => Ok(()),
        }
    }

    /// Waits until the term has ended in the store too, or nothing is left to try. A guard that
    /// outlives the work is asked to finish, and waited for at most its drain timeout.
    async fn settle(&self, mut control: TermControl, lost: bool) {
        let context = &self.shared.context;
        control.drain(None);
        let patience = (self.drain_timeout()).saturating_add(Trust::surely(self.ttl()));
        if tokio::time::timeout(patience, control.finished())
            .await
            .is_err()
        {
            warn!(key = %self.inner.key, "the guard outlives its term: the lease runs out by itself");
        }
        if lost {
            self.memory().not_before = Some(context.now() + self.inner.config.cool_down);
        }
    }

    fn check(&self) -> Result<Trust, AcquireError> {
        let context = &self.shared.context;
        self.inner
            .config
            .check(context.trust.ttl())
            .map_err(|source| AcquireError::Rejected {
                name: self.name(),
                source,
            })
    }

    /// Who grants the lease: the store, the votes, or both together.
    fn source(&self, trust: &Trust) -> Result<Source, AcquireError> {
        let missing = |part| AcquireError::MissingPart {
            name: self.name(),
            part,
        };
        let context = &self.shared.context;
        let store = context.backend.locks.clone();
        let Some(quorum) = self.inner.config.by_vote.clone() else {
            let locks = store.ok_or_else(|| missing("locks"))?;
            return Ok(Source { locks, votes: None });
        };
        if context.backend.bus.is_none() {
            return Err(missing("bus"));
        }
        let live = quorum == Quorum::Live;
        let place = Place {
            key: self.inner.key.clone(),
            name: self.inner.config.name.clone(),
            quorum,
            trust: *trust,
        };
        let store = if live {
            Some(store.ok_or_else(|| missing("locks"))?)
        } else {
            None
        };
        let (voters, membership) = (&self.shared.voters, &self.shared.membership);
        let votes = voters.votes(context, membership, &place);
        let votes = votes.map_err(|source| AcquireError::Rejected {
            name: self.name(),
            source,
        })?;
        let locks: Arc<dyn LockBackend> = match store {
            Some(store) => Arc::new(LiveLocks::new(context, votes.clone(), store)),
            None => votes.clone(),
        };
        let votes = Some(votes);
        Ok(Source { locks, votes })
    }

    fn ttl(&self) -> Duration {
        let config = &self.inner.config;
        let default = config.default_ttl(self.shared.context.trust.ttl());
        config.ttl.unwrap_or(default)
    }

    fn drain_timeout(&self) -> Duration {
        self.inner
            .config
            .drain_timeout
            .unwrap_or(self.shared.context.drain_timeout)
    }

    fn name(&self) -> String {
        format!("election/{}", self.inner.config.name)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.inner
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("key", &self.inner.key)
            .finish_non_exhaustive()
    }
}
