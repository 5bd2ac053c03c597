//! Three nodes share 16 shards; one dies, and the others go on where it had come to.
//!
//! `cargo run --example sharded_workers`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use coordinator_memory::MemoryStore;
use coordinator_node::{Node, OnError, OwnedShard, ShardConfig, WorkResult};
use tokio::time::sleep;

const SHARDS: u16 = 16;

/// Who works on each shard, and at which position. In a program of yours there is no such thing.
type Seen = Arc<Mutex<BTreeMap<u16, (String, u64)>>>;

/// One shard's worker: runs while the shard is this node's, and goes on at the last checkpoint.
async fn count(shard: OwnedShard, node: String, seen: Seen) -> WorkResult {
    let mut position: u64 = shard.load().await?.unwrap_or(0);
    while shard.tick(Duration::from_millis(100)).await {
        position += 1;
        // Refused if somebody else owns the shard by now.
        shard.save(position).await?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, before) = seen.get(&shard.id().get()).cloned().unwrap_or_default();
        if position != before + 1 {
            return Err(format!("shard {} went from {before} to {position}", shard.id()).into());
        }
        seen.insert(shard.id().get(), (node.clone(), position));
    }
    Ok(())
}

fn show(when: &str, seen: &Seen) -> BTreeMap<String, Vec<u16>> {
    let mut shards: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for (shard, (node, _)) in &*seen.lock().unwrap_or_else(PoisonError::into_inner) {
        shards.entry(node.clone()).or_default().push(*shard);
    }
    println!("{when}:");
    for (node, shards) in &shards {
        println!("  {node} {shards:?}");
    }
    shards
}

// Virtual time: the seconds below pass at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let (store, seen) = (MemoryStore::new(), Seen::default());
    let mut nodes = Vec::new();
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        let backend = store.connect(name);
        let node = Node::builder("shop").member(name).backend(backend);
        let node = node.start().await?;
        let (worker, seen) = (node.clone(), seen.clone());
        workers.push(tokio::spawn(async move {
            // A worker that fails ends the example, instead of being tried again.
            let config = ShardConfig::new("orders", SHARDS).on_error(OnError::Stop);
            let work = move |shard| count(shard, name.to_owned(), seen.clone());
            worker.run_shards(config, work).await
        }));
        nodes.push(node);
    }
    sleep(Duration::from_secs(10)).await;
    let shards = show("after 10 s", &seen);
    ensure!(
        shards.values().all(|own| (5..=6).contains(&own.len())),
        "balanced: {shards:?}"
    );

    store.link("a").crash();
    workers.remove(0).abort();
    drop(nodes.remove(0));
    sleep(Duration::from_mins(1)).await;
    let shards = show("a minute after a's death", &seen);
    ensure!(
        !shards.contains_key("a"),
        "the dead own nothing: {shards:?}"
    );
    let owned: usize = shards.values().map(Vec::len).sum();
    ensure!(
        owned == usize::from(SHARDS),
        "all shards are owned: {shards:?}"
    );

    for node in nodes {
        node.shutdown().await?;
    }
    for worker in workers {
        worker.await??;
    }
    println!("no shard lost or repeated a position");
    Ok(())
}
