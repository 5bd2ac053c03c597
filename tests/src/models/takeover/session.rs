//! A session: a client's half and a server's half, which need not end together.

use super::{Defect, TTL, Token, witness_silence};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// L: it waits for the lock, and holds it.
    Lease,
    /// W: the witness; it holds the term lock.
    Witness,
}

/// A statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// Waits for the key's lock, with a short allowance of silence (P2).
    Lock,
    /// Reads fence, beat and closing (P4).
    Read,
    /// Says that the client is there, before its term begins (P4).
    Nudge,
    /// Waits for the predecessor's term lock, for so many units at most (P5.3).
    Await { of: Token, at_most: u16 },
    /// Commits the token in `closing`, and allows the silence of a TTL (P4, F2).
    Announce { token: Token },
    /// Tries to take the own term lock, in the witness (P6).
    Take { token: Token },
    /// Writes fence and beat (P4).
    Fence { token: Token, witness: bool },
    /// Renews the beat (P8).
    Ping { token: Token, witness: bool },
    /// Marks the fence as released (P9).
    Mark { token: Token },
    /// Gives the key's lock back (P9).
    Unlock,
    /// Gives the term lock back, in the witness (P6, P9).
    Drop,
}

/// What a statement returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    /// It did what it says, or, where it can be refused, changed a row or took the lock.
    Done,
    /// It changed no row, or did not get the lock.
    Refused,
    /// `statement_timeout` (F3).
    TimedOut,
    /// The rows, as they were then.
    Rows(Rows),
}

/// The three rows of the key, as one statement reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rows {
    pub(super) fence: Option<Fence>,
    /// The beat's token, its age in units, and its witness.
    pub(super) beat: Option<(Token, u16, bool)>,
    pub(super) closing: Token,
    /// The server's run of sessions.
    pub(super) run: u8,
}

/// The fence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fence {
    pub(super) token: Token,
    pub(super) owner: usize,
    pub(super) released: bool,
    /// In which run of sessions it was written.
    pub(super) run: u8,
}

/// The one statement that may be under way in a session, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Idle,
    /// On the way to the server; a slow one for who knows how long.
    Sent {
        ask: Ask,
        at: u16,
        slow: bool,
    },
    /// In the server, which waits for a lock.
    Blocked {
        ask: Ask,
        at: u16,
    },
    /// Answered; the answer is on the way, or in the buffer of a client that does not run.
    Back {
        ask: Ask,
        at: u16,
        answer: Answer,
        slow: bool,
    },
    /// The server's half ended under it.
    Lost {
        at: u16,
    },
}

/// Both halves of a session.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all combinations occur"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) owner: usize,
    pub(super) kind: Kind,
    /// Whether the client's half is open.
    pub(super) client: bool,
    /// Whether the server's half is open.
    pub(super) server: bool,
    /// Nothing passes any more, in either direction, and neither side is told.
    pub(super) cut: bool,
    /// When it was cut, or the server's half ended.
    pub(super) since: u16,
    pub(super) slot: Slot,
    /// When the server last finished a statement of the client.
    pub(super) heard: u16,
    /// After so many units of silence the server ends its half.
    pub(super) allowed: u16,
    /// Whether the allowance is that of a term.
    pub(super) confirmed: bool,
    /// Its place in the queue for the key's lock. Number 0 holds it.
    pub(super) place: Option<u8>,
    /// Which term's lock it holds; 0: none.
    pub(super) term: Token,
}

impl Session {
    pub(super) fn new(owner: usize, kind: Kind, now: u16, defect: Option<Defect>) -> Self {
        let allowed = match (kind, defect) {
            (Kind::Witness, Some(Defect::ShortWitness)) | (Kind::Lease, _) => TTL,
            (Kind::Witness, _) => witness_silence(),
        };
        Self {
            owner,
            kind,
            client: true,
            server: true,
            cut: false,
            since: now,
            slot: Slot::Idle,
            heard: now,
            allowed,
            confirmed: false,
            place: None,
            term: 0,
        }
    }

    /// Whether this is the session that its process uses now, for this.
    pub(super) fn serves(&self, owner: usize, kind: Kind) -> bool {
        self.client && self.owner == owner && self.kind == kind
    }

    /// Whether all is well with it.
    pub(super) fn is_whole(&self) -> bool {
        self.client && self.server && !self.cut
    }

    /// Whether a statement can reach the server.
    pub(super) fn can_serve(&self) -> bool {
        self.server && !self.cut && matches!(self.slot, Slot::Sent { .. })
    }

    /// Whether an answer can reach the client.
    pub(super) fn can_answer(&self) -> bool {
        self.client && !self.cut && matches!(self.slot, Slot::Back { .. })
    }

    /// Whether the client may learn that the session has ended; and whether it must, by its
    /// keepalive.
    pub(super) fn can_be_missed(&self, now: u16) -> (bool, bool) {
        let overdue = now >= self.since + TTL;
        match (self.client, self.server, self.cut) {
            (true, false, false) => (true, overdue),
            (true, _, true) => (overdue, overdue),
            (true, true, false) | (false, ..) => (false, false),
        }
    }

    /// Whether the server learns that the client is gone, by its farewell or by its own keepalive.
    pub(super) fn can_finish(&self, now: u16, defect: Option<Defect>) -> bool {
        let borne = match defect {
            Some(Defect::HastyKeepalive) => 1,
            _ => self.allowed,
        };
        let alive = if self.cut {
            now < self.since + borne
        } else {
            self.client
        };
        self.server && !alive
    }

    /// Whether the server has had enough of the client's silence.
    pub(super) fn is_silent(&self, now: u16) -> bool {
        let waits = matches!(self.slot, Slot::Blocked { .. });
        self.server && !waits && now >= self.heard + self.allowed
    }

    /// Whether something must happen here before time passes. `awake`: the client runs.
    pub(super) fn is_busy(&self, now: u16, awake: bool, defect: Option<Defect>) -> bool {
        let prompt = match self.slot {
            Slot::Sent { slow, .. } => self.can_serve() && !slow,
            Slot::Back { slow, .. } => self.can_answer() && !slow && awake,
            Slot::Idle | Slot::Blocked { .. } | Slot::Lost { .. } => false,
        };
        let missed = awake && self.can_be_missed(now).1;
        prompt || missed || self.can_finish(now, defect) || self.is_silent(now)
    }

    /// When the statement was sent whose answer does not come, unless the server may wait for a lock.
    pub(super) fn unanswered(&self) -> Option<u16> {
        match self.slot {
            Slot::Sent { at, .. } | Slot::Back { at, slow: true, .. } | Slot::Lost { at } => {
                Some(at)
            }
            Slot::Idle | Slot::Blocked { .. } | Slot::Back { slow: false, .. } => None,
        }
    }
}
