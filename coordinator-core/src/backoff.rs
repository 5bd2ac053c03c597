//! How long to wait before asking again.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Growing waits with full jitter: the `n`th is uniform between zero and `first · 2ⁿ`, at most
/// `most`, and never under a millisecond. So a fleet that failed together does not retry together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits that start below `first` and grow to at most `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// How long to wait after one more failure.
    pub fn next(&mut self, random: &mut impl Rng) -> Duration {
        let grown = self.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let most = grown.min(self.most);
        most.mul_f64(random.random::<f64>())
            .max(Duration::from_millis(1))
    }

    /// It worked: the next failure is the first again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_grow_up_to_the_bound_and_start_over_after_a_success() {
        let mut random = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        for failure in 0..40 {
            let bound = Duration::from_millis(50 << failure.min(6)).min(Duration::from_secs(2));
            assert!(backoff.next(&mut random) <= bound);
        }
        backoff.reset();
        assert!(backoff.next(&mut random) <= Duration::from_millis(50));
    }
}
