//! One start of a member's process: its tasks, which can be frozen and killed.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use coordinator_core::{Executor, Task};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::sync::Shared;

/// Tasks run.
const OPEN: u8 = 0;
/// Tasks are kept, and not polled.
const PAUSED: u8 = 1;
/// Tasks are dropped, and never polled again.
const CRASHED: u8 = 2;

/// Handles of ended tasks are swept when there are twice as many as at the last sweep, but not
/// below this.
const LEAST_SWEEP: usize = 32;

/// Lets the tasks of one process run, or not.
#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// Who wanted to run while the gate was shut.
    waiting: Shared<Vec<Waker>>,
    crashed: Notify,
}

impl Gate {
    pub(crate) fn new(paused: bool) -> Self {
        Self {
            state: AtomicU8::new(if paused { PAUSED } else { OPEN }),
            waiting: Shared::default(),
            crashed: Notify::new(),
        }
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CRASHED
    }

    pub(crate) fn pause(&self) {
        self.turn(OPEN, PAUSED);
    }

    pub(crate) fn resume(&self) {
        self.turn(PAUSED, OPEN);
    }

    fn turn(&self, from: u8, to: u8) {
        let waiting = {
            // Under the lock, so that nobody goes to wait for a gate that has just opened.
            let mut waiting = self.waiting.lock();
            let turned = self
                .state
                .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            match turned {
                Ok(_) if to == OPEN => std::mem::take(&mut *waiting),
                Ok(_) | Err(_) => Vec::new(),
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn crash(&self) {
        let waiting = {
            let mut waiting = self.waiting.lock();
            self.state.store(CRASHED, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        self.crashed.notify_waiters();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether a task may run now; if not, it is woken when it may.
    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if self.state.load(Ordering::Acquire) == OPEN {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        if self.state.load(Ordering::Acquire) == OPEN {
            return Poll::Ready(());
        }
        // One entry a task, however often it is woken in vain.
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until tasks may run.
    pub(crate) async fn opened(&self) {
        std::future::poll_fn(|cx| {
            if self.is_crashed() {
                return Poll::Ready(());
            }
            self.poll_open(cx)
        })
        .await;
    }

    /// Waits for the end of the process.
    async fn crash_seen(&self) {
        let crashed = self.crashed.notified();
        if !self.is_crashed() {
            crashed.await;
        }
    }

    /// Runs a future behind this gate. `None`: the process crashed, and the future was dropped.
    pub(crate) async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.crash_seen() => None,
            output = Gated { gate: self, future: Box::pin(future) } => Some(output),
        }
    }
}

/// A future that is polled only while its gate is open.
struct Gated<G, F: ?Sized> {
    gate: G,
    future: Pin<Box<F>>,
}

impl<G: Deref<Target = Gate> + Unpin, F: Future + ?Sized> Future for Gated<G, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        std::task::ready!(self.gate.poll_open(cx));
        self.future.as_mut().poll(cx)
    }
}

/// One start of a member: the executor of its node.
pub(crate) struct Process {
    pub(crate) gate: Arc<Gate>,
    tasks: Shared<Tasks>,
    runtime: Shared<Option<Handle>>,
}

/// The tasks that a crash ends.
#[derive(Default)]
struct Tasks {
    handles: Vec<AbortHandle>,
    sweep_at: usize,
}

impl Tasks {
    /// Adds one, and now and then forgets those that have ended: there are never more than twice
    /// as many as ran at the last look.
    fn add(&mut self, handle: AbortHandle) {
        if self.handles.len() >= self.sweep_at {
            self.handles.retain(|handle| !handle.is_finished());
            self.sweep_at = (self.handles.len() * 2).max(LEAST_SWEEP);
        }
        self.handles.push(handle);
    }
}

impl Process {
    pub(crate) fn new(paused: bool) -> Self {
        Self {
            gate: Arc::new(Gate::new(paused)),
            tasks: Shared::default(),
            runtime: Shared::new(Handle::try_current().ok()),
        }
    }

    /// Drops all tasks for good, as `kill -9` does: nothing is released, nobody is told.
    pub(crate) fn crash(&self) {
        self.gate.crash();
        let tasks = std::mem::take(&mut self.tasks.lock().handles);
        for task in tasks {
            task.abort();
        }
    }

    fn runtime(&self) -> Option<Handle> {
        let current = Handle::try_current().ok();
        let mut known = self.runtime.lock();
        if known.is_none() {
            known.clone_from(&current);
        }
        current.or_else(|| known.clone())
    }
}

impl Executor for Process {
    fn spawn(&self, task: Task) {
        // Without a runtime, or after the crash, there is nobody to run it.
        let Some(runtime) = self.runtime().filter(|_| !self.gate.is_crashed()) else {
            return;
        };
        let gate = self.gate.clone();
        // Not under the lock: a runtime that shuts down drops the task at once, and what the task
        // owns may spawn from its `drop`.
        let handle = runtime.spawn(Gated { gate, future: task }).abort_handle();
        self.tasks.lock().add(handle.clone());
        if self.gate.is_crashed() {
            handle.abort();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
