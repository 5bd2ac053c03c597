//! What a deployment chooses.

use std::fmt;
use std::time::Duration;

use coordinator_core::trust::MAX_TTL;

use crate::endpoint;
use crate::error::ConnectError;

/// Which library speaks to the server. All do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientKind {
    /// The `redis` crate.
    #[default]
    Redis,
    /// The `fred` crate, with the feature `client-fred`: for those who already run it.
    Fred,
}

impl std::str::FromStr for ClientKind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "redis" => Ok(Self::Redis),
            "fred" => Ok(Self::Fred),
            _ => Err(()),
        }
    }
}

/// How to reach the store, and what to use it for: see [`RedisBackend::connect`].
///
/// [`RedisBackend::connect`]: crate::RedisBackend::connect
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisConfig {
    /// `redis://user:password@host:port/database`; all but the host may be missing. Of several hosts, with commas between, the
    /// one that is a primary is meant. `redis-sentinel://user:password@host:port,…/name` is the primary that Sentinels know by
    /// that name, with `sentinel_user` and `sentinel_password` as parameters; `redis-cluster://user:password@host:port,…` a Cluster.
    /// `rediss` for `redis` is the same by TLS: then `?ca=` names a file of certificates to trust, instead of those that the system does,
    /// and `cert` and `key` files of our own.
    pub url: String,
    /// Which library speaks to the server.
    pub client: ClientKind,
    /// What all keys and channels begin with: 1 to 64 letters, digits, `-`, `_` and `.`. `coordinator` by default.
    pub namespace: String,
    /// The longest TTL of the namespace (I4), 30 s by default. All processes must name the same; and so long nothing is granted after a
    /// loss of memory.
    pub max_ttl: Duration,
    /// Whether a store that is empty is taken for new. Redis cannot tell a new server from a flushed one (I5), so without this a first
    /// start waits out `max_ttl`. **Unsafe** with it: after a flush a lease that another still trusts is granted. For tests and
    /// development.
    pub trust_empty_store: bool,
    /// The `maxmemory-policy` that is accepted although it deletes keys, leases among them, to make room. **Unsafe**: a deleted
    /// lease is granted twice.
    pub accept_eviction: Option<String>,
    /// Whether messages are kept, in a stream for each topic: then they have cursors, and can be replayed. All processes must choose
    /// the same.
    pub durable: bool,
    /// How long messages are kept where they are. 24 hours by default.
    pub retention: Duration,
    /// How many entries a topic's stream keeps at most, or a few more: each holds the messages that left together. 100,000 by default.
    pub log_entries: u64,
    /// Whether messages spread in a Cluster by sharded channels, to the nodes of a topic's slot alone, if all of its primaries have
    /// them (Redis 7) when the first process of the namespace connects. That one decides for all; `false` chooses plain channels, which each
    /// node passes on to all others, and is an error where the others have decided for sharded ones. `true` by default.
    pub sharded: bool,
    /// How many bytes of messages that have arrived may wait in this process to be looked at, for each connection that listens: what has no
    /// room is dropped, and told as a gap. 16 MiB by default; each subscriber's queue has its own bound of 8 MiB.
    pub listen_bytes: usize,
    /// How often what nobody needs any more is looked for, by all processes together. Ten minutes by default.
    pub clean_every: Duration,
    /// How long each attempt to connect may take. 5 s by default.
    pub connect_timeout: Duration,
    /// How long the server may take to answer a call, before it counts as gone. 10 s by default.
    pub response_timeout: Duration,
}

/// Shows no URL, for it may hold a password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("client", &self.client)
            .field("namespace", &self.namespace)
            .field("max_ttl", &self.max_ttl)
            .field("trust_empty_store", &self.trust_empty_store)
            .field("accept_eviction", &self.accept_eviction)
            .field("durable", &self.durable)
            .field("retention", &self.retention)
            .field("log_entries", &self.log_entries)
            .field("sharded", &self.sharded)
            .field("listen_bytes", &self.listen_bytes)
            .field("clean_every", &self.clean_every)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// The store at this URL, with every default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            client: ClientKind::Redis,
            namespace: "coordinator".to_owned(),
            max_ttl: MAX_TTL,
            trust_empty_store: false,
            accept_eviction: None,
            durable: false,
            retention: Duration::from_hours(24),
            log_entries: 100_000,
            sharded: true,
            listen_bytes: 16 * 1024 * 1024,
            clean_every: Duration::from_mins(10),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(10),
        }
    }

    /// The same, in which parameters of the URL choose: `client` (`redis` or `fred`), `namespace`, `max_ttl_seconds`,
    /// `trust_empty_store`, `durable`, `retention_seconds`, `log_entries`, `sharded`, `listen_bytes`. Those of TLS stay in
    /// the URL.
    ///
    /// # Errors
    /// A parameter that is none of these, or a value that is none.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let mut config = Self::new(base);
        let mut begin = '?';
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "client" => {
                    config.client = value.parse().map_err(|()| ConnectError::BadSetting {
                        setting: "client",
                        given: value.to_owned(),
                        wanted: "`redis` or `fred`".to_owned(),
                    })?;
                }
                "namespace" => value.clone_into(&mut config.namespace),
                "max_ttl_seconds" => {
                    config.max_ttl = Duration::from_secs(parsed("max_ttl_seconds", value)?);
                }
                "trust_empty_store" => {
                    config.trust_empty_store = parsed("trust_empty_store", value)?;
                }
                "durable" => config.durable = parsed("durable", value)?,
                "retention_seconds" => {
                    config.retention = Duration::from_secs(parsed("retention_seconds", value)?);
                }
                "log_entries" => config.log_entries = parsed("log_entries", value)?,
                "sharded" => config.sharded = parsed("sharded", value)?,
                "listen_bytes" => config.listen_bytes = parsed("listen_bytes", value)?,
                // Those of the endpoint stay in its URL.
                known if endpoint::PARAMETERS.contains(&known) => {
                    config.url.push(begin);
                    config.url.push_str(parameter);
                    begin = '&';
                }
                other => {
                    let reason = format!("there is no parameter `{other}`");
                    return Err(ConnectError::BadUrl { reason });
                }
            }
        }
        Ok(config)
    }

    /// The same, by this client.
    pub fn client(mut self, client: ClientKind) -> Self {
        self.client = client;
        self
    }

    /// The same, with this namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same, with this longest TTL.
    pub fn max_ttl(mut self, span: Duration) -> Self {
        self.max_ttl = span;
        self
    }

    /// The same, trusting an empty store or not.
    pub fn trust_empty_store(mut self, trusts: bool) -> Self {
        self.trust_empty_store = trusts;
        self
    }

    /// The same, accepting that this policy deletes keys.
    pub fn accept_eviction(mut self, policy: impl Into<String>) -> Self {
        self.accept_eviction = Some(policy.into());
        self
    }

    /// The same, keeping messages or not.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// The same, keeping messages for so long where they are kept.
    pub fn retention(mut self, span: Duration) -> Self {
        self.retention = span;
        self
    }

    /// The same, keeping so many entries of each topic.
    pub fn log_entries(mut self, entries: u64) -> Self {
        self.log_entries = entries;
        self
    }

    /// The same, with sharded channels in a Cluster if it has them, or with plain ones.
    pub fn sharded(mut self, sharded: bool) -> Self {
        self.sharded = sharded;
        self
    }

    /// The same, with so many bytes of messages waiting at most.
    pub fn listen_bytes(mut self, bytes: usize) -> Self {
        self.listen_bytes = bytes;
        self
    }

    /// The same, cleaning this often.
    pub fn clean_every(mut self, span: Duration) -> Self {
        self.clean_every = span;
        self
    }

    /// The same, with this limit for connecting.
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.connect_timeout = span;
        self
    }

    /// The same, with this limit for answers.
    pub fn response_timeout(mut self, span: Duration) -> Self {
        self.response_timeout = span;
        self
    }
}

impl From<&str> for RedisConfig {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

fn parsed<T: std::str::FromStr>(setting: &'static str, given: &str) -> Result<T, ConnectError> {
    given.parse().map_err(|_| ConnectError::BadSetting {
        setting,
        given: given.to_owned(),
        wanted: format!("a {}", std::any::type_name::<T>()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_url_choose_and_unknown_ones_are_errors() {
        let url = "redis://h:1/2?namespace=a&max_ttl_seconds=7&trust_empty_store=true";
        let config = RedisConfig::from_url(url).unwrap();
        assert_eq!(
            (config.url.as_str(), config.namespace.as_str()),
            ("redis://h:1/2", "a")
        );
        assert_eq!(
            (config.max_ttl.as_secs(), config.trust_empty_store),
            (7, true)
        );
        let fred = RedisConfig::from_url("redis://h?client=fred").unwrap();
        assert_eq!(
            (config.client, fred.client),
            (ClientKind::Redis, ClientKind::Fred)
        );
        assert!(RedisConfig::from_url("redis://h?client=other").is_err());
        assert!(RedisConfig::from_url("redis://h?nonsense=1").is_err());
        assert!(RedisConfig::from_url("redis://h?trust_empty_store=perhaps").is_err());
    }

    #[test]
    fn no_password_is_shown() {
        let config = RedisConfig::new("redis://me:open-sesame@h");
        let shown = format!("{config:?}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
