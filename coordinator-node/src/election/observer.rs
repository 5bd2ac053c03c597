use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Backoff, FencingToken, Holder, Key, LockBackend, MemberId};
use rand::rngs::StdRng;
use tokio::sync::Notify;

use crate::context::Context;
use crate::shared::Shared;
use crate::tasks::Handle;
use crate::watch;

/// How long an observer waits for a hint before it looks all the same.
const SLOW_POLL: Duration = Duration::from_secs(5);

/// One reign, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Who leads.
    pub leader: MemberId,
    /// Under which fencing token: it tells two reigns of one leader apart.
    pub token: FencingToken,
}

/// Watches who leads. It sees the store's account, a little late: act on a [`super::Leadership`],
/// never on this.
pub struct Observer {
    terms: watch::Receiver<Option<Term>>,
    watching: Option<Handle<()>>,
}

impl Observer {
    /// Watches who holds the key; without `locks`, nobody ever does.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        locks: Option<Arc<dyn LockBackend>>,
        key: &Key,
        changed: &Arc<Notify>,
    ) -> Self {
        let (send, terms) = watch::channel(None);
        let context = shared.context.clone();
        let Some(locks) = locks else {
            return Self {
                terms,
                watching: None,
            };
        };
        let watch = Watch {
            random: context.fork_random(),
            backoff: Backoff::new(Duration::from_millis(100), SLOW_POLL),
            context,
            locks,
            key: key.clone(),
            changed: changed.clone(),
            terms: send,
        };
        let watching = Some(shared.context.tasks.spawn(watch.run()));
        Self { terms, watching }
    }

    /// Who leads, as far as is known; `None`: nobody, or not known yet.
    pub fn current(&self) -> Option<Term> {
        self.terms.borrow().clone()
    }

    /// Waits until another reign begins, or one ends, since the last call: `true`. `false`: the
    /// node has shut down, or its backend grants no leases. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.terms.changed().await.is_ok()
    }

    /// Waits until somebody leads. `None`: the node has shut down. Cancel safe.
    pub async fn leader(&mut self) -> Option<Term> {
        self.terms
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|term| term.clone())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}

/// Reads the holder, whenever it may have changed.
struct Watch {
    context: Arc<Context>,
    locks: Arc<dyn LockBackend>,
    key: Key,
    changed: Arc<Notify>,
    terms: watch::Sender<Option<Term>>,
    random: StdRng,
    backoff: Backoff,
}

impl Watch {
    async fn run(mut self) {
        let stopping = self.context.stopping.clone();
        stopping.run_until_cancelled(self.watch()).await;
    }

    async fn watch(&mut self) {
        loop {
            // Before the read, so that a change during it is not missed.
            let (locks, key) = (self.locks.clone(), self.key.clone());
            let hint = async move {
                match locks.changed(&key).await {
                    Ok(()) => {}
                    Err(_) => std::future::pending().await,
                }
            };
            let changed = self.changed.clone();
            let ours = changed.notified();
            let mut hint = Box::pin(hint);
            // Polled once, the hint is armed.
            let armed = futures_util::poll!(&mut hint).is_ready();
            let holder = tokio::time::timeout(SLOW_POLL, self.locks.holder(&self.key)).await;
            let pause = match holder {
                Ok(Ok(holder)) => {
                    self.backoff.reset();
                    self.publish(holder)
                }
                Ok(Err(_)) | Err(_) => self.backoff.next(&mut self.random),
            };
            if armed {
                // A hint that is always ready must not make a hot loop.
                tokio::time::sleep(self.backoff.next(&mut self.random).min(pause)).await;
                continue;
            }
            tokio::select! {
                biased;
                () = ours => {}
                () = &mut hint => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tells of the reign, and says when to look again without a hint.
    fn publish(&self, holder: Option<Holder>) -> Duration {
        let free_in = holder.as_ref().and_then(|holder| holder.free_in);
        let term = holder.map(|holder| Term {
            leader: holder.owner,
            token: holder.token,
        });
        self.terms.send_if_modified(|known| {
            let modified = *known != term;
            if modified {
                *known = term;
            }
            modified
        });
        free_in.map_or(SLOW_POLL, |span| span.min(SLOW_POLL)) + Duration::from_millis(1)
    }
}
