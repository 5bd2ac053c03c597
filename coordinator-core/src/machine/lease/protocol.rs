//! What goes into the machine, and what comes out.

use std::time::Duration;

use crate::errors::ErrorKind;
use crate::held::LostCause;
use crate::lock::{Claim, Holder};
use crate::names::MemberId;
use crate::numbers::FencingToken;
use crate::time::Moment;
use crate::trust::Trust;

/// What a campaign is for, and how its term behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What to ask for. One claim serves the whole campaign: asked twice, it is one grant.
    pub claim: Claim,
    /// How long a grant is asked for, and trusted.
    pub trust: Trust,
    /// Whether to wait for a holder.
    pub patience: Patience,
    /// Whether the backend wakes waiters. Without it the machine asks when the lease may be free.
    pub wakes: bool,
    /// No renewal while the last progress is older than this (W3).
    pub stall_limit: Option<Duration>,
}

/// Whether to wait for a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait until it is our turn, through outages and quarantines.
    Wait,
    /// Ask once. After [`Event::Failed`] the driver tells its caller so at once, and lets the
    /// machine hand back what may have been granted.
    Once,
}

/// What happened. Replies carry the number of the request they answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The deadline has come, or may have.
    Tick,
    /// The backend hints that it may be our turn.
    Turn,
    /// The backend hints that the grant may have ended.
    Alarm,
    /// The campaign is given up.
    Withdraw,
    /// The claim was granted.
    Granted {
        /// The request.
        request: u64,
        /// The grant's token.
        token: FencingToken,
    },
    /// The lease is another's.
    Held {
        /// The request.
        request: u64,
        /// Whose.
        holder: Holder,
    },
    /// The lease lasts another TTL.
    Renewed {
        /// The request.
        request: u64,
    },
    /// The grant has ended in the store.
    Gone {
        /// The request.
        request: u64,
    },
    /// The release took effect, or there was nothing left to release.
    Released {
        /// The request.
        request: u64,
    },
    /// No answer.
    Failed {
        /// The request.
        request: u64,
        /// What to do about it.
        kind: ErrorKind,
    },
    /// The work last reported progress at this moment.
    Progress {
        /// When, by the same clock as `now`.
        at: Moment,
    },
    /// The work is to finish: shutdown, resignation, transfer.
    Drain {
        /// How long it may take.
        within: Duration,
        /// For whom the lease is to be kept after the release.
        next: Option<MemberId>,
    },
    /// Whoever uses the lease has seen the end of trust, and acts upon it: nothing revives it (T2).
    TrustEnded {
        /// What they were told.
        cause: LostCause,
    },
    /// The work has stopped: its guard is gone.
    WorkStopped,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send an acquire, and answer by `Granted`, `Held` or `Failed`; `Failed` at the deadline.
    Acquire {
        /// The request.
        request: u64,
        /// The highest token seen, for the claim.
        floor: Option<FencingToken>,
        /// When to stop waiting for the answer.
        deadline: Moment,
    },
    /// Wait for a hint, and answer by `Turn`. Replaces a wait that still runs.
    WaitTurn,
    /// Send a renewal, and answer by `Renewed`, `Gone` or `Failed`; `Failed` at the deadline.
    Renew {
        /// The request.
        request: u64,
        /// The grant.
        token: FencingToken,
        /// When to stop waiting for the answer.
        deadline: Moment,
    },
    /// Send a release, and answer by `Released` or `Failed`; `Failed` at the deadline.
    Release {
        /// The request.
        request: u64,
        /// The grant.
        token: FencingToken,
        /// For whom the lease is to be kept.
        next: Option<MemberId>,
        /// When to stop waiting for the answer.
        deadline: Moment,
    },
    /// The term has begun: start the work.
    Elected {
        /// Its fencing token.
        token: FencingToken,
        /// The end of trust, unless it is renewed.
        until: Moment,
    },
    /// Trust lasts longer.
    Trust {
        /// Its end, unless it is renewed again.
        until: Moment,
    },
    /// Ask the work to finish.
    Drain {
        /// When it is cancelled otherwise.
        deadline: Moment,
    },
    /// The term has ended. Cancel the work if it still runs, and say so by `WorkStopped`.
    Lose {
        /// Why.
        cause: LostCause,
    },
    /// Nothing is left to do. Comes once, last.
    Finish(Outcome),
}

/// How a campaign and its term ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Given up before a term began.
    Withdrawn,
    /// Asked once, and held by another.
    HeldBy(Holder),
    /// Asked once, and not answered; or refused for good.
    NoAnswer(ErrorKind),
    /// The term has ended, and the store knows it.
    Released,
    /// The term has ended, and the store did not confirm: the lease ends by itself.
    Unconfirmed {
        /// When it has ended at the latest, by the local clock.
        by: Moment,
    },
}
