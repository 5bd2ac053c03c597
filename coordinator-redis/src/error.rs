//! Why no connection to the store could be made.

use std::time::Duration;

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
    /// This build leaves out what is asked for.
    #[error("this build has no `{wanted}`: enable the feature `{feature}` of coordinator-redis")]
    MissingFeature {
        /// What is asked for.
        wanted: &'static str,
        /// What would bring it.
        feature: &'static str,
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
    /// Something listens there, and breaks the connection off.
    #[error(
        "what listens at {host} breaks the connection off: check that it is Redis, and write `rediss` for `redis` if it \
         speaks TLS"
    )]
    BrokenOff {
        /// The host and port, or socket.
        host: String,
        /// What the library said.
        source: BoxError,
    },
    /// The connection cannot be encrypted as it must be.
    #[error("no TLS connection to Redis at {host}: {advice}")]
    Tls {
        /// The host and port.
        host: String,
        /// What to do.
        advice: &'static str,
        /// What the library said.
        source: BoxError,
    },
    /// The server refused the user.
    #[error("Redis at {host} refused the user: check the user's name, password and rights")]
    Refused {
        /// The host and port, or socket.
        host: String,
        /// What the server said.
        source: BoxError,
    },
    /// A Sentinel refused the user.
    #[error(
        "the Sentinel at {host} refused the user: Sentinels have users and passwords of their own, named in the URL by \
         `sentinel_user` and `sentinel_password`"
    )]
    SentinelRefused {
        /// The host and port.
        host: String,
        /// What it said.
        source: BoxError,
    },
    /// The server knows a command no longer, or not as it must: it may be no Redis, or a proxy before one.
    #[error(
        "the server at {host} rejects what Redis 6.2 takes: is something else, or a proxy, there?"
    )]
    Rejected {
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
    /// No server takes writes now.
    #[error(
        "there is no primary at {host}: check that one of the servers is, and that Sentinels are asked for the name that \
         they have for it"
    )]
    NoPrimary {
        /// The hosts and ports of the servers or Sentinels.
        host: String,
        /// What each of them said.
        source: BoxError,
    },
    /// The server is no Sentinel, or a node of a cluster, or none.
    #[error("{host} is {found}: write `{wanted}` in the URL")]
    OtherKind {
        /// The host and port, or socket.
        host: String,
        /// What it is.
        found: &'static str,
        /// What the URL would begin with.
        wanted: &'static str,
    },
    /// The cluster does not serve.
    #[error(
        "the cluster at {host} is down: start the primaries that are missing, or let replicas take their places \
         (`redis-cli --cluster check` shows the slots that nobody has)"
    )]
    ClusterDown {
        /// The hosts and ports of the nodes that were asked.
        host: String,
        /// What they said.
        source: BoxError,
    },
    /// Another process named another longest TTL (I4).
    #[error(
        "namespace `{namespace}` has the longest TTL {stored:?}, this process names {ours:?}: all must name the same \
         (`RedisConfig::max_ttl`); to change it, stop all processes for the longer of the two, then delete the keys \
         `{{{namespace}:*}}:identity:`"
    )]
    OtherMaxTtl {
        /// The namespace.
        namespace: String,
        /// Its longest TTL.
        stored: Duration,
        /// The one that this process was given.
        ours: Duration,
    },
    /// The namespace's channels are sharded, and a server has none such (U18).
    #[error(
        "the channels of namespace `{namespace}` are sharded, and {host} does not know `SPUBLISH`, or does not let this user \
         ask (`COMMAND LIST`): every primary needs Redis 7 or later; or choose plain channels for all, by `HSET {{{namespace}:}}:identity: \
         pubsub plain`, which each process follows within a minute"
    )]
    NoShardedChannels {
        /// The namespace.
        namespace: String,
        /// The servers.
        host: String,
    },
    /// The namespace's channels are sharded, and this process was told to use plain ones (U18).
    #[error(
        "the channels of namespace `{namespace}` are sharded, and this process has `sharded=false`: leave that out; or choose \
         plain channels for all, by `HSET {{{namespace}:}}:identity: pubsub plain`, which each process follows within a minute"
    )]
    ShardedChannels {
        /// The namespace.
        namespace: String,
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
            Self::Unreachable { .. }
            | Self::BrokenOff { .. }
            | Self::Unusable { .. }
            | Self::Replica { .. }
            | Self::NoPrimary { .. }
            | Self::ClusterDown { .. } => true,
            Self::BadUrl { .. }
            | Self::OtherKind { .. }
            | Self::BadSetting { .. }
            | Self::MissingFeature { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::SentinelRefused { .. }
            | Self::Rejected { .. }
            | Self::TooOld { .. }
            | Self::OtherMaxTtl { .. }
            | Self::NoShardedChannels { .. }
            | Self::ShardedChannels { .. }
            | Self::Evicts { .. } => false,
        }
    }
}
