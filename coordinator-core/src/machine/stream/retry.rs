//! How long, and when, a batch is sent again (rule U2).

use std::time::Duration;

use crate::errors::ErrorKind;
use crate::time::Moment;

/// For so long after its first attempt a batch is sent again, always under the same sequences, and
/// before anything newer.
pub const RETRY_FOR: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What to do after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Send the same frames again, at this moment.
    Again(Moment),
    /// Send the same frames again, one by one: one of them is refused, and must not take the
    /// others with it.
    Split,
    /// The time is up. Nothing went out.
    Unavailable,
    /// The time is up. Some frames may be out, so a beacon must follow.
    Indeterminate,
    /// Refused for good.
    Rejected,
}

/// The attempts at one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    deadline: Moment,
    frames: usize,
    pause: Duration,
    doubt: Doubt,
}

/// What the earlier attempts may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// Sent nothing.
    Nothing,
    /// Sent what came before a frame that was refused, or not taken.
    Prefix,
    /// Sent anything.
    Anything,
}

impl Retry {
    /// A batch of so many frames that is sent for the first time now.
    pub fn new(now: Moment, frames: usize) -> Self {
        Self {
            deadline: now + RETRY_FOR,
            frames,
            pause: FIRST_PAUSE,
            doubt: Doubt::Nothing,
        }
    }

    /// The attempts at one frame of this batch alone. They share its deadline, and its doubt.
    pub fn split(&self) -> Self {
        Self {
            frames: 1,
            ..self.clone()
        }
    }

    /// When the last attempt must have been answered.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// An attempt failed. `random` spreads the attempts of many processes.
    pub fn failed(&mut self, now: Moment, kind: ErrorKind, random: u64) -> After {
        self.doubt = self.doubt.max(match kind {
            ErrorKind::Indeterminate => Doubt::Anything,
            // A backend may have sent a prefix of a batch before it failed: only for a single
            // frame do the other errors mean that nothing is out.
            ErrorKind::Unavailable | ErrorKind::Quarantined { .. } | ErrorKind::Rejected
                if self.frames > 1 =>
            {
                Doubt::Prefix
            }
            ErrorKind::Unavailable | ErrorKind::Quarantined { .. } | ErrorKind::Rejected => {
                Doubt::Nothing
            }
        });
        match (kind, self.doubt) {
            (ErrorKind::Rejected, _) if self.frames > 1 => return After::Split,
            // Refused alone, it was not in the prefix that may have gone out.
            (ErrorKind::Rejected, Doubt::Nothing | Doubt::Prefix) => return After::Rejected,
            (ErrorKind::Rejected, Doubt::Anything) => return After::Indeterminate,
            (
                ErrorKind::Unavailable | ErrorKind::Quarantined { .. } | ErrorKind::Indeterminate,
                _,
            ) => {}
        }
        let at = now + self.next_pause(random);
        match self.doubt {
            _ if at < self.deadline => After::Again(at),
            Doubt::Nothing => After::Unavailable,
            Doubt::Prefix | Doubt::Anything => After::Indeterminate,
        }
    }

    /// Between half the present pause and all of it; the next one is twice as long.
    fn next_pause(&mut self, random: u64) -> Duration {
        let half = self.pause / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        half + Duration::from_nanos(random % spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(ms)
    }

    /// U2.
    #[test]
    fn an_unknown_outcome_is_retried_for_five_seconds_and_then_stays_unknown() {
        let mut retry = Retry::new(at(0), 3);
        let mut now = at(0);
        let last = loop {
            match retry.failed(now, ErrorKind::Indeterminate, u64::MAX) {
                After::Again(next) => {
                    assert!(next > now && next < at(5_000));
                    now = next;
                }
                end => break end,
            }
        };
        assert_eq!(last, After::Indeterminate);
        assert!(now >= at(3_900), "gave up at {now:?}");
    }

    #[test]
    fn only_a_single_frame_that_never_left_is_known_to_be_nowhere() {
        let end = at(5_000);
        let unavailable = |frames| Retry::new(at(0), frames).failed(end, ErrorKind::Unavailable, 0);
        assert_eq!(unavailable(1), After::Unavailable);
        assert_eq!(unavailable(2), After::Indeterminate);
        let mut doubted = Retry::new(at(0), 1);
        assert!(matches!(
            doubted.failed(at(0), ErrorKind::Indeterminate, 0),
            After::Again(_)
        ));
        assert_eq!(
            doubted.failed(end, ErrorKind::Unavailable, 0),
            After::Indeterminate
        );
    }

    /// B13: one refused frame is found by sending each alone.
    #[test]
    fn a_refused_batch_is_split_and_a_refused_frame_is_refused_at_once() {
        let mut batch = Retry::new(at(0), 2);
        assert_eq!(batch.failed(at(1), ErrorKind::Rejected, 0), After::Split);
        let rejected = batch.split().failed(at(2), ErrorKind::Rejected, 0);
        assert_eq!(rejected, After::Rejected);
        // But its neighbour may have gone out with the first attempt.
        let neighbour = batch.split().failed(at(5_000), ErrorKind::Unavailable, 0);
        assert_eq!(neighbour, After::Indeterminate);
        let mut single = Retry::new(at(0), 1);
        assert_eq!(
            single.failed(at(1), ErrorKind::Rejected, 0),
            After::Rejected
        );
    }
}
