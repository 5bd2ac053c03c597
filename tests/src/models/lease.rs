//! Election by lease: members that campaign for one lease, and a store that may forget.
//!
//! What can go wrong, each as often as the budget says: a process crashes (and starts again, or
//! not), or sleeps through its deadlines; a request or an answer is lost, or is under way for any
//! time up to a TTL and a half; the store loses its memory; a leader resigns.
//!
//! Always: no two members trust in a lease at once (ONE-LEADER); whoever trusts is the one to whom
//! the store would refuse nobody else (T1); each term's token is higher than all before
//! (TOKENS-RISE); nothing is released while work may run (W1). Eventually: somebody leads.
//!
//! Left out: clocks of different rates (arithmetic, see `trust`), hints (the machine must do without
//! them), hand-over to a named successor, and work that does not stop when it is cancelled.

mod node;
mod store;

use std::fmt::Debug;

use coordinator_core::machine::lease::Event;
use coordinator_core::{FencingToken, Moment};
use xxhash_rust::xxh3::xxh3_128;

use super::clock::{UNIT, moment, span};
use super::explore::Model;
use super::outline::{Look, Outline, Scale};
use node::{Call, Elected, Node, Place, Process, RELATIVE};
use store::{NEVER, Store};

/// In units.
const TTL: u32 = 6;
/// In units. By so much trust ends before the lease.
const MARGIN: u32 = 1;
/// In units. So long anything stays in the network, at most.
const LINGER: u32 = TTL + TTL / 2;
/// In units. So long the work of a leader that resigns may take.
const DRAIN: u32 = 2;

/// How often what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Processes that crash.
    pub crashes: u8,
    /// Processes that sleep.
    pub sleeps: u8,
    /// Requests or answers that get lost.
    pub losses: u8,
    /// Requests or answers that take any time.
    pub delays: u8,
    /// Losses of the store's memory.
    pub forgets: u8,
    /// Leaders that resign.
    pub resigns: u8,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        crashes: 0,
        sleeps: 0,
        losses: 0,
        delays: 0,
        forgets: 0,
        resigns: 0,
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
    pub const fn forgets(mut self, forgets: u8) -> Self {
        self.forgets = forgets;
        self
    }

    /// The same, with so many of these.
    pub const fn resigns(mut self, resigns: u8) -> Self {
        self.resigns = resigns;
        self
    }
}

/// A mistake in what surrounds the machines, which the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The store counts a lease shorter than its holder does.
    ShortLease,
    /// The holder counts trust from the answer, not from the request (T1).
    TrustFromReply,
    /// A store that lost its memory grants at once (I2).
    NoQuarantine,
    /// Tokens start anew when the store has lost its memory (K1).
    TokensFromMemory,
    /// A lease ends only when it is released.
    NeverExpires,
}

/// Members that campaign for one lease.
#[derive(Debug, Clone, Copy)]
pub struct Election {
    /// How many.
    pub members: usize,
    /// What goes wrong.
    pub faults: Faults,
    /// What is planted.
    pub defect: Option<Defect>,
    /// Whether trust is held against the store's own view as well (T1).
    pub backed: bool,
}

/// All there is at one instant.
#[derive(Debug, Clone)]
pub struct State {
    now: u32,
    store: Store,
    nodes: Vec<Node>,
    faults: Faults,
    /// The highest token of any term so far.
    elected: FencingToken,
}

/// What can happen. `node` is whose, `call` which of its requests.
#[allow(missing_docs, reason = "the fields are explained once, above")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A unit of time passes.
    Time,
    /// A request is handled; the answer comes at once.
    Serve { node: usize, call: usize },
    /// A request is handled; the answer gets lost.
    LoseAnswer { node: usize, call: usize },
    /// A request is handled; the answer takes its time.
    DelayAnswer { node: usize, call: usize },
    /// A request gets lost.
    Lose { node: usize, call: usize },
    /// A request takes its time.
    Delay { node: usize, call: usize },
    /// A delayed answer comes.
    Answer { node: usize, call: usize },
    /// A process ends without a word.
    Crash { node: usize },
    /// It starts again.
    Start { node: usize },
    /// A process stops to run.
    Sleep { node: usize },
    /// It runs on.
    Wake { node: usize },
    /// The store loses its memory.
    Forget,
    /// A leader is asked to finish.
    Resign { node: usize },
    /// Its work has stopped.
    StopWork { node: usize },
}

impl Model for Election {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut nodes = vec![Node::new(); self.members];
        for node in &mut nodes {
            node.start(0);
            // A new campaign asks at its first tick, which breaks nothing.
            let settled = node.settle(0, self.defect, &mut Elected::new());
            debug_assert_eq!(settled, Ok(()), "a campaign can begin");
        }
        State {
            now: 0,
            store: Store::default(),
            nodes,
            faults: self.faults,
            elected: FencingToken::default(),
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        if !state.nodes.iter().any(Node::is_busy) {
            actions.push(Action::Time);
        }
        for (node, it) in state.nodes.iter().enumerate() {
            state.calls(node, it, &mut actions);
            state.fates(node, it, &mut actions);
        }
        if state.faults.forgets > 0 {
            actions.push(Action::Forget);
        }
        actions
    }

    fn act(&self, state: &mut State, action: &Action) -> Result<(), String> {
        let mut elected = Elected::new();
        self.happen(state, *action, &mut elected)?;
        for node in &mut state.nodes {
            node.settle(state.now, self.defect, &mut elected)?;
        }
        state.check(&elected, self.backed)
    }

    fn digest(&self, state: &State) -> u128 {
        state.digest()
    }

    fn is_good(&self, state: &State) -> bool {
        let mut awake = state.nodes.iter().filter_map(Node::awake);
        awake.any(|process| process.is_trusted(moment(state.now)))
    }

    fn passes(&self, action: &Action) -> u16 {
        u16::from(*action == Action::Time)
    }
}

impl Election {
    /// The same, with trust held against the store's own view.
    pub const fn backed(mut self) -> Self {
        self.backed = true;
        self
    }

    fn happen(
        &self,
        state: &mut State,
        action: Action,
        elected: &mut Elected,
    ) -> Result<(), String> {
        let (now, defect) = (state.now, self.defect);
        match action {
            Action::Time => state.now += 1,
            Action::Serve { node, call } => {
                let event = self.serve(state, node, call);
                return state.nodes[node].answer(now, call, event, defect, elected);
            }
            Action::LoseAnswer { node, call } => {
                let _ = self.serve(state, node, call);
                state.faults.losses -= 1;
                state.nodes[node].calls[call].place = Place::Lost;
            }
            Action::DelayAnswer { node, call } => {
                let event = self.serve(state, node, call);
                state.faults.delays -= 1;
                state.nodes[node].calls[call].place = Place::Back(event);
            }
            Action::Lose { node, call } => {
                state.faults.losses -= 1;
                state.nodes[node].calls[call].place = Place::Lost;
            }
            Action::Delay { node, call } => {
                state.faults.delays -= 1;
                state.nodes[node].calls[call].place = Place::Slow;
            }
            Action::Answer { node, call } => {
                if let Place::Back(event) = state.nodes[node].calls[call].place.clone() {
                    return state.nodes[node].answer(now, call, event, defect, elected);
                }
            }
            Action::Crash { node } => {
                state.faults.crashes -= 1;
                state.nodes[node].crash();
            }
            Action::Start { node } => state.nodes[node].start(now),
            Action::Sleep { node } => {
                state.faults.sleeps -= 1;
                state.set_asleep(node, true);
            }
            Action::Wake { node } => state.set_asleep(node, false),
            Action::Forget => {
                state.faults.forgets -= 1;
                state.store.forget(now, defect);
            }
            Action::Resign { node } => {
                state.faults.resigns -= 1;
                if let Some(process) = &mut state.nodes[node].process {
                    process.drains = true;
                }
                let (within, next) = (span(DRAIN), None);
                let event = Event::Drain { within, next };
                return state.nodes[node].tell(now, event, defect, elected);
            }
            Action::StopWork { node } => return state.stop_work(node, defect, elected),
        }
        Ok(())
    }

    fn serve(&self, state: &mut State, node: usize, call: usize) -> Event {
        let Call {
            attempt,
            request,
            ask,
            ..
        } = state.nodes[node].calls[call];
        state
            .store
            .serve(state.now, (node, attempt), ask, request, self.defect)
    }
}

impl State {
    /// What can happen to requests under way.
    fn calls(&self, node: usize, it: &Node, actions: &mut Vec<Action>) {
        for (call, sent) in it.calls.iter().enumerate() {
            match sent.place {
                Place::Prompt => {
                    actions.push(Action::Serve { node, call });
                    if self.faults.losses > 0 {
                        actions.push(Action::Lose { node, call });
                        actions.push(Action::LoseAnswer { node, call });
                    }
                    if self.faults.delays > 0 {
                        actions.push(Action::Delay { node, call });
                        actions.push(Action::DelayAnswer { node, call });
                    }
                }
                Place::Slow => actions.push(Action::Serve { node, call }),
                Place::Back(_) if it.awake().is_some() => {
                    actions.push(Action::Answer { node, call });
                }
                Place::Back(_) | Place::Lost => {}
            }
        }
    }

    /// What can happen to a process.
    fn fates(&self, node: usize, it: &Node, actions: &mut Vec<Action>) {
        let Some(process) = &it.process else {
            return actions.push(Action::Start { node });
        };
        if self.faults.crashes > 0 {
            actions.push(Action::Crash { node });
        }
        if process.asleep {
            return actions.push(Action::Wake { node });
        }
        if self.faults.sleeps > 0 {
            actions.push(Action::Sleep { node });
        }
        if process.term.is_some() && !process.drains && self.faults.resigns > 0 {
            actions.push(Action::Resign { node });
        }
        if process.works && (process.drains || process.term.is_none()) {
            actions.push(Action::StopWork { node });
        }
    }

    fn set_asleep(&mut self, node: usize, asleep: bool) {
        if let Some(process) = &mut self.nodes[node].process {
            process.asleep = asleep;
        }
    }

    fn stop_work(
        &mut self,
        node: usize,
        defect: Option<Defect>,
        elected: &mut Elected,
    ) -> Result<(), String> {
        if let Some(process) = &mut self.nodes[node].process {
            process.works = false;
        }
        self.nodes[node].tell(self.now, Event::WorkStopped, defect, elected)
    }

    fn check(&mut self, elected: &[FencingToken], backed: bool) -> Result<(), String> {
        for token in elected {
            if *token <= self.elected {
                return Err("TOKENS-RISE: a term's token is no higher than one before".to_owned());
            }
            self.elected = *token;
        }
        let now = moment(self.now);
        let mut leaders = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let trusts = |process: &&Process| process.is_trusted(now);
            leaders.extend(node.process.as_ref().filter(trusts).map(|it| (at, it)));
        }
        if leaders.len() > 1 {
            return Err("ONE-LEADER: two members trust at once".to_owned());
        }
        match leaders.first() {
            Some((at, process)) if backed => self.backs(*at, process.term),
            Some(_) | None => Ok(()),
        }
    }

    /// T1: whoever trusts, the store refuses all others for at least as long.
    fn backs(&self, at: usize, term: Option<(FencingToken, Moment)>) -> Result<(), String> {
        let Some((token, until)) = term else {
            return Ok(());
        };
        let held = self.store.held(self.now);
        let refuses_until = match held {
            Some(held) if (held.attempt.0, held.token) == (at, token) => {
                held.ends.max(self.store.silent_until)
            }
            Some(_) => 0,
            None => self.store.silent_until,
        };
        if self.store.silent_until <= self.now && until > moment(refuses_until) {
            return Err("T1: trust outlasts the lease".to_owned());
        }
        Ok(())
    }

    /// Members are alike: so the state is what each of them is, in any order, and the rest.
    fn digest(&self) -> u128 {
        let mut out = Vec::with_capacity(1024);
        let mut nodes: Vec<u128> = Vec::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            out.clear();
            self.outline(at, node, &mut out);
            nodes.push(xxh3_128(&out));
        }
        nodes.sort_unstable();
        out.clear();
        out.extend(nodes.iter().flat_map(|digest| digest.to_le_bytes()));
        let Faults {
            crashes,
            sleeps,
            losses,
            delays,
            forgets,
            resigns,
        } = self.faults;
        out.extend([crashes, sleeps, losses, delays, forgets, resigns]);
        let silent = self.store.silent_until.saturating_sub(self.now);
        out.extend(silent.to_le_bytes());
        let last = self.store.last.get().wrapping_sub(self.elected.get());
        out.extend(last.to_le_bytes());
        xxh3_128(&out)
    }

    fn outline(&self, at: usize, node: &Node, out: &mut Vec<u8>) {
        let mine = |(node, attempt): (usize, u32)| (node == at).then_some(attempt);
        let back = |attempt: u32| node.attempt - attempt;
        let held = self.store.held(self.now);
        let held = held.and_then(|held| {
            let attempt = back(mine(held.attempt)?);
            let ends = Some(held.ends).filter(|ends| *ends != NEVER);
            Some((attempt, held.token, ends.map(|ends| ends - self.now)))
        });
        let released = self.store.released.and_then(mine).map(back);
        let newest = node.process.as_ref().map_or(0, |process| process.asked);
        let asked = Scale::Behind(newest);
        let last = self.store.last.get();
        let look = Look {
            now: moment(self.now),
            grain: UNIT,
            past: u128::from(2 * TTL),
            scales: &[Scale::Behind(last), asked, asked, asked],
        };
        let mut write = |value: &dyn Debug| Outline::of(&value, RELATIVE).write(look, out);
        write(&(held, released));
        for call in &node.calls {
            // Nobody can tell apart the requests of attempts that are over.
            let current = call.attempt == node.attempt && node.process.is_some();
            let request = current.then(|| newest - call.request);
            let age = self.now - call.since;
            let told = (back(call.attempt), request, age, call.deadline);
            write(&(told, call.ask, &call.place));
        }
        if let Some(process) = &node.process {
            let Process {
                campaign,
                asked: _,
                term,
                works,
                drains,
                asleep,
            } = process;
            write(&(term, works, drains, asleep));
            campaign.outline().write(look, out);
        }
    }
}
