//! Why a request has no answer: the call failed, or the store refuses; and the checks that all parts share.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{
    AssignmentError, BoxError, BusError, CheckpointError, Group, Key, Keyspace, LockError,
    MembershipError, Topic,
};

use crate::endpoint::Host;

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing was done.
    Unavailable(BoxError),
    /// It may have been done.
    Indeterminate(BoxError),
    /// What the store forgot may still count, for so long (I2).
    Quarantined(Duration),
    /// The request is malformed, or asks for too much.
    Rejected(BoxError),
    /// The user has no right to it.
    Denied(BoxError),
    /// The namespace has another longest TTL, in milliseconds (I4).
    OtherMaxTtl {
        /// Which.
        stored: String,
    },
    /// The keys lie on another server of a cluster. Nothing was done.
    Elsewhere(Elsewhere),
}

/// Where the keys of a slot lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) slot: u16,
    /// `None`: the server does not know.
    pub(crate) host: Option<Host>,
    /// For this request alone, as the slot is on its way.
    pub(crate) once: bool,
}

/// What it means where no cluster is expected.
pub(crate) const OF_A_CLUSTER: &str =
    "the server is a node of a cluster: write `redis-cluster://` in the URL";

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

    /// The same; a denial says which channel it is of, and how the right is given.
    pub(crate) fn advised(self, channel: Option<&Bytes>, advice: &str) -> Self {
        let Self::Denied(source) = self else {
            return self;
        };
        let of = match channel {
            Some(channel) => format!(" (channel `{}`)", String::from_utf8_lossy(channel)),
            None => String::new(),
        };
        let text = format!("{source}{of}: the user needs `{advice}`");
        Self::Denied(text.into())
    }

    /// An answer that this build cannot read: what was asked for may have been done.
    pub(crate) fn unreadable(what: &str) -> Self {
        Self::indeterminate(format!(
            "the store answered `{what}`, which this build does not know"
        ))
    }

    /// The same for each of so many requests.
    pub(crate) fn of_each<T>(&self, count: usize) -> Vec<Result<T, Self>> {
        (0..count).map(|_| Err(self.again())).collect()
    }

    /// The same, for another request.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unavailable(error) => Self::unavailable(error.to_string()),
            Self::Indeterminate(error) => Self::indeterminate(error.to_string()),
            Self::Rejected(error) => Self::rejected(error.to_string()),
            Self::Denied(error) => Self::Denied(error.to_string().into()),
            Self::Quarantined(span) => Self::Quarantined(*span),
            Self::OtherMaxTtl { stored } => Self::OtherMaxTtl {
                stored: stored.clone(),
            },
            Self::Elsewhere(elsewhere) => Self::Elsewhere(elsewhere.clone()),
        }
    }

    /// The server is a node of a cluster, and none was expected.
    pub(crate) fn in_a_cluster() -> Self {
        Self::Elsewhere(Elsewhere {
            slot: 0,
            host: None,
            once: false,
        })
    }

    /// The task that would have asked has ended.
    pub(crate) fn closed() -> Self {
        Self::unavailable("the connection is closed for good")
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(error)
            | Self::Indeterminate(error)
            | Self::Rejected(error)
            | Self::Denied(error) => error.fmt(f),
            Self::Quarantined(ends_within) => {
                write!(
                    f,
                    "the store may have lost its memory: nothing is granted for {ends_within:?}"
                )
            }
            Self::OtherMaxTtl { stored } => write!(
                f,
                "the longest TTL of the namespace is {stored} ms: name the same in every process"
            ),
            Self::Elsewhere(_) => f.write_str(OF_A_CLUSTER),
        }
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
                    Self::Rejected(source) | Self::Denied(source) => $name::rejected(operation, subject, source),
                    other @ Self::OtherMaxTtl { .. } => $name::rejected(operation, subject, other.to_string()),
                    Self::Elsewhere(_) => $name::unavailable(operation, subject, OF_A_CLUSTER),
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
