//! Errors of the backend traits: one enum a trait, split by what the caller does next.
//!
//! Losing a race is not among them: that is an answer, and is `Ok`.

use std::time::Duration;

use crate::bus::Topic;
use crate::names::{Group, Key, Keyspace};

/// Any error, boxed: what a backend's client library said.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What to do after an error of any backend trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing happened: retry with backoff.
    Unavailable,
    /// It may have happened: ask again with the same id, read back, or wait out the TTL.
    Indeterminate,
    /// No grants for a while: the store may have forgotten some that still count.
    Quarantined {
        /// How long the quarantine still lasts, at most.
        ends_within: Duration,
    },
    /// Refused for good: do not retry.
    Rejected,
}

macro_rules! backend_errors {
    ($($(#[$doc:meta])* $name:ident($field:ident: $subject:ty, $what:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum $name {
            /// The request did not arrive, or was turned away for now, and so had no effect: repeat it, with
            /// backoff.
            #[error("the backend could not {operation} {} `{}`, and nothing has happened", $what, .$field)]
            Unavailable {
                /// What was asked for: "acquire", "publish", ….
                operation: &'static str,
                /// What it was asked of.
                $field: $subject,
                /// What the client library said.
                source: BoxError,
            },
            /// Whether the request had its effect is unknown, for the reply is missing: ask again with
            /// the same id, look, or let a TTL pass.
            #[error("no reply came, so {operation} {} `{}` may or may not have happened", $what, .$field)]
            Indeterminate {
                /// What was asked for.
                operation: &'static str,
                /// What it was asked of.
                $field: $subject,
                /// What the client library said.
                source: BoxError,
            },
            /// A store without its memory grants nothing until all that it may have granted before
            /// has ended (rule I2).
            #[error("store is quarantined, cannot {operation} {} `{}` for {ends_within:?}", $what, .$field)]
            Quarantined {
                /// What was asked for.
                operation: &'static str,
                /// What it was asked of.
                $field: $subject,
                /// How long the quarantine still lasts, at most.
                ends_within: Duration,
            },
            /// It will never be accepted as it is: a name that is no name, a table that is not there, a
            /// right that is lacking. Trying again is of no use.
            #[error("backend rejected {operation} {} `{}`", $what, .$field)]
            Rejected {
                /// What was asked for.
                operation: &'static str,
                /// What it was asked of.
                $field: $subject,
                /// Why.
                source: BoxError,
            },
        }

        impl $name {
            /// Nothing happened.
            pub fn unavailable(operation: &'static str, $field: impl Into<$subject>, source: impl Into<BoxError>) -> Self {
                Self::Unavailable { operation, $field: $field.into(), source: source.into() }
            }

            /// It may have happened.
            pub fn indeterminate(operation: &'static str, $field: impl Into<$subject>, source: impl Into<BoxError>) -> Self {
                Self::Indeterminate { operation, $field: $field.into(), source: source.into() }
            }

            /// Nothing is granted for so long.
            pub fn quarantined(operation: &'static str, $field: impl Into<$subject>, ends_within: Duration) -> Self {
                Self::Quarantined { operation, $field: $field.into(), ends_within }
            }

            /// Do not retry.
            pub fn rejected(operation: &'static str, $field: impl Into<$subject>, source: impl Into<BoxError>) -> Self {
                Self::Rejected { operation, $field: $field.into(), source: source.into() }
            }

            /// What the caller does next.
            pub fn kind(&self) -> ErrorKind {
                match self {
                    Self::Unavailable { .. } => ErrorKind::Unavailable,
                    Self::Indeterminate { .. } => ErrorKind::Indeterminate,
                    Self::Quarantined { ends_within, .. } => {
                        ErrorKind::Quarantined { ends_within: *ends_within }
                    }
                    Self::Rejected { .. } => ErrorKind::Rejected,
                }
            }
        }
    )*};
}

backend_errors! {
    /// Why a lock operation produced no answer.
    LockError(key: Key, "key");
    /// Why an operation on the members of a group produced no answer.
    MembershipError(group: Group, "members of group");
    /// Why an operation on an assignment produced no answer.
    AssignmentError(keyspace: Keyspace, "assignment of keyspace");
    /// Why an operation on a checkpoint produced no answer.
    CheckpointError(keyspace: Keyspace, "checkpoint in keyspace");
    /// Why a bus operation produced no answer.
    BusError(topic: Topic, "topic");
}
