//! Leader election on a database: exactly one of two processes runs the jobs, then the other one.
//!
//! `cargo run --example postgres_leader postgres://user:password@host/database`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use coordinator_examples::Scratch;
use coordinator_node::Node;
use coordinator_postgres::{PostgresBackend, PostgresConfig};

/// What each process of the fleet does.
async fn run_jobs(name: &str, config: PostgresConfig) -> anyhow::Result<()> {
    let backend = PostgresBackend::connect(config).await?;
    let node = Node::builder("billing").member(name).backend(backend);
    let node = node.start().await?;
    node.election("scheduler")
        .run(async |term| {
            for job in 1..=3 {
                // A later leader has a higher token. Once the lead is lost there is none.
                println!("{name} runs job {job} under token {}", term.token()?);
                term.run(tokio::time::sleep(Duration::from_millis(100)))
                    .await?;
            }
            Ok(()) // done: it resigns, and whoever waits leads at once
        })
        .await?;
    Ok(node.shutdown().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::of_example()?;
    tokio::try_join!(
        run_jobs("a", scratch.config()?),
        run_jobs("b", scratch.config()?),
    )?;
    scratch.remove().await
}
