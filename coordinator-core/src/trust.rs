//! The arithmetic of trust windows, in one place (rules T1 to T6).
//!
//! A lease has two ends, each on a clock of its own. The store's comes a ttl after its grant. The
//! holder's comes a margin sooner, and is counted from before it even asked: so however long
//! request and reply were under way, trust ends first.

use std::time::Duration;

use crate::time::Moment;

/// The TTL of a lease unless chosen otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// The shortest TTL: below it the least margin would leave too little trust.
pub const MIN_TTL: Duration = Duration::from_millis(200);
/// The longest TTL, a constant of the namespace: so long a store waits that lost its memory.
pub const MAX_TTL: Duration = Duration::from_secs(30);
/// The least margin that is chosen by default.
pub const MIN_MARGIN: Duration = Duration::from_millis(50);
/// A-RATE: each clock runs within 1 ± 1/`RATE` of real time.
pub const RATE: u32 = 1_000;

/// A TTL or margin that cannot keep a lease safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTtl {
    /// The TTL is outside its bounds.
    #[error("a ttl of {given:?} is not allowed: choose {least:?} to {most:?}")]
    Ttl {
        /// What was given.
        given: Duration,
        /// The shortest allowed.
        least: Duration,
        /// The longest allowed: the namespace's `max_ttl`.
        most: Duration,
    },
    /// The margin does not fit the TTL.
    #[error("a margin of {given:?} does not fit a ttl of {ttl:?}: choose {least:?} to {most:?}")]
    Margin {
        /// What was given.
        given: Duration,
        /// The TTL it was given for.
        ttl: Duration,
        /// The smallest allowed for this TTL.
        least: Duration,
        /// The largest allowed for this TTL: half of it.
        most: Duration,
    },
}

/// How long a lease is asked for, and how much of that its holder does not trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trust {
    ttl: Duration,
    margin: Duration,
}

impl Trust {
    /// Trust in leases of `ttl`, with the default margin: a tenth of it, at least 50 ms.
    pub fn new(ttl: Duration) -> Result<Self, BadTtl> {
        Self::with_margin(ttl, (ttl / 10).max(MIN_MARGIN))
    }

    /// Trust in leases of `ttl` that ends `margin` before them.
    ///
    /// The margin pays for two clocks that differ in rate by 2ρ, for forward steps of the store's
    /// clock, and for the delay with which a process acts on its own deadline. What is left for
    /// the last two, `s = margin − 2ρ·ttl`, must be at least 10 ms.
    pub fn with_margin(ttl: Duration, margin: Duration) -> Result<Self, BadTtl> {
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(BadTtl::Ttl {
                given: ttl,
                least: MIN_TTL,
                most: MAX_TTL,
            });
        }
        let least = ttl * 2 / RATE + Duration::from_millis(10);
        let most = ttl / 2;
        if !(least..=most).contains(&margin) {
            return Err(BadTtl::Margin {
                given: margin,
                ttl,
                least,
                most,
            });
        }
        Ok(Self { ttl, margin })
    }

    /// How long the store keeps the lease.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// By how much trust ends before the lease.
    pub const fn margin(&self) -> Duration {
        self.margin
    }

    /// How long a lease is trusted, from the moment it was asked for.
    pub const fn window(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }

    /// The end of trust in a lease that was asked for at `asked` (T1). `asked` is the local clock
    /// *before* the request left: a slow round trip only shortens trust.
    pub fn until(&self, asked: Moment) -> Moment {
        asked + self.window()
    }

    /// How often to renew: a third of the TTL (T6), so that one lost renewal costs nothing.
    pub const fn renew_every(&self) -> Duration {
        match self.ttl.checked_div(3) {
            Some(third) => third,
            None => self.ttl,
        }
    }

    /// How often a holder at least looks at its clock: async timers stop in suspend (T5).
    pub const fn look_every(&self) -> Duration {
        match self.ttl.checked_div(10) {
            Some(tenth) => tenth,
            None => self.ttl,
        }
    }

    /// How long to wait by one clock until `span` has passed by any other (A-RATE on both).
    pub fn surely(span: Duration) -> Duration {
        span.saturating_add(span / RATE * 2)
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            margin: DEFAULT_TTL / 10,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_counted_from_the_request_and_ends_a_margin_before_the_lease() {
        let trust = Trust::default();
        let asked = Moment::since_origin(Duration::from_secs(100));
        assert_eq!(trust.until(asked).since(asked), Duration::from_secs(9));
    }

    #[test]
    fn the_window_fits_into_the_lease_for_the_worst_clocks_at_every_ttl() {
        for millis in [200, 201, 350, 499, 500, 501, 1_000, 9_999, 30_000] {
            let trust = Trust::new(Duration::from_millis(millis)).unwrap();
            // T1, in integers of 1/RATE nanoseconds: (ttl − margin)(1+ρ) + s ≤ ttl(1−ρ), where
            // the slack s is what the margin leaves after both clocks have drifted.
            let (ttl, margin) = (trust.ttl().as_nanos(), trust.margin().as_nanos());
            let rate = u128::from(RATE);
            let slack = margin - 2 * ttl / rate;
            assert!((ttl - margin) * (rate + 1) + slack * rate <= ttl * (rate - 1) + rate);
            assert!(slack >= 10_000_000);
        }
    }

    #[test]
    fn a_ttl_or_margin_out_of_bounds_names_what_is_allowed() {
        let zero = Trust::new(Duration::ZERO).unwrap_err().to_string();
        assert_eq!(zero, "a ttl of 0ns is not allowed: choose 200ms to 30s");
        assert!(Trust::new(Duration::from_millis(199)).is_err());
        assert!(Trust::new(Duration::from_secs(31)).is_err());
        let thin = Trust::with_margin(Duration::from_secs(10), Duration::from_millis(29));
        assert_eq!(
            thin.unwrap_err().to_string(),
            "a margin of 29ms does not fit a ttl of 10s: choose 30ms to 5s"
        );
    }
}
