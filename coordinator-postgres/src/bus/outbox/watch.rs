//! Waits for transactions of others to end, and rings for those that were committed (rule U13).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::bus::line::Line;
use crate::error::CallError;
use crate::pool::Pool;
use crate::session::lock;

/// The first look at a transaction, and how far apart two looks are at most.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_secs(1);
/// So many transactions are watched: readers find what others wrote by themselves.
const MOST: usize = 10_000;

const STATUS: &str = "select one, pg_catalog.pg_xact_status(one::text::xid8) \
    from unnest($1::text[]) as one";

/// Transactions that wrote messages, and had not ended when last looked at.
#[derive(Debug)]
pub(in crate::bus) struct Watch {
    pool: Arc<Pool>,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    transactions: BTreeMap<u64, Watched>,
    /// Whether a task looks after them.
    watched: bool,
}

#[derive(Debug)]
struct Watched {
    topics: BTreeSet<Uuid>,
    look_at: Instant,
    pause: Duration,
}

impl Watch {
    pub(in crate::bus) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            open: Arc::default(),
        }
    }

    /// This transaction wrote a message on that topic.
    pub(in crate::bus) fn add(&self, line: &Arc<Line>, xid: u64, topic: Uuid) {
        let mut open = lock(&self.open);
        let known = open.transactions.len();
        if let Some(watched) = open.transactions.get_mut(&xid) {
            watched.again(topic);
        } else if known < MOST {
            open.transactions.insert(xid, Watched::new(topic));
        }
        if !std::mem::replace(&mut open.watched, true) {
            let watcher = Watcher {
                pool: self.pool.clone(),
                open: self.open.clone(),
                line: Arc::downgrade(line),
            };
            tokio::spawn(watcher.run());
        }
    }
}

impl Watched {
    fn new(topic: Uuid) -> Self {
        Self {
            topics: BTreeSet::from([topic]),
            look_at: Instant::now() + FIRST,
            pause: FIRST,
        }
    }

    /// It lives: its end may be near again.
    fn again(&mut self, topic: Uuid) {
        self.topics.insert(topic);
        self.pause = FIRST;
        self.look_at = self.look_at.min(Instant::now() + FIRST);
    }
}

/// Runs as long as there is anything to watch.
struct Watcher {
    pool: Arc<Pool>,
    open: Arc<Mutex<Open>>,
    line: Weak<Line>,
}

impl Watcher {
    async fn run(self) {
        while let Some(look_at) = self.next() {
            sleep_until(look_at).await;
            let due = self.due();
            let ended = self.ended(&due).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "cannot look after the outbox's transactions");
                BTreeMap::new()
            });
            let Some(line) = self.line.upgrade() else {
                return;
            };
            let topics = self.settle(&ended);
            if topics.is_empty() {
                continue;
            }
            if let Err(error) = line.ring(topics).await {
                // Readers look by themselves.
                tracing::debug!(%error, "committed, but the doorbell did not ring");
            }
        }
    }

    /// When to look next. `None`: nothing is left, and whoever adds something starts a new task.
    fn next(&self) -> Option<Instant> {
        let mut open = lock(&self.open);
        let next = open
            .transactions
            .values()
            .map(|watched| watched.look_at)
            .min();
        open.watched = next.is_some();
        next
    }

    /// Those to look at now. The next look comes later.
    fn due(&self) -> Vec<String> {
        let now = Instant::now();
        let mut open = lock(&self.open);
        let due = open.transactions.iter_mut();
        let due = due.filter(|(_, watched)| watched.look_at <= now);
        due.map(|(xid, watched)| {
            watched.pause = (watched.pause * 2).min(LONGEST);
            watched.look_at = now + watched.pause;
            xid.to_string()
        })
        .collect()
    }

    /// Which of them have ended, and whether they were committed.
    async fn ended(&self, due: &[String]) -> Result<BTreeMap<u64, bool>, CallError> {
        let query = sqlx::query(AssertSqlSafe(STATUS)).bind(due);
        let mut ended = BTreeMap::new();
        for row in self.pool.rows(query).await? {
            let read = row.try_get::<&str, _>(0).and_then(|xid| {
                let status = row.try_get::<Option<&str>, _>(1)?;
                Ok((xid.parse().unwrap_or(0), status.map(str::to_owned)))
            });
            let (xid, status) = read.map_err(CallError::from)?;
            match status.as_deref() {
                Some("in progress") => {}
                // So long ago that the server does not know any more: whoever waits has looked since.
                Some("committed") | None => drop(ended.insert(xid, true)),
                Some(_) => drop(ended.insert(xid, false)),
            }
        }
        Ok(ended)
    }

    /// Forgets what has ended. Returns the topics to ring for.
    fn settle(&self, ended: &BTreeMap<u64, bool>) -> Vec<Uuid> {
        let mut open = lock(&self.open);
        let mut topics = BTreeSet::new();
        for (xid, committed) in ended {
            if let Some(watched) = open.transactions.remove(xid)
                && *committed
            {
                topics.extend(watched.topics);
            }
        }
        topics.into_iter().collect()
    }
}
