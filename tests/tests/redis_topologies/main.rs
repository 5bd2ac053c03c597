//! A store of several servers: a cluster, and a primary that Sentinels know. What conformance asks of every backend, by both
//! clients, and what only they can do.
//!
//! Faults of the store are left to one server and to the tests of fail-over: what a check cannot have, it is skipped without.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its figures are for people"
)]

mod echoes;
mod fixture;
mod messages;
mod moves;
mod sharded;

macro_rules! suites {
    ($name:ident, $client:ident) => {
        mod $name {
            use coordinator_redis::{ClientKind, RedisConfig};

            use crate::fixture::{Change, store as any_store};

            type Url = fn() -> Option<String>;

            fn store(url: Url, change: Change) -> coordinator_conformance::Fixture<coordinator_core::Backend> {
                any_store(ClientKind::$client, url, change)
            }

            fn live(config: RedisConfig) -> RedisConfig {
                config
            }

            fn durable(config: RedisConfig) -> RedisConfig {
                config.durable(true)
            }

            fn live_and_plain(config: RedisConfig) -> RedisConfig {
                config.sharded(false)
            }

            fn durable_and_plain(config: RedisConfig) -> RedisConfig {
                config.durable(true).sharded(false)
            }

            mod cluster {
                use super::{durable, durable_and_plain, live, live_and_plain, store};
                use coordinator_tests::servers::redis::shared_cluster as url;

                coordinator_conformance::lock_backend! { lock_backend, store(url, live).locks() }
                coordinator_conformance::membership_store! { membership_store, store(url, live).members() }
                coordinator_conformance::assignment_store! { assignment_store, store(url, live).planning() }
                coordinator_conformance::checkpoint_store! { checkpoint_store, store(url, live).checkpoints() }
                coordinator_conformance::cluster_bus! { live_bus, store(url, live).bus() }
                coordinator_conformance::cluster_bus! { durable_bus, store(url, durable).bus() }
                coordinator_conformance::cluster_bus! { plain_live_bus, store(url, live_and_plain).bus() }
                coordinator_conformance::cluster_bus! { plain_durable_bus, store(url, durable_and_plain).bus() }
            }

            mod sentinel {
                use super::{live, store};
                use coordinator_tests::servers::redis::shared_sentinels as url;

                coordinator_conformance::lock_backend! { lock_backend, store(url, live).locks() }
                coordinator_conformance::membership_store! { membership_store, store(url, live).members() }
                coordinator_conformance::cluster_bus! { live_bus, store(url, live).bus() }
            }
        }
    };
}

suites! { by_redis, Redis }
suites! { by_fred, Fred }
