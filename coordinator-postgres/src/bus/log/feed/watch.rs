//! When to look next, and whether the watermark stands still (rule U16).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::LOOK_EVERY;
use crate::bus::log::statements::Statements;

/// Rows that may not be delivered yet are looked for at first so soon, and at last so rarely.
const SOON: Duration = Duration::from_millis(2);
const RARELY: Duration = Duration::from_millis(250);
/// Whoever stored rows numbers them at once: only then does somebody else (U12).
const LEAVE_TO_OTHERS: Duration = Duration::from_millis(50);
/// After an error: so soon, and at last every second.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// U16.
const STALLED_FOR: Duration = Duration::from_secs(5);

/// When to look at the log.
#[derive(Debug)]
pub(super) struct Pace {
    look_at: Instant,
    pause: Duration,
    numbers_first: bool,
}

impl Pace {
    pub(super) fn at_once() -> Self {
        Self {
            look_at: Instant::now(),
            pause: SOON,
            numbers_first: false,
        }
    }

    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Whether the next look is to number rows before.
    pub(super) fn numbers_first(&mut self) -> bool {
        std::mem::take(&mut self.numbers_first)
    }

    pub(super) fn at_once_again(&mut self) {
        self.look_at = Instant::now();
    }

    pub(super) fn failed(&mut self) {
        self.pause = (self.pause * 2).clamp(AFTER_ERROR, LOOK_EVERY);
        self.look_at = Instant::now() + self.pause;
    }

    /// All was read that could be. `waiting`: rows are there that could not.
    pub(super) fn looked(&mut self, waiting: bool, counted: bool, moved: bool) {
        let pause = match (waiting, counted) {
            (false, _) => {
                self.pause = SOON;
                LOOK_EVERY
            }
            (true, true) => {
                self.numbers_first = true;
                LEAVE_TO_OTHERS
            }
            (true, false) => {
                let pause = if moved { SOON } else { self.pause };
                self.pause = (pause * 2).min(RARELY);
                pause
            }
        };
        self.look_at = Instant::now() + pause;
    }
}

/// How long the watermark has stood still while rows wait.
#[derive(Debug, Default)]
pub(super) struct Stall {
    watermark: u64,
    since: Option<Instant>,
    told: bool,
}

impl Stall {
    pub(super) fn seen(&mut self, statements: &Arc<Statements>, watermark: u64, waiting: bool) {
        if !waiting || watermark != self.watermark {
            self.watermark = watermark;
            self.since = waiting.then(Instant::now);
            self.told = false;
            return;
        }
        // Nothing may have waited yet when the watermark came here.
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= STALLED_FOR && !self.told {
            self.told = true;
            tokio::spawn(tell(statements.clone()));
        }
    }
}

async fn tell(statements: Arc<Statements>) {
    let blocker = match statements.blocker().await {
        Ok(blocker) => blocker,
        Err(error) => format!("unknown: {error}"),
    };
    tracing::warn!(
        blocker,
        "a transaction that was not ended keeps durable messages from being delivered"
    );
}
