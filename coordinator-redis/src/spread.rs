//! How messages of the bus spread in a cluster: by plain channels, or by sharded ones. Who publishes by one kind is not heard by the
//! other, so it is one decision for all, and the store keeps it (U18).
//!
//! The first process decides, by what all primaries know. Others follow: when they connect, and at each look at the store. Whoever finds
//! the decision gone puts its own back; whoever finds another one follows that, and the change is told as a cut. Until all have looked,
//! some publish where others do not listen; so a cut is told once more when all have, also to who has come meanwhile.

use std::time::Duration;

use tokio::sync::watch;

use crate::client::{Client, PubSub};
use crate::config::RedisConfig;
use crate::error::ConnectError;
use crate::greeting::Greeting;
use crate::guarantees::Settings;
use crate::trouble::Trouble;

/// After so long a decision is known to all who can ask the store: each looks twice as often.
const SETTLED: Duration = Duration::from_mins(2);

/// What this process would decide. Nothing where there is no choice.
pub(crate) fn wanted(
    client: &dyn Client,
    config: &RedisConfig,
    settings: &Settings,
) -> Option<PubSub> {
    client.is_cluster().then(|| {
        if config.sharded && settings.without_spublish().is_none() {
            PubSub::Sharded
        } else {
            PubSub::Plain
        }
    })
}

/// What the store says; nothing where there is no choice.
pub(crate) fn read(text: &str) -> Result<PubSub, Trouble> {
    if text.is_empty() {
        return Ok(PubSub::Plain);
    }
    PubSub::read(text).ok_or_else(|| Trouble::unreadable(text))
}

/// Whether this process, and the servers, can do as was decided.
pub(crate) fn check(
    decided: PubSub,
    settings: &Settings,
    config: &RedisConfig,
) -> Result<(), ConnectError> {
    let namespace = config.namespace.clone();
    match (decided, settings.without_spublish()) {
        (PubSub::Sharded, Some(host)) => Err(ConnectError::NoShardedChannels {
            namespace,
            host: host.to_owned(),
        }),
        (PubSub::Sharded, None) if !config.sharded => {
            Err(ConnectError::ShardedChannels { namespace })
        }
        (PubSub::Sharded, None) | (PubSub::Plain, _) => Ok(()),
    }
}

/// Whether all do as was decided.
pub(crate) fn is_settled(greeting: &Greeting) -> bool {
    greeting.pubsub_age >= SETTLED
}

/// Does as was decided from now on, whatever this process would have.
pub(crate) fn follow(now: &watch::Sender<PubSub>, decided: PubSub) {
    now.send_if_modified(|now| {
        let is_other = *now != decided;
        if is_other {
            let (before, now) = (now.name(), decided.name());
            tracing::warn!(
                before,
                now,
                "the store says that messages spread otherwise: until now, some were not heard"
            );
        }
        *now = decided;
        is_other
    });
}

/// All do as was decided, and until now some may not have.
pub(crate) fn settle(now: &watch::Sender<PubSub>) {
    now.send_modify(|_| {});
}
