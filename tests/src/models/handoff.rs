//! Hand-off of shards: three members, each with its keeper and its planner, and the store between
//! them.
//!
//! Only the first member runs in the beginning, so it gets all shards; the others start whenever
//! they like. Out of the budget: a member crashes, sleeps through its deadlines, or is cut off from
//! the store for any time; the answer to a planner's request or to a heartbeat gets lost; a swap
//! arrives long after its planner gave up waiting; a second planner leads while the first does not
//! know; the store loses its memory. Work that is asked to finish takes any time up to its deadline.
//!
//! What happens within a unit happens in a fixed order: keepers read, dropped work goes, planners are
//! answered; otherwise only by faults, which come at any point.
//!
//! Always: no shard has two owners that trust (ONE-OWNER); each swap that is stored is legal (S2);
//! a keeper runs nothing without trust, and acks nothing that runs (S3). Eventually: all shards are
//! owned and run (ALL-OWNED).
//!
//! Left out: the machine of membership (here a member beats every unit, and trusts as T1 says);
//! the dense layout; grace for static names; fail-overs that lose only the last writes (S12); work
//! that is deaf to being cancelled.

mod digest;
mod node;
mod requests;
mod store;

use std::collections::BTreeSet;

use coordinator_core::machine::planner::{PlannerAction, PlannerEvent};
use coordinator_core::{FencingToken, Keyspace, Slot};

use super::clock::moment;
use super::explore::Model;
use super::outline::Outlined;
use node::{Ask, Node, Process, RELATIVE, Run};
use store::Store;

const MEMBERS: usize = 3;
const SHARDS: u16 = 2;
/// In units.
const TTL: u32 = 4;
/// In units. So long a member trusts itself after a heartbeat (T1).
const WINDOW: u32 = TTL - 1;
/// In units. A third of the TTL, or so.
const BEAT: u32 = 1;
/// In units. So long work may go on that is asked to finish.
const DRAIN: u32 = 2;
/// In units. So long a late request stays in the network, at most.
const LINGER: u32 = TTL;
/// In units. So long no member can reach the store, at most.
const DARK: u8 = 3;

fn keyspace() -> Keyspace {
    Keyspace::from("orders")
}

/// How often what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Processes that crash.
    pub crashes: u8,
    /// Processes that sleep.
    pub sleeps: u8,
    /// Members that are cut off from the store.
    pub cuts: u8,
    /// Answers that get lost: to planners, to heartbeats, to keepers.
    pub losses: u8,
    /// Swaps that arrive long after they were given up.
    pub delays: u8,
    /// Planners that are succeeded and do not know.
    pub coups: u8,
    /// Losses of the store's memory.
    pub forgets: u8,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        crashes: 0,
        sleeps: 0,
        cuts: 0,
        losses: 0,
        delays: 0,
        coups: 0,
        forgets: 0,
    };

    /// The same, with so many of these.
    pub const fn crashes(mut self, crashes: u8) -> Self {
        self.crashes = crashes;
        self
    }

    /// The same, with so many of these.
    pub const fn sleeps(mut self, sleeps: u8) -> Self {
        self.sleeps = sleeps;
        self
    }

    /// The same, with so many of these.
    pub const fn cuts(mut self, cuts: u8) -> Self {
        self.cuts = cuts;
        self
    }

    /// The same, with so many of these.
    pub const fn losses(mut self, losses: u8) -> Self {
        self.losses = losses;
        self
    }

    /// The same, with so many of these.
    pub const fn delays(mut self, delays: u8) -> Self {
        self.delays = delays;
        self
    }

    /// The same, with so many of these.
    pub const fn coups(mut self, coups: u8) -> Self {
        self.coups = coups;
        self
    }

    /// The same, with so many of these.
    pub const fn forgets(mut self, forgets: u8) -> Self {
        self.forgets = forgets;
        self
    }
}

/// A mistake in the store, which the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A swap is stored whatever it was made from (S2).
    UncheckedSwap,
    /// An ack counts for whatever was revoked by then (S3).
    UntiedAck,
    /// A member is due before its own trust ends (T1).
    ShortLife,
    /// Nobody is ever due.
    NeverDue,
}

/// Three members that share a keyspace.
#[derive(Debug, Clone, Copy)]
pub struct Handoff {
    /// What goes wrong.
    pub faults: Faults,
    /// What is planted.
    pub defect: Option<Defect>,
}

/// A swap that nobody waits for any more.
#[derive(Debug, Clone)]
struct Late {
    ask: Ask,
    since: u32,
}

/// All there is at one instant.
#[derive(Debug, Clone)]
pub struct State {
    now: u32,
    store: Outlined<Store>,
    nodes: Vec<Node>,
    late: Vec<Late>,
    faults: Faults,
    /// Who holds the planners' lease, and the newest token of it.
    leader: Option<usize>,
    token: u64,
    /// For how many units no member could reach the store.
    dark: u8,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "what the fields are is plain from their names")]
pub enum Action {
    /// A unit of time passes.
    Time,
    /// A planner's request is handled, and answered.
    Serve { node: usize, ask: usize },
    /// It is handled, and the answer gets lost.
    LoseAnswer { node: usize, ask: usize },
    /// A swap is given up, and is still under way.
    Delay { node: usize, ask: usize },
    /// A late swap arrives.
    Arrive { late: usize },
    /// A keeper reads the document.
    Read { node: usize },
    /// It fails to, and tries again in a unit.
    Misread { node: usize },
    /// Work is gone.
    End { node: usize, run: usize },
    /// A member gets the planners' lease.
    Elect { node: usize },
    /// A planner hears that it leads no more.
    Tell { node: usize },
    /// The planners' lease is free, and its holder does not know.
    Coup,
    /// The answer to the next heartbeat gets lost.
    Deafen { node: usize },
    /// A process ends without a word.
    Crash { node: usize },
    /// It starts.
    Start { node: usize },
    /// A process stops to run.
    Sleep { node: usize },
    /// It runs on.
    Wake { node: usize },
    /// A member cannot reach the store.
    Cut { node: usize },
    /// It can again.
    Heal { node: usize },
    /// The store loses its memory.
    Forget,
}

impl Model for Handoff {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut nodes: Vec<Node> = (0..MEMBERS).map(Node::new).collect();
        nodes[0].start(0);
        let mut state = State {
            now: 0,
            store: Outlined::new(Store::new(self.defect), RELATIVE),
            nodes,
            late: Vec::new(),
            faults: self.faults,
            leader: None,
            token: 0,
            dark: 0,
        };
        let settled = state.settle();
        debug_assert_eq!(settled, Ok(()), "a member can join");
        state
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = state.prompt();
        let quiet = actions.is_empty();
        if quiet {
            let must_return = state.dark >= DARK && state.is_dark();
            if !must_return {
                actions.push(Action::Time);
            }
            state.idle(&mut actions);
        }
        for node in &state.nodes {
            state.fates(node, &mut actions);
        }
        if state.faults.coups > 0 && state.leader.is_some() {
            actions.push(Action::Coup);
        }
        if state.faults.forgets > 0 {
            actions.push(Action::Forget);
        }
        actions
    }

    fn act(&self, state: &mut State, action: &Action) -> Result<(), String> {
        state.happen(*action)?;
        state.settle()?;
        state.check()
    }

    fn digest(&self, state: &State) -> u128 {
        state.digest()
    }

    fn is_good(&self, state: &State) -> bool {
        let Some(document) = &state.store.machine().document else {
            return false;
        };
        document.numbered().all(|(shard, slot)| {
            let runs = |node: &Node| {
                let runs = |process: &Process| match slot {
                    Slot::Owned { token, .. } | Slot::Revoking { token, .. } => {
                        let run = process.runs.get(&(shard, *token));
                        process.is_trusted(state.now)
                            && matches!(run, Some(Run::Running | Run::Draining))
                    }
                    Slot::Free { .. } => false,
                };
                node.awake().is_some_and(runs)
            };
            state.nodes.iter().any(runs)
        })
    }

    fn passes(&self, action: &Action) -> u16 {
        u16::from(*action == Action::Time)
    }
}

impl Node {
    fn may_lead(&self) -> bool {
        let fit =
            |process: &Process| process.life.is_some() && !process.planner.machine().is_leading();
        self.is_connected() && self.awake().is_some_and(fit)
    }
}

impl State {
    /// What happens before time passes. Keepers read first, one after the other, for none of them
    /// minds what the others read; then dropped work goes; then the planners are answered.
    fn prompt(&self) -> Vec<Action> {
        let store = self.store.machine();
        if let Some(it) = self.nodes.iter().find(|node| node.has_news(store)) {
            let node = it.at;
            let mut actions = vec![Action::Read { node }];
            if self.faults.losses > 0 {
                actions.push(Action::Misread { node });
            }
            return actions;
        }
        if let Some(end) = self.ends(Run::Cancelled).next() {
            return vec![end];
        }
        let mut actions = Vec::new();
        for it in &self.nodes {
            self.answers(it, &mut actions);
        }
        if actions.is_empty() && self.leader.is_none() {
            let fit = self.nodes.iter().filter(|node| node.may_lead());
            actions.extend(fit.map(|node| Action::Elect { node: node.at }));
        }
        actions
    }

    fn ends(&self, how: Run) -> impl Iterator<Item = Action> {
        self.nodes.iter().flat_map(move |it| {
            let runs = it
                .awake()
                .into_iter()
                .flat_map(|process| process.runs.values());
            let ends = runs.enumerate().filter(move |(_, run)| **run == how);
            ends.map(|(run, _)| Action::End { node: it.at, run })
        })
    }

    /// How a planner's first request can be answered.
    fn answers(&self, it: &Node, actions: &mut Vec<Action>) {
        let (node, ask) = (it.at, 0);
        let Some(asked) = it.awake().and_then(|process| process.asks.first()) else {
            return;
        };
        actions.push(Action::Serve { node, ask });
        if self.faults.losses > 0 && !it.cut {
            actions.push(Action::LoseAnswer { node, ask });
        }
        if self.faults.delays > 0 && matches!(*asked.action, PlannerAction::Swap(_)) {
            actions.push(Action::Delay { node, ask });
        }
    }

    /// What can happen when nothing must.
    fn idle(&self, actions: &mut Vec<Action>) {
        actions.extend(self.ends(Run::Draining));
        actions.extend((0..self.late.len()).map(|late| Action::Arrive { late }));
        for it in &self.nodes {
            let node = it.at;
            let Some(process) = &it.process else {
                actions.push(Action::Start { node });
                continue;
            };
            let leads = process.planner.machine().is_leading();
            if leads && !process.asleep && self.leader != Some(node) {
                actions.push(Action::Tell { node });
            }
            if self.faults.losses > 0 && !it.deaf && !it.cut && !process.asleep {
                actions.push(Action::Deafen { node });
            }
        }
    }

    /// What can happen to a member at any time.
    fn fates(&self, it: &Node, actions: &mut Vec<Action>) {
        let (node, faults) = (it.at, &self.faults);
        let Some(process) = &it.process else { return };
        if faults.crashes > 0 {
            actions.push(Action::Crash { node });
        }
        if process.asleep {
            return actions.push(Action::Wake { node });
        }
        if faults.sleeps > 0 {
            actions.push(Action::Sleep { node });
        }
        if it.cut {
            actions.push(Action::Heal { node });
        } else if faults.cuts > 0 {
            actions.push(Action::Cut { node });
        }
    }

    fn happen(&mut self, action: Action) -> Result<(), String> {
        let now = self.now;
        match action {
            Action::Time => self.pass(),
            Action::Serve { node, ask } => return self.serve(node, ask, true),
            Action::LoseAnswer { node, ask } => {
                self.faults.losses -= 1;
                return self.serve(node, ask, false);
            }
            Action::Delay { node, ask } => {
                self.faults.delays -= 1;
                self.delay(node, ask);
            }
            Action::Arrive { late } => {
                let ask = self.late.remove(late).ask;
                if let PlannerAction::Swap(swap) = &*ask.action {
                    // Nobody waits for the answer.
                    return self.swap(swap, &ask.snapshot).map(drop);
                }
            }
            Action::Read { node } => return self.nodes[node].read(now, self.store.machine()),
            Action::Misread { node } => {
                self.faults.losses -= 1;
                self.nodes[node].blind = true;
            }
            Action::End { node, run } => return self.nodes[node].end(now, run),
            Action::Elect { node } => {
                self.token += 1;
                self.leader = Some(node);
                let token = FencingToken::new(self.token);
                self.plan(node, PlannerEvent::Leading { token });
            }
            Action::Tell { node } => self.plan(node, PlannerEvent::Lost),
            Action::Coup => {
                self.faults.coups -= 1;
                self.leader = None;
            }
            Action::Deafen { node } => {
                self.faults.losses -= 1;
                self.nodes[node].deaf = true;
            }
            Action::Crash { node } => {
                self.faults.crashes -= 1;
                self.nodes[node].process = None;
                self.leader = self.leader.filter(|leader| *leader != node);
            }
            Action::Start { node } => self.nodes[node].start(now),
            Action::Sleep { node } => {
                self.faults.sleeps -= 1;
                self.set_asleep(node, true);
            }
            Action::Wake { node } => {
                self.set_asleep(node, false);
                if self.leader != Some(node) {
                    self.plan(node, PlannerEvent::Lost);
                }
            }
            Action::Cut { node } => {
                self.faults.cuts -= 1;
                self.nodes[node].cut = true;
            }
            Action::Heal { node } => self.nodes[node].cut = false,
            Action::Forget => {
                self.faults.forgets -= 1;
                self.store.change(|store| store.forget(moment(now)));
            }
        }
        Ok(())
    }

    fn pass(&mut self) {
        self.dark = if self.is_dark() {
            DARK.min(self.dark + 1)
        } else {
            0
        };
        self.now += 1;
        let now = self.now;
        self.late.retain(|late| now < late.since + LINGER);
        if self.store.machine().is_untidy(moment(now)) {
            self.store.change(|store| store.tidy(moment(now)));
        }
        for node in &mut self.nodes {
            node.blind = false;
            node.away = if node.is_connected() {
                0
            } else {
                (node.away + 1).min(TTL)
            };
        }
        // Whoever leads and is not heard of loses the lease, and knows it as soon as it runs.
        if let Some(leader) = self.leader
            && self.nodes[leader].away >= TTL
        {
            self.leader = None;
            if self.nodes[leader].awake().is_some() {
                self.plan(leader, PlannerEvent::Lost);
            }
        }
    }

    fn is_dark(&self) -> bool {
        !self.nodes.iter().any(Node::is_connected)
    }

    fn set_asleep(&mut self, node: usize, asleep: bool) {
        if let Some(process) = &mut self.nodes[node].process {
            process.asleep = asleep;
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        for node in 0..MEMBERS {
            if self.nodes[node].settle(self.now, &mut self.store)? {
                self.leader = self.leader.filter(|leader| *leader != node);
            }
        }
        Ok(())
    }

    fn plan(&mut self, node: usize, event: PlannerEvent) {
        let now = self.now;
        let process = self.nodes[node].process.as_mut();
        if process.is_some_and(|process| process.plan(now, event)) {
            self.leader = self.leader.filter(|leader| *leader != node);
        }
    }

    /// ONE-OWNER, among all that run and are trusted.
    fn check(&self) -> Result<(), String> {
        let mut owned = BTreeSet::new();
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            if !process.is_trusted(self.now) {
                continue;
            }
            let active = process
                .runs
                .iter()
                .filter(|(_, run)| **run != Run::Cancelled);
            for ((shard, _), _) in active {
                if !owned.insert(*shard) {
                    return Err(format!("ONE-OWNER: shard {shard} has two owners"));
                }
            }
        }
        Ok(())
    }
}
