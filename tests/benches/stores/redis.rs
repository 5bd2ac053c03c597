//! The Redis backend. The server keeps all in memory: what the disk costs, both sides pay alike.

mod durable;
mod failover;
mod idle;
mod latency;
mod locks;
mod raw;
mod throughput;

use anyhow::Context;
use coordinator_node::{Backend, Node};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_tests::servers::Redis;

use crate::run::{Effort, Group};

/// What all measurements need.
pub(crate) struct Bench {
    server: Redis,
    effort: Effort,
}

impl Bench {
    pub(crate) async fn start(effort: Effort) -> anyhow::Result<Self> {
        let server = Redis::start(&[]).await?;
        let server = server.context("the program of a Redis server is needed (TESTING.md)")?;
        Ok(Self { server, effort })
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn rounds(&self, full: usize) -> usize {
        self.effort.rounds(full)
    }

    /// How a namespace of its own is reached. The server is new.
    fn config(&self, namespace: &str) -> RedisConfig {
        RedisConfig::new(self.url())
            .namespace(namespace)
            .trust_empty_store(true)
    }

    /// A node in this process.
    async fn node(&self, config: RedisConfig) -> anyhow::Result<Node> {
        let backend = RedisBackend::connect(config).await?;
        let node = Node::builder("bench").backend(Backend::from(backend));
        Ok(node.start().await?)
    }
}

pub(crate) const GROUPS: &[Group<Bench>] = &[
    ("bus/unpacked", |bench| {
        Box::pin(throughput::unpacked(bench))
    }),
    ("bus/packed", |bench| Box::pin(throughput::packed(bench))),
    ("bus/awaited", |bench| Box::pin(throughput::awaited(bench))),
    ("bus/latency", |bench| Box::pin(latency::small(bench))),
    ("bus/20kb", |bench| Box::pin(latency::large(bench))),
    ("durable/packed", |bench| Box::pin(durable::packed(bench))),
    ("durable/writers", |bench| Box::pin(durable::writers(bench))),
    ("lock/round", |bench| Box::pin(locks::round_trip(bench))),
    ("lock/turn", |bench| Box::pin(locks::turn(bench))),
    ("leader/killed", |bench| Box::pin(failover::killed(bench))),
    ("leader/resigned", |bench| {
        Box::pin(failover::resigned(bench))
    }),
    ("idle/vote", |bench| Box::pin(idle::by_vote(bench))),
    ("idle/lease", |bench| Box::pin(idle::by_lease(bench))),
];
