//! What the server's settings guarantee, read when the backend connects and whenever the server may be another.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{Guarantee, Guarantees};

use crate::client::{Client, Value};
use crate::config::RedisConfig;
use crate::error::ConnectError;
use crate::hub::{Hub, unusable};
use crate::reply::Read;

/// A server counts the lag of replicas in whole seconds, and looks at it once a second.
const COARSE: Duration = Duration::from_secs(2);
/// What is taken for the lag where writes wait for replicas, but the user may not read for how long
/// they may be silent: six times the server's default.
const UNREADABLE: Duration = Duration::from_secs(60);

/// The oldest server that has all commands.
const OLDEST: (u32, u32) = (6, 2);

/// What a server says of itself: lines of `INFO`, and of `CONFIG GET` where that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn shown(&self, name: &str) -> String {
        format!("{name} = {}", self.get(name).unwrap_or("unknown"))
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// For how long a primary that is cut off from its replicas still takes writes, at most (I2).
    pub(crate) fn lag(&self) -> Duration {
        match self.get("min-replicas-to-write") {
            Some("0") => Duration::ZERO,
            Some(_) => Duration::from_secs(self.number("min-replicas-max-lag")) + COARSE,
            // Settings that this user may not read: the server's own report tells whether there are any.
            None if self.get("min_slaves_good_slaves").is_none() => Duration::ZERO,
            None => UNREADABLE,
        }
    }

    /// Whether keys lie on several servers, each by the hash of its tag.
    pub(crate) fn is_cluster(&self) -> bool {
        self.get("redis_mode") == Some("cluster")
    }

    fn evicts(&self) -> bool {
        self.get("maxmemory_policy") != Some("noeviction")
    }
}

/// Reads them, and refuses a server that cannot serve.
pub(crate) async fn probe(
    client: &dyn Client,
    host: &str,
    config: &RedisConfig,
) -> Result<Settings, ConnectError> {
    let settings = read(client, host).await?;
    check(&settings, host, config)?;
    Ok(settings)
}

/// Reads them.
pub(crate) async fn read(client: &dyn Client, host: &str) -> Result<Settings, ConnectError> {
    let words = [
        &["INFO", "server"][..],
        &["INFO", "replication"],
        &["INFO", "memory"],
        &["CONFIG", "GET", "append*"],
        &["CONFIG", "GET", "min-replicas-*"],
    ];
    let commands = words.map(|words| words.iter().copied().map(Bytes::from).collect());
    let answers = client.pipeline(commands.into()).await;
    let answers = answers.map_err(|trouble| unusable(host, trouble))?;
    let mut settings = Settings::default();
    for (answer, words) in answers.into_iter().zip(words) {
        match answer {
            Ok(answer) => settings.take(&answer),
            // A user without the right to read settings: what cannot be read counts as not given.
            Err(_) if words.first() == Some(&"CONFIG") => {}
            Err(trouble) => return Err(unusable(host, trouble)),
        }
    }
    Ok(settings)
}

impl Settings {
    fn take(&mut self, answer: &Value) {
        if let Ok(text) = answer.text() {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let lines = lines.map(|(name, value)| (name.to_owned(), value.to_owned()));
            self.0.extend(lines);
        } else if let Ok(list) = answer.list() {
            for pair in list.chunks_exact(2) {
                if let [name, value] = pair
                    && let (Ok(name), Ok(value)) = (name.text(), value.text())
                {
                    self.0.insert(name.to_owned(), value.to_owned());
                }
            }
        }
    }
}

fn check(settings: &Settings, host: &str, config: &RedisConfig) -> Result<(), ConnectError> {
    let found = settings.get("redis_version").unwrap_or_default();
    let mut parts = found
        .split('.')
        .map(|part| part.parse().unwrap_or_default());
    if (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    ) < OLDEST
    {
        let found = found.to_owned();
        return Err(ConnectError::TooOld { found });
    }
    let host = host.to_owned();
    if settings.get("role") == Some("slave") {
        return Err(ConnectError::Replica { host });
    }
    refusal(settings, &host, config).map_or(Ok(()), Err)
}

/// Why nothing may be granted on a server with these settings, if so.
pub(crate) fn refusal(
    settings: &Settings,
    host: &str,
    config: &RedisConfig,
) -> Option<ConnectError> {
    let policy = settings.get("maxmemory_policy").unwrap_or_default();
    let is_refused = settings.evicts() && config.accept_eviction.as_deref() != Some(policy);
    is_refused.then(|| ConnectError::Evicts {
        host: host.to_owned(),
        policy: policy.to_owned(),
    })
}

/// What the server gives.
pub(crate) fn of(hub: &Hub) -> Guarantees {
    let settings = &hub.settings();
    let found = guarantees(Guarantees::unknown(), Guarantee::NeverEvicts, settings);
    let found = guarantees(found, Guarantee::SurvivesCrash, settings);
    let found = guarantees(found, Guarantee::SurvivesFailover, settings);
    found.missing(
        Guarantee::SeesDeadHolders,
        "leases are rows with an expiry",
        "Redis cannot tell a dead holder from a silent one: choose a short TTL",
    )
}

fn guarantees(guarantees: Guarantees, wanted: Guarantee, settings: &Settings) -> Guarantees {
    let (names, given, remedy): (&[&str], bool, &str) = match wanted {
        Guarantee::NeverEvicts => (
            &["maxmemory_policy"],
            !settings.evicts(),
            "set `maxmemory-policy noeviction`",
        ),
        Guarantee::SurvivesCrash => (
            &["appendonly", "appendfsync"],
            settings.get("appendonly") == Some("yes")
                && settings.get("appendfsync") == Some("always"),
            "set `appendonly yes` and `appendfsync always`: without both, a crash may lose the last writes",
        ),
        // Replication is asynchronous, whatever is set.
        _ => (
            &["role", "connected_slaves", "min-replicas-to-write"],
            false,
            "Redis cannot give it: a promoted replica may lack the last writes; tokens go on rising, and nothing is \
             granted for `max_ttl`",
        ),
    };
    let shown: Vec<String> = names.iter().map(|name| settings.shown(name)).collect();
    let shown = shown.join(", ");
    if given {
        guarantees.given(wanted, shown)
    } else {
        guarantees.missing(wanted, shown, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &'static str) -> Settings {
        let mut settings = Settings::default();
        settings.take(&Value::Bytes(Bytes::from_static(text.as_bytes())));
        settings
    }

    #[test]
    fn a_server_that_cannot_serve_is_refused_by_name() {
        let config = RedisConfig::new("redis://h");
        let good = "redis_version:7.0.1\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n";
        assert!(check(&settings(good), "h", &config).is_ok());
        let old = settings("redis_version:6.0.9\r\nrole:master\r\nmaxmemory_policy:noeviction");
        assert!(matches!(
            check(&old, "h", &config),
            Err(ConnectError::TooOld { .. })
        ));
        let replica = settings("redis_version:7.0.1\r\nrole:slave\r\nmaxmemory_policy:noeviction");
        assert!(matches!(
            check(&replica, "h", &config),
            Err(ConnectError::Replica { .. })
        ));
        let evicts = settings("redis_version:7.0.1\r\nrole:master\r\nmaxmemory_policy:allkeys-lru");
        assert!(matches!(
            check(&evicts, "h", &config),
            Err(ConnectError::Evicts { .. })
        ));
        let accepted = config.accept_eviction("allkeys-lru");
        assert!(check(&evicts, "h", &accepted).is_ok());
    }

    #[test]
    fn the_lag_counts_only_where_writes_wait_for_replicas() {
        let text = "min-replicas-to-write:0\nmin-replicas-max-lag:10";
        assert_eq!(settings(text).lag(), Duration::ZERO);
        assert_eq!(settings("role:master").lag(), Duration::ZERO);
        let unreadable = settings("min_slaves_good_slaves:1").lag();
        assert_eq!(unreadable, UNREADABLE);
        let text = "min-replicas-to-write:1\nmin-replicas-max-lag:10";
        assert_eq!(settings(text).lag(), Duration::from_secs(12));
    }
}
