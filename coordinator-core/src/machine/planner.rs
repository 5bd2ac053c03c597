//! The planner: decides who gets which shards of one keyspace, and performs none of it.
//!
//! One runs in each process that serves the keyspace; the one whose process holds the planner's
//! lease acts. Safety rests on the swap, not on there being one (rule S2): every plan passes shards
//! on only upon facts that cannot become false again, and the store checks them once more.
//!
//! [`Planner`] keeps the requests and the timers; `scene` reads the members; `fixed` and `dense`
//! draw up documents.

mod dense;
mod fixed;
mod reign;
mod scene;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::assignment::{Lead, StoredDocument, Swapped};
use crate::document::{BadDocument, Document, Layout, Life, Mismatch};
use crate::errors::ErrorKind;
use crate::member::{Eviction, Snapshot};
use crate::names::Keyspace;
use crate::names::MemoryId;
use crate::numbers::{Epoch, FencingToken};
use crate::routing::Routing;
use crate::strategy::Strategy;
use crate::time::Moment;
use crate::trust::Trust;
use reign::Reign;

/// How a dense keyspace passes from one cut to the next (rule S11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Handoff {
    /// Every part of the old cut is given back before any of the new one is granted.
    #[default]
    Barrier,
    /// The new cut is granted at once: old and new parts overlap until all have heard of it.
    Immediate,
}

/// What a planner is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannerConfig {
    /// The keyspace it plans.
    pub keyspace: Keyspace,
    /// How the keyspace is cut. All its members must agree.
    pub layout: Layout,
    /// By which hash. All its members must agree.
    pub routing: Routing,
    /// How a dense keyspace passes from one cut to the next. Means nothing in the fixed layout.
    pub handoff: Handoff,
    /// Joins within this after a change wait, and become one plan (S6). Default 1 s.
    pub reshard_interval: Duration,
    /// So long the shards of a static name are kept for its return (S5). Default zero: not at all.
    pub grace_period: Duration,
    /// How long a member may drain a shard. One TTL later without an ack it is put out (S4).
    /// Default 10 s.
    pub drain_timeout: Duration,
    /// The TTL of members: the scale of the planner's patience. Default 10 s.
    pub ttl: Duration,
}

impl PlannerConfig {
    /// A planner with default timing, for a keyspace cut like this.
    pub fn new(keyspace: Keyspace, layout: Layout, routing: Routing) -> Self {
        Self {
            keyspace,
            layout,
            routing,
            handoff: Handoff::default(),
            reshard_interval: Duration::from_secs(1),
            grace_period: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            ttl: crate::trust::DEFAULT_TTL,
        }
    }
}

/// What a planner hears. Each request is answered exactly once, under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannerEvent {
    /// This process holds the planner's lease, under this token.
    Leading {
        /// The token.
        token: FencingToken,
    },
    /// It holds it no longer.
    Lost,
    /// A heartbeat of this process, or its join, was answered: the member store can be reached.
    Beat {
        /// What the store remembers (G4).
        memory: MemoryId,
    },
    /// A hint: the members or their reports may have changed.
    Changed,
    /// The answer to [`PlannerAction::Lead`].
    LeadAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: Result<Lead, ErrorKind>,
    },
    /// The answer to [`PlannerAction::Load`].
    LoadAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: Result<Option<StoredDocument>, ErrorKind>,
    },
    /// The answer to [`PlannerAction::ReadSnapshot`].
    SnapshotAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: Result<Arc<Snapshot>, ErrorKind>,
    },
    /// The answer to [`PlannerAction::Swap`].
    SwapAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: Result<Swapped, ErrorKind>,
    },
    /// The answer to [`PlannerAction::Evict`].
    EvictAnswered {
        /// Whom it was about.
        life: Life,
        /// What came back.
        answer: Result<Eviction, ErrorKind>,
    },
    /// A deadline has come.
    Tick,
}

/// What the driver must do, in this order. None of it waits: answers come back as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannerAction {
    /// Shut planners with a lower token out, and read the document.
    Lead {
        /// To be repeated in the answer.
        request: u64,
        /// Our token.
        token: FencingToken,
    },
    /// Read the document.
    Load {
        /// To be repeated in the answer.
        request: u64,
    },
    /// Read all members.
    ReadSnapshot {
        /// To be repeated in the answer.
        request: u64,
    },
    /// Replace the document.
    Swap(PlannedSwap),
    /// Refuse a life its further heartbeats (S4, G7).
    Evict {
        /// Whom.
        life: Life,
        /// Why, for the log.
        cause: EvictCause,
    },
    /// Give the planner's lease back, and do not campaign for so long.
    Resign {
        /// How long.
        cool_down: Duration,
        /// Why.
        cause: ResignCause,
    },
}

/// A plan, ready for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlannedSwap {
    /// To be repeated in the answer.
    pub request: u64,
    /// Our token.
    pub token: FencingToken,
    /// The epoch of the document that it replaces.
    pub expected: Option<Epoch>,
    /// The highest epoch we have seen (K1).
    pub floor: Option<Epoch>,
    /// The lives that it counts as ended.
    pub ended: Vec<Life>,
    /// The new document, encoded.
    pub document: Bytes,
    /// What it changes.
    pub summary: Summary,
}

/// How many shards a plan touches, by what happens to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// So many are granted to a member.
    pub granted: usize,
    /// So many must be drained by theirs.
    pub revoked: usize,
    /// So many become nobody's, for now.
    pub freed: usize,
}

impl Summary {
    /// Whether nothing happens to any shard: such a difference is no plan (S6).
    pub const fn is_empty(&self) -> bool {
        self.granted == 0 && self.revoked == 0 && self.freed == 0
    }
}

/// Why a member is put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvictCause {
    /// It has not given back a revoked shard in time (S4).
    Overran,
    /// The document names it and the store has no record of it (G7).
    Missing,
}

/// Why a planner gives its lease back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResignCause {
    /// A planner with a higher token leads.
    #[error("a planner with the higher token {by} leads")]
    Superseded {
        /// That token: a later lease of ours must outrank it (K1).
        by: FencingToken,
    },
    /// No round came to its end for three TTLs: perhaps another process fares better (S9).
    #[error("no round of planning could be finished for too long")]
    Stuck,
    /// The keyspace is cut otherwise than this process was told (H11).
    #[error(transparent)]
    Mismatch(Mismatch),
    /// The stored document cannot be read, or the new one not be written (S10).
    #[error(transparent)]
    Document(BadDocument),
    /// The store refuses for good.
    #[error("the store rejects what the planner asks for")]
    Rejected,
}

/// How urgent reads are kept apart, however many hints come.
const LEAST_REFRESH: Duration = Duration::from_millis(5);

/// The planner of one keyspace, in one process.
#[derive(Debug, Clone)]
pub struct Planner {
    config: PlannerConfig,
    strategy: Arc<dyn Strategy>,
    requests: u64,
    /// The highest epoch ever seen here.
    floor: Option<Epoch>,
    /// The last document that was known here: the sticky start after a flush (G4).
    remembered: Option<Document>,
    memory: Option<MemoryId>,
    last_beat: Option<Moment>,
    /// Until then nobody is counted as ended (G4).
    mercy_until: Moment,
    reign: Option<Box<Reign>>,
}

impl Planner {
    /// A planner that does not lead.
    pub fn new(config: PlannerConfig, strategy: Arc<dyn Strategy>) -> Self {
        Self {
            config,
            strategy,
            requests: 0,
            floor: None,
            remembered: None,
            memory: None,
            last_beat: None,
            mercy_until: Moment::ZERO,
            reign: None,
        }
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: PlannerEvent) -> Vec<PlannerAction> {
        let mut out = Vec::new();
        match event {
            PlannerEvent::Leading { token } => self.reign = Some(Box::new(Reign::new(token, now))),
            PlannerEvent::Lost => self.reign = None,
            PlannerEvent::Beat { memory } => self.beat(now, memory),
            PlannerEvent::Changed => {
                if let Some(reign) = &mut self.reign {
                    reign.hint();
                }
            }
            PlannerEvent::LeadAnswered { request, answer } => {
                let awaited = |reign: &Reign| reign.awaits_lead(request);
                if self.reign.as_deref().is_some_and(awaited) {
                    self.led(now, answer, &mut out);
                }
            }
            PlannerEvent::LoadAnswered { request, answer } => {
                let awaited = |reign: &Reign| reign.awaits_load(request);
                if self.reign.as_deref().is_some_and(awaited) {
                    self.loaded(now, answer, &mut out);
                }
            }
            PlannerEvent::SnapshotAnswered { request, answer } => {
                if let Some(reign) = &mut self.reign {
                    reign.viewed(now, request, answer);
                }
            }
            PlannerEvent::SwapAnswered { request, answer } => {
                self.swapped(now, request, &answer, &mut out);
            }
            PlannerEvent::EvictAnswered { life, answer } => {
                if let Some(reign) = &mut self.reign {
                    reign.evict_answered(&life, &answer);
                }
            }
            PlannerEvent::Tick => {}
        }
        self.advance(now, &mut out);
        out
    }

    /// When the driver must next deliver [`PlannerEvent::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        let reign = self.reign.as_ref()?;
        Some(reign.deadline().min(self.stuck_at(reign)))
    }

    /// This process could not reach the store for a ttl or more, until then: perhaps before this
    /// planner began. The others could not either, and are spared for one ttl (G4).
    pub fn came_back(&mut self, at: Moment) {
        let spared_until = at + Trust::surely(self.config.ttl);
        self.mercy_until = self.mercy_until.max(spared_until);
    }

    /// Whether this process plans.
    pub fn is_leading(&self) -> bool {
        self.reign.is_some()
    }

    /// The document as this planner knows it: while it leads, the stored one.
    pub fn document(&self) -> Option<&Document> {
        self.remembered.as_ref()
    }

    fn beat(&mut self, now: Moment, memory: MemoryId) {
        let outage = self
            .last_beat
            .is_some_and(|last| now.since(last) >= self.config.ttl);
        let flushed = self.memory.as_ref().is_some_and(|known| *known != memory);
        if outage || flushed {
            // The others could not reach the store either: they return first (G4).
            self.mercy_until = now + Trust::surely(self.config.ttl);
            if let Some(reign) = &mut self.reign {
                reign.reconsider();
            }
        }
        self.last_beat = Some(now);
        self.memory = Some(memory);
    }

    /// Until when nobody may be counted as ended. An outage that still lasts has no end yet.
    fn mercy(&self, now: Moment) -> Option<Moment> {
        let cut_off = self
            .last_beat
            .is_none_or(|last| now.since(last) >= self.config.ttl);
        if cut_off {
            return Some(now + Trust::surely(self.config.ttl));
        }
        (now < self.mercy_until).then_some(self.mercy_until)
    }

    fn led(&mut self, now: Moment, answer: Result<Lead, ErrorKind>, out: &mut Vec<PlannerAction>) {
        match answer {
            Ok(Lead::Led(stored)) => {
                if let Some(reign) = &mut self.reign {
                    reign.led = true;
                }
                self.learn(now, stored, out);
            }
            Ok(Lead::Fenced { by }) => self.resign(ResignCause::Superseded { by }, out),
            Err(error) => self.failed(now, error, out),
        }
    }

    fn loaded(
        &mut self,
        now: Moment,
        answer: Result<Option<StoredDocument>, ErrorKind>,
        out: &mut Vec<PlannerAction>,
    ) {
        match answer {
            Ok(stored) => self.learn(now, stored, out),
            Err(error) => self.failed(now, error, out),
        }
    }

    /// Takes what the store holds for the truth.
    fn learn(&mut self, now: Moment, stored: Option<StoredDocument>, out: &mut Vec<PlannerAction>) {
        let Some(stored) = stored else {
            if let Some(reign) = &mut self.reign {
                reign.know(now, None);
            }
            return;
        };
        self.floor = self.floor.max(Some(stored.epoch));
        let document = match Document::decode(stored.epoch, &stored.document) {
            Ok(document) => document,
            Err(bad) => return self.resign(ResignCause::Document(bad), out),
        };
        if let Err(mismatch) = document.agrees(self.config.layout, self.config.routing) {
            return self.resign(ResignCause::Mismatch(mismatch), out);
        }
        if let Some(reign) = &mut self.reign {
            reign.know(now, Some(document.epoch));
        }
        self.remembered = Some(document);
    }

    fn swapped(
        &mut self,
        now: Moment,
        request: u64,
        answer: &Result<Swapped, ErrorKind>,
        out: &mut Vec<PlannerAction>,
    ) {
        let Some(reign) = &mut self.reign else { return };
        let Some(document) = reign.take_swap(request) else {
            return;
        };
        match answer {
            Ok(Swapped::Stored(epoch)) => {
                reign.stored(now, *epoch);
                self.floor = self.floor.max(Some(*epoch));
                self.remembered = Some(document.stamped(*epoch));
            }
            Ok(Swapped::Conflict { found }) => {
                self.floor = self.floor.max(*found);
                reign.forget(now, self.config.ttl);
            }
            Ok(Swapped::Fenced { by }) => {
                self.resign(ResignCause::Superseded { by: *by }, out);
            }
            // Someone came back in time, or its record is gone: look again.
            Ok(Swapped::NotEnded(_)) => reign.look_again(now, self.config.ttl),
            // It may be stored, or not: what is there decides.
            Err(ErrorKind::Indeterminate) => reign.forget(now, self.config.ttl),
            Err(error) => self.failed(now, *error, out),
        }
    }

    /// A request for the document came to nothing.
    fn failed(&mut self, now: Moment, error: ErrorKind, out: &mut Vec<PlannerAction>) {
        let Some(reign) = &mut self.reign else { return };
        match error {
            ErrorKind::Unavailable | ErrorKind::Indeterminate => {
                reign.back_off(now, self.config.ttl);
            }
            // An answer, and an honest one: the store works, and tells when to come again.
            ErrorKind::Quarantined { ends_within } => {
                reign.wait_out(now, ends_within.min(self.config.ttl));
            }
            ErrorKind::Rejected => self.resign(ResignCause::Rejected, out),
        }
    }

    fn resign(&mut self, cause: ResignCause, out: &mut Vec<PlannerAction>) {
        self.reign = None;
        let cool_down = match &cause {
            ResignCause::Superseded { .. } => self.config.ttl / 3,
            ResignCause::Stuck
            | ResignCause::Mismatch(_)
            | ResignCause::Document(_)
            | ResignCause::Rejected => self.config.ttl * 3,
        };
        out.push(PlannerAction::Resign { cool_down, cause });
    }

    /// S9: when this reign has gone without a finished round for too long.
    fn stuck_at(&self, reign: &Reign) -> Moment {
        let beat = self.last_beat.unwrap_or(Moment::ZERO);
        reign.last_round(beat) + self.config.ttl * 3
    }

    /// Does whatever has become possible: asks for what is not known, plans on what is.
    fn advance(&mut self, now: Moment, out: &mut Vec<PlannerAction>) {
        let stuck = |reign: &Reign| now >= self.stuck_at(reign);
        if self.reign.as_deref().is_some_and(stuck) {
            return self.resign(ResignCause::Stuck, out);
        }
        let Some(mut reign) = self.reign.take() else {
            return;
        };
        reign.ask(now, &mut self.requests, out);
        let plan = if reign.may_plan(now) {
            self.plan(now, &mut reign, out)
        } else {
            Ok(())
        };
        reign.ask(now, &mut self.requests, out);
        self.reign = Some(reign);
        if let Err(bad) = plan {
            self.resign(ResignCause::Document(bad), out);
        }
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
