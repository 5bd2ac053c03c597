//! One session of our own: dialled, watched, and never shared with a pool.

mod peek;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::poll_fn;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Connection, Notification};
use tracing::trace;

pub(crate) use target::{Target, Timeouts};
pub(crate) use wire::Ends;

use crate::error::CallError;

/// What is done with each notification, on the session's own task. Must not block.
pub(crate) type Inbox = Arc<dyn Fn(Notification) + Send + Sync>;

/// A session whose notifications nobody wants.
pub(crate) fn no_inbox() -> Inbox {
    Arc::new(|_| {})
}

/// How a session ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the session ended: {reason}")]
pub(crate) struct Ended {
    pub(crate) reason: Arc<str>,
}

/// A session. Dropping it ends it.
pub(crate) struct Session {
    client: Client,
    /// The server process that greeted us. Behind a pooler another may serve us later.
    pid: Option<i32>,
    ends: Ends,
    ended: watch::Receiver<Option<Ended>>,
    end: watch::Sender<Option<Ended>>,
    /// When the last request was sent that was answered, of those that ask for nothing else.
    heard: Mutex<Instant>,
    task: AbortHandle,
}

impl Session {
    /// Starts the task that reads the socket.
    fn start<S, T>(
        client: Client,
        connection: Connection<S, T>,
        pid: Option<i32>,
        ends: Ends,
        inbox: Inbox,
    ) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (end, ended) = watch::channel(None);
        let tell = end.clone();
        let given_up = ended.clone();
        let inbox = move |news| {
            if given_up.borrow().is_none() {
                inbox(news);
            }
        };
        let task = tokio::spawn(async move {
            let reason = drive(connection, inbox).await;
            trace!(reason, "session ended");
            let reason = reason.into();
            tell.send_if_modified(|ended| {
                let first = ended.is_none();
                ended.get_or_insert(Ended { reason });
                first
            });
        });
        Self {
            client,
            pid,
            ends,
            ended,
            end,
            heard: Mutex::new(Instant::now()),
            task: task.abort_handle(),
        }
    }

    /// Sends statements. Requests of several callers are pipelined, in the order of their first poll.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The server process that greeted us.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// The addresses of both ends, as seen from here.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Waits for the end. Cancel safe.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await;
        told.ok().and_then(|told| told.clone()).unwrap_or(Ended {
            reason: "it was closed".into(),
        })
    }

    /// Waits for the end. Cancel safe, and keeps nothing alive.
    pub(crate) fn ending(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error: whoever would have told of the end is gone, so it has ended.
            drop(ended.wait_for(Option::is_some).await);
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.client.is_closed() || self.ended.borrow().is_some()
    }

    /// Notes that what was sent then has been answered.
    pub(crate) fn note_heard(&self, sent: Instant) {
        let mut heard = lock(&self.heard);
        *heard = sent.max(*heard);
    }

    /// How long ago the request was sent that was the last to be answered, of those that ask whether
    /// the session lives.
    pub(crate) fn heard_since(&self) -> Duration {
        lock(&self.heard).elapsed()
    }

    /// Gives the session up, and leaves its socket open: for this process it has ended, and nothing
    /// arrives from it any more, but what it holds on the server stays until it is dropped.
    pub(crate) fn give_up(&self, reason: &str) {
        let reason = reason.into();
        self.end.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(Ended { reason });
            first
        });
    }

    /// Closes the socket at once, without a farewell: the server sees the end of the stream.
    pub(crate) fn close(&self) {
        self.task.abort();
    }

    /// An error for a session that has ended.
    pub(crate) fn gone(&self) -> CallError {
        let reason = self.ended.borrow().clone();
        CallError::unknown(reason.unwrap_or(Ended {
            reason: "it was closed".into(),
        }))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("pid", &self.pid)
            .field("ended", &*self.ended.borrow())
            .finish_non_exhaustive()
    }
}

async fn drive<S, T>(mut connection: Connection<S, T>, inbox: impl Fn(Notification)) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(news))) => inbox(news),
            Some(Ok(AsyncMessage::Notice(notice))) => pass_on(&notice),
            Some(Ok(_)) => {}
            Some(Err(error)) => return crate::error::Advised(error).to_string(),
            None => return "it was closed".to_owned(),
        }
    }
}

/// What says so in the server, in whichever language.
const QUEUE_FILLS: &str = "asyncQueueFillWarning";

/// That the queue of notifications fills up the server tells whoever notifies, of itself and every five seconds at most: with the
/// process that is to blame, and what to do.
fn pass_on(notice: &DbError) {
    if notice.routine() == Some(QUEUE_FILLS) {
        let (detail, hint) = (notice.detail(), notice.hint());
        tracing::warn!(detail, hint, "the server warns: {}", notice.message());
    }
}

/// A value that several may look at; a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
