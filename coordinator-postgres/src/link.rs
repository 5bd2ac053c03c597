//! A session that is dialled again whenever it ends.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::Backoff;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use crate::error::{CallError, ConnectError};
use crate::session::Session;

/// How long a call waits for a session that is being dialled.
const WAIT: Duration = Duration::from_secs(2);

type Dialling = Pin<Box<dyn Future<Output = Result<Session, ConnectError>> + Send>>;

/// Makes a session ready for use: dialled, greeted, and listening where it should.
pub(crate) type Dialler = Arc<dyn Fn() -> Dialling + Send + Sync>;

/// Whether there is a session.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Up(Arc<Session>),
    /// None, and why.
    Down(Arc<str>),
}

/// What is told when sessions begin and end.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// A session is up.
    fn up(&self, session: &Arc<Session>);
    /// It has ended.
    fn down(&self);
}

/// A session that is always there, or about to be. Dropping it ends it.
pub(crate) struct Link {
    name: &'static str,
    state: watch::Receiver<State>,
    _stop: DropGuard,
}

impl Link {
    /// Keeps a session up, beginning with this one.
    pub(crate) fn start(
        name: &'static str,
        first: Session,
        dialler: Dialler,
        watcher: Option<Arc<dyn Watcher>>,
    ) -> Self {
        let stop = CancellationToken::new();
        let first = Arc::new(first);
        let (tell, state) = watch::channel(State::Up(first.clone()));
        let keeper = Keeper {
            name,
            tell,
            dialler,
            watcher,
        };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(keeper.run(first)).await });
        Self {
            name,
            state,
            _stop: stop.drop_guard(),
        }
    }

    /// The present session, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            State::Up(session) if !session.is_ended() => Some(session.clone()),
            State::Up(_) | State::Down(_) => None,
        }
    }

    /// The session; waits for one that is being dialled, but not for long. Cancel safe.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, CallError> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let mut state = self.state.clone();
        let up = state.wait_for(|state| match state {
            State::Up(session) => !session.is_ended(),
            State::Down(_) => false,
        });
        if let Ok(Ok(state)) = timeout(WAIT, up).await
            && let State::Up(session) = &*state
        {
            return Ok(session.clone());
        }
        let why = match &*self.state.borrow() {
            State::Down(why) => why.to_string(),
            State::Up(_) => "its session has just ended".to_owned(),
        };
        Err(CallError::nothing_happened(format!(
            "Postgres is out of reach: {why}"
        )))
    }

    /// What is known of the session, as it changes.
    #[allow(dead_code, reason = "for those who follow it")]
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

struct Keeper {
    name: &'static str,
    tell: watch::Sender<State>,
    dialler: Dialler,
    watcher: Option<Arc<dyn Watcher>>,
}

impl Keeper {
    async fn run(self, first: Arc<Session>) {
        let mut session = first;
        loop {
            if let Some(watcher) = &self.watcher {
                watcher.up(&session);
            }
            let ended = session.ended().await;
            info!(session = self.name, reason = %ended.reason, "session ended");
            self.tell.send_replace(State::Down(ended.reason));
            drop(session);
            if let Some(watcher) = &self.watcher {
                watcher.down();
            }
            session = self.dial().await;
            debug!(session = self.name, "session up again");
            self.tell.send_replace(State::Up(session.clone()));
        }
    }

    async fn dial(&self) -> Arc<Session> {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            match (self.dialler)().await {
                Ok(session) => return Arc::new(session),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(session = self.name, %error, source, "cannot connect");
                    self.tell
                        .send_replace(State::Down(error.to_string().into()));
                }
            }
            let pause = backoff.next(&mut rand::rng());
            sleep(pause).await;
        }
    }
}
