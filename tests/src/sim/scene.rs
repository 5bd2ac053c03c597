//! What is so at one moment, as somebody sees it who stands outside of all processes and knows
//! true time. Plain data: an invariant is a question to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coordinator_node::core::{Key, LostCause, MemberId};

use super::bounds::Terms;

/// What is held: `g/leader`, `g/orders/3`, or the whole of a dense keyspace, `g/mails`.
pub type What = Arc<str>;

/// The place of a hold in [`Scene::holds`].
pub type HoldId = usize;

/// One start of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Which member, by its number.
    pub seat: usize,
    /// Which start of it, from 1.
    pub life: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}.{}", self.seat, self.life)
    }
}

/// By what right something is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sort {
    /// A lease in the store: an election or a lock.
    Lease(Key),
    /// The promises of a majority.
    Vote,
    /// A shard of a fixed number.
    Shard {
        /// Which.
        number: u16,
    },
    /// A part of a dense cut; its token is the cut's epoch.
    Part {
        /// Which.
        index: u16,
        /// Of how many.
        count: u16,
    },
}

/// One tenure: a member's time with something that only one may hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// What is held.
    pub what: What,
    /// By what right.
    pub sort: Sort,
    /// By whom.
    pub process: Process,
    /// The fencing token.
    pub token: u64,
    /// When its work began.
    pub began: Duration,
    /// How trust in it has ended, if it has, as of the last look.
    pub lost: Option<LostCause>,
    /// Since when its work is asked to finish.
    pub draining: Option<Duration>,
    /// When its work had really ended: it will never do anything again.
    pub stopped: Option<Duration>,
    /// Since when its work does nothing, and says nothing.
    pub stuck: Option<Duration>,
    /// Whether its claim was answered: from then on the store refuses older tokens.
    pub claimed: bool,
    /// Whether the guard is kept out of the reach of whoever would drop it.
    pub kept: bool,
}

impl Hold {
    /// Whether its member may believe at this moment that it holds it.
    pub fn is_trusted(&self) -> bool {
        self.lost.is_none() && self.stopped.is_none()
    }

    /// Whether two may not be held at the same time.
    pub fn excludes(&self, other: &Self) -> bool {
        self.what == other.what
            && match (&self.sort, &other.sort) {
                // Parts of two cuts overlap, as a rule; those of one cut only in the same place.
                (Sort::Part { index, .. }, Sort::Part { index: there, .. }) => {
                    self.token != other.token || index == there
                }
                _ => true,
            }
    }
}

/// What is known of one member.
#[derive(Debug, Clone, Default)]
pub struct SeatFacts {
    /// Its present process, or the last one.
    pub life: u32,
    /// Whether that process runs, or is frozen.
    pub alive: bool,
    /// Whether it is frozen.
    pub frozen: bool,
    /// When it last began to run: it was started, or thawed.
    pub running_since: Duration,
    /// Whether it is to be there.
    pub wanted: bool,
    /// Under which names it was a member, by life.
    pub names: BTreeMap<u32, MemberId>,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Faults happen.
    Wild,
    /// No more faults: everything must come to serve.
    Healed,
    /// Everything serves, and nothing may change but by request.
    Settled,
    /// All are asked to shut down.
    Closing,
    /// Nothing counts any more.
    Over,
}

/// What is so at one moment.
#[derive(Debug)]
pub struct Scene {
    /// True time since the beginning.
    pub now: Duration,
    /// How far the run is.
    pub phase: Phase,
    /// When the present phase began.
    pub phase_began: Duration,
    /// When the last fault was taken back.
    pub healed: Option<Duration>,
    /// What the spans of this world are.
    pub terms: Terms,
    /// All tenures ever, in the order of their beginning.
    pub holds: Vec<Hold>,
    /// Those whose work may still do something.
    pub open: Vec<HoldId>,
    /// The members, by number.
    pub seats: Vec<SeatFacts>,
    /// What somebody must hold when all is well.
    pub wanted: BTreeSet<What>,
    /// By how much the store's wall clock is ahead of true time, in milliseconds.
    pub wall_ahead: i64,
    /// When the store last lost its memory, or a part of it.
    pub memory_lost: Option<Duration>,
}

impl Scene {
    /// The beginning.
    pub fn new(terms: Terms, seats: usize, wanted: BTreeSet<What>) -> Self {
        Self {
            now: Duration::ZERO,
            phase: Phase::Wild,
            phase_began: Duration::ZERO,
            healed: None,
            terms,
            holds: Vec::new(),
            open: Vec::new(),
            seats: vec![SeatFacts::default(); seats],
            wanted,
            wall_ahead: 0,
            memory_lost: None,
        }
    }

    /// The tenures whose work may still do something.
    pub fn open_holds(&self) -> impl Iterator<Item = (HoldId, &Hold)> {
        self.open.iter().map(|id| (*id, &self.holds[*id]))
    }

    /// Whether a process runs, frozen or not.
    pub fn is_alive(&self, process: Process) -> bool {
        let seat = &self.seats[process.seat];
        seat.alive && seat.life == process.life
    }

    /// Whether somebody serves it: holds it, trusts it, and is not frozen.
    pub fn is_served(&self, what: &What) -> bool {
        let serving = |hold: &Hold| {
            hold.what == *what && hold.is_trusted() && !self.seats[hold.process.seat].frozen
        };
        let mut parts = BTreeSet::new();
        for (_, hold) in self.open_holds().filter(|(_, hold)| serving(hold)) {
            match hold.sort {
                Sort::Lease(_) | Sort::Vote | Sort::Shard { .. } => return true,
                Sort::Part { index, count } => {
                    parts.insert((hold.token, count, index));
                }
            }
        }
        // A cut serves when all of its parts do.
        let mut whole = parts.iter().map(|(token, count, _)| (token, count));
        whole.any(|(token, count)| {
            let of_it = parts.iter().filter(|part| part.0 == *token);
            of_it.count() == usize::from(*count)
        })
    }

    /// The store's wall clock, as a span since an hour before its beginning: it may be set back in
    /// its first seconds.
    pub fn wall(&self) -> Duration {
        const BEFORE: Duration = Duration::from_hours(1);
        let ahead = Duration::from_millis(self.wall_ahead.unsigned_abs());
        if self.wall_ahead < 0 {
            (BEFORE + self.now).saturating_sub(ahead)
        } else {
            BEFORE + self.now + ahead
        }
    }

    /// For how long after a moment a process has run without being frozen.
    pub fn awake_since(&self, process: Process, moment: Duration) -> Duration {
        let seat = &self.seats[process.seat];
        if !self.is_alive(process) || seat.frozen {
            return Duration::ZERO;
        }
        self.since(moment.max(seat.running_since))
    }

    /// Whether the store may still be in quarantine.
    pub fn is_quarantined(&self) -> bool {
        let lost = self.memory_lost;
        lost.is_some_and(|lost| self.since(lost) <= self.terms.max_ttl)
    }

    /// How long ago a moment was.
    pub fn since(&self, moment: Duration) -> Duration {
        self.now.saturating_sub(moment)
    }

    /// The members that are there, by number.
    pub fn present(&self) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.alive && seat.wanted)
            .map(|(at, _)| at)
    }
}
