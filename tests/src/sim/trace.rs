//! The history of a run: a line for each thing that happened, with its true time.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

/// How many lines a violation shows.
const LAST: usize = 60;

/// How much of a run is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Nothing: fast.
    #[default]
    Nothing,
    /// A digest of all lines, and the last ones.
    Last,
    /// All lines.
    All,
}

/// A run's lines.
#[derive(Debug)]
pub struct Trace {
    keep: Keep,
    lines: VecDeque<String>,
    digest: u64,
    count: u64,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            lines: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            count: 0,
        }
    }

    /// One thing happened.
    pub fn write(&mut self, at: Duration, line: impl std::fmt::Display) {
        if self.keep == Keep::Nothing {
            return;
        }
        if self.keep == Keep::Last && self.lines.len() == LAST {
            self.lines.pop_front();
        }
        let mut text = String::with_capacity(64);
        let (seconds, micros) = (at.as_secs(), at.subsec_micros());
        // Writing to a string does not fail.
        let written = write!(text, "{seconds:>5}.{micros:06} {line}");
        debug_assert!(written.is_ok(), "a line is text");
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        self.lines.push_back(text);
    }

    /// What was kept, and a digest of everything.
    pub fn finish(self) -> History {
        History {
            lines: self.lines.into(),
            digest: (self.keep != Keep::Nothing).then_some(self.digest),
            count: self.count,
        }
    }
}

/// What is left of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The lines that were kept.
    pub lines: Vec<String>,
    /// A digest of all lines, if any were written.
    pub digest: Option<u64>,
    /// How many lines there were.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(keep: Keep, lines: usize) -> History {
        let mut trace = Trace::new(keep);
        for line in 0..lines {
            trace.write(Duration::from_millis(1_500), line);
        }
        trace.finish()
    }

    #[test]
    fn the_digest_is_of_all_lines_however_many_are_kept() {
        let (last, all) = (traced(Keep::Last, 100), traced(Keep::All, 100));
        assert_eq!(last.digest, all.digest);
        assert_eq!((last.lines.len(), all.lines.len()), (LAST, 100));
        assert_eq!(all.lines[7], "    1.500000 7");
        assert_ne!(traced(Keep::All, 99).digest, all.digest);
        assert_eq!(traced(Keep::Nothing, 9), History::default());
    }
}
