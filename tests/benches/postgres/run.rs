//! Which figures are measured, on which server, and the table of them.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use coordinator_tests::servers::Postgres;
use tokio::time::timeout;

use crate::figure::{Figure, table};
use crate::{durable, failover, host, idle, latency, shards, throughput};

/// No group of figures takes longer: one that hangs is a failure, not a wait.
const LIMIT: Duration = Duration::from_mins(4);

/// As in production, but for the number of sessions, and what idle figures are counted by.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("max_connections", "600"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("pg_stat_statements.track", "all"),
];

/// Measures the Postgres backend beside what can be written by hand.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench postgres")]
struct Options {
    /// Only groups of figures whose name contains one of these.
    filter: Vec<String>,
    /// List the groups.
    #[arg(long)]
    list: bool,
    /// Fewer rounds: to see that everything works, not to measure.
    #[arg(long)]
    quick: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all measurements need.
pub(crate) struct Bench {
    pub(crate) server: Postgres,
    pub(crate) quick: bool,
}

impl Bench {
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// The URL of a namespace.
    pub(crate) fn namespace(&self, schema: &str) -> String {
        format!("{}?schema={schema}", self.url())
    }

    /// So many, or few if it is quick that is wanted.
    pub(crate) fn rounds(&self, full: usize) -> usize {
        if self.quick { full.min(2) } else { full }
    }
}

type Measured<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Figure>>> + 'a>>;
type Group = (&'static str, for<'a> fn(&'a Bench) -> Measured<'a>);

const GROUPS: &[Group] = &[
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

pub(crate) fn run() -> anyhow::Result<()> {
    let options = Options::parse();
    let chosen = GROUPS.iter().filter(|(name, _)| {
        let named = |word: &String| name.contains(word.as_str());
        options.filter.is_empty() || options.filter.iter().any(named)
    });
    if options.list {
        chosen.for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(chosen, options.quick))
}

async fn measure(chosen: impl Iterator<Item = &Group>, quick: bool) -> anyhow::Result<()> {
    let server = Postgres::start(SETTINGS).await?;
    let server = server.context("the programs of a Postgres server are needed (TESTING.md)")?;
    let bench = Bench { server, quick };
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for (name, group) in chosen {
        let began = Instant::now();
        // One that cannot be measured leaves the others to be.
        match timeout(LIMIT, group(&bench)).await {
            Ok(Ok(measured)) => {
                eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
                eprintln!("{}", table(&measured));
                figures.extend(measured);
            }
            other => {
                let why = match other {
                    Ok(Err(error)) => format!("{name}: {error:#}"),
                    _ => format!("{name}: not done within {LIMIT:?}"),
                };
                eprintln!("{why}");
                failed.push(why);
            }
        }
    }
    println!("{}", table(&figures));
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join("; "));
    Ok(())
}
