//! Why there is no answer, in a form that several askers can be told.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Key, LockError};

use crate::error::{CallError, ConnectError, Outcome};
use crate::trouble::Trouble;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// What the store forgot may still count, for so long (I2).
    Quarantined(Duration),
    /// A statement, or a connection, brought none.
    Failed { outcome: Outcome, why: Arc<str> },
}

impl Refusal {
    pub(super) fn rejected(why: impl Into<String>) -> Self {
        Self::failed(Outcome::Refused, why)
    }

    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::failed(Outcome::NothingHappened, why)
    }

    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self::failed(Outcome::Unknown, why)
    }

    fn failed(outcome: Outcome, why: impl Into<String>) -> Self {
        Self::Failed {
            outcome,
            why: why.into().into(),
        }
    }

    /// Whether asking again is for nothing.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                outcome: Outcome::Refused,
                ..
            }
        )
    }

    /// As the error of the trait.
    pub(super) fn of(self, operation: &'static str, key: &Key) -> LockError {
        match self {
            Self::Quarantined(ends_within) => LockError::quarantined(operation, key, ends_within),
            Self::Failed { outcome, why } => {
                let source = why.to_string().into();
                CallError { outcome, source }.of_lock(operation, key)
            }
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Call(error) => error.into(),
            Trouble::Quarantined(ends_within) => Self::Quarantined(ends_within),
            Trouble::Rejected(why) => Self::rejected(why.to_string()),
        }
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self::failed(error.outcome, error.to_string())
    }
}

/// A session that cannot be had is no reason to give up: the first one could.
impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let why = format!("{error}{}", source.unwrap_or_default());
        match error {
            ConnectError::Pooler { .. } => Self::rejected(why),
            _ => Self::unavailable(why),
        }
    }
}
