//! Tell everyone, with types, and tell a subscriber what it missed.
//!
//! `cargo run --example bus`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use anyhow::{bail, ensure};
use coordinator_memory::MemoryStore;
use coordinator_node::{Incoming, Json, Node, Subscription, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

#[derive(Debug, Serialize, Deserialize)]
struct PriceChanged {
    sku: String,
    cents: u64,
}

/// Declared once, used on both sides: so nobody expects another type than is sent.
const PRICES: Topic<Json<PriceChanged>> = Topic::new("prices");

fn price(cents: u64) -> Json<PriceChanged> {
    let sku = "4711".into();
    Json(PriceChanged { sku, cents })
}

async fn next(
    prices: &mut Subscription<Json<PriceChanged>>,
) -> anyhow::Result<Incoming<Json<PriceChanged>>> {
    let next = timeout(Duration::from_mins(1), prices.next()).await?;
    next.ok_or_else(|| anyhow::anyhow!("the node runs"))
}

// Virtual time: the seconds below pass at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    let start = async |name: &str| {
        let node = Node::builder("shop").member(name);
        node.backend(store.connect(name)).start().await
    };
    let (a, b) = (start("a").await?, start("b").await?);

    // Live from here on.
    let mut prices = b.bus().subscribe(&PRICES).await?;
    a.bus().publish(&PRICES, &price(999)).await?;
    match next(&mut prices).await? {
        Incoming::Message(message) => {
            println!("{} says {:?}", message.origin, message.payload.0);
            ensure!(message.payload.0.cents == 999, "as it was sent");
        }
        Incoming::Gap(gap) => bail!("nothing was lost: {gap:?}"),
        Incoming::Malformed(bad) => bail!("it can be read: {}", bad.error),
    }

    // While b is cut off, prices change.
    store.link("b").cut();
    for cents in [1_001, 1_002, 1_003] {
        a.bus().publish(&PRICES, &price(cents)).await?;
    }
    store.link("b").heal();
    a.bus().publish(&PRICES, &price(1_004)).await?;

    // b hears of the last one, and that it missed some: a cache is emptied, not wrong for ever.
    let mut gaps = Vec::new();
    loop {
        match next(&mut prices).await? {
            Incoming::Gap(gap) => gaps.push((gap.cause, gap.missing)),
            Incoming::Message(message) if message.payload.0.cents == 1_004 => break,
            Incoming::Message(message) => bail!("sent during the cut: {:?}", message.payload.0),
            Incoming::Malformed(bad) => bail!("it can be read: {}", bad.error),
        }
    }
    println!("b was told of {gaps:?}, and goes on");
    ensure!(!gaps.is_empty(), "loss is told, never hidden");

    a.shutdown().await?;
    Ok(b.shutdown().await?)
}
