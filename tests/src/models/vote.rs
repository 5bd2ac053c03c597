//! Election by vote: three voters and the messages between them.
//!
//! Messages arrive within the unit in which they were sent: in rounds, where all that was sent in one
//! is heard before what is said about it, and each member hears its own in any order; unless one is lost, doubled, or late, which comes out of the budget of
//! faults. So do links that are cut, crashes, sleep through deadlines, clocks that jump ahead, and resignations. Members
//! draw lots that differ, and as often as the budget says, one that does not.
//!
//! Always: no two members trust at once (ONE-LEADER), and each leader's term is higher than those of
//! all before (TOKENS-RISE). Eventually: somebody leads.
//!
//! Left out: clocks of different rates (arithmetic, see `trust`), wall clocks that disagree, and a
//! message that comes in the very instant of a deadline but before it: deadlines come first.

mod digest;
mod node;

use coordinator_core::machine::vote::{Event, Message};

use super::explore::Model;
use node::{Letter, Node, Sent, name};

const MEMBERS: usize = 3;
/// `E`, in units.
const WINDOW: u32 = 4;
/// In units. By so much trust ends before promises do.
const MARGIN: u32 = 1;
/// In units. So long after a confirmation the next one is asked for.
const RENEW: u32 = 2;
/// In units. So long anything stays in the network, at most.
const LINGER: u32 = WINDOW + 2;
/// In units. So long no quorum can talk, at most.
const DARK: u8 = 3;
/// In units. By so much a clock jumps.
const JUMP: u32 = WINDOW;

/// How often what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Processes that crash.
    pub crashes: u8,
    /// Processes that sleep.
    pub sleeps: u8,
    /// Messages that get lost.
    pub losses: u8,
    /// Messages that take any time.
    pub delays: u8,
    /// Messages that come once more, at any time.
    pub copies: u8,
    /// Clocks that jump ahead.
    pub jumps: u8,
    /// Leaders that resign.
    pub resigns: u8,
    /// Links, each between two members, that are cut for any time.
    pub cuts: u8,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        crashes: 0,
        sleeps: 0,
        losses: 0,
        delays: 0,
        copies: 0,
        jumps: 0,
        resigns: 0,
        cuts: 0,
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
    pub const fn copies(mut self, copies: u8) -> Self {
        self.copies = copies;
        self
    }

    /// The same, with so many of these.
    pub const fn jumps(mut self, jumps: u8) -> Self {
        self.jumps = jumps;
        self
    }

    /// The same, with so many of these.
    pub const fn resigns(mut self, resigns: u8) -> Self {
        self.resigns = resigns;
        self
    }

    /// The same, with so many of these.
    pub const fn cuts(mut self, cuts: u8) -> Self {
        self.cuts = cuts;
        self
    }
}

/// A mistake in what surrounds the machines, which the model must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Who starts again takes part at once (V4).
    NoAbstention,
    /// One voter's promises last half as long as the leader counts on (V9).
    ShortPromise,
    /// Promises are judged by a clock that may jump ahead (V1).
    PromiseByJumpyClock,
    /// Terms count from one, not from the wall clock (V5).
    TermsFromOne,
    /// Who has crashed never comes back: two such are too many.
    NoReturn,
}

/// Three voters.
#[derive(Debug, Clone, Copy)]
pub struct Election {
    /// What goes wrong.
    pub faults: Faults,
    /// What is planted.
    pub defect: Option<Defect>,
}

/// All there is at one instant.
#[derive(Debug, Clone)]
pub struct State {
    now: u32,
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    faults: Faults,
    /// The highest term that was trusted so far, and by whose which start.
    led: (u64, usize, u32),
    /// For how many units no quorum could talk.
    dark: u8,
    /// The link that is cut: which of the three members it leaves out.
    cut: Option<usize>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "what the fields are is plain from their names")]
pub enum Action {
    /// A unit of time passes.
    Time,
    /// A message arrives.
    Deliver { letter: usize },
    /// A message gets lost.
    Lose { letter: usize },
    /// A message takes its time.
    Delay { letter: usize },
    /// A message arrives, and will once more.
    Copy { letter: usize },
    /// A process ends without a word.
    Crash { node: usize },
    /// It starts again.
    Start { node: usize },
    /// A process stops to run.
    Sleep { node: usize },
    /// It runs on.
    Wake { node: usize },
    /// A clock jumps ahead.
    Jump { node: usize },
    /// A leader, whose work has stopped, resigns.
    Resign { node: usize, next: Option<usize> },
    /// The two others hear each other no more.
    Cut { all_but: usize },
    /// They do again.
    Heal,
}

impl Model for Election {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut nodes: Vec<Node> = (0..MEMBERS).map(Node::new).collect();
        for node in &mut nodes {
            // The first start of all has nothing to forget.
            let defect = self.defect.filter(|it| *it != Defect::NoAbstention);
            node.start(0, defect);
        }
        State {
            now: 0,
            nodes,
            letters: Vec::new(),
            faults: self.faults,
            led: (0, 0, 0),
            dark: 0,
            cut: None,
        }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        let returns = self.defect != Some(Defect::NoReturn);
        let must_return = returns && state.dark >= DARK && state.is_dark();
        if state.turn().is_none() && !must_return {
            actions.push(Action::Time);
        }
        state.deliveries(&mut actions);
        for node in &state.nodes {
            self.fates(state, node, &mut actions);
        }
        match state.cut {
            Some(_) => actions.push(Action::Heal),
            None if state.faults.cuts > 0 => {
                actions.extend((0..MEMBERS).map(|all_but| Action::Cut { all_but }));
            }
            None => {}
        }
        actions
    }

    fn act(&self, state: &mut State, action: &Action) -> Result<(), String> {
        let mut sent = Sent::new();
        // What is said in a round is heard in the next one.
        let round = state.turn().map_or(0, |(round, _)| round + 1);
        self.happen(state, action, &mut sent)?;
        if *action == Action::Time {
            state.letters.retain(|it| state.now < it.since + LINGER);
            for node in &mut state.nodes {
                node.settle(state.now, self.defect, &mut sent)?;
            }
        } else {
            for node in &mut state.nodes {
                node.confirm(state.now, self.defect, &mut sent)?;
            }
        }
        state.post(sent, round);
        state.check()
    }

    fn digest(&self, state: &State) -> u128 {
        state.digest(self.defect)
    }

    fn is_good(&self, state: &State) -> bool {
        let mut awake = state.nodes.iter().filter_map(Node::awake);
        awake.any(|process| process.trusts(state.now).is_some())
    }

    fn passes(&self, action: &Action) -> u16 {
        u16::from(*action == Action::Time)
    }

    fn tell(&self, state: &State, action: &Action) -> String {
        let letter = |it: usize| state.letters[it].to_string();
        match *action {
            Action::Deliver { letter: it } => letter(it),
            Action::Lose { letter: it } => format!("lost: {}", letter(it)),
            Action::Delay { letter: it } => format!("late: {}", letter(it)),
            Action::Copy { letter: it } => format!("once, and later again: {}", letter(it)),
            Action::Time
            | Action::Crash { .. }
            | Action::Start { .. }
            | Action::Sleep { .. }
            | Action::Wake { .. }
            | Action::Jump { .. }
            | Action::Resign { .. }
            | Action::Cut { .. }
            | Action::Heal => format!("{action:?}"),
        }
    }
}

impl Election {
    fn fates(&self, state: &State, it: &Node, actions: &mut Vec<Action>) {
        let (node, faults) = (it.at, &state.faults);
        let Some(process) = &it.process else {
            if self.defect != Some(Defect::NoReturn) {
                actions.push(Action::Start { node });
            }
            return;
        };
        if faults.crashes > 0 {
            actions.push(Action::Crash { node });
        }
        if process.asleep {
            return actions.push(Action::Wake { node });
        }
        if faults.sleeps > 0 {
            actions.push(Action::Sleep { node });
        }
        if faults.jumps > 0 {
            actions.push(Action::Jump { node });
        }
        if faults.resigns > 0 && process.trusts(state.now).is_some() {
            let heirs = (0..MEMBERS).filter(|heir| *heir != node).map(Some);
            let resign = |next| Action::Resign { node, next };
            actions.extend(heirs.chain([None]).map(resign));
        }
    }

    fn happen(&self, state: &mut State, action: &Action, sent: &mut Sent) -> Result<(), String> {
        let (now, defect) = (state.now, self.defect);
        match *action {
            Action::Time => {
                state.now += 1;
                state.dark = if state.is_dark() {
                    DARK.min(state.dark + 1)
                } else {
                    0
                };
            }
            Action::Deliver { letter } => {
                let letter = state.letters.remove(letter);
                return state.deliver(&letter, defect, sent);
            }
            Action::Copy { letter } => {
                state.faults.copies -= 1;
                let letter = &mut state.letters[letter];
                let first = letter.clone();
                letter.slow = true;
                return state.deliver(&first, defect, sent);
            }
            Action::Lose { letter } => {
                state.faults.losses -= 1;
                state.letters.remove(letter);
            }
            Action::Delay { letter } => {
                state.faults.delays -= 1;
                state.letters[letter].slow = true;
            }
            Action::Crash { node } => {
                state.faults.crashes -= 1;
                state.nodes[node].process = None;
                let lost = |it: &Letter| it.to == node && (!it.slow || it.addressee.is_some());
                state.letters.retain(|it| !lost(it));
            }
            Action::Start { node } => state.nodes[node].start(now, defect),
            Action::Sleep { node } => {
                state.faults.sleeps -= 1;
                state.set_asleep(node, true);
            }
            Action::Wake { node } => {
                state.set_asleep(node, false);
                state.hear_all(node);
                return state.nodes[node].settle(now, defect, sent);
            }
            Action::Jump { node } => {
                state.faults.jumps -= 1;
                if let Some(process) = &mut state.nodes[node].process {
                    process.ahead += JUMP;
                }
                return state.nodes[node].settle(now, defect, sent);
            }
            Action::Resign { node, next } => {
                state.faults.resigns -= 1;
                return state.resign(node, next, defect, sent);
            }
            Action::Cut { all_but } => {
                state.faults.cuts -= 1;
                state.cut = Some(all_but);
            }
            Action::Heal => state.cut = None,
        }
        Ok(())
    }
}

impl State {
    /// Whether no two members, which are a quorum, can talk.
    fn is_dark(&self) -> bool {
        let awake: Vec<usize> = (self.nodes.iter())
            .filter(|node| node.awake().is_some())
            .map(|node| node.at)
            .collect();
        match (&awake[..], self.cut) {
            ([one, other], Some(all_but)) => ![*one, *other].contains(&all_but),
            (awake, _) => awake.len() <= MEMBERS / 2,
        }
    }

    /// Whether a message arrives before time passes.
    fn is_urgent(&self, letter: &Letter) -> bool {
        !letter.slow && self.nodes[letter.to].awake().is_some()
    }

    /// The round at hand, and whose turn it is. What one member hears in a round makes no difference
    /// to what another hears in the same one: so they hear it one after the other.
    fn turn(&self) -> Option<(u32, usize)> {
        let urgent = self.letters.iter().filter(|letter| self.is_urgent(letter));
        urgent.map(|letter| (letter.round, letter.to)).min()
    }

    /// What can happen to messages under way.
    fn deliveries(&self, actions: &mut Vec<Action>) {
        let turn = self.turn();
        for (letter, it) in self.letters.iter().enumerate() {
            if it.slow && self.nodes[it.to].awake().is_some() {
                actions.push(Action::Deliver { letter });
            }
            if !self.is_urgent(it) || turn != Some((it.round, it.to)) {
                continue;
            }
            let link = |it: &Letter| (it.from, it.to, it.slow, it.round);
            if self.letters[..letter]
                .iter()
                .any(|other| link(other) == link(it))
            {
                continue;
            }
            actions.push(Action::Deliver { letter });
            if self.faults.losses > 0 {
                actions.push(Action::Lose { letter });
            }
            if self.faults.delays > 0 {
                actions.push(Action::Delay { letter });
            }
            if self.faults.copies > 0 {
                actions.push(Action::Copy { letter });
            }
        }
    }

    fn deliver(
        &mut self,
        letter: &Letter,
        defect: Option<Defect>,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let node = &mut self.nodes[letter.to];
        if letter.addressee.is_some_and(|it| it != node.instance()) {
            return Ok(());
        }
        let event = Event::Received(Message::clone(&letter.message));
        node.tell(self.now, event, defect, sent)
    }

    /// What is sent to nobody, or over a link that is cut, is lost.
    fn post(&mut self, sent: Sent, round: u32) {
        for letter in sent {
            let is_cut = self
                .cut
                .is_some_and(|it| it != letter.from && it != letter.to);
            if self.nodes[letter.to].process.is_some() && !is_cut {
                self.letters.push(Letter { round, ..letter });
            }
        }
        // Rounds are counted from the one at hand.
        let first = self.turn().map_or(0, |(round, _)| round);
        for letter in &mut self.letters {
            letter.round = letter.round.saturating_sub(first);
        }
    }

    /// All that came while it slept is heard first.
    fn hear_all(&mut self, node: usize) {
        for letter in self.letters.iter_mut().filter(|letter| letter.to == node) {
            letter.round = 0;
        }
    }

    fn set_asleep(&mut self, node: usize, asleep: bool) {
        if let Some(process) = &mut self.nodes[node].process {
            process.asleep = asleep;
        }
    }

    fn resign(
        &mut self,
        node: usize,
        next: Option<usize>,
        defect: Option<Defect>,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let process = self.nodes[node].process.as_ref();
        let Some(term) = process.and_then(|process| process.trusts(self.now)) else {
            return Ok(());
        };
        let next = next.map(name);
        self.nodes[node].tell(self.now, Event::Resign { term, next }, defect, sent)
    }

    fn check(&mut self) -> Result<(), String> {
        let mut leaders = 0;
        for node in &self.nodes {
            let term = node.process.as_ref().and_then(|it| it.trusts(self.now));
            let Some(term) = term else { continue };
            leaders += 1;
            let reign = (term, node.at, node.starts);
            if reign != self.led && term <= self.led.0 {
                return Err("TOKENS-RISE: a leader's term is no higher than one before".to_owned());
            }
            self.led = reign;
        }
        if leaders > 1 {
            return Err("ONE-LEADER: two members trust at once".to_owned());
        }
        Ok(())
    }
}
