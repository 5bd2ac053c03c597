//! How often the doorbell of the durable log is rung (rule U13).
//!
//! The server wakes every session that listens, whatever it listens for, at each NOTIFY: a bell for
//! each message of a busy fleet would cost more than the messages. A reader that is woken reads all
//! there is, whoever rang. So each process counts the bells that it hears, and when they are many
//! rings for several of its batches at once. The first bell after a pause is never late.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::session::lock;

/// So many bells a second, of all processes, wake readers often enough.
const ENOUGH: f64 = 200.0;
/// The rate is judged over so long.
const PERIOD: Duration = Duration::from_millis(50);
/// No bell is later than this. Readers number what nobody has numbered after a little more (U12).
const LATEST: Duration = Duration::from_millis(40);
/// What is not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// The bells of one process.
#[derive(Debug, Default)]
pub(super) struct Ringing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeSet<Uuid>,
    /// Whether somebody comes back for what is due.
    awaited: bool,
    last: Option<Instant>,
    pause: Duration,
    /// When the period began, how many bells had been heard by then, and how many were rung since.
    since: Option<Instant>,
    heard: u64,
    rung: u32,
}

/// What is to be done about the bells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// To ring these; none at all, or somebody else will.
    Now(BTreeSet<Uuid>),
    /// To come back then.
    At(Instant),
}

impl Ringing {
    /// Rows of these topics are being stored. `heard`: how many bells this process has ever heard.
    pub(super) fn due(&self, now: Instant, heard: u64, topics: BTreeSet<Uuid>) -> Ring {
        let mut state = lock(&self.state);
        state.due.extend(topics);
        if state.due.is_empty() {
            return Ring::Now(BTreeSet::new());
        }
        state.judge(now, heard);
        let free = state.last.map_or(now, |last| last + state.pause);
        if now >= free {
            state.last = Some(now);
            state.rung += 1;
            return Ring::Now(std::mem::take(&mut state.due));
        }
        if std::mem::replace(&mut state.awaited, true) {
            return Ring::Now(BTreeSet::new());
        }
        Ring::At(free)
    }

    /// Whoever was to come back is there.
    pub(super) fn is_back(&self) {
        lock(&self.state).awaited = false;
    }
}

impl State {
    /// Lengthens the pause in proportion to the excess, and shortens it step by step.
    fn judge(&mut self, now: Instant, heard: u64) {
        let span = now - *self.since.get_or_insert(now);
        if span < PERIOD {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let excess = (heard - self.heard) as f64 / span.as_secs_f64() / ENOUGH;
        if excess > 1.0 && self.rung > 0 {
            self.pause = (span / self.rung).mul_f64(excess).min(LATEST);
        } else if excess < 0.5 {
            let rested = span > PERIOD * 4 || self.pause < SHORTEST * 2;
            self.pause = if rested {
                Duration::ZERO
            } else {
                self.pause / 2
            };
        }
        (self.since, self.heard, self.rung) = (Some(now), heard, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(500);

    fn topic() -> BTreeSet<Uuid> {
        BTreeSet::from([Uuid::from_u128(7)])
    }

    /// Of a fleet that stores a batch each `every` steps, for so long: bells, and how late the latest
    /// was.
    fn fleet(size: usize, every: u32, span: Duration) -> (u64, Duration) {
        let begin = Instant::now();
        let fleet: Vec<_> = (0..size).map(|_| Ringing::default()).collect();
        let mut back: Vec<Option<Instant>> = vec![None; size];
        let mut waits: Vec<Option<Instant>> = vec![None; size];
        let (mut bells, mut late, mut step) = (0, Duration::ZERO, 0);
        while STEP * step < span {
            let now = begin + STEP * step;
            let heard = bells;
            for (place, one) in fleet.iter().enumerate() {
                let comes_back = back[place].is_some_and(|at| at <= now);
                let stores = (step + u32::try_from(place).unwrap()).is_multiple_of(every);
                if comes_back {
                    back[place] = None;
                    one.is_back();
                }
                if !comes_back && !stores {
                    continue;
                }
                if stores {
                    waits[place].get_or_insert(now);
                }
                let topics = if stores { topic() } else { BTreeSet::new() };
                match one.due(now, heard, topics) {
                    Ring::At(at) => back[place] = Some(at),
                    Ring::Now(topics) if topics.is_empty() => {}
                    Ring::Now(_) => {
                        bells += 1;
                        let since = waits[place].take().unwrap_or(now);
                        late = late.max(now - since);
                    }
                }
            }
            step += 1;
        }
        (bells, late)
    }

    #[test]
    fn a_quiet_fleet_rings_for_each_batch_at_once() {
        // A hundred batches a second.
        let (bells, late) = fleet(1, 20, Duration::from_secs(2));
        assert_eq!((bells, late), (200, Duration::ZERO));
        let (bells, late) = fleet(3, 40, Duration::from_secs(2));
        assert_eq!((bells, late), (300, Duration::ZERO));
    }

    #[test]
    fn a_busy_fleet_shares_its_bells_and_none_is_very_late() {
        for size in [1, 4, 16] {
            let (bells, late) = fleet(size, 1, Duration::from_secs(2));
            // Each batch has a bell until the rate has been judged for the first time.
            let at_first = 101 * size as u64;
            let then = bells - at_first;
            // As many as are enough, or as many as keep each process's latest from being too late.
            let wanted = (2 * 200).max(2 * 25 * size as u64);
            assert!(
                (wanted / 2..wanted * 5 / 4).contains(&then),
                "{size}: {at_first} and {then}"
            );
            assert!(late <= LATEST + STEP, "{size}: {late:?}");
        }
    }

    #[test]
    fn after_a_rest_the_first_bell_is_rung_at_once() {
        let (one, begin) = (Ringing::default(), Instant::now());
        let mut heard = 0;
        for step in 0..1_000 {
            heard += u64::from(
                matches!(one.due(begin + STEP * step, heard * 8, topic()), Ring::Now(rung) if !rung.is_empty()),
            );
        }
        let rest = begin + Duration::from_secs(10);
        one.is_back();
        assert_eq!(one.due(rest, heard * 8, topic()), Ring::Now(topic()));
        let next = rest + STEP;
        assert_eq!(one.due(next, heard * 8, topic()), Ring::Now(topic()));
    }
}
