//! The words that all guards share, with one meaning.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{FencingToken, Held, Lease, Lost};

use super::Grip;

/// The common words of `Leadership`, `LockGuard`, `OwnedShard` and `DenseShard`. The type has a
/// method `grip(&self) -> &Arc<Grip>`.
macro_rules! guard_words {
    ($guard:ty) => {
        impl $guard {
            /// The fencing token to send with every effect: an error from the instant trust ends.
            pub fn token(&self) -> Result<coordinator_core::FencingToken, coordinator_core::Lost> {
                self.grip().token()
            }

            /// How long the lease is trusted unless renewed; zero once it is lost. Fit for
            /// the timeout of what is done next.
            pub fn trust_left(&self) -> std::time::Duration {
                self.grip().trust_left()
            }

            /// Ends when the lease is lost: stop. Cancel safe.
            pub fn lost(
                &self,
            ) -> impl Future<Output = coordinator_core::Lost> + Send + 'static + use<> {
                let grip = self.grip().clone();
                async move { grip.lost().await }
            }

            /// Ends when the work is asked to finish: shutdown, revocation, transfer. Cancel safe.
            pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
                let grip = self.grip().clone();
                async move { grip.draining().await }
            }

            /// Runs `f`, and drops it the moment the lease is lost.
            ///
            /// # Errors
            /// How the lease was lost.
            pub async fn run<F: Future>(&self, f: F) -> Result<F::Output, coordinator_core::Lost> {
                self.grip().run(f).await
            }

            /// Waits for `f`; `None`: finish, for the work is asked to, or the lease is lost. Wrap
            /// the wait for work in it, not the work. Who waits so is not stalled. As cancel safe
            /// as `f`.
            #[must_use = "`None` says: finish"]
            pub async fn until_drain<F: Future>(&self, f: F) -> Option<F::Output> {
                self.grip().until_drain(f).await
            }

            /// `true` at once, then every `period`; `false` says: finish. Counts as progress. A
            /// tick that was missed is not made up for. Cancel safe.
            #[must_use = "`false` says: finish"]
            pub async fn tick(&self, period: std::time::Duration) -> bool {
                self.grip().tick(period).await
            }

            /// Reports progress: with a stall limit, the lease is renewed only while it is reported.
            pub fn progress(&self) {
                self.grip().progress();
            }

            /// The same reads, for helper tasks. Keeps nothing alive.
            pub fn view(&self) -> $crate::lease::LeaseView {
                $crate::lease::LeaseView::new(self.grip().clone())
            }
        }

        impl coordinator_core::Held for $guard {
            fn lease(&self) -> Result<&coordinator_core::Lease, coordinator_core::Lost> {
                self.grip().lease()
            }
        }
    };
}
pub(crate) use guard_words;

/// What a helper task may see of a lease: the same reads as its guard's. It keeps nothing alive:
/// the term ends when the guard is dropped, and every view with it.
#[derive(Clone)]
pub struct LeaseView(Arc<Grip>);

impl LeaseView {
    pub(crate) fn new(grip: Arc<Grip>) -> Self {
        Self(grip)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// The fencing token to send with every effect: an error from the instant trust ends.
    pub fn token(&self) -> Result<FencingToken, Lost> {
        self.0.token()
    }

    /// How long the lease is trusted unless renewed; zero once it is lost.
    pub fn trust_left(&self) -> Duration {
        self.0.trust_left()
    }

    /// Ends when the lease is lost: stop. Cancel safe.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static + use<> {
        let grip = self.0.clone();
        async move { grip.lost().await }
    }

    /// Ends when the work is asked to finish. Cancel safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let grip = self.0.clone();
        async move { grip.draining().await }
    }

    /// Runs `f`, and drops it the moment the lease is lost.
    ///
    /// # Errors
    /// How the lease was lost.
    pub async fn run<F: Future>(&self, f: F) -> Result<F::Output, Lost> {
        self.0.run(f).await
    }

    /// Waits for `f`; `None`: finish. As cancel safe as `f`.
    #[must_use = "`None` says: finish"]
    pub async fn until_drain<F: Future>(&self, f: F) -> Option<F::Output> {
        self.0.until_drain(f).await
    }

    /// Reports progress.
    pub fn progress(&self) {
        self.0.progress();
    }
}

impl Held for LeaseView {
    fn lease(&self) -> Result<&Lease, Lost> {
        self.0.lease()
    }
}

impl fmt::Debug for LeaseView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseView").field(&self.0).finish()
    }
}
