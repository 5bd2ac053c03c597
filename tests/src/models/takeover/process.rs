//! A process that campaigns: its sessions, what the clock makes due, and how its terms end.
//!
//! It asks the very functions that decide in production: how to give a term back, when a witness may
//! be closed, and how often to be heard.

use coordinator_postgres::takeover::{Farewell, Remains, farewell, may_close_witness};

use super::session::{Ask, Kind, Session, Slot};
use super::{Defect, State, Succession, TTL, Token, ping_every};

/// How far a campaign has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// It has no session yet.
    Resting,
    /// It waits for the key's lock.
    Waiting,
    /// It has the lock, and reads.
    Reading,
    /// It waits out the rest of its predecessor's window.
    Delaying { token: Token, until: u16 },
    /// It waits for its predecessor's term lock.
    Awaiting { token: Token },
    /// It announces its token.
    Announcing { token: Token },
    /// It takes its own term lock.
    Taking { token: Token },
    /// It writes the fence.
    Fencing { token: Token },
    /// The fence is written, and the answer came too late to trust in it (T3).
    Late { token: Token },
    /// Its term.
    Leading,
    /// Its term has ended; its work may run.
    Ending,
    /// It marks the fence.
    Marking,
    /// It gives the key's lock back.
    Unlocking,
    /// It gives the term lock back.
    Dropping,
    /// It does not campaign any more.
    Withdrawn,
}

/// A term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Term {
    pub(super) token: Token,
    /// The end of the window.
    pub(super) until: u16,
    /// Whether the term lasts.
    pub(super) trusted: bool,
    /// Whether its work runs. It stops at the end of the window at the latest (A-SCHED).
    pub(super) work: bool,
}

/// A process.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) alive: bool,
    pub(super) frozen: bool,
    pub(super) step: Step,
    pub(super) term: Option<Term>,
    /// The highest token in whose term it does not trust, and never will.
    pub(super) ended: Token,
    /// Whether its witness is known to hold the term lock.
    pub(super) holds: bool,
    /// Whether the beat may say that there is a witness.
    pub(super) may_say: bool,
    /// Whether it wants another witness.
    pub(super) doubts: bool,
    /// When it heard its witness last.
    pub(super) heard: u16,
    /// When it was last heard in the session of the lease, or tried to be.
    pub(super) pinged: u16,
    /// When it asked for the key's lock.
    pub(super) queued: u16,
    /// The token that its writers know of; 0: they know of none, or that it is over.
    pub(super) latest: Token,
}

impl Process {
    pub(super) const fn new() -> Self {
        Self {
            alive: true,
            frozen: false,
            step: Step::Resting,
            term: None,
            ended: 0,
            holds: false,
            may_say: false,
            doubts: false,
            heard: 0,
            pinged: 0,
            queued: 0,
            latest: 0,
        }
    }

    pub(super) const fn is_awake(&self) -> bool {
        self.alive && !self.frozen
    }

    pub(super) fn is_trusted(&self, now: u16) -> bool {
        self.term
            .is_some_and(|term| term.trusted && now < term.until)
    }

    /// Whether its work may act under a lease.
    pub(super) fn acts(&self, now: u16) -> bool {
        self.term.is_some_and(|term| term.work && now < term.until)
    }
}

impl State {
    pub(super) fn send(&mut self, p: usize, kind: Kind, ask: Ask) {
        if let Some(at) = self.server.find(p, kind) {
            let (now, slow) = (self.now, false);
            self.server.sessions[at].slot = Slot::Sent { ask, at: now, slow };
            let process = &mut self.processes[p];
            if kind == Kind::Lease {
                process.pinged = now;
            }
            if let Ask::Fence { witness, .. } | Ask::Ping { witness, .. } = ask {
                process.may_say |= witness;
            }
        }
    }

    fn session(&self, p: usize, kind: Kind) -> Option<&Session> {
        let at = self.server.find(p, kind)?;
        Some(&self.server.sessions[at])
    }

    pub(super) fn is_idle(&self, p: usize, kind: Kind) -> bool {
        self.session(p, kind)
            .is_some_and(|session| session.slot == Slot::Idle)
    }

    /// The client closes its half.
    pub(super) fn hang_up(&mut self, p: usize, kind: Kind) {
        if let Some(at) = self.server.find(p, kind) {
            self.server.sessions[at].client = false;
        }
        if kind == Kind::Witness {
            self.processes[p].holds = false;
            self.processes[p].doubts = false;
        }
    }

    /// The witness is in doubt: it is replaced as soon as that does no harm.
    pub(super) fn doubt(&mut self, p: usize) {
        self.processes[p].holds = false;
        self.processes[p].doubts = true;
    }

    /// The term has ended; its work may run.
    pub(super) fn lose(&mut self, world: &Succession, p: usize) {
        if let Some(term) = &mut self.processes[p].term {
            term.trusted = false;
        }
        self.processes[p].step = Step::Ending;
        if world.defect == Some(Defect::YieldsEarly) && self.is_idle(p, Kind::Witness) {
            self.send(p, Kind::Witness, Ask::Drop);
        }
        self.part(p);
    }

    /// P6, P9, by the function that decides in production.
    pub(super) fn part(&mut self, p: usize) {
        let remains = Remains {
            work_stopped: self.processes[p].term.is_none_or(|term| !term.work),
            session: self.is_idle(p, Kind::Lease),
        };
        match (farewell(remains), self.token(p)) {
            (Farewell::Clean, Some(token)) => {
                self.processes[p].step = Step::Marking;
                self.send(p, Kind::Lease, Ask::Mark { token });
            }
            (Farewell::Clean | Farewell::Yield, _) => {
                self.hang_up(p, Kind::Lease);
                self.drop_term(p);
            }
            (Farewell::CloseAlone, _) => self.hang_up(p, Kind::Lease),
        }
    }

    /// An attempt that becomes no term.
    pub(super) fn give_up(&mut self, p: usize, token: Token) {
        self.processes[p].ended = token;
        self.hang_up(p, Kind::Lease);
        self.drop_term(p);
    }

    pub(super) fn drop_term(&mut self, p: usize) {
        self.processes[p].step = Step::Dropping;
        if self.is_idle(p, Kind::Witness) {
            self.send(p, Kind::Witness, Ask::Drop);
        } else {
            self.hang_up(p, Kind::Witness);
            self.finish(p);
        }
    }

    pub(super) fn finish(&mut self, p: usize) {
        let process = &mut self.processes[p];
        if let Some(term) = process.term.take() {
            process.ended = process.ended.max(term.token);
        }
        process.holds = false;
        process.step = Step::Resting;
    }

    /// The client has learnt that a session is gone, or has closed it.
    pub(super) fn miss(&mut self, world: &Succession, p: usize, kind: Kind) {
        self.hang_up(p, kind);
        match (kind, self.processes[p].step) {
            (Kind::Witness, Step::Taking { token }) => self.fence(world, p, token),
            (Kind::Witness, Step::Dropping) => self.finish(p),
            (
                Kind::Lease,
                Step::Waiting | Step::Reading | Step::Delaying { .. } | Step::Awaiting { .. },
            ) => self.processes[p].step = Step::Resting,
            (
                Kind::Lease,
                Step::Announcing { token }
                | Step::Taking { token }
                | Step::Fencing { token }
                | Step::Late { token },
            ) => self.give_up(p, token),
            (Kind::Lease, Step::Leading) => self.lose(world, p),
            (Kind::Lease, Step::Marking | Step::Unlocking) => self.drop_term(p),
            (Kind::Lease | Kind::Witness, _) => {}
        }
    }

    /// Whatever the clock, or a missing session, makes due in a process.
    pub(super) fn settle(&mut self, world: &Succession, p: usize) -> Result<(), String> {
        if !self.processes[p].is_awake() {
            return Ok(());
        }
        self.expire(world, p)?;
        self.hurry(world, p);
        self.dial(world, p);
        self.pulse(world, p);
        Ok(())
    }

    fn expire(&mut self, world: &Succession, p: usize) -> Result<(), String> {
        let now = self.now;
        let Some(term) = self.processes[p].term else {
            return Ok(());
        };
        if now < term.until || !(term.trusted || term.work) {
            return Ok(());
        }
        if term.trusted && self.faults == world.faults {
            return Err("a term runs out although nothing went wrong".to_owned());
        }
        let ended = Term {
            trusted: false,
            work: false,
            ..term
        };
        self.processes[p].term = Some(ended);
        self.processes[p].step = Step::Ending;
        self.part(p);
        Ok(())
    }

    /// T6: no statement is waited for longer than a window; one that a take-over waits for in
    /// another session, for less.
    fn hurry(&mut self, world: &Succession, p: usize) {
        for kind in [Kind::Lease, Kind::Witness] {
            let sent = self.session(p, kind).and_then(Session::unanswered);
            let taking = matches!(self.processes[p].step, Step::Taking { .. });
            let patience = if taking && kind == Kind::Witness {
                1
            } else {
                TTL
            };
            if sent.is_none_or(|at| self.now < at + patience) {
                continue;
            }
            if kind == Kind::Witness && !taking {
                self.doubt(p);
            } else {
                self.miss(world, p, kind);
            }
        }
        let process = &self.processes[p];
        let begins = matches!(process.step, Step::Fencing { .. } | Step::Late { .. });
        let runs = process.term.is_some_and(|term| term.work);
        let hasty = world.defect == Some(Defect::ClosesWitness);
        if process.doubts && (hasty || may_close_witness(begins || runs, process.may_say)) {
            self.miss(world, p, Kind::Witness);
        }
    }

    fn dial(&mut self, world: &Succession, p: usize) {
        let now = self.now;
        let new = |kind| Session::new(p, kind, now, world.defect);
        let campaigns = self.processes[p].step != Step::Withdrawn;
        if campaigns && self.server.find(p, Kind::Witness).is_none() {
            self.server.sessions.push(new(Kind::Witness));
            self.processes[p].heard = now;
            if self.processes[p].step == Step::Leading {
                self.retake(p);
            }
        }
        if self.processes[p].step == Step::Resting {
            self.server.sessions.push(new(Kind::Lease));
            self.processes[p].step = Step::Waiting;
            self.processes[p].queued = now;
            self.send(p, Kind::Lease, Ask::Lock);
        }
    }

    /// P6: with a new witness the holder tries its term lock again.
    fn retake(&mut self, p: usize) {
        if let Some(token) = self.token(p) {
            self.send(p, Kind::Witness, Ask::Take { token });
        }
    }

    fn pulse(&mut self, world: &Succession, p: usize) {
        let process = self.processes[p];
        if !self.is_idle(p, Kind::Lease) {
            return;
        }
        if let Step::Delaying { token, until } = process.step
            && self.now >= until
        {
            return self.announce(p, token);
        }
        let witness = self.claims(world, p);
        let (every, ask) = match process.step {
            // Or withdrawn, where a session is kept although nobody waits in it any more.
            Step::Delaying { .. } | Step::Withdrawn => (ping_every(false), Ask::Nudge),
            Step::Late { token } => (0, Ask::Ping { token, witness }),
            Step::Leading => match process.term {
                Some(Term { token, .. }) => (ping_every(true), Ask::Ping { token, witness }),
                None => return,
            },
            _ => return,
        };
        let denies = matches!(ask, Ask::Ping { .. }) && process.may_say && !witness;
        if denies || self.now >= process.pinged + every {
            self.send(p, Kind::Lease, ask);
            if process.step == Step::Leading && !process.holds && self.is_idle(p, Kind::Witness) {
                self.retake(p);
            }
        }
    }
}
