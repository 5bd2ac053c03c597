//! Why no connection to the store could be made.

use coordinator_core::BoxError;

/// Why no connection to the store could be made. Messages hold no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no Redis URL.
    #[error("this is no Redis URL (`redis://user:password@host:port/database`): {reason}")]
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that cannot be.
    #[error("{setting} cannot be {given}: {wanted}")]
    BadSetting {
        /// Which.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What would be right.
        wanted: String,
    },
    /// The server could not be reached.
    #[error(
        "cannot reach Redis at {host}: check that it runs, listens there, and that the port is open"
    )]
    Unreachable {
        /// The host and port, or socket.
        host: String,
        /// What the system said.
        source: BoxError,
    },
    /// The server refused the user.
    #[error("Redis at {host} refused the user: check user, password and ACL")]
    Refused {
        /// The host and port, or socket.
        host: String,
        /// What the server said.
        source: BoxError,
    },
    /// The server answered, and not as it must.
    #[error("Redis at {host} cannot be used now")]
    Unusable {
        /// The host and port, or socket.
        host: String,
        /// Why.
        source: BoxError,
    },
    /// The server is too old.
    #[error("Redis {found} is too old: version 6.2 or later, or Valkey, is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The server is a replica.
    #[error("Redis at {host} is a read-only replica: connect to the primary")]
    Replica {
        /// The host and port, or socket.
        host: String,
    },
    /// The server makes room by deleting keys, leases among them.
    #[error(
        "Redis at {host} deletes keys to make room (`maxmemory-policy {policy}`), and a deleted lease is granted \
         twice: set `noeviction`, or accept the policy by name (`RedisConfig::accept_eviction`)"
    )]
    Evicts {
        /// The host and port, or socket.
        host: String,
        /// The policy.
        policy: String,
    },
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unusable { .. } | Self::Replica { .. } => true,
            Self::BadUrl { .. }
            | Self::BadSetting { .. }
            | Self::Refused { .. }
            | Self::TooOld { .. }
            | Self::Evicts { .. } => false,
        }
    }
}
