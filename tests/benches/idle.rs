//! How much heap an idle node takes: a member that beats, and does nothing else.
//!
//! Counted on the memory backend, which keeps its records in the same heap, so the figures hold
//! the store's share too. Virtual time: a minute of heartbeats passes before the count.
#![allow(clippy::print_stdout, reason = "a measurement is there to be printed")]

use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{Node, NodeBuilder};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const NODES: usize = 1_000;
const TARGET_KB: f64 = 50.0;

fn main() -> anyhow::Result<()> {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"idle_node".contains(&filter)) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let alone = measure(1).await?;
        let in_tens = measure(10).await?;
        println!("idle_node, each in a group of its own:  {alone:>6.1} KB");
        println!("idle_node, in groups of ten:            {in_tens:>6.1} KB");
        println!("target: at most {TARGET_KB} KB");
        anyhow::ensure!(
            alone.max(in_tens) <= TARGET_KB,
            "an idle node takes too much"
        );
        Ok(())
    })
}

/// Kilobytes for each of [`NODES`] nodes, in groups of `size`.
async fn measure(size: usize) -> anyhow::Result<f64> {
    let store = MemoryStore::new();
    // What is there once, however many nodes follow, is none of theirs.
    let first = node("first", "first", &store).start().await?;
    let before = HEAP.current_usage();
    let mut nodes = Vec::with_capacity(NODES);
    for number in 0..NODES {
        let group = format!("group-{}", number / size);
        nodes.push(
            node(&group, &format!("node-{number}"), &store)
                .start()
                .await?,
        );
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    let used = HEAP.current_usage().saturating_sub(before);
    let beating = nodes
        .iter()
        .filter(|node| node.members().current().len() == size)
        .count();
    anyhow::ensure!(
        beating == NODES,
        "only {beating} nodes see all of their group"
    );
    for node in nodes.iter().chain([&first]) {
        node.shutdown().await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let kilobytes = used as f64 / NODES as f64 / 1_000.0;
    Ok(kilobytes)
}

fn node(group: &str, name: &str, store: &MemoryStore) -> NodeBuilder {
    Node::builder(group)
        .member(name)
        .backend(store.connect(name))
}
