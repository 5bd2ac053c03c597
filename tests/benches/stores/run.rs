//! Which figures are measured, on which server, and the table of them.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::figure::{Figure, table};
use crate::{postgres, redis};

/// No group of figures takes longer: one that hangs is a failure, not a wait.
const LIMIT: Duration = Duration::from_mins(4);

/// Measures a backend beside what can be written by hand.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// On which server.
    store: Store,
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

/// The servers there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Store {
    Postgres,
    Redis,
}

/// So many rounds, or few if it is quick that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) is_quick: bool,
}

impl Effort {
    pub(crate) fn rounds(self, full: usize) -> usize {
        if self.is_quick { full.min(2) } else { full }
    }
}

pub(crate) type Measured<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Figure>>> + 'a>>;

/// A group of figures: its name, and how it is measured with the server and all else in `B`.
pub(crate) type Group<B> = (&'static str, for<'a> fn(&'a B) -> Measured<'a>);

pub(crate) fn run() -> anyhow::Result<()> {
    let options = Options::parse();
    match options.store {
        Store::Postgres => options.run(postgres::GROUPS, postgres::Bench::start),
        Store::Redis => options.run(redis::GROUPS, redis::Bench::start),
    }
}

impl Options {
    fn run<B, F: Future<Output = anyhow::Result<B>>>(
        &self,
        groups: &[Group<B>],
        start: impl FnOnce(Effort) -> F,
    ) -> anyhow::Result<()> {
        let chosen = groups.iter().filter(|(name, _)| {
            let named = |word: &String| name.contains(word.as_str());
            self.filter.is_empty() || self.filter.iter().any(named)
        });
        if self.list {
            chosen.for_each(|(name, _)| println!("{name}"));
            return Ok(());
        }
        let effort = Effort {
            is_quick: self.quick,
        };
        Runtime::new()?.block_on(async { measure(chosen, &start(effort).await?).await })
    }
}

async fn measure<'a, B: 'a>(
    chosen: impl Iterator<Item = &'a Group<B>>,
    bench: &B,
) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for (name, group) in chosen {
        let began = Instant::now();
        // One that cannot be measured leaves the others to be.
        match timeout(LIMIT, group(bench)).await {
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
