//! Why a request has no answer: the call failed, or the store refuses; and the checks that all parts share.

use std::time::Duration;

use coordinator_core::{
    AssignmentError, BoxError, CheckpointError, Group, Key, Keyspace, LockError, MembershipError,
    NUMBER_LIMIT,
};

use crate::error::CallError;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The statement brought none.
    Call(CallError),
    /// What the store forgot may still count, for so long (I2).
    Quarantined(Duration),
    /// The request is malformed, or asks for too much.
    Rejected(BoxError),
}

impl Trouble {
    pub(crate) fn rejected(error: impl Into<BoxError>) -> Self {
        Self::Rejected(error.into())
    }

    /// An answer that this build cannot read.
    pub(crate) fn unreadable(what: &str) -> Self {
        Self::Call(CallError::unknown(format!(
            "the store answered `{what}`, which this build does not know"
        )))
    }

    /// Numbers end before JSON and Lua lose them (K2).
    pub(crate) fn numbers_ended() -> Self {
        Self::rejected(format!("the next number would reach {NUMBER_LIMIT}"))
    }

    /// The store says for how many milliseconds it grants nothing.
    pub(crate) fn quarantined(milliseconds: Option<i64>) -> Self {
        Self::Quarantined(Duration::from_millis(unsigned(
            milliseconds.unwrap_or_default(),
        )))
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Call(error.into())
    }
}

macro_rules! into_backend_errors {
    ($($name:ident($subject:ty): $method:ident;)*) => {
        impl Trouble {$(
            pub(crate) fn $method(self, operation: &'static str, subject: &$subject) -> $name {
                match self {
                    Self::Call(error) => error.$method(operation, subject),
                    Self::Quarantined(ends_within) => $name::quarantined(operation, subject, ends_within),
                    Self::Rejected(source) => $name::rejected(operation, subject, source),
                }
            }
        )*}
    };
}

into_backend_errors! {
    LockError(Key): of_lock;
    MembershipError(Group): of_members;
    AssignmentError(Keyspace): of_assignment;
    CheckpointError(Keyspace): of_checkpoint;
}

/// A span as the store takes it: whole microseconds, never less than asked for.
pub(crate) fn microseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// A number that the store keeps as `bigint`, and that is never negative.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
