//! Work that runs only while a lease is held.

use std::pin::pin;

use coordinator_core::{BoxError, Lost, LostCause};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::LeaseView;

/// How work under a lease ended.
pub(crate) enum Ended<T> {
    /// By itself, while the lease was held, or after it gave the lease back itself; or, without an
    /// error, in the very moment of the loss.
    Work(Result<T, BoxError>),
    /// With the lease.
    Lost(Lost),
}

/// Runs work until it ends, or the lease is lost: then the work is dropped.
pub(crate) async fn while_held<T>(
    view: &LeaseView,
    stopping: &CancellationToken,
    work: impl Future<Output = Result<T, BoxError>>,
) -> Ended<T> {
    let ended = {
        let work = pin!(work);
        tokio::select! {
            biased;
            lost = taken(view, stopping) => Ended::Lost(lost),
            result = work => Ended::Work(result),
        }
    };
    match (ended, view.token()) {
        // It failed because the lease was lost, and not the other way round.
        (Ended::Work(Err(error)), Err(lost)) if lost.cause != LostCause::Released => {
            debug!(key = %lost.key, cause = %lost.cause, %error, "the work failed after its lease");
            Ended::Lost(lost)
        }
        (ended, _) => ended,
    }
}

/// Ends when the lease is lost, other than by its own holder: who resigns may say a last word, until
/// the node stops.
async fn taken(view: &LeaseView, stopping: &CancellationToken) -> Lost {
    let lost = view.lost().await;
    if lost.cause == LostCause::Released {
        stopping.cancelled().await;
    }
    lost
}
