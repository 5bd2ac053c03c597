//! Signals that ask a process to end.

/// Ends when the process is asked to: by SIGTERM or SIGINT on Unix, by Ctrl-C elsewhere. For
/// [`NodeBuilder::shutdown_on`](crate::NodeBuilder::shutdown_on). Cancel safe.
///
/// The signals no longer end the process by themselves from the first poll on. Where they cannot
/// be listened to, it never ends, and a warning is logged.
pub async fn terminate() {
    if let Err(error) = asked().await {
        tracing::warn!(%error, "cannot listen for signals");
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn asked() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
