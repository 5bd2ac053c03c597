//! One read for all subscribers that are at the same place: a row is fetched once for a process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::batch::Batch;
use super::cursor::Identity;
use super::feed::Begin;
use super::place::{Place, Wanted};
use super::statements::Statements;
use crate::error::CallError;
use crate::session::lock;

/// The batches that are kept for those a little behind: so many, or so many bytes.
const RECENT: usize = 8;
const RECENT_BYTES: usize = 8 * 1024 * 1024;

/// What is read from: topics, and a place in a log. What was read of another log is of no use.
type Key = (Arc<Wanted>, Place, Option<Identity>);

/// What a read brought.
pub(super) type Answer = Result<Arc<Batch>, Arc<CallError>>;

/// A read that is under way, or done. Goes on whether anybody waits or not.
#[derive(Debug)]
pub(super) struct Reading {
    answer: watch::Receiver<Option<Answer>>,
    /// Begun for another: what was stored since then may be missing.
    pub(super) joined: bool,
}

impl Reading {
    /// Waits for the answer. Cancel safe.
    pub(super) async fn done(&mut self) -> Answer {
        let answer = self.answer.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| {
            Err(Arc::new(CallError::nothing_happened(
                "the read was given up",
            )))
        })
    }
}

/// All reads of a process.
#[derive(Debug)]
pub(super) struct Reads {
    statements: Arc<Statements>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    flying: BTreeMap<Key, watch::Receiver<Option<Answer>>>,
    recent: VecDeque<(Key, Arc<Batch>)>,
}

impl Reads {
    pub(super) fn new(statements: Arc<Statements>) -> Self {
        Self {
            statements,
            shared: Arc::default(),
        }
    }

    /// What follows the place of a subscription. `numbers_first`: where rows wait for their numbers
    /// (U12).
    pub(super) fn read(&self, begin: &Begin, numbers_first: bool) -> Reading {
        let (wanted, place) = (begin.wanted.clone(), begin.place.clone());
        let key = (wanted, place, begin.identity);
        let mut shared = lock(&self.shared);
        if let Some(answer) = shared.known(&key) {
            return Reading {
                answer,
                joined: true,
            };
        }
        let (tell, answer) = watch::channel(None);
        shared.flying.insert(key.clone(), answer.clone());
        drop(shared);
        let (statements, shared) = (self.statements.clone(), self.shared.clone());
        tokio::spawn(async move {
            let read = fetch(&statements, &key, numbers_first).await;
            let read = read.map(Arc::new).map_err(Arc::new);
            lock(&shared).landed(key, &read);
            tell.send_replace(Some(read));
        });
        Reading {
            answer,
            joined: false,
        }
    }
}

async fn fetch(statements: &Statements, key: &Key, numbers: bool) -> Result<Batch, CallError> {
    let (wanted, place, _) = key;
    if numbers {
        statements.number(wanted).await?;
    }
    statements.read(wanted, place).await
}

impl Shared {
    fn known(&self, key: &Key) -> Option<watch::Receiver<Option<Answer>>> {
        let recent = self.recent.iter().find(|(known, _)| known == key);
        match recent {
            Some((_, batch)) => Some(watch::channel(Some(Ok(batch.clone()))).1),
            // One whose task is gone will bring nothing.
            None => self
                .flying
                .get(key)
                .filter(|answer| answer.has_changed().is_ok())
                .cloned(),
        }
    }

    fn landed(&mut self, key: Key, answer: &Answer) {
        self.flying.remove(&key);
        if let Ok(batch) = answer
            && !batch.rows.is_empty()
            && key.2.is_none_or(|identity| identity == batch.identity)
        {
            self.recent.push_back((key, batch.clone()));
        }
        let bytes = |recent: &VecDeque<(Key, Arc<Batch>)>| -> usize {
            recent.iter().map(|(_, batch)| batch.bytes).sum()
        };
        while self.recent.len() > RECENT || bytes(&self.recent) > RECENT_BYTES {
            self.recent.pop_front();
        }
    }
}
