//! Local time, as core sees it: an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A reading of one process's clock: a span since an origin that nobody asks about.
///
/// Moments of two processes are never compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment so long after the origin.
    pub const fn since_origin(span: Duration) -> Self {
        Self(span)
    }

    /// The span from the origin to this moment.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Saturates at the origin.
impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:?}", self.0)
    }
}

/// Reads the local clock by which leases are trusted.
///
/// # Contract
/// 1. Readings never go back.
/// 2. The clock counts the time in which the machine was suspended, where the platform tells it.
/// 3. It runs within 0.1 % of real time (A-RATE); it may jump forward, never back.
/// 4. The steady clock keeps clauses 1 and 3, and never jumps: of it, no more passes than of real
///    time, but for its rate.
pub trait Clock: Send + Sync + 'static {
    /// The present moment. What is *trusted* is judged by it: a jump ends trust early, which is
    /// safe.
    fn now(&self) -> Moment;

    /// The present moment by a clock that never runs ahead. What was *promised* to others is judged
    /// by it: a jump would end a promise that others still trust on. Its origin is its own.
    fn steady(&self) -> Moment;

    /// What the machine's wall clock shows, in milliseconds since 1970. It may be set either way:
    /// it numbers things (K1, V5), and no lease is judged by it.
    fn wall_millis(&self) -> u64;
}
