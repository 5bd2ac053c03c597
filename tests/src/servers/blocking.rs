//! Work that blocks its thread, on a thread for it.

use coordinator_servers::Error;
use tokio::task::{self, JoinError};

/// Does it there. A caller that is dropped leaves the work to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    unpanicked(task::spawn_blocking(work).await)
}

/// A panic there is a panic here.
pub(crate) fn unpanicked<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
