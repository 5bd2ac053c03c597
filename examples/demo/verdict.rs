//! The verdict: what the fleet computed and how, against a single process.

use std::fmt;

use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::state::{counted, thousands};
use crate::world::Record;

/// What is found out at the end.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// One line for each thing that was compared or counted.
    findings: Vec<Finding>,
}

#[derive(Debug, Clone)]
struct Finding {
    /// `None`: a figure, that may be what it will.
    right: Option<bool>,
    text: String,
}

/// Everything that a verdict rests on.
pub(crate) struct Evidence<'a> {
    pub(crate) record: &'a Record,
    /// What a single process computed, and what the store holds.
    pub(crate) expected: &'a [Ledger],
    pub(crate) found: &'a [Ledger],
    /// The kinds of faults that were played.
    pub(crate) faults: &'a [Fault],
}

impl Verdict {
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let mut findings = vec![totals(evidence), order(evidence), overlaps(evidence)];
        if !evidence.faults.is_empty() {
            findings.extend([late_writes(evidence), faults(evidence)]);
        }
        findings.extend(figures(evidence));
        findings.extend(violations(evidence));
        Self { findings }
    }

    /// Whether every promise was kept.
    pub(crate) fn is_equal(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.right != Some(false))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { right, text } in &self.findings {
            let mark = match right {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "    ",
            };
            writeln!(f, "{mark} {text}")?;
        }
        let word = if self.is_equal() {
            "equal"
        } else {
            "NOT EQUAL"
        };
        writeln!(f, "verdict: {word}")
    }
}

fn checked(right: bool, text: String) -> Finding {
    let right = Some(right);
    Finding { right, text }
}

fn totals(evidence: &Evidence<'_>) -> Finding {
    let Evidence {
        expected, found, ..
    } = evidence;
    let sums = |ledgers: &[Ledger]| {
        let authors = ledgers.iter().flat_map(|ledger| ledger.authors.values());
        let (mut commits, mut lines) = (0, 0);
        for totals in authors {
            commits += totals.commits;
            lines += totals.insertions + totals.deletions;
        }
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        (size(commits), size(lines))
    };
    let same = |(a, b): &(&Ledger, &Ledger)| a.authors == b.authors;
    let equal = expected.len() == found.len() && expected.iter().zip(*found).all(|p| same(&p));
    let authors: usize = expected.iter().map(|ledger| ledger.authors.len()).sum();
    let ((commits, lines), (found_commits, found_lines)) = (sums(expected), sums(found));
    let text = if equal {
        format!(
            "the totals of {} are those of a single process:\n     {}, {}",
            counted(authors, "author"),
            counted(commits, "commit"),
            counted(lines, "line")
        )
    } else {
        format!(
            "totals differ: {commits} commits and {lines} lines in a single process,\n     \
             {found_commits} and {found_lines} in the fleet"
        )
    };
    checked(equal, text)
}

fn order(evidence: &Evidence<'_>) -> Finding {
    let pairs = || evidence.expected.iter().zip(evidence.found);
    let right = |(a, b): &(&Ledger, &Ledger)| a.folded == b.folded && a.chain == b.chain;
    let wrong = pairs().filter(|pair| !right(pair)).count();
    let events: usize = evidence.found.iter().map(|ledger| ledger.folded).sum();
    let folded = evidence.record.witness.figures().folded;
    let again = folded.saturating_sub(events);
    let text = match wrong {
        0 => format!(
            "{} count once each, and in order ({} folded again)",
            counted(events, "event"),
            thousands(again)
        ),
        wrong => format!(
            "{} with other events or another order, of {}",
            counted(wrong, "shard"),
            counted(evidence.found.len(), "shard")
        ),
    };
    checked(wrong == 0, text)
}

fn overlaps(evidence: &Evidence<'_>) -> Finding {
    let overlaps = evidence.record.witness.figures().overlaps;
    let text = counted(overlaps, "overlap") + " of ownership";
    checked(overlaps == 0, text)
}

/// Some must have been tried.
fn late_writes(evidence: &Evidence<'_>) -> Finding {
    let refused = evidence.record.witness.figures().refused;
    let text = counted(refused, "late write") + " of stopped nodes refused";
    checked(refused > 0, text)
}

/// Each kind of fault must have hit, and all but joins must have hit somebody who owned shards.
fn faults(evidence: &Evidence<'_>) -> Finding {
    let mut right = true;
    let words = evidence.faults.iter().map(|fault| {
        let hits = evidence.record.faults.get(fault).copied();
        let hits = hits.unwrap_or_default();
        right &= hits.times > 0 && (*fault == Fault::Join || hits.at_work > 0);
        let word = match fault {
            Fault::Join => return format!("{} joins", hits.times),
            Fault::Leave => "leaves",
            Fault::Crash => "crashes",
            Fault::Pause => "pauses",
            Fault::Cut => "cuts",
        };
        format!("{} {word}", hits.at_work)
    });
    let words: Vec<String> = words.collect();
    let text = format!("nodes at work were hit: {}", words.join(", "));
    checked(right, text)
}

fn figures(evidence: &Evidence<'_>) -> [Finding; 3] {
    let Evidence { record, .. } = evidence;
    let seen = record.witness.figures();
    let figure = |text| Finding { right: None, text };
    [
        figure(format!(
            "{}, {} of them by a drain; the longest time unowned is {:.1} s",
            counted(seen.hand_offs, "hand-off"),
            seen.drained,
            seen.longest_unowned.as_secs_f64()
        )),
        figure(format!(
            "{} moved, the least possible is {}",
            counted(record.moves.moved(), "shard"),
            record.moves.least()
        )),
        figure(format!(
            "{} of planners: {}",
            counted(record.terms.len(), "term"),
            record.terms.join(", ")
        )),
    ]
}

/// The first broken promises in words: enough to see what happened.
fn violations(evidence: &Evidence<'_>) -> Vec<Finding> {
    const SHOWN: usize = 20;
    let violations = evidence.record.witness.violations();
    let mut findings: Vec<Finding> = violations
        .iter()
        .take(SHOWN)
        .map(|text| checked(false, text.clone()))
        .collect();
    if violations.len() > SHOWN {
        let rest = violations.len() - SHOWN;
        findings.push(checked(false, format!("and {rest} more")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Event;
    use crate::world::Hits;

    fn ledger(seqs: &[u64]) -> Ledger {
        let mut ledger = Ledger::new();
        for seq in seqs {
            ledger.fold(&Event {
                seq: *seq,
                author: "a".into(),
                files: 1,
                insertions: 10,
                deletions: 1,
            });
        }
        ledger
    }

    fn judge(record: &Record, found: &[u64], faults: &[Fault]) -> Verdict {
        Verdict::of(&Evidence {
            record,
            expected: &[ledger(&[1, 2, 3])],
            found: &[ledger(found)],
            faults,
        })
    }

    #[test]
    fn the_same_ledger_is_equal() {
        let verdict = judge(&Record::new(1), &[1, 2, 3], &[]);
        assert!(verdict.is_equal());
        assert!(verdict.to_string().ends_with("verdict: equal\n"));
    }

    #[test]
    fn a_lost_event_a_repeated_one_and_another_order_are_not_equal() {
        for found in [&[1, 2][..], &[1, 2, 3, 3], &[1, 3, 2]] {
            let verdict = judge(&Record::new(1), found, &[]);
            assert!(!verdict.is_equal(), "{found:?}");
            assert!(verdict.to_string().ends_with("verdict: NOT EQUAL\n"));
        }
    }

    #[test]
    fn a_broken_promise_is_not_equal_whatever_the_totals() {
        let mut record = Record::new(1);
        record.witness.violated("something".into());
        let verdict = judge(&record, &[1, 2, 3], &[]);
        assert!(!verdict.is_equal());
        assert!(verdict.to_string().contains("FAIL something"));
    }

    #[test]
    fn faults_that_hit_nobody_at_work_prove_nothing() {
        let mut record = Record::new(1);
        for fault in Fault::ALL {
            let hits = Hits {
                times: 2,
                at_work: usize::from(fault != Fault::Pause),
            };
            record.faults.insert(fault, hits);
        }
        let verdict = judge(&record, &[1, 2, 3], &Fault::ALL);
        assert!(!verdict.is_equal());
        assert!(verdict.to_string().contains("FAIL nodes at work were hit"));
        assert!(verdict.to_string().contains("FAIL 0 late writes of"));
    }
}
