//! Take-over of a lease that is held by advisory lock (section 4 of the protocols, and F1 to F3).
//!
//! Processes campaign for one key, each with a session for the lease and a witness. What can go
//! wrong, each as often as the budget says: a process is killed, or frozen for any time; a session
//! is closed on the server's side alone, and the client learns of it whenever; all sessions of a
//! process at once are; a session is cut, and nobody is told; a statement or an answer is under way
//! for any time; the server restarts, cleanly or not; a holder resigns; a waiter gives up.
//!
//! Always: no two processes act under the lease at once, by trust or by work that has not stopped
//! within its window (ONE-LEADER); each term's token is higher than all before (TOKENS-RISE); no
//! transaction commits under a token after one with a higher one did (FENCED); a client that is
//! silent does not keep the lock (P2); no term runs out while nothing goes wrong. Eventually:
//! somebody leads, however long others write, and whoever held the lock.
//!
//! Real are the decisions: `coordinator_postgres::takeover`. Left out: clocks of different rates
//! (arithmetic, tested as such), quarantine, paths that are not direct (one branch of a decision),
//! names of successors, and work that outlives its window.

mod answers;
mod digest;
mod process;
mod server;
mod session;
mod world;

use std::time::Duration;

pub use coordinator_postgres::Takeover as Policy;
use coordinator_postgres::takeover::{self, Phase};

use super::explore::Model;
use process::{Process, Step};
use server::Server;
use session::{Kind, Slot};
pub use world::{Closes, Defect, Faults, Succession};

/// A fencing token.
type Token = u64;

/// So much time passes at once: so little that what the server allows a client to be silent before
/// its term is less than a TTL.
const UNIT: Duration = Duration::from_millis(125);
/// In units. Trust ends in the very instant in which the lease does: the margin is less than a unit.
const TTL: u16 = 3;

fn span(units: u16) -> Duration {
    UNIT * u32::from(units)
}

/// In whole units: what the clocks' rates add is less than one.
fn within(span: Duration) -> u16 {
    u16::try_from(span.as_nanos() / UNIT.as_nanos()).unwrap_or(u16::MAX)
}

/// In units: a witness that was not heard for longer is not claimed.
const PROBE: u16 = 1;

/// How long the server bears the silence of a witness.
fn witness_silence() -> u16 {
    within(takeover::witness_silence(span(TTL), span(PROBE)))
}

/// How long the server bears the silence of a client that holds the lock, before its term (P2).
fn confirm() -> u16 {
    within(takeover::confirm(span(TTL)))
}

fn ping_every(in_term: bool) -> u16 {
    let phase = if in_term {
        Phase::Holding
    } else {
        Phase::Confirming
    };
    within(takeover::ping_every(span(TTL), phase)).max(1)
}

/// All there is at one instant.
#[derive(Debug, Clone)]
pub struct State {
    now: u16,
    server: Server,
    processes: Vec<Process>,
    faults: Faults,
    /// The highest token of any term so far.
    elected: Token,
    /// The highest token of any transaction that committed.
    committed: Token,
}

/// What can happen. `session`, `process` and `writer` are which.
#[allow(missing_docs, reason = "the fields are explained once, above")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A unit of time passes.
    Time,
    /// A statement is handled; the answer comes at once.
    Serve { session: usize },
    /// A statement is handled; the answer takes its time.
    DelayAnswer { session: usize },
    /// A statement takes its time.
    Delay { session: usize },
    /// An answer comes.
    Answer { session: usize },
    /// The server learns that a client has gone.
    Finish { session: usize },
    /// A client learns that the server's half has ended.
    Miss { session: usize },
    /// The server has had enough of a client's silence.
    Idle { session: usize },
    /// A session ends on the server's side alone.
    Close { session: usize },
    /// Nothing passes in a session any more.
    Cut { session: usize },
    /// All sessions of a process end on the server's side alone.
    Sweep { process: usize },
    /// A process ends without a word.
    Kill { process: usize },
    /// It stops to run.
    Freeze { process: usize },
    /// It runs on.
    Thaw { process: usize },
    /// A holder stops its work, and gives its lease back.
    Resign { process: usize },
    /// The work of a term that was lost has stopped.
    StopWork { process: usize },
    /// A probe of its witness is not answered in time.
    Doubt { process: usize },
    /// A waiter gives up.
    Cancel { process: usize },
    /// The server restarts.
    Restart,
    /// The server crashes and recovers.
    Crash,
    /// Somebody begins to write under the token of a process, and shows it to the fence.
    Write { writer: usize, process: usize },
    /// It commits.
    Commit { writer: usize },
}

impl Model for Succession {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut state = State {
            now: 0,
            server: Server::new(),
            processes: vec![Process::new(); self.processes],
            faults: self.faults,
            elected: 0,
            committed: 0,
        };
        for process in 0..self.processes {
            // A new campaign only dials, which breaks nothing.
            let settled = state.settle(self, process);
            debug_assert_eq!(settled, Ok(()), "a campaign can begin");
        }
        state
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        if !state.is_busy(self) {
            actions.push(Action::Time);
        }
        state.of_sessions(self, &mut actions);
        for process in 0..self.processes {
            state.of_process(process, &mut actions);
        }
        if state.faults.restarts > 0 {
            actions.push(Action::Restart);
        }
        if state.faults.crashes > 0 {
            actions.push(Action::Crash);
        }
        if self.writes.is_some() {
            state.of_writers(&mut actions);
        }
        actions
    }

    fn act(&self, state: &mut State, action: &Action) -> Result<(), String> {
        self.happen(state, *action)?;
        state.server.wake(state.now, self.defect);
        for process in 0..self.processes {
            state.settle(self, process)?;
        }
        state.server.sweep();
        state.check()
    }

    fn digest(&self, state: &State) -> u128 {
        state.digest(self)
    }

    fn is_good(&self, state: &State) -> bool {
        let campaigns = |it: &&Process| it.is_awake() && it.step != Step::Withdrawn;
        let mut able = state.processes.iter().filter(campaigns).peekable();
        able.peek().is_none() || able.any(|it| it.is_trusted(state.now))
    }

    fn passes(&self, action: &Action) -> u16 {
        u16::from(*action == Action::Time)
    }

    fn tell(&self, state: &State, action: &Action) -> String {
        state.tell(*action)
    }
}

impl Succession {
    fn happen(&self, state: &mut State, action: Action) -> Result<(), String> {
        let now = state.now;
        match action {
            Action::Time => state.pass(),
            Action::Serve { session } => {
                if state.server.serve(session, now, self.defect).is_some() {
                    return state.deliver(self, session);
                }
            }
            Action::DelayAnswer { session } => {
                state.faults.delays -= 1;
                let _ = state.server.serve(session, now, self.defect);
                state.slow_down(session);
            }
            Action::Delay { session } => {
                state.faults.delays -= 1;
                state.slow_down(session);
            }
            Action::Answer { session } => return state.deliver(self, session),
            Action::Finish { session } | Action::Idle { session } => state.server.end(session, now),
            Action::Miss { session } => {
                let it = state.server.sessions[session];
                state.miss(self, it.owner, it.kind);
            }
            Action::Close { session } => {
                state.faults.closes -= 1;
                state.server.end(session, now);
            }
            Action::Cut { session } => {
                state.faults.cuts -= 1;
                let it = &mut state.server.sessions[session];
                it.cut = true;
                it.since = now;
            }
            Action::Sweep { process } => {
                state.faults.sweeps -= 1;
                state.end_all(process);
            }
            Action::Restart => {
                state.faults.restarts -= 1;
                state.server.restart(now, true);
            }
            Action::Crash => {
                state.faults.crashes -= 1;
                state.server.restart(now, false);
            }
            Action::Write { writer, process } => {
                let token = state.processes[process].latest;
                if !state.server.share(writer, token, now, self.defect) {
                    state.processes[process].latest = 0;
                }
            }
            Action::Commit { writer } => return state.commit(writer),
            Action::Kill { process }
            | Action::Freeze { process }
            | Action::Thaw { process }
            | Action::Resign { process }
            | Action::StopWork { process }
            | Action::Doubt { process }
            | Action::Cancel { process } => self.befall(state, process, action),
        }
        Ok(())
    }

    /// What happens to a process.
    fn befall(&self, state: &mut State, process: usize, action: Action) {
        match action {
            Action::Kill { .. } => {
                state.faults.kills -= 1;
                state.hang_up(process, Kind::Lease);
                state.hang_up(process, Kind::Witness);
                let it = &mut state.processes[process];
                it.alive = false;
                it.term = None;
                it.step = Step::Withdrawn;
            }
            Action::Freeze { .. } => {
                state.faults.freezes -= 1;
                state.processes[process].frozen = true;
            }
            Action::Thaw { .. } => state.processes[process].frozen = false,
            Action::Resign { .. } => {
                state.faults.resigns -= 1;
                state.stop_work(process);
                state.part(process);
            }
            Action::StopWork { .. } => {
                state.stop_work(process);
                state.part(process);
            }
            Action::Doubt { .. } => {
                state.faults.doubts -= 1;
                state.doubt(process);
            }
            Action::Cancel { .. } => {
                state.faults.cancels -= 1;
                state.processes[process].step = Step::Withdrawn;
                if self.defect != Some(Defect::KeepsSession) {
                    state.hang_up(process, Kind::Lease);
                    state.hang_up(process, Kind::Witness);
                }
            }
            _ => {}
        }
    }

    /// Whether A-CLOSE lets the server end this session of a living process.
    fn may_close(&self, state: &State, session: usize) -> bool {
        let it = state.server.sessions[session];
        let server = &state.server;
        let other = match it.kind {
            Kind::Lease => Kind::Witness,
            Kind::Witness => Kind::Lease,
        };
        match (self.closes, it.kind) {
            (Closes::Any, _) => true,
            (Closes::NotTheLast, _) | (Closes::Witnessed, Kind::Witness) => {
                server.sees(it.owner, other)
            }
            (Closes::Witnessed, Kind::Lease) => {
                // The beat is this process's, says that there is a witness, and there is none.
                let unsaid = |fence: &session::Fence| {
                    let says = |beat: &server::Beat| beat.token == fence.token && beat.witness;
                    fence.owner == it.owner
                        && server.beat.as_ref().is_some_and(says)
                        && !server.is_term_held(fence.token)
                };
                !server.fence.as_ref().is_some_and(unsaid)
            }
        }
    }
}

impl State {
    /// Time passes. Nobody's witness is silent who runs: it is probed (U5).
    fn pass(&mut self) {
        self.now += 1;
        for session in &mut self.server.sessions {
            let owner = &mut self.processes[session.owner];
            if session.kind == Kind::Witness && session.is_whole() && owner.is_awake() {
                session.heard = self.now;
                owner.heard = self.now;
            }
        }
    }

    fn is_busy(&self, world: &Succession) -> bool {
        let busy = |it: &session::Session| {
            let awake = self.processes[it.owner].is_awake();
            it.is_busy(self.now, awake, world.defect)
        };
        let overdue = |it: &server::Writer| {
            let most = world.writes.unwrap_or(0);
            it.token != 0 && self.now >= it.since + most
        };
        self.server.sessions.iter().any(busy) || self.server.writers.iter().any(overdue)
    }

    fn of_sessions(&self, world: &Succession, actions: &mut Vec<Action>) {
        for (session, it) in self.server.sessions.iter().enumerate() {
            let owner = &self.processes[it.owner];
            let delays = self.faults.delays > 0;
            if it.can_serve() {
                actions.push(Action::Serve { session });
                let prompt = matches!(it.slot, Slot::Sent { slow: false, .. });
                if delays && prompt && it.client {
                    actions.push(Action::DelayAnswer { session });
                    actions.push(Action::Delay { session });
                }
            }
            if it.can_answer() && owner.is_awake() {
                actions.push(Action::Answer { session });
            }
            if it.can_finish(self.now, world.defect) {
                actions.push(Action::Finish { session });
            }
            if owner.is_awake() && it.can_be_missed(self.now).0 {
                actions.push(Action::Miss { session });
            }
            if it.is_silent(self.now) {
                actions.push(Action::Idle { session });
            }
            let whole = it.is_whole();
            if whole && self.faults.closes > 0 && world.may_close(self, session) {
                actions.push(Action::Close { session });
            }
            if whole && self.faults.cuts > 0 {
                actions.push(Action::Cut { session });
            }
        }
    }

    fn of_process(&self, process: usize, actions: &mut Vec<Action>) {
        let it = &self.processes[process];
        if !it.alive {
            return;
        }
        if self.faults.kills > 0 {
            actions.push(Action::Kill { process });
        }
        if self.faults.sweeps > 0 {
            actions.push(Action::Sweep { process });
        }
        if it.frozen {
            return actions.push(Action::Thaw { process });
        }
        if self.faults.freezes > 0 {
            actions.push(Action::Freeze { process });
        }
        if self.faults.doubts > 0 && self.server.find(process, Kind::Witness).is_some() {
            actions.push(Action::Doubt { process });
        }
        let waits = matches!(it.step, Step::Waiting | Step::Reading);
        if waits && self.faults.cancels > 0 {
            actions.push(Action::Cancel { process });
        }
        if it.step == Step::Ending && it.term.is_some_and(|term| term.work) {
            actions.push(Action::StopWork { process });
        }
        // No renewal is under way when a release leaves (W6).
        let quiet = self.is_idle(process, Kind::Lease);
        if it.step == Step::Leading && quiet && self.faults.resigns > 0 {
            actions.push(Action::Resign { process });
        }
    }

    fn of_writers(&self, actions: &mut Vec<Action>) {
        for (writer, it) in self.server.writers.iter().enumerate() {
            if it.token != 0 {
                actions.push(Action::Commit { writer });
                continue;
            }
            // One transaction in a unit, for each: so none of them begins for ever without time.
            let rested = it.since < self.now;
            let knows = |it: &Process| it.latest != 0;
            for (process, _) in self.processes.iter().enumerate().filter(|it| knows(it.1)) {
                if rested {
                    actions.push(Action::Write { writer, process });
                }
            }
        }
    }

    /// Hands the answer in a session to its client, if that runs and can be reached.
    fn deliver(&mut self, world: &Succession, session: usize) -> Result<(), String> {
        let it = self.server.sessions[session];
        let Slot::Back {
            ask, at, answer, ..
        } = it.slot
        else {
            return Ok(());
        };
        if !it.can_answer() || !self.processes[it.owner].is_awake() {
            return Ok(());
        }
        self.server.sessions[session].slot = Slot::Idle;
        self.hear(world, it.owner, it.kind, (ask, at), answer)
    }

    fn slow_down(&mut self, session: usize) {
        match &mut self.server.sessions[session].slot {
            Slot::Sent { slow, .. } | Slot::Back { slow, .. } => *slow = true,
            Slot::Idle | Slot::Blocked { .. } | Slot::Lost { .. } => {}
        }
    }

    fn end_all(&mut self, process: usize) {
        for at in 0..self.server.sessions.len() {
            if self.server.sessions[at].owner == process {
                self.server.end(at, self.now);
            }
        }
    }

    fn stop_work(&mut self, process: usize) {
        if let Some(term) = &mut self.processes[process].term {
            term.trusted = false;
            term.work = false;
        }
    }

    fn commit(&mut self, writer: usize) -> Result<(), String> {
        let token = std::mem::take(&mut self.server.writers[writer].token);
        if token < self.committed {
            return Err("FENCED: a transaction commits after one of a higher token".to_owned());
        }
        self.committed = token;
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let acting = self.processes.iter().filter(|it| it.acts(self.now));
        if acting.count() > 1 {
            return Err("ONE-LEADER: two processes act at once".to_owned());
        }
        for session in &self.server.sessions {
            let holds = session.server && session.place == Some(0) && !session.confirmed;
            let waits = matches!(session.slot, Slot::Blocked { .. });
            if holds && !waits && self.now > session.heard + confirm() {
                return Err("P2: a client that is silent keeps the lock".to_owned());
            }
        }
        Ok(())
    }

    fn tell(&self, action: Action) -> String {
        let name = |at: usize| char::from(b'A' + u8::try_from(at).unwrap_or(25));
        let (Action::Serve { session }
        | Action::DelayAnswer { session }
        | Action::Delay { session }
        | Action::Answer { session }
        | Action::Finish { session }
        | Action::Miss { session }
        | Action::Idle { session }
        | Action::Close { session }
        | Action::Cut { session }) = action
        else {
            return format!("{action:?}, at {}", self.now);
        };
        let it = &self.server.sessions[session];
        let (owner, kind) = (name(it.owner), it.kind);
        format!("{action:?}, {kind:?} of {owner}: {:?}", it.slot)
    }
}
