//! What the seed decides of a world.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::bounds::Terms;
use super::super::faults::Class;

/// Draws the settings of a world.
#[derive(Debug)]
pub(super) struct Draw(StdRng);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0005_71d5,
        ))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    pub(super) fn number(&mut self, range: Range<usize>) -> usize {
        self.0.random_range(range)
    }

    /// How many members: 3 to 25, most often few.
    pub(super) fn members(&mut self) -> usize {
        match self.number(0..100) {
            0..62 => 3,
            62..84 => self.number(4..6),
            84..96 => self.number(6..10),
            _ => self.number(10..26),
        }
    }

    /// How many more join for a while.
    pub(super) fn reserves(&mut self, members: usize) -> usize {
        self.number(1..2 + members / 2)
    }

    /// Spans that fit each other.
    pub(super) fn terms(&mut self) -> Terms {
        // The longer they are, the fewer heartbeats a second of virtual time costs.
        let seconds = [3, 10, 10, 15, 20][self.number(0..5)];
        let ttl = Duration::from_secs(seconds);
        let max_ttl = (ttl * [1, 1, 2][self.number(0..3)]).min(Duration::from_secs(30));
        let drain = Duration::from_millis([800, 2_000, 4_000][self.number(0..3)]);
        Terms {
            ttl,
            max_ttl,
            drain,
            delay: ttl / [5, 5, 2, 1][self.number(0..4)],
            set_back: ttl / 3,
            ..Terms::default()
        }
    }

    /// How long every message takes at most: often no time at all, which costs least.
    pub(super) fn latency(&mut self) -> Duration {
        match self.number(0..10) {
            0..7 => Duration::ZERO,
            7..9 => Duration::from_millis(3),
            _ => Duration::from_millis(40),
        }
    }
}

/// What may happen to any fleet.
pub(super) const ANY: [(Class, u32); 26] = [
    (Class::Crash, 6),
    (Class::RestartSameId, 4),
    (Class::RestartNewId, 3),
    (Class::Leave, 4),
    (Class::Pause, 6),
    (Class::SlowMember, 3),
    (Class::Delay, 2),
    (Class::Loss, 3),
    (Class::OneWayOut, 3),
    (Class::OneWayIn, 3),
    (Class::Partition, 4),
    (Class::HalfOpen, 3),
    (Class::ReplyLost, 3),
    (Class::StoreOutage, 2),
    (Class::StoreRestart, 2),
    (Class::StoreAmnesia, 2),
    (Class::FailOver, 2),
    (Class::CancelledCall, 4),
    (Class::ClockRate, 2),
    (Class::ClockJump, 2),
    (Class::WallForward, 2),
    (Class::WallBack, 1),
    (Class::MassJoin, 2),
    (Class::MassLeave, 2),
    (Class::RollingRestart, 2),
    (Class::FailingWork, 2),
];

/// What befalls work that must end when it is asked to.
pub(super) const WORK: [(Class, u32); 2] = [(Class::WedgedWork, 4), (Class::SlowDrain, 4)];

/// What befalls the bus.
pub(super) const BUS: [(Class, u32); 4] = [
    (Class::Duplication, 3),
    (Class::Reordering, 3),
    (Class::BusCut, 3),
    (Class::BusSplit, 3),
];

/// What befalls the records of members and shards.
pub(super) const RECORDS: [(Class, u32); 2] = [(Class::RecordDeleted, 2), (Class::LateWrite, 3)];
