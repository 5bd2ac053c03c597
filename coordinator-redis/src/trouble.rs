//! Why a request has no answer: the call failed, or the store refuses; and the checks that all parts share.

use std::time::Duration;

use coordinator_core::trust::{BadTtl, MIN_TTL};
use coordinator_core::{
    AssignmentError, BoxError, BusError, CheckpointError, Group, Key, Keyspace, LockError,
    MembershipError, Topic,
};

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing was done.
    Unavailable(BoxError),
    /// It may have been done.
    Indeterminate(BoxError),
    /// What the store forgot may still count, for so long (I2).
    Quarantined(Duration),
    /// The request is malformed, asks for too much, or is not allowed.
    Rejected(BoxError),
    /// The namespace has another longest TTL, in milliseconds (I4).
    OtherMaxTtl {
        /// Which.
        stored: String,
    },
}

impl Trouble {
    pub(crate) fn unavailable(error: impl Into<BoxError>) -> Self {
        Self::Unavailable(error.into())
    }

    pub(crate) fn indeterminate(error: impl Into<BoxError>) -> Self {
        Self::Indeterminate(error.into())
    }

    pub(crate) fn rejected(error: impl Into<BoxError>) -> Self {
        Self::Rejected(error.into())
    }

    /// An answer that this build cannot read: what was asked for may have been done.
    pub(crate) fn unreadable(what: &str) -> Self {
        Self::indeterminate(format!(
            "the store answered `{what}`, which this build does not know"
        ))
    }

    /// The task that would have asked has ended.
    pub(crate) fn closed() -> Self {
        Self::unavailable("the connection is closed for good")
    }
}

macro_rules! into_backend_errors {
    ($($name:ident($subject:ty): $method:ident;)*) => {
        impl Trouble {$(
            pub(crate) fn $method(self, operation: &'static str, subject: &$subject) -> $name {
                match self {
                    Self::Unavailable(source) => $name::unavailable(operation, subject, source),
                    Self::Indeterminate(source) => $name::indeterminate(operation, subject, source),
                    Self::Quarantined(ends_within) => $name::quarantined(operation, subject, ends_within),
                    Self::Rejected(source) => $name::rejected(operation, subject, source),
                    Self::OtherMaxTtl { stored } => $name::rejected(
                        operation,
                        subject,
                        format!("the longest TTL of the namespace is {stored} ms: name the same in every process"),
                    ),
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
    BusError(Topic): of_bus;
}

/// Checks a TTL against the bounds of the namespace (I4).
pub(crate) fn check_ttl(given: Duration, most: Duration) -> Result<(), Trouble> {
    if (MIN_TTL..=most).contains(&given) {
        return Ok(());
    }
    Err(Trouble::rejected(BadTtl::Ttl {
        given,
        least: MIN_TTL,
        most,
    }))
}

pub(crate) fn check_group_and_keyspace(group: &Group, keyspace: &Keyspace) -> Result<(), Trouble> {
    group.check().map_err(Trouble::rejected)?;
    keyspace.check().map_err(Trouble::rejected)
}
