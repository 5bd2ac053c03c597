//! What all handles of one node share: its context, its parts, and its end.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::Profile;
use coordinator_core::trust::Trust;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::bus::{Bus, Hub};
use crate::context::Context;
use crate::election::Elections;
use crate::errors::{ShutdownError, StartError};
use crate::members::Membership;
use crate::shards::Keyspaces;
use crate::tasks::{Ended, Handle};
use crate::vote::Voters;

/// How long the node's own tasks may take once all work has ended: their last replies.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// What all handles and guards of one node share. When the last one is dropped, the node shuts
/// down in the background.
pub(crate) struct Shared {
    parts: Parts,
    ended: Arc<Mutex<Option<Result<(), ShutdownError>>>>,
}

/// What runs for as long as the node does.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) context: Arc<Context>,
    pub(crate) membership: Membership,
    pub(crate) elections: Arc<Elections>,
    pub(crate) voters: Arc<Voters>,
    bus: Option<Arc<Hub>>,
    pub(crate) keyspaces: Keyspaces,
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Shared {
    /// Joins the group, and starts what runs for as long as the node does.
    pub(crate) async fn start(context: Arc<Context>, profile: Profile) -> Result<Self, StartError> {
        // A start that fails or is dropped leaves no task behind that would go on as a member.
        let unless_started = context.stopping.clone().drop_guard();
        let membership = Membership::start(&context, profile).await?;
        let keyspaces = Keyspaces::new(&context, &membership);
        let bus = Hub::start(&context).map(Arc::new);
        let elections = Elections::new(&context, bus.as_ref().map(|hub| hub.bus()));
        let parts = Parts {
            context,
            membership,
            elections,
            voters: Arc::default(),
            bus,
            keyspaces,
        };
        drop(unless_started.disarm());
        Ok(Self {
            parts,
            ended: Arc::new(Mutex::new(None)),
        })
    }

    /// Ends everything, once; who asks again waits for the same end, and is told the same.
    pub(crate) async fn shut_down(&self) -> Result<(), ShutdownError> {
        let ended = self.begin_end().await;
        // Nothing runs on after this returns, but for work that blocks its thread.
        drop(tokio::time::timeout(LAST_REPLIES, self.context.tasks.idle()).await);
        match ended {
            Ended::Done(outcome) => outcome,
            // The runtime is going down under us: leases run out by themselves.
            Ended::Cancelled | Ended::Panicked(_) => Err(self.unconfirmed()),
        }
    }

    /// Ends the node on a task of its own: dropping a future must not leave the end half done. A
    /// task of the node must not wait for it: the end waits for all of them.
    pub(crate) fn begin_end(&self) -> Handle<Result<(), ShutdownError>> {
        self.context.draining.cancel();
        let (parts, ended) = (self.parts.clone(), self.ended.clone());
        self.context.tasks.spawn(async move {
            let mut ended = ended.lock().await;
            if let Some(outcome) = &*ended {
                return outcome.clone();
            }
            let outcome = parts.end().await;
            *ended = Some(outcome.clone());
            outcome
        })
    }
}

impl Parts {
    /// The bus; where the backend has none, one that rejects everything.
    pub(crate) fn bus(&self) -> Bus {
        self.bus.as_ref().map_or_else(Bus::missing, |hub| hub.bus())
    }

    /// Drain, then release and leave, then stop: each step is bounded.
    async fn end(&self) -> Result<(), ShutdownError> {
        let context = &self.context;
        info!(group = %context.group, member = %context.me, "shutting down");
        let outcome = self.drain().await;
        let outcome = match outcome {
            Ok(()) => self.leave().await,
            // Work may still run: nothing is released under it, nor is the group left.
            overran => overran,
        };
        if let Some(bus) = &self.bus {
            bus.close().await;
        }
        context.stopping.cancel();
        match &outcome {
            Ok(()) => info!(group = %context.group, member = %context.me, "shut down"),
            Err(error) => {
                warn!(group = %context.group, member = %context.me, %error, "shut down");
            }
        }
        outcome
    }

    /// Waits for all work, at most as long as the most patient of it may take.
    async fn drain(&self) -> Result<(), ShutdownError> {
        let work = &self.context.work;
        let patience = work.patience().max(self.context.drain_timeout);
        let patience = patience.saturating_add(LAST_REPLIES);
        match tokio::time::timeout(patience, work.idle()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ShutdownError::Overran {
                names: work.names(),
            }),
        }
    }

    /// Waits a little for the stores to hear of the end.
    async fn leave(&self) -> Result<(), ShutdownError> {
        let confirmed = async {
            self.context.closing.idle().await;
            self.membership.leave().await
        };
        match tokio::time::timeout(LAST_REPLIES, confirmed).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(self.unconfirmed()),
        }
    }

    fn unconfirmed(&self) -> ShutdownError {
        ShutdownError::Unconfirmed {
            // A lease may have been asked for longer than the membership.
            ends_within: Trust::surely(
                self.context
                    .trust
                    .ttl()
                    .max(self.context.closing.patience()),
            ),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.context.stopping.is_cancelled() {
            return;
        }
        // Nobody is left to be told; it is logged.
        drop(self.begin_end());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
