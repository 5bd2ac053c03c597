//! When which fault hits: decided by the seed alone, before anything runs.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Something that happens to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A new node joins.
    Join,
    /// A node drains its shards and leaves.
    Leave,
    /// A node is dead at once, and started anew later.
    Crash,
    /// A node is frozen beyond the end of its lease, as by a long pause of its machine.
    Pause,
    /// A node runs, and reaches nobody, beyond the end of its lease.
    Cut,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Join, Self::Leave, Self::Crash, Self::Pause, Self::Cut];
}

/// Whom a fault is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A node that is in the middle of folding.
    Worker,
    /// The node that plans.
    Planner,
}

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// How long after the beginning.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    pub(crate) aim: Aim,
    /// How long a pause or cut lasts, or a crashed node is away.
    pub(crate) lasting: Duration,
}

/// How often each fault comes.
const ROUNDS: usize = 2;

/// Two faults of each of these kinds, in random order, spread over the span: they begin after a
/// tenth of it, and end early enough for the fleet to recover.
pub(crate) fn schedule(seed: u64, kinds: &[Fault], span: Duration, ttl: Duration) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = kinds.repeat(ROUNDS);
    faults.shuffle(&mut random);
    // Of each pair one may hit anybody at work, and one is for the planner.
    let mut seen = Vec::new();
    let mut aim = |fault: Fault| {
        let again = seen.contains(&fault);
        seen.push(fault);
        if again { Aim::Planner } else { Aim::Worker }
    };
    let slots = u32::try_from(faults.len()).unwrap_or(u32::MAX).max(1);
    let slot = span.mul_f64(0.75) / slots;
    let begin = span.mul_f64(0.08);
    let plan = |(place, fault): (u32, Fault)| Planned {
        at: begin + slot * place + slot.mul_f64(random.random_range(0.0..0.6)),
        fault,
        aim: aim(fault),
        lasting: ttl.mul_f64(random.random_range(1.3..2.2)),
    };
    (0..).zip(faults).map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(200);
    const TTL: Duration = Duration::from_secs(6);

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        assert_eq!(
            schedule(7, &Fault::ALL, SPAN, TTL),
            schedule(7, &Fault::ALL, SPAN, TTL)
        );
        assert_ne!(
            schedule(7, &Fault::ALL, SPAN, TTL),
            schedule(8, &Fault::ALL, SPAN, TTL)
        );
    }

    #[test]
    fn each_fault_comes_twice_in_order_of_time_and_within_the_span() {
        for seed in 0..200 {
            let faults = schedule(seed, &Fault::ALL, SPAN, TTL);
            assert!(faults.is_sorted_by_key(|planned| planned.at));
            assert!(faults.last().unwrap().at < SPAN.mul_f64(0.85));
            for fault in Fault::ALL {
                let aims: Vec<Aim> = faults
                    .iter()
                    .filter(|planned| planned.fault == fault)
                    .map(|planned| planned.aim)
                    .collect();
                assert_eq!(aims, [Aim::Worker, Aim::Planner]);
            }
        }
    }

    #[test]
    fn pauses_and_cuts_outlast_the_lease() {
        for seed in 0..200 {
            let lasting = schedule(seed, &Fault::ALL, SPAN, TTL)
                .into_iter()
                .map(|p| p.lasting);
            assert!(lasting.min().unwrap() > TTL);
        }
    }
}
