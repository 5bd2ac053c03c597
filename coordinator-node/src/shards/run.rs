//! `run_shards` and `run_dense`: one task for each shard that is owned.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use coordinator_core::{Backoff, BoxError, Layout};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::guard::Guard;
use super::line::{Host, Stop};
use super::seat::{Seat, SeatId};
use super::service::Service;
use super::{OnError, ShardConfig};
use crate::errors::{AcquireError, RunError};
use crate::shared::Shared;
use crate::tasks::panic_message;
use crate::telemetry;

/// Serves a keyspace until the node shuts down, the keyspace is refused, or work fails for good.
pub(super) async fn run<G, F, Fut>(
    node: &Arc<Shared>,
    config: ShardConfig,
    layout: Layout,
    work: F,
) -> Result<(), RunError>
where
    G: Guard,
    F: Fn(G) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let runner = Arc::new(Runner {
        work,
        config: config.clone(),
        failed: CancellationToken::new(),
        failure: Mutex::new(None),
        guard: std::marker::PhantomData,
    });
    let host = Arc::new(runner.clone());
    let service = match Service::begin(node, config, layout, host, Stop::Drop).await {
        Ok(service) => service,
        // As for `Election::run`: a shutdown is no error, however early it comes.
        Err(AcquireError::ShuttingDown { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let ended = tokio::select! {
        biased;
        () = runner.failed.cancelled() => Ok(()),
        ended = service.ended() => ended,
    };
    service.finish().await;
    let failure = runner
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match failure {
        Some(failure) => Err(failure),
        None => Ok(ended?),
    }
}

/// Runs the user's work on each shard.
struct Runner<G, F> {
    work: F,
    config: ShardConfig,
    failed: CancellationToken,
    /// The first failure under [`OnError::Stop`].
    failure: Mutex<Option<RunError>>,
    guard: std::marker::PhantomData<fn() -> G>,
}

impl<G, F, Fut> Host for Arc<Runner<G, F>>
where
    G: Guard,
    F: Fn(G) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    fn start(&self, seat: Arc<Seat>) {
        let (runner, tasks) = (self.clone(), seat.line.context.tasks.clone());
        // It ends when the shard is lost, or its work is done.
        drop(tasks.spawn(async move { runner.attend(seat).await }));
    }

    /// The work hears of it from its guard.
    fn withdraw(&self, _: SeatId) {}
}

impl<G, F, Fut> Runner<G, F>
where
    G: Guard,
    F: Fn(G) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    /// Runs the work, and again if it fails, for as long as the shard is held.
    async fn attend(&self, seat: Arc<Seat>) {
        let mut backoff = Backoff::new(self.config.restart_after, self.config.restart_at_most);
        let mut random = seat.line.context.fork_random();
        while let Err(error) = self.attempt(&seat).await {
            let keyspace = seat.line.keyspace.as_str();
            if seat.grip.lease().is_err() {
                debug!(%keyspace, shard = %seat.shard, error = %error, "the work failed after the loss");
                return;
            }
            warn!(%keyspace, shard = %seat.shard, error = %error, "the work failed");
            if self.config.on_error == OnError::Stop {
                return self.fail(&seat, error);
            }
            let pause = tokio::time::sleep(backoff.next(&mut random));
            if seat.grip.until_drain(pause).await.is_none() {
                return;
            }
            telemetry::count(telemetry::SHARD_RESTARTS, 1, &[("keyspace", keyspace)]);
        }
    }

    /// Runs the work once: dropped the moment the shard is lost. A guard that outlives it is
    /// waited for, so that no two works are ever under way on one shard.
    async fn attempt(&self, seat: &Arc<Seat>) -> Result<(), BoxError> {
        let (guard, dropped) = G::of(seat.clone());
        // Called within the future, so that a panic of the call itself is caught, too.
        let work = AssertUnwindSafe(async { (self.work)(guard).await }).catch_unwind();
        let outcome = match seat.grip.run(work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(format!("panicked: {}", panic_message(&*panic)).into()),
            Err(_) => return Ok(()),
        };
        match seat.grip.run(dropped.cancelled()).await {
            Ok(()) => outcome,
            Err(_) => Ok(()),
        }
    }

    fn fail(&self, seat: &Seat, source: BoxError) {
        let name = format!("{}/{}", seat.line.keyspace, seat.shard);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(RunError::Work { name, source });
        self.failed.cancel();
    }
}
