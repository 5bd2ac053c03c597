//! Exactly one of several nodes runs a scheduler; when its node leaves, another one takes over.
//!
//! `cargo run --example leader`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use coordinator_memory::MemoryStore;
use coordinator_node::{Node, RunError};
use tokio::time::{Instant, sleep};

/// Who ran the scheduler, under which token, from when on: term by term.
type Terms = Arc<Mutex<Vec<(String, u64, Instant)>>>;

/// What each node runs. Only one of them is inside the closure at any time.
async fn schedule(node: Node, terms: Terms) -> Result<(), RunError> {
    let work = async |term: coordinator_node::Leadership| {
        let token = term.token()?.get();
        println!("{} leads, with token {token}", node.id());
        terms
            .lock()
            .map_err(|_| "poisoned")?
            .push((node.id().to_string(), token, Instant::now()));
        while term.tick(Duration::from_secs(1)).await {
            println!("{} runs the due jobs", node.id());
        }
        println!("{} was asked to finish", node.id());
        Ok(())
    };
    node.election("scheduler").run(work).await
}

// Virtual time: the seconds below pass at once. In a service it is plain `#[tokio::main]`.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let (store, terms) = (MemoryStore::new(), Terms::default());
    let mut nodes = Vec::new();
    let mut schedulers = Vec::new();
    for name in ["a", "b", "c"] {
        let backend = store.connect(name);
        let node = Node::builder("billing").member(name).backend(backend);
        let node = node.start().await?;
        schedulers.push(tokio::spawn(schedule(node.clone(), terms.clone())));
        nodes.push(node);
    }
    // Everyone can see who leads.
    let observer = nodes[2].election("scheduler").observe();
    sleep(Duration::from_secs(3)).await;
    let first = observer.current().map(|term| term.leader);
    println!("c sees that {first:?} leads");

    let leader = nodes
        .iter()
        .position(|node| Some(node.id()) == first.as_ref());
    let leader = leader.ok_or_else(|| anyhow::anyhow!("somebody leads after three seconds"))?;
    println!(
        "{} shuts down: it finishes, resigns, leaves",
        nodes[leader].id()
    );
    let asked = Instant::now();
    nodes.remove(leader).shutdown().await?;
    sleep(Duration::from_secs(2)).await;
    {
        let terms = terms.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        ensure!(terms.len() == 2, "a second term began: {terms:?}");
        ensure!(terms[0].0 != terms[1].0, "another node leads: {terms:?}");
        ensure!(terms[0].1 < terms[1].1, "tokens rise: {terms:?}");
        let (successor, _, since) = &terms[1];
        println!("handed over to {successor} within {:?}", *since - asked);
    }
    for node in nodes {
        node.shutdown().await?;
    }
    // `run` returned by itself, everywhere: no task was left behind.
    for scheduler in schedulers {
        scheduler.await??;
    }
    Ok(())
}
