//! Time: the store's wall clock, and the clock of each member.

use std::time::Duration;

use coordinator_core::{Clock, Moment};
use tokio::time::Instant;

use crate::sync::Shared;

/// Where the store's wall clock begins: a fixed moment of the year 2023, so that every run of a
/// test sees the same tokens.
pub(crate) const EPOCH: Moment = Moment::since_origin(Duration::from_secs(1_700_000_000));

/// The milliseconds of a reading of the wall clock.
pub(crate) fn millis(now: Moment) -> u64 {
    u64::try_from(now.as_duration().as_millis()).unwrap_or(u64::MAX)
}

/// The clock of the store: it runs with tokio's, and can be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    /// True time began here.
    origin: Instant,
    /// What the wall clock showed then, as set since.
    base: Moment,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            base: EPOCH,
        }
    }

    /// When true time began.
    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// How long the store has existed, in true time.
    pub(crate) fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Moment {
        self.base + self.elapsed()
    }

    /// Sets the clock forward.
    pub(crate) fn forward(&mut self, span: Duration) {
        self.base = self.base + span;
    }

    /// Sets the clock back.
    pub(crate) fn back(&mut self, span: Duration) {
        self.base = self.base - span;
    }
}

/// The clock of one member's machine: it may run fast or slow, and jump ahead.
#[derive(Debug)]
pub(crate) struct MemberClock(Shared<Reading>);

/// What the clock showed at its last change, and how fast it has run since.
#[derive(Debug)]
struct Reading {
    shown: Moment,
    at: Instant,
    rate: f64,
    /// How far it has jumped ahead, in all.
    jumped: Duration,
    /// When all wall clocks showed [`EPOCH`].
    epoch: Instant,
    /// By how many milliseconds the wall clock is off.
    wall_off: i128,
}

impl Reading {
    fn now(&self) -> Moment {
        let elapsed = self.at.elapsed();
        // Exact unless a test asks for a clock that is not.
        if (self.rate - 1.0).abs() < f64::EPSILON {
            return self.shown + elapsed;
        }
        let span = Duration::try_from_secs_f64(elapsed.as_secs_f64() * self.rate);
        self.shown + span.unwrap_or(Duration::MAX)
    }
}

impl MemberClock {
    /// A clock that shows so much now: moments of two machines are never compared, so each begins
    /// where it likes. Their wall clocks agree until they are set: all showed [`EPOCH`] at `epoch`.
    pub(crate) fn new(shown: Moment, epoch: Instant) -> Self {
        Self(Shared::new(Reading {
            shown,
            at: Instant::now(),
            rate: 1.0,
            jumped: Duration::ZERO,
            epoch,
            wall_off: 0,
        }))
    }

    /// Runs at this rate from now on. Readings never go back, so a negative one is zero.
    pub(crate) fn set_rate(&self, rate: f64) {
        let mut reading = self.0.lock();
        *reading = Reading {
            shown: reading.now(),
            at: Instant::now(),
            rate: if rate.is_finite() { rate.max(0.0) } else { 1.0 },
            ..*reading
        };
    }

    /// Sets the wall clock so many milliseconds ahead, or back.
    pub(crate) fn step_wall(&self, millis: i64) {
        let mut reading = self.0.lock();
        reading.wall_off = reading.wall_off.saturating_add(i128::from(millis));
    }

    /// Jumps ahead.
    pub(crate) fn jump(&self, span: Duration) {
        let mut reading = self.0.lock();
        reading.shown = reading.shown + span;
        reading.jumped = reading.jumped.saturating_add(span);
    }
}

impl Clock for MemberClock {
    fn now(&self) -> Moment {
        self.0.lock().now()
    }

    fn steady(&self) -> Moment {
        let reading = self.0.lock();
        reading.now() - reading.jumped
    }

    fn wall_millis(&self) -> u64 {
        let reading = self.0.lock();
        // However a test sets it, it runs with true time: steps are what its users must bear.
        let shown = (EPOCH + reading.epoch.elapsed()).as_duration();
        let shown = i128::try_from(shown.as_millis()).unwrap_or(i128::MAX);
        let millis = shown.saturating_add(reading.wall_off).max(0);
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A-RATE and T5 as inputs of a test.
    #[tokio::test(start_paused = true)]
    async fn a_members_clock_runs_fast_or_slow_and_jumps_ahead_but_never_back() {
        let clock = MemberClock::new(Moment::ZERO, Instant::now());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now().as_duration(), Duration::from_secs(10));
        clock.set_rate(0.5);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now().as_duration(), Duration::from_secs(15));
        let steady = clock.steady();
        clock.jump(Duration::from_mins(1));
        assert_eq!(clock.steady(), steady, "promises do not end by a jump");
        clock.set_rate(-3.0);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now().as_duration(), Duration::from_secs(75));
    }

    /// M4, V5: the wall clock is off, and nothing else.
    #[tokio::test(start_paused = true)]
    async fn a_members_wall_clock_can_be_set_either_way_and_no_moment_moves() {
        let clock = MemberClock::new(Moment::ZERO, Instant::now());
        let right = clock.wall_millis();
        assert_eq!(right, millis(EPOCH));
        clock.step_wall(3_600_000);
        assert_eq!(clock.wall_millis(), right + 3_600_000);
        clock.step_wall(-7_200_000);
        assert_eq!(clock.wall_millis(), right - 3_600_000);
        assert_eq!(clock.now(), Moment::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_stores_clock_can_be_set_and_true_time_goes_on() {
        let mut clock = WallClock::new();
        clock.forward(Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(1)).await;
        clock.back(Duration::from_secs(2));
        assert_eq!(clock.now().since(EPOCH), Duration::from_secs(4));
        assert_eq!(clock.elapsed(), Duration::from_secs(1));
    }
}
