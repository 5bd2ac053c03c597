//! Tasks of a node: spawned through one executor, tracked, cancellable, and never lost in a panic.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use coordinator_core::{Clock, Executor, Moment, Task};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs tasks on the tokio runtime that started the node.
#[derive(Debug)]
pub(crate) struct TokioExecutor(tokio::runtime::Handle);

impl TokioExecutor {
    pub(crate) fn current() -> Self {
        Self(tokio::runtime::Handle::current())
    }
}

impl Executor for TokioExecutor {
    fn spawn(&self, task: Task) {
        drop(self.0.spawn(task));
    }
}

/// Where all tasks of a node are spawned.
#[derive(Clone)]
pub(crate) struct Tasks {
    executor: Arc<dyn Executor>,
    tracker: TaskTracker,
}

impl Tasks {
    pub(crate) fn new(executor: Arc<dyn Executor>) -> Self {
        Self {
            executor,
            tracker: TaskTracker::new(),
        }
    }

    /// Spawns a future. Dropping the handle lets it go on; [`Handle::abort`] drops the future.
    pub(crate) fn spawn<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (send, done) = oneshot::channel();
        let cancel = CancellationToken::new();
        let cancelled = cancel.clone();
        let task = async move {
            let work = AssertUnwindSafe(cancelled.run_until_cancelled_owned(future)).catch_unwind();
            let ended = match work.await {
                Ok(Some(output)) => Ended::Done(output),
                Ok(None) => Ended::Cancelled,
                Err(panic) => Ended::Panicked(panic_message(&*panic)),
            };
            // Nobody may be waiting: then the outcome interests nobody.
            drop(send.send(ended));
        };
        self.executor
            .spawn(Box::pin(self.tracker.track_future(task)));
        Handle { cancel, done }
    }

    /// Waits until every task has ended. New ones may still be spawned.
    pub(crate) async fn idle(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// By itself.
    Done(T),
    /// By [`Handle::abort`], or because its runtime was shut down.
    Cancelled,
    /// By a panic with this message.
    Panicked(String),
}

/// Waits for a task, or ends it.
#[derive(Debug)]
pub(crate) struct Handle<T> {
    cancel: CancellationToken,
    done: oneshot::Receiver<Ended<T>>,
}

impl<T> Handle<T> {
    /// Drops the task's future at its next await. Await the handle to know when that is done.
    pub(crate) fn abort(&self) {
        self.cancel.cancel();
    }
}

impl<T> Future for Handle<T> {
    type Output = Ended<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<T>> {
        Poll::Ready(ready!(Pin::new(&mut self.done).poll(cx)).unwrap_or(Ended::Cancelled))
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

/// Sleeps until the clock shows `deadline`; without one, for ever.
///
/// The clock may jump ahead of the runtime's timers (suspension), so it also looks every
/// `look_every`: pass a fraction of the trust window.
pub(crate) async fn sleep_until(
    clock: &dyn Clock,
    deadline: Option<Moment>,
    look_every: std::time::Duration,
) {
    let Some(deadline) = deadline else {
        return std::future::pending().await;
    };
    loop {
        let left = deadline.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(look_every)).await;
    }
}
