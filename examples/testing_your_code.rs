//! How to test your own code: virtual time, and faults where you want them.
//!
//! `cargo run --example testing_your_code` shows it; `cargo test --example testing_your_code` runs
//! it as the test that it is.
#![cfg_attr(
    not(test),
    allow(clippy::print_stdout, reason = "an example speaks to its reader")
)]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use coordinator_memory::MemoryStore;
use coordinator_node::{Node, RunError};
use tokio::time::sleep;

/// The jobs that have run: on which node.
type Jobs = Mutex<Vec<String>>;

/// The code under test: a job each second, on one node only.
async fn schedule(node: &Node, jobs: &Jobs) -> Result<(), RunError> {
    node.election("scheduler")
        .run(async |term| {
            while term.tick(Duration::from_secs(1)).await {
                let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.push(node.id().to_string());
            }
            Ok(())
        })
        .await
}

fn last(jobs: &Jobs) -> Option<String> {
    let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    jobs.last().cloned()
}

/// Two minutes in the life of two nodes. They pass in a millisecond.
async fn the_scheduler_moves_when_its_leader_is_cut_off() -> anyhow::Result<(String, String)> {
    let store = MemoryStore::new();
    let start = async |name: &str| {
        let node = Node::builder("test").member(name);
        node.backend(store.connect(name)).start().await
    };
    let (a, b) = (start("a").await?, start("b").await?);
    let jobs = Jobs::default();
    let script = async {
        sleep(Duration::from_mins(1)).await;
        let first = last(&jobs).context("one of them leads")?;
        store.link(first.as_str()).cut();
        sleep(Duration::from_mins(1)).await;
        let second = last(&jobs).context("one of them has led")?;
        ensure!(
            second != first,
            "a cut-off leader stops, and the other one takes over"
        );
        Ok((first, second))
    };
    tokio::select! {
        biased;
        ended = script => ended,
        (a, b) = async { tokio::join!(schedule(&a, &jobs), schedule(&b, &jobs)) } => {
            anyhow::bail!("no scheduler ends by itself: {a:?} {b:?}")
        }
    }
}

#[cfg(not(test))]
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let (first, second) = the_scheduler_moves_when_its_leader_is_cut_off().await?;
    println!("{first} led for a minute, was cut off, and {second} took over");
    Ok(())
}

#[cfg(test)]
#[tokio::test(start_paused = true)]
async fn the_test() {
    the_scheduler_moves_when_its_leader_is_cut_off()
        .await
        .unwrap();
}
