//! What is counted: how much went wrong, and how well it was borne.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_node::core::Slot;

use super::faults::Class;
use super::scene::{Phase, Scene, Sort, What};
use super::seen::Seen;

/// What was counted in one run, or in many.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Faults that took effect, by class.
    pub faults: BTreeMap<Class, u64>,
    /// Terms that began.
    pub elections: u64,
    /// Shards that passed from one owner to another.
    pub moved: u64,
    /// Processes that were started.
    pub starts: u64,
    /// Events of shards that were handled.
    pub handled: u64,
    /// Messages that subscribers received, and gaps they were told of.
    pub received: u64,
    /// Gaps that subscribers were told of.
    pub gaps: u64,
    /// How often an invariant looked at something.
    pub checks: u64,
    /// True time.
    pub simulated: Duration,
    /// The longest times for which nobody led, and a shard had nobody at work.
    pub leaderless: Longest,
    /// The same of shards.
    pub unowned: Longest,
    /// From the end of all faults until everything served.
    pub settled_within: Duration,
    idle: BTreeMap<What, Duration>,
    ever: BTreeSet<What>,
}

/// The longest of some spans: at any time, and after the last fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Longest {
    /// At any time.
    pub ever: Duration,
    /// When no fault was left.
    pub healed: Duration,
}

impl Longest {
    fn take(&mut self, span: Duration, healed: Duration) {
        self.ever = self.ever.max(span);
        self.healed = self.healed.max(healed);
    }

    fn add(&mut self, other: Self) {
        self.take(other.ever, other.healed);
    }
}

impl Figures {
    /// Something happened.
    pub fn take(&mut self, scene: &Scene, seen: &Seen) {
        match seen {
            Seen::Fault(class, _) => *self.faults.entry(*class).or_default() += 1,
            Seen::Started(_) => self.starts += 1,
            Seen::Begins(id) => {
                let hold = &scene.holds[*id];
                let leads = matches!(hold.sort, Sort::Lease(_) | Sort::Vote);
                self.elections += u64::from(leads);
            }
            Seen::Handles(..) => self.handled += 1,
            Seen::Receives(..) => self.received += 1,
            Seen::Misses(..) => self.gaps += 1,
            Seen::Swapped(swap) => {
                let Some(previous) = &swap.previous else {
                    return;
                };
                let token = |slot: &Slot| slot.token();
                let pairs = previous.slots.iter().zip(&swap.next.slots);
                let moved =
                    pairs.filter(|(from, to)| token(to).is_some() && token(to) != token(from));
                self.moved += u64::try_from(moved.count()).unwrap_or(u64::MAX);
            }
            Seen::Settles => self.settled_within = scene.since(scene.healed.unwrap_or(scene.now)),
            Seen::Look => self.look(scene),
            _ => {}
        }
        self.simulated = scene.now;
    }

    /// Counts what nobody serves. The time before the first one ever does is no gap.
    fn look(&mut self, scene: &Scene) {
        if matches!(scene.phase, Phase::Closing | Phase::Over) {
            return;
        }
        for what in &scene.wanted {
            if scene.is_served(what) {
                self.idle.remove(what);
                self.ever.insert(what.clone());
                continue;
            }
            if !self.ever.contains(what) {
                continue;
            }
            let since = *self.idle.entry(what.clone()).or_insert(scene.now);
            let span = scene.since(since);
            let healed = match scene.phase {
                Phase::Wild => Duration::ZERO,
                Phase::Healed => scene.since(since.max(scene.phase_began)),
                Phase::Settled | Phase::Closing | Phase::Over => span,
            };
            if is_led(what) {
                self.leaderless.take(span, healed);
            } else {
                self.unowned.take(span, healed);
            }
        }
    }

    /// And what was counted in another run.
    pub fn add(&mut self, other: &Self) {
        for (class, count) in &other.faults {
            *self.faults.entry(*class).or_default() += count;
        }
        self.elections += other.elections;
        self.moved += other.moved;
        self.starts += other.starts;
        self.handled += other.handled;
        self.received += other.received;
        self.gaps += other.gaps;
        self.checks += other.checks;
        self.simulated += other.simulated;
        self.leaderless.add(other.leaderless);
        self.unowned.add(other.unowned);
        self.settled_within = self.settled_within.max(other.settled_within);
    }
}

/// Whether something is led, not owned: by what worlds call such things.
pub fn is_led(what: &str) -> bool {
    what.ends_with("/leader")
}
