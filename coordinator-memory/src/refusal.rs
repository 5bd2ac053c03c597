//! Why the store gives no answer.

use std::time::Duration;

use coordinator_core::{
    AssignmentError, BoxError, CheckpointError, Group, Key, Keyspace, LockError, MembershipError,
    NUMBER_LIMIT,
};

/// Why the store itself refuses a request.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What it forgot may still count, for so long (I2).
    Quarantined(Duration),
    /// The request is malformed, or asks for too much.
    Rejected(BoxError),
}

impl Refusal {
    pub(crate) fn rejected(error: impl Into<BoxError>) -> Self {
        Self::Rejected(error.into())
    }
}

/// Numbers end before JSON and Lua lose them (K2).
pub(crate) fn numbers_ended() -> Refusal {
    Refusal::rejected(format!("the next number would reach {NUMBER_LIMIT}"))
}

macro_rules! refusals {
    ($($function:ident: $error:ident($subject:ty);)*) => {$(
        pub(crate) fn $function(operation: &'static str, subject: &$subject, refusal: Refusal) -> $error {
            match refusal {
                Refusal::Quarantined(ends_within) => {
                    $error::quarantined(operation, subject, ends_within)
                }
                Refusal::Rejected(source) => $error::rejected(operation, subject, source),
            }
        }
    )*};
}

refusals! {
    lock_refused: LockError(Key);
    membership_refused: MembershipError(Group);
    assignment_refused: AssignmentError(Keyspace);
    checkpoint_refused: CheckpointError(Keyspace);
}
