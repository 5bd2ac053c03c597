//! The server: sessions, locks that end with them, rows, and the transactions of others.

use super::session::{Answer, Ask, Fence, Kind, Rows, Session, Slot};
use super::{Defect, TTL, Token, confirm};

/// The beat row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) token: Token,
    pub(super) at: u16,
    pub(super) witness: bool,
}

/// Someone who writes under a token, in transactions of its own (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Writer {
    /// Whose token its open transaction carries; 0: it has none open.
    pub(super) token: Token,
    /// When it was begun; the next one begins later.
    pub(super) since: u16,
}

/// All that the server knows.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) sessions: Vec<Session>,
    pub(super) fence: Option<Fence>,
    pub(super) beat: Option<Beat>,
    pub(super) closing: Token,
    /// The run of sessions (I1).
    pub(super) run: u8,
    pub(super) writers: [Writer; 2],
}

impl Server {
    pub(super) const fn new() -> Self {
        Self {
            sessions: Vec::new(),
            fence: None,
            beat: None,
            closing: 0,
            run: 0,
            writers: [Writer { token: 0, since: 0 }; 2],
        }
    }

    /// The session that a process uses for this.
    pub(super) fn find(&self, owner: usize, kind: Kind) -> Option<usize> {
        let serves = |it: &Session| it.serves(owner, kind);
        self.sessions.iter().position(serves)
    }

    /// Whether a session of this kind, open on the server's side too, belongs to the process.
    pub(super) fn sees(&self, owner: usize, kind: Kind) -> bool {
        let sees = |it: &Session| it.server && it.serves(owner, kind);
        self.sessions.iter().any(sees)
    }

    /// Whether some session holds the lock of this term.
    pub(super) fn is_term_held(&self, token: Token) -> bool {
        self.sessions
            .iter()
            .any(|it| it.server && it.term == token && token != 0)
    }

    /// The server's half of a session ends, and all its locks.
    pub(super) fn end(&mut self, at: usize, now: u16) {
        self.leave(at);
        let session = &mut self.sessions[at];
        session.server = false;
        session.term = 0;
        session.since = now;
        match session.slot {
            Slot::Sent { .. } | Slot::Blocked { .. } => session.slot = Slot::Lost { at: now },
            Slot::Idle | Slot::Back { .. } | Slot::Lost { .. } => {}
        }
    }

    /// All sessions end; committed rows stay, those of an unlogged table only if it was clean.
    pub(super) fn restart(&mut self, now: u16, is_clean: bool) {
        for at in 0..self.sessions.len() {
            self.end(at, now);
        }
        self.run = self.run.wrapping_add(1);
        if !is_clean {
            self.beat = None;
        }
        // The transactions of others end with their sessions.
        for writer in &mut self.writers {
            writer.token = 0;
        }
    }

    /// What is left of sessions that have ended on both sides goes.
    pub(super) fn sweep(&mut self) {
        self.sessions.retain(|it| it.client || it.server);
    }

    fn leave(&mut self, at: usize) {
        let Some(place) = self.sessions[at].place.take() else {
            return;
        };
        for other in &mut self.sessions {
            if let Some(it) = &mut other.place
                && *it > place
            {
                *it -= 1;
            }
        }
    }

    /// Handles the statement that has come. `None`: it waits.
    pub(super) fn serve(&mut self, at: usize, now: u16, defect: Option<Defect>) -> Option<Answer> {
        let Slot::Sent { ask, at: sent, .. } = self.sessions[at].slot else {
            return None;
        };
        self.sessions[at].heard = now;
        let answer = self.execute(at, ask, sent, now, defect);
        self.sessions[at].slot = match answer {
            Some(answer) => Slot::Back {
                ask,
                at: sent,
                answer,
                slow: false,
            },
            None => Slot::Blocked { ask, at: sent },
        };
        answer
    }

    /// Lets all statements go on that wait for nothing any more.
    pub(super) fn wake(&mut self, now: u16, defect: Option<Defect>) {
        for at in 0..self.sessions.len() {
            let Slot::Blocked { ask, at: sent } = self.sessions[at].slot else {
                continue;
            };
            if let Some(answer) = self.execute(at, ask, sent, now, defect) {
                let session = &mut self.sessions[at];
                session.heard = now;
                session.slot = Slot::Back {
                    ask,
                    at: sent,
                    answer,
                    slow: false,
                };
            }
        }
    }

    fn execute(
        &mut self,
        at: usize,
        ask: Ask,
        sent: u16,
        now: u16,
        defect: Option<Defect>,
    ) -> Option<Answer> {
        match ask {
            Ask::Lock => return self.lock(at, defect),
            Ask::Read => return Some(Answer::Rows(self.rows(now))),
            Ask::Nudge => {}
            Ask::Await { of, at_most } => {
                return (!self.is_term_held(of) || now >= sent + at_most).then_some(Answer::Done);
            }
            Ask::Announce { token } => {
                let session = &mut self.sessions[at];
                session.allowed = TTL;
                session.confirmed = true;
                if defect != Some(Defect::NoClosing) {
                    self.closing = self.closing.max(token);
                }
            }
            Ask::Take { token } => {
                if self.is_term_held(token) && self.sessions[at].term != token {
                    return Some(Answer::Refused);
                }
                self.sessions[at].term = token;
            }
            Ask::Fence { token, witness } => {
                return self.raise(at, token, witness, sent, now, defect);
            }
            Ask::Ping { token, witness } => return self.ping(token, witness, now, defect),
            Ask::Mark { token } => {
                let Some(fence) = self.fence.as_mut().filter(|fence| fence.token == token) else {
                    return Some(Answer::Refused);
                };
                fence.released = true;
            }
            Ask::Unlock => self.leave(at),
            Ask::Drop => self.sessions[at].term = 0,
        }
        Some(Answer::Done)
    }

    fn lock(&mut self, at: usize, defect: Option<Defect>) -> Option<Answer> {
        if self.sessions[at].place.is_none() {
            let places = self.sessions.iter().filter_map(|it| it.place);
            let last = places.map(|place| place + 1).max().unwrap_or(0);
            let session = &mut self.sessions[at];
            session.place = Some(last);
            session.allowed = match defect {
                Some(Defect::PatientServer) => TTL,
                _ => confirm(),
            };
        }
        (self.sessions[at].place == Some(0)).then_some(Answer::Done)
    }

    fn rows(&self, now: u16) -> Rows {
        let beat = |beat: Beat| (beat.token, (now - beat.at).min(TTL), beat.witness);
        Rows {
            fence: self.fence,
            beat: self.beat.map(beat),
            closing: self.closing,
            run: self.run,
        }
    }

    fn raise(
        &mut self,
        at: usize,
        token: Token,
        witness: bool,
        sent: u16,
        now: u16,
        defect: Option<Defect>,
    ) -> Option<Answer> {
        if self.is_shared() && defect != Some(Defect::UnlockedRead) {
            return (now >= sent + TTL).then_some(Answer::TimedOut);
        }
        if self.fence.is_some_and(|fence| fence.token >= token) {
            return Some(Answer::Refused);
        }
        self.fence = Some(Fence {
            token,
            owner: self.sessions[at].owner,
            released: false,
            run: self.run,
        });
        self.beat = Some(Beat {
            token,
            at: now,
            witness,
        });
        Some(Answer::Done)
    }

    fn ping(
        &mut self,
        token: Token,
        witness: bool,
        now: u16,
        defect: Option<Defect>,
    ) -> Option<Answer> {
        if defect == Some(Defect::RenewsFence) && self.is_shared() {
            return None;
        }
        let Some(beat) = self.beat.as_mut().filter(|beat| beat.token == token) else {
            return Some(Answer::Refused);
        };
        beat.at = now;
        beat.witness = witness;
        Some(Answer::Done)
    }

    /// Whether a transaction holds the fence row `FOR SHARE`.
    fn is_shared(&self) -> bool {
        self.writers.iter().any(|writer| writer.token != 0)
    }

    /// F1: whether a transaction may write under this token. If so, it holds the fence row.
    pub(super) fn share(
        &mut self,
        writer: usize,
        token: Token,
        now: u16,
        defect: Option<Defect>,
    ) -> bool {
        let closing = match defect {
            Some(Defect::ClosingUnread) => 0,
            _ => self.closing,
        };
        let passes = self.fence.is_some_and(|it| it.token <= token) && closing <= token;
        if passes {
            self.writers[writer] = Writer { token, since: now };
        }
        passes
    }
}
