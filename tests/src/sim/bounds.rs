//! The spans of a world, and what follows from them: how long anything may take once no fault is
//! in the way. Every bound is a sum of named parts, and a violation prints them.

use std::fmt;
use std::time::Duration;

use coordinator_node::core::trust::{RATE, Trust};

/// How often the world is looked at.
pub const LOOK: Duration = Duration::from_millis(250);
/// A supervisor starts a process again so long after its end.
pub const SUPERVISOR: Duration = Duration::from_secs(1);
/// How long not to campaign after a loss: the default of an election.
pub const COOL_DOWN: Duration = Duration::from_secs(1);
/// How long a hint is waited for before one asks all the same.
const SLOW_POLL: Duration = Duration::from_secs(5);
/// The bus may need so long to send what is queued when a node shuts down.
const FLUSH: Duration = Duration::from_secs(5);
/// A node waits so long for its last tasks.
const LAST_REPLIES: Duration = Duration::from_secs(2);
/// The longest penalty of a member that flaps (S7).
const LONGEST_PENALTY: Duration = Duration::from_mins(5);
/// The last beacon of a stream comes so long after its last message (U3).
const BEACON: Duration = Duration::from_secs(5);
/// So many votes in a row may be split before something is wrong.
const SPLIT_VOTES: u32 = 6;
/// Messages that are not out after so long are given up (U2).
const PATIENCE: Duration = Duration::from_secs(5);

/// The spans of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Of every lease and membership.
    pub ttl: Duration,
    /// The longest of the namespace: so long a store is quarantined that lost its memory.
    pub max_ttl: Duration,
    /// How long work has to finish.
    pub drain: Duration,
    /// How long the shards of a static name are kept for its return.
    pub grace: Duration,
    /// How long work may be silent.
    pub stall: Option<Duration>,
    /// How long a request without an answer waits.
    pub request: Duration,
    /// The longest way of a message, one way, that a fault may cause.
    pub delay: Duration,
    /// By how much the store's wall clock is set back at most, in all.
    pub set_back: Duration,
    /// The longest pause before work that failed begins again.
    pub work_restart: Duration,
    /// Members that join within this become one plan.
    pub reshard: Duration,
    /// The window of elections by vote, where there are any.
    pub window: Option<Duration>,
    /// How many members there are, those included that only join for a while.
    pub members: usize,
    /// Into how many shards each keyspace is cut.
    pub shards: u16,
    /// How many keyspaces there are.
    pub keyspaces: usize,
    /// Whether things may change in a fleet that serves: a leader hands over to a better one.
    pub restless: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            max_ttl: Duration::from_secs(30),
            drain: Duration::from_secs(5),
            grace: Duration::ZERO,
            stall: None,
            request: Duration::from_secs(5),
            delay: Duration::from_secs(2),
            set_back: Duration::from_secs(2),
            work_restart: Duration::from_secs(2),
            reshard: Duration::from_secs(1),
            window: None,
            members: 3,
            shards: 8,
            keyspaces: 1,
            restless: false,
        }
    }
}

/// A sum of named spans.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bound(Vec<(&'static str, Duration)>);

impl Bound {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this.
    pub fn and(mut self, what: &'static str, span: Duration) -> Self {
        if !span.is_zero() {
            self.0.push((what, span));
        }
        self
    }

    /// And all of that.
    pub fn after(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// All of it together. Clocks may differ by the allowed rate.
    pub fn total(&self) -> Duration {
        let sum: Duration = self.0.iter().map(|(_, span)| *span).sum();
        sum + sum * 2 / RATE + LOOK
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}:", self.total())?;
        for (at, (what, span)) in self.0.iter().enumerate() {
            let plus = if at == 0 { "" } else { " +" };
            write!(f, "{plus} {what} {span:?}")?;
        }
        Ok(())
    }
}

impl Terms {
    /// What a forward step of the store's wall clock, and the delay of an awake process, may be
    /// together (A-STEP, A-SCHED).
    pub fn slack(&self) -> Duration {
        let margin = Trust::new(self.ttl).map_or(Duration::ZERO, |trust| trust.margin());
        margin.saturating_sub(self.ttl * 2 / RATE)
    }

    /// From the end of all faults until every process runs and is a member again.
    fn present(&self) -> Bound {
        Bound::new()
            .and("quarantine", self.max_ttl)
            .and("a request under way", self.request + self.delay * 2)
            .and("a start that fails", self.ttl)
            .and("supervisor", SUPERVISOR)
            .and("the name's last life", self.ttl + self.set_back)
    }

    /// From the end of all faults to a leader.
    pub fn led_within(&self) -> Bound {
        let window = self.window.unwrap_or_default();
        self.present()
            .and("abstention (V4)", window)
            .and("promises (V1)", window)
            .and("time-outs, split votes (V6)", window * 2 * SPLIT_VOTES)
            .and("late messages of the bad times", window + self.delay)
            .and(
                "members seen again (G6)",
                if window.is_zero() { window } else { self.ttl },
            )
            .and("a dead leader's lease", self.ttl + self.set_back)
            .and("work that outlives its term", self.drain)
            .and("cool-down", COOL_DOWN)
            .and("a hint that was lost", SLOW_POLL)
            .and("a turn that lapses", self.ttl)
    }

    /// From the end of all faults until every shard is at work (ALL-OWNED).
    pub fn owned_within(&self) -> Bound {
        self.led_within()
            .and("mercy after an outage (G4)", self.ttl)
            .and("a record that is missing (G7)", self.max_ttl)
            .and("a planner that cannot plan (S9)", self.ttl * 3)
            .and("drain", self.drain)
            .and("eviction (S4)", self.ttl * 2)
            .and("grace (S5)", self.grace)
            .and("heartbeats", self.ttl)
            .and("debounce", self.reshard * 2)
            .and("work that failed", self.work_restart)
    }

    /// From the end of all faults until nobody has more than is due (S7, S8).
    pub fn balanced_within(&self) -> Bound {
        self.owned_within()
            .and("penalty of who flaps (S7)", LONGEST_PENALTY)
            .and("drain", self.drain)
            .and("eviction (S4)", self.ttl * 2)
            .and("heartbeats", self.ttl)
    }

    /// From the request to finish until the work is gone, in a process that runs.
    pub fn drained_within(&self) -> Bound {
        Bound::new()
            .and("drain", self.drain)
            .and("a look at the clock", self.ttl / 10)
    }

    /// From the request to shut down until it has returned, in a process that runs.
    pub fn shut_down_within(&self) -> Bound {
        Bound::new()
            .and("drain", self.drain)
            .and("work that outlives its term", self.ttl)
            .and("release", self.ttl + self.delay * 2)
            .and("leave", self.ttl)
            .and("bus", FLUSH)
            .and("last replies", LAST_REPLIES)
            .and("a request under way", self.request)
    }

    /// From the last sign of progress until the term of a stuck leader ends (W3).
    pub fn stuck_ends_within(&self) -> Option<Bound> {
        let stall = self.stall?;
        Some(Bound::new().and("stall limit", stall).and("ttl", self.ttl))
    }

    /// From the end of a guard until nothing renews its lease any more.
    pub fn let_go_within(&self) -> Bound {
        Bound::new()
            .and("ttl", self.ttl)
            .and("a request under way", self.request + self.delay * 2)
    }

    /// After the last message, until its loss must be known.
    pub fn told_within(&self) -> Bound {
        Bound::new()
            .and("sending", PATIENCE)
            .and("beacon (U3)", BEACON)
            .and("a beacon that waits", PATIENCE)
            .and("delay", self.delay * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_names_its_parts() {
        let bound = Bound::new()
            .and("ttl", Duration::from_secs(10))
            .and("nothing", Duration::ZERO)
            .and("drain", Duration::from_secs(5));
        assert_eq!(bound.total(), Duration::from_millis(15_000 + 30 + 250));
        assert_eq!(bound.to_string(), "15.3s: ttl 10s + drain 5s");
    }

    #[test]
    fn bounds_grow_from_one_to_the_next() {
        let terms = Terms::default();
        assert!(terms.led_within().total() < terms.owned_within().total());
        assert!(terms.owned_within().total() < terms.balanced_within().total());
        assert_eq!(terms.slack(), Duration::from_millis(980));
    }
}
