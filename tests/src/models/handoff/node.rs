//! A member: its keeper and its planner, the work it runs, and its membership.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use coordinator_core::machine::keeper::{Keeper, KeeperAction, KeeperEvent, Terms};
use coordinator_core::machine::planner::{Planner, PlannerAction, PlannerConfig, PlannerEvent};
use coordinator_core::{
    Document, Epoch, Incarnation, Layout, Life, LostCause, MemberId, MemoryId, Moment, Routing,
    ShardId, Snapshot, Sticky,
};

use super::store::Store;
use super::{BEAT, DRAIN, SHARDS, TTL, WINDOW, keyspace};
use crate::models::clock::{moment, span};
use crate::models::outline::{Fork, Outline, Outlined};

/// What stands before numbers that are only compared with each other, then before those of requests.
pub(super) const RELATIVE: &[&str] = &[
    "Epoch(",
    "Incarnation(",
    "FencingToken(",
    "requests: ",
    "request: ",
    "asked: Some((",
    "viewing: Some((",
];

impl Fork for Keeper {
    fn fork(&self) -> Self {
        self.clone()
    }
}

impl Fork for Planner {
    fn fork(&self) -> Self {
        self.clone()
    }
}

/// One shard's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Running,
    /// It finishes when it likes.
    Draining,
    /// It is dropped: it does nothing more, and is gone before time passes.
    Cancelled,
}

/// What a planner asks of the store.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) action: Rc<PlannerAction>,
    pub(super) outline: Rc<Outline>,
    /// What the planner had been told of the members by then.
    pub(super) snapshot: Arc<Snapshot>,
}

impl Ask {
    fn new(action: PlannerAction, snapshot: Arc<Snapshot>) -> Self {
        let outline = if let PlannerAction::Swap(swap) = &action {
            // Its bytes hold numbers that are told apart only when they are read.
            let document = Document::decode(Epoch::default(), &swap.document);
            let terms = (swap.token, swap.expected, swap.floor, &swap.ended);
            Outline::of(&(terms, document.ok()), RELATIVE)
        } else {
            Outline::of(&action, RELATIVE)
        };
        Self {
            action: Rc::new(action),
            outline: Rc::new(outline),
            snapshot,
        }
    }
}

/// What a keeper has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing yet.
    Never,
    /// The document of this epoch; or that there was none.
    Seen(Option<Epoch>),
}

/// A process that runs.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) keeper: Outlined<Keeper>,
    pub(super) planner: Outlined<Planner>,
    /// The present life, and when trust in it ends.
    pub(super) life: Option<(Incarnation, u32)>,
    pub(super) beat_at: u32,
    /// What was read last under this life.
    pub(super) read: Read,
    pub(super) runs: BTreeMap<(ShardId, Epoch), Run>,
    pub(super) asleep: bool,
    /// What the planner has asked, and was not answered yet.
    pub(super) asks: Vec<Ask>,
    pub(super) requests: u64,
    /// What the planner was last told of the members.
    snapshot: Arc<Snapshot>,
    /// Which of its reads of the members is the newest.
    reading: u64,
}

/// A member, whether its process runs or not.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) process: Option<Process>,
    /// Cut off from the store.
    pub(super) cut: bool,
    /// The answer to the next heartbeat gets lost.
    pub(super) deaf: bool,
    /// It cannot read the document before time passes.
    pub(super) blind: bool,
    /// For how long the store has not heard of it.
    pub(super) away: u32,
}

pub(super) fn name(at: usize) -> MemberId {
    MemberId::new(format!("m{at}"))
}

fn memory() -> MemoryId {
    MemoryId::from("memory")
}

impl Process {
    fn new(at: usize, now: u32) -> Self {
        let layout = Layout::Fixed { shards: SHARDS };
        let mut config = PlannerConfig::new(keyspace(), layout, Routing::default());
        config.ttl = span(TTL);
        config.drain_timeout = span(DRAIN);
        let mut keeper = Keeper::new(name(at));
        let serve = KeeperEvent::Serve(Terms::new(span(DRAIN)));
        let actions = keeper.step(moment(now), serve);
        debug_assert_eq!(actions, [], "it is no member yet");
        Self {
            keeper: Outlined::new(keeper, RELATIVE),
            planner: Outlined::new(Planner::new(config, Arc::new(Sticky::new())), RELATIVE),
            life: None,
            beat_at: now,
            read: Read::Never,
            runs: BTreeMap::new(),
            asleep: false,
            asks: Vec::new(),
            requests: 0,
            snapshot: Arc::default(),
            reading: 0,
        }
    }

    /// Whether what it runs is trusted.
    pub(super) fn is_trusted(&self, now: u32) -> bool {
        self.life.is_some_and(|(_, until)| now < until)
    }

    fn keep(&mut self, now: u32, event: KeeperEvent) -> Result<(), String> {
        let step = |keeper: &mut Keeper| keeper.step(moment(now), event);
        let actions = self.keeper.change(step);
        for action in actions {
            match action {
                KeeperAction::Start { shard, token, .. } => {
                    self.runs.insert((shard, token), Run::Running);
                }
                KeeperAction::Drain { shard, token, .. } => {
                    self.runs.insert((shard, token), Run::Draining);
                }
                KeeperAction::Cancel { shard, token, .. } => {
                    self.runs.insert((shard, token), Run::Cancelled);
                }
                KeeperAction::Report(_) => self.beat_at = now,
                KeeperAction::Read => self.read = Read::Never,
                KeeperAction::Verified(_) | KeeperAction::LeaveAndRejoin => {}
            }
        }
        Ok(self.keeper.machine().check(moment(now))?)
    }

    /// Feeds the planner. Whether it gives its lease back.
    pub(super) fn plan(&mut self, now: u32, event: PlannerEvent) -> bool {
        if let PlannerEvent::SnapshotAnswered {
            request,
            answer: Ok(snapshot),
        } = &event
            && *request == self.reading
        {
            self.snapshot = snapshot.clone();
        }
        let step = |planner: &mut Planner| planner.step(moment(now), event);
        let mut resigns = false;
        for action in self.planner.change(step) {
            match &action {
                PlannerAction::Resign { .. } => {
                    resigns = true;
                    continue;
                }
                PlannerAction::Lead { request, .. } | PlannerAction::Load { request } => {
                    self.requests = *request;
                }
                PlannerAction::ReadSnapshot { request } => {
                    (self.requests, self.reading) = (*request, *request);
                }
                PlannerAction::Swap(swap) => self.requests = swap.request,
                PlannerAction::Evict { .. } => {}
            }
            self.asks.push(Ask::new(action, self.snapshot.clone()));
        }
        resigns
    }
}

impl Node {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            process: None,
            cut: false,
            deaf: false,
            blind: false,
            away: 0,
        }
    }

    pub(super) fn start(&mut self, now: u32) {
        self.process = Some(Process::new(self.at, now));
    }

    pub(super) fn awake(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| !process.asleep)
    }

    /// Whether it can reach the store.
    pub(super) fn is_connected(&self) -> bool {
        self.awake().is_some() && !self.cut
    }

    pub(super) fn life(&self) -> Option<Life> {
        let (incarnation, _) = self.process.as_ref()?.life?;
        Some((name(self.at), incarnation))
    }

    /// Whether there is a document that it has not read.
    pub(super) fn has_news(&self, store: &Store) -> bool {
        let stored = store.bytes.as_ref().map(|stored| stored.epoch);
        let is_news =
            |process: &Process| process.life.is_some() && process.read != Read::Seen(stored);
        self.is_connected() && !self.blind && self.awake().is_some_and(is_news)
    }

    /// Reads the document.
    pub(super) fn read(&mut self, now: u32, store: &Store) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let document = store.document.clone().map(Box::new);
        process.read = Read::Seen(document.as_ref().map(|document| document.epoch));
        let under = memory();
        process.keep(now, KeeperEvent::Read { document, under })
    }

    /// A shard's work is gone.
    pub(super) fn end(&mut self, now: u32, run: usize) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some((&(shard, token), _)) = process.runs.iter().nth(run) else {
            return Ok(());
        };
        process.runs.remove(&(shard, token));
        process.keep(now, KeeperEvent::Ended { shard, token })
    }

    /// Whatever the clock makes due. Whether the planner gives its lease back.
    pub(super) fn settle(&mut self, now: u32, store: &mut Outlined<Store>) -> Result<bool, String> {
        let connected = self.is_connected();
        let Some(process) = self.process.as_mut().filter(|process| !process.asleep) else {
            return Ok(false);
        };
        let is_due = |deadline: Option<Moment>| deadline.is_some_and(|at| at <= moment(now));
        if is_due(process.keeper.machine().deadline()) {
            process.keep(now, KeeperEvent::Tick)?;
        }
        if process.life.is_some() && !process.is_trusted(now) {
            process.life = None;
            process.keep(now, KeeperEvent::MembershipLost(LostCause::Expired))?;
        }
        let mut resigns = false;
        if is_due(process.planner.machine().deadline()) {
            resigns |= process.plan(now, PlannerEvent::Tick);
        }
        if connected && now >= process.beat_at {
            resigns |= self.beat(now, store)?;
        }
        Ok(resigns)
    }

    fn beat(&mut self, now: u32, store: &mut Outlined<Store>) -> Result<bool, String> {
        let (life, lost) = (self.life(), std::mem::take(&mut self.deaf));
        let Some(process) = &mut self.process else {
            return Ok(false);
        };
        process.beat_at = now + BEAT;
        let until = now + WINDOW;
        let Some(life) = life else {
            let joined = store.change(|it| it.join(moment(now), &name(self.at)));
            let Some(incarnation) = joined.filter(|_| !lost) else {
                process.beat_at = now + 1;
                return Ok(false);
            };
            process.life = Some((incarnation, until));
            process.read = Read::Never;
            let until = moment(until);
            process.keep(now, KeeperEvent::Joined { incarnation, until })?;
            let memory = memory();
            return Ok(process.plan(now, PlannerEvent::Beat { memory }));
        };
        let report = process.keeper.machine().current_report().clone();
        let beat = |store: &mut Store| store.heartbeat(moment(now), &life, &report);
        let alive = store.change(beat);
        if lost {
            return Ok(false);
        }
        if !alive {
            process.life = None;
            process.keep(now, KeeperEvent::MembershipLost(LostCause::Expired))?;
            process.beat_at = now + 1;
            return Ok(false);
        }
        process.life = Some((life.1, until));
        process.keep(now, KeeperEvent::Trusted(moment(until)))?;
        let memory = memory();
        Ok(process.plan(now, PlannerEvent::Beat { memory }))
    }
}
