//! What all parts of the demo share: the time, the log of events, and the record of the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::faults::Fault;
use crate::moves::Moves;
use crate::source::Source;
use crate::state::{LogLine, NodeState, Phase, Tone};
use crate::witness::{TenureId, Witness};

/// A handle on the shared record. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    began: Instant,
    source: Arc<Source>,
    record: Arc<Mutex<Record>>,
}

/// Everything that has been seen so far.
pub(crate) struct Record {
    pub(crate) witness: Witness,
    pub(crate) moves: Moves,
    /// All nodes there ever were, in the order of their first start.
    pub(crate) nodes: Vec<NodeState>,
    /// Whether each shard is being revoked.
    pub(crate) draining: Vec<bool>,
    /// Who plans, under which token.
    pub(crate) planner: Option<(String, u64)>,
    /// Who planned, term by term.
    pub(crate) terms: Vec<String>,
    /// How often each fault has hit, and how often it hit a node at work.
    pub(crate) faults: BTreeMap<Fault, Hits>,
    pub(crate) log: Vec<LogLine>,
}

/// How often a fault has hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hits {
    pub(crate) times: usize,
    /// Those of them that hit somebody who owned shards.
    pub(crate) at_work: usize,
}

impl World {
    /// A world that begins now.
    pub(crate) fn new(began: Instant, source: Source, shards: u16) -> Self {
        Self {
            began,
            source: Arc::new(source),
            record: Arc::new(Mutex::new(Record::new(shards))),
        }
    }

    /// How long ago the world began: true time, the same for all.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The moment so long after the beginning.
    pub(crate) fn moment(&self, after: Duration) -> Instant {
        self.began + after
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// The record, for a moment: never held across an await.
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what happened.
    pub(crate) fn tell(&self, tone: Tone, text: impl Into<String>) {
        self.tell_of(self.now(), tone, text);
    }

    /// Tells what happened then.
    pub(crate) fn tell_of(&self, at: Duration, tone: Tone, text: impl Into<String>) {
        let text = text.into();
        self.record().log.push(LogLine { at, tone, text });
    }

    /// Counts a broken promise, and tells of it.
    pub(crate) fn violated(&self, what: String) {
        self.tell(Tone::Wrong, what.as_str());
        self.record().witness.violated(what);
    }

    /// A node is now in this phase.
    pub(crate) fn enters(&self, name: &str, phase: Phase) {
        let mut record = self.record();
        if let Some(node) = record.nodes.iter_mut().find(|node| node.name == name) {
            node.phase = phase;
            return;
        }
        record.nodes.push(NodeState {
            name: name.to_owned(),
            phase,
            saved: 0,
        });
    }
}

impl Record {
    /// Nothing seen yet.
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            witness: Witness::new(shards),
            moves: Moves::default(),
            nodes: Vec::new(),
            draining: vec![false; usize::from(shards)],
            planner: None,
            terms: Vec::new(),
            faults: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// The store has accepted a node's events up to `place`.
    pub(crate) fn saved(&mut self, tenure: TenureId, node: &str, place: usize) {
        let before = self.witness.saved_total();
        self.witness.saved(tenure, place);
        let added = self.witness.saved_total() - before;
        if let Some(node) = self.nodes.iter_mut().find(|known| known.name == node) {
            node.saved += added;
        }
    }

    /// Whether all nodes have ended.
    pub(crate) fn nobody_is_left(&self) -> bool {
        let ended = |node: &NodeState| matches!(node.phase, Phase::Left | Phase::Crashed);
        self.nodes.iter().all(ended)
    }

    /// The names of the nodes that are in this phase.
    pub(crate) fn nodes_in(&self, phase: Phase) -> Vec<String> {
        let there = self.nodes.iter().filter(|node| node.phase == phase);
        there.map(|node| node.name.clone()).collect()
    }
}
