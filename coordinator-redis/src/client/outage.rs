//! How a connection that is made again and again is told of in the log: at once, when the reason is another, and else once a minute.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// The same reason is told again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// The time without a connection.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    began: Option<Instant>,
    attempts: u64,
    told: Option<(Instant, Arc<str>)>,
}

impl Outage {
    /// The connection was cut, or an attempt at a new one failed.
    pub(crate) fn failed(&mut self, host: &str, why: &str) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        self.attempts += 1;
        if self.is_news(now, why) {
            let (attempts, since) = (self.attempts, now - began);
            tracing::warn!(
                host,
                why,
                attempts,
                ?since,
                "nothing is heard from Redis: connecting again until it works"
            );
        }
    }

    /// It works again.
    pub(crate) fn is_over(&mut self, host: &str) {
        let Self {
            began, attempts, ..
        } = std::mem::take(self);
        if let Some(began) = began {
            let after = began.elapsed();
            tracing::info!(host, attempts, ?after, "Redis is heard again");
        }
    }

    fn is_news(&mut self, now: Instant, why: &str) -> bool {
        let is_old =
            |(at, told): &(Instant, Arc<str>)| **told == *why && now.duration_since(*at) < AGAIN;
        if self.told.as_ref().is_some_and(is_old) {
            return false;
        }
        self.told = Some((now, why.into()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_and_another_at_once() {
        let mut outage = Outage::default();
        let now = Instant::now();
        assert!(outage.is_news(now, "a"));
        assert!(!outage.is_news(now + AGAIN / 2, "a"));
        assert!(outage.is_news(now + AGAIN / 2, "b"));
        assert!(outage.is_news(now + AGAIN, "a"));
        assert!(outage.is_news(now + AGAIN * 2, "a"));
    }
}
