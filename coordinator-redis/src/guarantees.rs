//! What the server's settings guarantee, read when the backend connects and whenever the server may be another.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{Guarantee, Guarantees};

use crate::client::{Client, Told, Value};
use crate::config::RedisConfig;
use crate::error::ConnectError;
use crate::hub::{Hub, unusable};
use crate::reply::Read;
use crate::trouble::Trouble;

/// A server counts the lag of replicas in whole seconds, and looks at it once a second.
const COARSE: Duration = Duration::from_secs(2);
/// What is taken for the lag where writes wait for replicas, but the user may not read for how long
/// they may be silent: six times the server's default.
const UNREADABLE: Duration = Duration::from_secs(60);

/// What is taken for the `cluster-node-timeout` that may not be read: the server's default.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
/// Whether a server has sharded channels, and under which name those are kept that have none.
const ASKS_SPUBLISH: &[&str] = &["COMMAND", "LIST", "FILTERBY", "PATTERN", "spublish"];
const NO_SPUBLISH: &str = "without_spublish";
/// What servers call it whether they are nodes of a cluster: Redis, and Valkey from version 9 on.
const MODES: [&str; 2] = ["redis_mode", "server_mode"];
/// Between the values of servers that differ.
const APART: &str = ", ";

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

    /// The highest, where servers differ.
    fn number(&self, name: &str) -> Option<u64> {
        let values = self.get(name)?.split(APART);
        values.filter_map(|text| text.parse().ok()).max()
    }

    /// What several servers say of themselves: all values, where they differ.
    fn and(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            let known = self.0.entry(name).or_insert_with(|| value.clone());
            if !known.split(APART).any(|known| known == value) {
                known.push_str(APART);
                known.push_str(&value);
            }
        }
        self
    }

    /// For how long a primary that is cut off from the others still takes writes, at most (I2).
    pub(crate) fn lag(&self) -> Duration {
        self.lag_of_replicas().max(self.lag_of_nodes())
    }

    /// A node of a cluster that is out of touch with most others takes no writes after this. It may notice half of it later than
    /// they do.
    fn lag_of_nodes(&self) -> Duration {
        if !self.is_cluster() {
            return Duration::ZERO;
        }
        let timeout = self.number("cluster-node-timeout");
        timeout.map_or(NODE_TIMEOUT, Duration::from_millis)
    }

    fn lag_of_replicas(&self) -> Duration {
        match self.get("min-replicas-to-write") {
            Some("0") => Duration::ZERO,
            Some(_) => {
                let lag = self.number("min-replicas-max-lag").unwrap_or_default();
                Duration::from_secs(lag) + COARSE
            }
            // Settings that this user may not read: the server's own report tells whether there are any.
            None if self.get("min_slaves_good_slaves").is_none() => Duration::ZERO,
            None => UNREADABLE,
        }
    }

    /// Whether keys lie on several servers, each by the hash of its tag.
    pub(crate) fn is_cluster(&self) -> bool {
        let mut modes = MODES.iter().filter_map(|name| self.get(name));
        modes.any(|mode| mode == "cluster")
    }

    /// The servers that do not know `SPUBLISH`, if any.
    pub(crate) fn without_spublish(&self) -> Option<&str> {
        self.get(NO_SPUBLISH)
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
    let mut all = Settings::default();
    for (host, settings) in read_each(client, host).await? {
        check(&settings, &host, config)?;
        all = all.and(settings);
    }
    if all.is_cluster() && !client.is_cluster() {
        return Err(unusable(host, Trouble::in_a_cluster()));
    }
    Ok(all)
}

/// Reads them.
pub(crate) async fn read(client: &dyn Client, host: &str) -> Result<Settings, ConnectError> {
    let each = read_each(client, host).await?.into_iter();
    Ok(each.fold(Settings::default(), |all, (_, settings)| all.and(settings)))
}

/// Reads those of each server that takes writes.
async fn read_each(
    client: &dyn Client,
    host: &str,
) -> Result<Vec<(String, Settings)>, ConnectError> {
    let words = [
        &["INFO", "server"][..],
        &["INFO", "replication"],
        &["INFO", "memory"],
        &["CONFIG", "GET", "append*"],
        &["CONFIG", "GET", "min-replicas-*"],
        &["CONFIG", "GET", "cluster-node-timeout"],
        ASKS_SPUBLISH,
    ];
    let commands = words.map(|words| words.iter().copied().map(Bytes::from).collect());
    let told = client.everywhere(commands.into()).await;
    let told = told.map_err(|trouble| unusable(host, trouble))?;
    let mut each = Vec::with_capacity(told.len());
    for Told { host, answers } in told {
        let mut settings = Settings::default();
        for (answer, words) in answers.into_iter().zip(words) {
            match answer {
                Ok(answer) if words == ASKS_SPUBLISH => settings.take_spublish(&answer, &host),
                Err(_) if words == ASKS_SPUBLISH => settings.take_spublish(&Value::Nil, &host),
                Ok(answer) => settings.take(&answer),
                // A user without the right to read settings: what cannot be read counts as not given.
                Err(_) if words.first() == Some(&"CONFIG") => {}
                Err(trouble) => return Err(unusable(&host, trouble)),
            }
        }
        each.push((host, settings));
    }
    Ok(each)
}

impl Settings {
    /// A server that does not know the question does not know the command; one that may not be asked counts as such.
    fn take_spublish(&mut self, answer: &Value, host: &str) {
        if answer.list().is_ok_and(<[Value]>::is_empty) || answer.list().is_err() {
            self.0.insert(NO_SPUBLISH.to_owned(), host.to_owned());
        }
    }

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
            &["redis_mode", "connected_slaves", "min-replicas-to-write"],
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

    /// I2, I8: each node may be the one that is cut off.
    #[test]
    fn a_cluster_has_what_all_of_its_nodes_have_and_the_longest_lag() {
        let one = settings("redis_mode:cluster\ncluster-node-timeout:2000\nappendonly:yes");
        assert_eq!(one.lag(), Duration::from_secs(2));
        let other =
            "redis_mode:cluster\ncluster-node-timeout:5000\nappendonly:no\nmin-replicas-to-write:0";
        let both = one.clone().and(settings(other)).and(one);
        assert_eq!(both.lag(), Duration::from_secs(5));
        assert_eq!(both.shown("appendonly"), "appendonly = yes, no");
        assert_eq!(settings("redis_mode:cluster").lag(), NODE_TIMEOUT);
        assert_eq!(settings("server_mode:cluster").lag(), NODE_TIMEOUT);
    }
}
