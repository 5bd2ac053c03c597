//! The machine's clock, as leases need it (rule T5).

use std::sync::{Arc, Mutex, PoisonError};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::Instant;
use std::time::{Duration, SystemTime};

use coordinator_core::{Clock, Moment};

/// Wall-clock steps up to this are slewing and reading noise, not a suspension.
const NOISE: Duration = Duration::from_millis(5);

/// Counts the time in which the machine was suspended, and never goes back.
///
/// | platform | base | counts suspension |
/// |---|---|---|
/// | Linux, Android | `CLOCK_BOOTTIME` | yes |
/// | macOS, Windows, others | [`std::time::Instant`] | through the wall clock only: when it has moved further than the base, the difference is added |
///
/// A forward step of the wall clock is taken for a suspension, and costs a lease, never safety. A
/// *paused virtual machine* may stop every clock it sees: only fencing covers that.
#[derive(Debug)]
pub(crate) struct SystemClock {
    origin: Base,
    seen: Mutex<Seen>,
}

/// The steady side of a clock: for ages and waits that others rely on, and that a clock which jumps
/// ahead would stretch.
pub(crate) struct Steady(pub(crate) Arc<dyn Clock>);

impl Clock for Steady {
    fn now(&self) -> Moment {
        self.0.steady()
    }

    fn steady(&self) -> Moment {
        self.0.steady()
    }

    fn wall_millis(&self) -> u64 {
        self.0.wall_millis()
    }
}

/// What the last reading found.
#[derive(Debug, Clone, Copy)]
struct Seen {
    base: Duration,
    wall: SystemTime,
    /// How much the wall clock has run ahead of the base, in all its forward steps together.
    lead: Duration,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        let seen = Seen {
            base: Duration::ZERO,
            wall: SystemTime::now(),
            lead: Duration::ZERO,
        };
        Self {
            origin: Base::now(),
            seen: Mutex::new(seen),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = seen.next(self.origin.elapsed(), SystemTime::now());
        Moment::since_origin(seen.base + seen.lead)
    }

    /// The base alone. Where it stops in a suspension, promises last longer, which is safe.
    fn steady(&self) -> Moment {
        Moment::since_origin(self.origin.elapsed())
    }

    fn wall_millis(&self) -> u64 {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // An error means that the clock shows a time before 1970.
        wall.map_or(0, |span| {
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        })
    }
}

impl Seen {
    fn next(self, base: Duration, wall: SystemTime) -> Self {
        let base = base.max(self.base);
        let passed = base.saturating_sub(self.base);
        // An error means that the wall clock was set back: no reason to trust for longer.
        let walled = wall.duration_since(self.wall).unwrap_or(Duration::ZERO);
        let ahead = walled.saturating_sub(passed);
        let noise = NOISE.max(passed / coordinator_core::trust::RATE);
        let lead = if ahead > noise {
            self.lead + ahead
        } else {
            self.lead
        };
        Self { base, wall, lead }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
struct Base(Duration);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Base {
    fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
struct Base(Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Base {
    fn now() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(base_ms: u64, wall_ms: u64, seen: Seen) -> Seen {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms);
        seen.next(Duration::from_millis(base_ms), wall)
    }

    const START: Seen = Seen {
        base: Duration::ZERO,
        wall: SystemTime::UNIX_EPOCH,
        lead: Duration::ZERO,
    };

    #[test]
    fn a_suspension_that_only_the_wall_clock_saw_is_counted() {
        let woken = at(1_000, 61_000, at(900, 900, START));
        assert_eq!(woken.base + woken.lead, Duration::from_secs(61));
    }

    #[test]
    fn a_wall_clock_set_back_changes_nothing_and_a_later_suspension_still_counts() {
        let back = at(2_000, 500, at(1_000, 1_000_000, START));
        let lead = back.lead;
        assert_eq!(at(3_000, 1_500, back).lead, lead);
        assert_eq!(at(3_000, 31_500, back).lead, lead + Duration::from_secs(30));
    }

    #[test]
    fn slewing_does_not_add_up() {
        let mut seen = START;
        for step in 1..=1_000 {
            seen = at(step * 100, step * 100 + step / 20, seen);
        }
        assert_eq!(seen.lead, Duration::ZERO);
    }

    #[test]
    fn readings_never_go_back() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
