//! What a check says: passed, skipped with a reason, or failed and how.

use std::error::Error;
use std::fmt;

/// Why a check failed: which one, what it expected of the backend, and what it saw.
///
/// Its `Debug` is its `Display`, so that a test which returns it prints a sentence.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The check, as `trait::check`.
    pub check: String,
    /// The clauses of the contract, the rules and the scenarios that the check stands for.
    pub covers: &'static [&'static str],
    /// What the contract demands at this place.
    pub expected: String,
    /// What the backend did.
    pub seen: String,
    /// The namespace in which it happened, for a look into the store.
    pub namespace: String,
    /// The seed of the check's random choices: the same seed makes the same ones.
    pub seed: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the backend breaks {}\n  expected: {}\n  seen:     {}\n  in namespace `{}`, seed {}",
            self.check,
            self.covers.join(", "),
            self.expected,
            self.seen,
            self.namespace,
            self.seed,
        )
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend did what the contract says.
    Passed,
    /// The check does not concern this backend.
    Skipped {
        /// What is absent.
        reason: String,
    },
    /// The backend broke the contract.
    Failed(Failure),
}

/// How all checks of one trait ended, in the order of the list of checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Each check, as `trait::check`, and how it ended.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Report {
    /// The failures.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.outcomes
            .iter()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Failed(failure) => Some(failure),
                Outcome::Passed | Outcome::Skipped { .. } => None,
            })
    }

    /// The checks that did not concern the backend, each with the reason.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes
            .iter()
            .filter_map(|(check, outcome)| match outcome {
                Outcome::Skipped { reason } => Some((check.as_str(), reason.as_str())),
                Outcome::Passed | Outcome::Failed(_) => None,
            })
    }

    /// The names of the checks that passed.
    pub fn passed(&self) -> impl Iterator<Item = &str> {
        self.outcomes
            .iter()
            .filter_map(|(check, outcome)| match outcome {
                Outcome::Passed => Some(check.as_str()),
                Outcome::Skipped { .. } | Outcome::Failed(_) => None,
            })
    }

    /// The first failure as an error: for a test that runs all checks and returns this.
    pub fn into_result(self) -> Result<(), Failure> {
        self.failures()
            .next()
            .map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (check, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => writeln!(f, "passed  {check}")?,
                Outcome::Skipped { reason } => writeln!(f, "skipped {check}: {reason}")?,
                Outcome::Failed(failure) => writeln!(f, "FAILED  {failure}")?,
            }
        }
        Ok(())
    }
}

/// Why a check ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The check does not concern this backend.
    Skip(String),
    /// The backend broke the contract.
    Fail {
        /// What the contract demands.
        expected: String,
        /// What the backend did.
        seen: String,
    },
}

/// What a check returns.
pub(crate) type Verdict = Result<(), Stop>;

/// The failure to do `expected`, and to do `seen` instead.
pub(crate) fn broken(expected: impl Into<String>, seen: impl fmt::Debug) -> Stop {
    Stop::Fail {
        expected: expected.into(),
        seen: format!("{seen:?}"),
    }
}

/// The check does not concern this backend.
pub(crate) fn skip(reason: impl Into<String>) -> Stop {
    Stop::Skip(reason.into())
}

/// Fails unless `holds`.
pub(crate) fn require(
    holds: bool,
    expected: impl Into<String>,
    seen: impl fmt::Debug,
) -> Result<(), Stop> {
    if holds {
        Ok(())
    } else {
        Err(broken(expected, seen))
    }
}

/// Fails unless the backend's answer is the one that the contract demands.
pub(crate) fn require_eq<T: PartialEq + fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Verdict {
    require(seen == wanted, format!("{what}: {wanted:?}"), seen)
}
