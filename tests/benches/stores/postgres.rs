//! The Postgres backend. The server is on the disk, and syncs.

mod durable;
mod failover;
mod handover;
mod host;
mod idle;
mod latency;
mod raw;
mod shards;
mod throughput;

use anyhow::Context;
use coordinator_node::{Backend, Node};
use coordinator_postgres::{PostgresBackend, PostgresConfig, Spill};
use coordinator_tests::servers::Postgres;

use crate::run::{Effort, Group};

/// As in production, but for the number of sessions, and what idle figures are counted by.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("max_connections", "600"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
];

/// What all measurements need.
pub(crate) struct Bench {
    server: Postgres,
    effort: Effort,
}

impl Bench {
    pub(crate) async fn start(effort: Effort) -> anyhow::Result<Self> {
        let server = Postgres::start(SETTINGS).await?;
        let server = server.context("the programs of a Postgres server are needed (TESTING.md)")?;
        Ok(Self { server, effort })
    }

    fn url(&self) -> String {
        self.server.url()
    }

    /// The URL of a namespace.
    fn namespace(&self, schema: &str) -> String {
        format!("{}?schema={schema}", self.url())
    }

    fn rounds(&self, full: usize) -> usize {
        self.effort.rounds(full)
    }

    /// A node in this process.
    async fn node(&self, schema: &str, spill: Spill) -> anyhow::Result<Node> {
        let config = PostgresConfig::new(self.url()).schema(schema).spill(spill);
        let backend = PostgresBackend::connect(config).await?;
        let node = Node::builder("bench").backend(Backend::from(backend));
        Ok(node.start().await?)
    }
}

pub(crate) const GROUPS: &[Group<Bench>] = &[
    ("bus/one", |bench| Box::pin(throughput::one(bench))),
    ("bus/awaited", |bench| Box::pin(throughput::awaited(bench))),
    ("bus/fifty", |bench| Box::pin(throughput::fifty(bench))),
    ("bus/latency", |bench| Box::pin(latency::small(bench))),
    ("bus/20kb", |bench| Box::pin(latency::large(bench))),
    ("durable/packed", |bench| Box::pin(durable::packed(bench))),
    ("durable/writers", |bench| Box::pin(durable::writers(bench))),
    ("host", |bench| Box::pin(host::measure(bench))),
    ("leader/killed", |bench| Box::pin(failover::killed(bench))),
    ("leader/resigned", |bench| {
        Box::pin(failover::resigned(bench))
    }),
    ("leader/frozen", |bench| Box::pin(failover::frozen(bench))),
    ("leader/cut", |bench| Box::pin(failover::cut(bench))),
    ("leader/proxied", |bench| Box::pin(failover::proxied(bench))),
    ("shards", |bench| Box::pin(shards::measure(bench))),
    ("idle", |bench| Box::pin(idle::measure(bench))),
];
