//! When a successor may start, and what a holder does so that it may soon (rules P2 to P9).
//!
//! A free session lock is no proof that its last holder has stopped: whatever lies between, or an
//! operator, may have closed the server's half of a session whose client lives and trusts. So the
//! one that is granted the lock reads three rows and decides here. Nothing in this module waits,
//! reads a clock, or speaks to a server: the drivers do, and so does the model in
//! `tests/src/models/takeover.rs`, which asks these very functions.

mod path;
mod pulse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use coordinator_core::trust::Trust;
use coordinator_core::{FencingToken, Instance, next_number};

pub use self::path::{ClientEnds, ServerEnds, is_direct};
pub use self::pulse::{
    Ended, Phase, Pong, claims_witness, confirm, judge, may_close_witness, milliseconds,
    ping_every, server_keepalive, witness_silence,
};
use crate::config::Takeover;

/// Which run of sessions this is (I1): another one has none of the sessions and session locks of
/// this one. Opaque; made of the server's start and the marker in an unlogged table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionIdentity(String);

/// Which line of memory this is (I1): another one may lack committed rows. Opaque; made of the
/// system identifier and the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemoryIdentity(String);

impl SessionIdentity {
    /// The identity that the server tells in these words.
    pub fn new(told: impl Into<String>) -> Self {
        Self(told.into())
    }

    /// What is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl MemoryIdentity {
    /// The identity that the server tells in these words.
    pub fn new(told: impl Into<String>) -> Self {
        Self(told.into())
    }

    /// What is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Both identities of a store, as read in one statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identities {
    /// Of its sessions.
    pub session: SessionIdentity,
    /// Of its memory.
    pub memory: MemoryIdentity,
}

/// The fence row of a key: who started last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The token of that term.
    pub token: FencingToken,
    /// Which start of which process it was.
    pub instance: Instance,
    /// The TTL that it asked for, which need not be the reader's.
    pub ttl: Duration,
    /// Whether it has said since that its work stopped and its trust ended (P9).
    pub released: bool,
    /// Whether nothing lay between that process and the server (P7).
    pub direct: bool,
    /// The store it was granted by.
    pub identities: Identities,
}

/// The beat row of a key: when its holder was last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Of which term.
    pub token: FencingToken,
    /// How long ago, by the server's clock in the statement that read it.
    pub age: Duration,
    /// Whether the holder knew then that its witness holds the term lock (P6).
    pub witness: bool,
}

impl Beat {
    /// A beat of so many microseconds ago, as the server computes it. A negative age comes of a
    /// server's clock that was set back: then nothing is known to have passed.
    pub fn new(token: FencingToken, age_micros: i64, witness: bool) -> Self {
        let age = Duration::from_micros(u64::try_from(age_micros).unwrap_or(0));
        Self {
            token,
            age,
            witness,
        }
    }
}

/// What the session that was granted the lock has read, in one statement, after the grant (P4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The fence row, if there is one.
    pub fence: Option<Fence>,
    /// The beat row, if there is one: of whichever term.
    pub beat: Option<Beat>,
    /// The token of the newest take-over that was announced (F2).
    pub closing: Option<FencingToken>,
    /// The store, now.
    pub identities: Identities,
    /// How long the store is in quarantine still (I2), with the reader's own knowledge of it; zero:
    /// it is not.
    pub quarantine: Duration,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Which start of which process.
    pub instance: Instance,
    /// What it was told to believe.
    pub policy: Takeover,
    /// The highest token of this key in whose term this instance has ended its trust, or has never
    /// begun it and never will. Tokens of its terms that last are above it.
    pub ended: Option<FencingToken>,
}

/// When the session that was granted the lock may start its own term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Not before the store's quarantine is over; then the rows are to be read again (I2).
    AfterQuarantine {
        /// From the arrival of the answer on.
        ends_within: Duration,
    },
    /// Now.
    AtOnce,
    /// When the predecessor's term lock is granted to the asker's own session, or this much has
    /// passed since the answer arrived, whichever comes first (P5.3).
    AfterTermLock {
        /// Whose term lock.
        of: FencingToken,
        /// The rest of that holder's window, for `lock_timeout`.
        at_most: Duration,
    },
    /// When this much has passed since the answer arrived (P5.4).
    AfterRest(Duration),
}

/// P5: when the asker may start, by what it has read.
///
/// A counterexample for each shortcut: the server's half of a holder's session is closed from
/// outside, and the next waiter has the lock in milliseconds while the holder trusts on for up to
/// `ttl − margin`. So a free lock alone starts nothing.
pub fn decide(asker: &Asker, view: &View) -> When {
    if !view.quarantine.is_zero() {
        // Also where the row is marked released: the mark may be older than a grant that was lost.
        return When::AfterQuarantine {
            ends_within: view.quarantine,
        };
    }
    let Some(fence) = &view.fence else {
        return When::AtOnce; // Nobody has ever started, whatever was announced.
    };
    if fence.released || is_our_own_past(asker, fence) {
        return When::AtOnce;
    }
    let rest = rest(fence, view.beat);
    if rest.is_zero() {
        return When::AtOnce;
    }
    match asker.policy {
        Takeover::Immediate => When::AtOnce,
        Takeover::Evidence if is_evident(fence, view) => When::AfterTermLock {
            of: fence.token,
            at_most: rest,
        },
        Takeover::Evidence | Takeover::WaitOut => When::AfterRest(rest),
    }
}

fn is_our_own_past(asker: &Asker, fence: &Fence) -> bool {
    fence.instance == asker.instance && asker.ended.is_some_and(|ended| fence.token <= ended)
}

/// P5.3: whether the end of the predecessor's sessions proves the end of its process.
fn is_evident(fence: &Fence, view: &View) -> bool {
    let witnessed = |beat: Beat| beat.token == fence.token && beat.witness;
    // In another run of sessions nobody holds any lock, dead or alive.
    fence.direct && fence.identities == view.identities && view.beat.is_some_and(witnessed)
}

/// P5.4: how much of the predecessor's window may be left, by the asker's clock from the arrival of
/// the answer on.
///
/// Without a beat of that term (the unlogged table was emptied by a crash) it is all of it: when it
/// was last heard, nobody knows.
pub fn rest(fence: &Fence, beat: Option<Beat>) -> Duration {
    let beat = beat.filter(|beat| beat.token == fence.token);
    let age = beat.map_or(Duration::ZERO, |beat| beat.age);
    Trust::surely(fence.ttl.saturating_sub(age))
}

/// K1: the token that a take-over announces. `last` is the higher of fence and closing: an
/// announced token may have been seen, although its term never began.
///
/// `None`: it would reach the limit of all numbers, and the take-over is to be rejected.
pub fn next_token(view: &View, wall_ms: u64, floor: Option<FencingToken>) -> Option<FencingToken> {
    let last = view.fence.as_ref().map(|fence| fence.token);
    let last = last.max(view.closing).map(FencingToken::get);
    next_number(last, wall_ms, floor.map(FencingToken::get)).map(FencingToken::new)
}

/// What is left of a term when the driver says `release`: after a clean end, and after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Whether the work is known to have stopped.
    pub work_stopped: bool,
    /// Whether the session of the lease still holds its lock, as far as the client knows.
    pub session: bool,
}

/// How a term is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// In the lease's session mark the row, then unlock the key; then unlock the term in the
    /// witness (P9).
    Clean,
    /// Unlock the term in the witness: the lease's session is gone, and its lock with it. The
    /// successor waits for this (P6).
    Yield,
    /// Close the lease's session. No mark, and the term lock is kept: the work may still run, so
    /// the successor waits out the window.
    CloseAlone,
}

/// P9 and P6: how a term with these remains is given back.
pub const fn farewell(remains: Remains) -> Farewell {
    match remains {
        Remains {
            work_stopped: true,
            session: true,
        } => Farewell::Clean,
        Remains {
            work_stopped: true,
            session: false,
        } => Farewell::Yield,
        Remains {
            work_stopped: false,
            session: _,
        } => Farewell::CloseAlone,
    }
}
