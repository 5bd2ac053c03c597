//! What may go wrong between one member and the store.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// How long each message takes: always the same, or drawn from a range by the store's seed.
///
/// Made from a [`Duration`] or a range of them; see [`Link::delay`](crate::Link::delay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    least: Duration,
    most: Duration,
}

impl Delay {
    /// Every message arrives at once.
    pub const NONE: Self = Self {
        least: Duration::ZERO,
        most: Duration::ZERO,
    };

    pub(crate) fn draw(self, random: &mut StdRng) -> Duration {
        if self.most <= self.least {
            return self.least;
        }
        random.random_range(self.least..=self.most)
    }
}

impl From<Duration> for Delay {
    fn from(span: Duration) -> Self {
        Self {
            least: span,
            most: span,
        }
    }
}

impl From<Range<Duration>> for Delay {
    fn from(range: Range<Duration>) -> Self {
        Self {
            least: range.start,
            most: range.end,
        }
    }
}

impl From<RangeInclusive<Duration>> for Delay {
    fn from(range: RangeInclusive<Duration>) -> Self {
        Self {
            least: *range.start(),
            most: *range.end(),
        }
    }
}

/// All that is wrong with one link now.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and any set of them may be on"
)]
pub(crate) struct Faults {
    pub(crate) cut_requests: bool,
    pub(crate) cut_replies: bool,
    pub(crate) cut_bus: bool,
    pub(crate) delay: Delay,
    pub(crate) lose_requests: bool,
    pub(crate) lose_replies: bool,
    pub(crate) request_loss: f64,
    pub(crate) bus_loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: bool,
}

impl Faults {
    pub(crate) const fn none() -> Self {
        Self {
            cut_requests: false,
            cut_replies: false,
            cut_bus: false,
            delay: Delay::NONE,
            lose_requests: false,
            lose_replies: false,
            request_loss: 0.0,
            bus_loss: 0.0,
            duplicate: 0.0,
            reorder: false,
        }
    }

    /// Whether the member hears of nothing that the store says.
    pub(crate) const fn deaf(&self) -> bool {
        self.cut_replies || self.lose_replies
    }

    /// What will become of a request that leaves now.
    pub(crate) fn plan(&self, random: &mut StdRng) -> Plan {
        Plan {
            out: self.delay.draw(random),
            back: self.delay.draw(random),
            ..self.plan_publish(random)
        }
        .without_reply(self.cut_replies)
    }

    /// What will become of frames that leave now. Delays are for their delivery, not for this.
    pub(crate) fn plan_publish(&self, random: &mut StdRng) -> Plan {
        Plan {
            out: Duration::ZERO,
            back: Duration::ZERO,
            request_lost: self.lose_requests || chance(random, self.request_loss),
            reply_lost: self.lose_replies || chance(random, self.request_loss),
        }
    }
}

/// Draws whether something of this probability happens.
pub(crate) fn chance(random: &mut StdRng, probability: f64) -> bool {
    // Nothing is drawn where nothing can happen: a fault that is not used changes no run.
    probability > 0.0 && random.random_bool(probability.min(1.0))
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) out: Duration,
    pub(crate) back: Duration,
    pub(crate) request_lost: bool,
    pub(crate) reply_lost: bool,
}

impl Plan {
    const fn without_reply(mut self, lost: bool) -> Self {
        self.reply_lost |= lost;
        self
    }

    /// Whether nothing stands between the request and its answer.
    pub(crate) fn is_plain(&self) -> bool {
        self.out.is_zero() && self.back.is_zero() && !self.request_lost && !self.reply_lost
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Not sent: there is no connection.
    #[error("the link of this member is cut")]
    Cut,
    /// Not sent: the store does not run.
    #[error("the store is stopped")]
    Stopped,
    /// Not sent: the process is dead.
    #[error("this member's process has crashed")]
    Crashed,
    /// Sent, and nothing came back in time.
    #[error("no reply came within {0:?}")]
    NoReply(Duration),
}

impl Failure {
    /// Whether the request may have taken effect.
    pub(crate) const fn may_have_happened(self) -> bool {
        match self {
            Self::Cut | Self::Stopped | Self::Crashed => false,
            Self::NoReply(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn delays_stay_within_their_range_and_repeat_with_the_seed() {
        let range = Duration::from_millis(5)..Duration::from_millis(50);
        let draw = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let delay = Delay::from(range.clone());
            (0..100)
                .map(|_| delay.draw(&mut random))
                .collect::<Vec<_>>()
        };
        assert!(
            draw(1)
                .iter()
                .all(|delay| (range.start..=range.end).contains(delay))
        );
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_link_without_faults_plans_nothing() {
        let mut random = StdRng::seed_from_u64(1);
        assert!(Faults::none().plan(&mut random).is_plain());
    }
}
