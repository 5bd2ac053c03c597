//! A feed for those who hear alone: opened again whenever it ends, whatever the bus does.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{ClusterBus, Feed, FeedEvent, Start, Topic};
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use crate::tasks::panic_message;

/// A subscription that is not live by then is tried again: its answer may be lost, and who waits for
/// it would be deaf for ever.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// What became of the feed.
pub(crate) enum News {
    /// It is open.
    Open,
    /// It brought something.
    Event(FeedEvent),
    /// It ended, or did not open, or its bus panicked: until it is opened again, nothing is heard.
    Closed(String),
}

type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Feed>, String>> + Send>>;

enum State {
    Closed,
    Opening(Opening),
    Open(Box<dyn Feed>),
}

/// The feed of some topics.
pub(crate) struct Inbox {
    bus: Arc<dyn ClusterBus>,
    topics: Vec<Topic>,
    state: State,
}

impl Inbox {
    pub(crate) fn new(bus: Arc<dyn ClusterBus>, topics: Vec<Topic>) -> Self {
        let mut inbox = Self {
            bus,
            topics,
            state: State::Closed,
        };
        inbox.reopen(Duration::ZERO);
        inbox
    }

    /// Opens the feed, after a pause.
    pub(crate) fn reopen(&mut self, pause: Duration) {
        let (bus, topics) = (self.bus.clone(), self.topics.clone());
        self.state = State::Opening(Box::pin(async move {
            sleep(pause).await;
            let open = AssertUnwindSafe(bus.subscribe(&topics, Start::Now)).catch_unwind();
            match timeout(OPEN_WITHIN, open).await {
                Ok(Ok(feed)) => feed.map_err(|error| error.to_string()),
                Ok(Err(panic)) => Err(panicked(&*panic)),
                Err(_) => Err(format!("not subscribed within {OPEN_WITHIN:?}")),
            }
        }));
    }

    /// What comes next; nothing, while it is closed. Cancel safe.
    pub(crate) async fn next(&mut self) -> News {
        let error = match &mut self.state {
            State::Closed => std::future::pending().await,
            State::Opening(opening) => match opening.await {
                Ok(feed) => {
                    self.state = State::Open(feed);
                    return News::Open;
                }
                Err(error) => error,
            },
            State::Open(feed) => match AssertUnwindSafe(feed.next()).catch_unwind().await {
                Ok(Some(event)) => return News::Event(event),
                Ok(None) => "the feed ended".to_owned(),
                Err(panic) => panicked(&*panic),
            },
        };
        self.state = State::Closed;
        News::Closed(error)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("the bus panicked: {}", panic_message(panic))
}
