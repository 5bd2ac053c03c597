//! Who is alive, with what: members join, tell about themselves, leave, and die.
//!
//! `cargo run --example members`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use anyhow::ensure;
use coordinator_memory::MemoryStore;
use coordinator_node::{Members, Node};
use tokio::time::{Instant, sleep, timeout};

/// The names of all live members.
fn names(members: &Members) -> Vec<String> {
    let current = members.current().into_iter();
    current.map(|member| member.id.to_string()).collect()
}

/// Waits until the members are these: by their changes, not by asking again and again.
async fn until(members: &Members, wanted: &[&str]) -> anyhow::Result<()> {
    let mut members = members.clone();
    let seen = timeout(Duration::from_mins(1), async {
        while names(&members) != wanted {
            ensure!(members.changed().await, "the node runs");
        }
        Ok(())
    });
    seen.await??;
    println!("now: {wanted:?}");
    Ok(())
}

// Virtual time: the seconds below pass at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    let start = async |name: &str| {
        let node = Node::builder("fleet").member(name).zone("eu-1");
        let node = node.metadata("address", format!("{name}.internal:7000"));
        let ttl = Duration::from_secs(5);
        node.ttl(ttl).backend(store.connect(name)).start().await
    };
    let a = start("a").await?;
    let members = a.members();
    until(&members, &["a"]).await?;

    let (b, c) = (start("b").await?, start("c").await?);
    until(&members, &["a", "b", "c"]).await?;
    for member in members.current() {
        println!(
            "{} in {:?} has {:?}",
            member.id, member.profile.zone, member.profile.metadata
        );
    }

    println!("b leaves");
    b.shutdown().await?;
    until(&members, &["a", "c"]).await?;

    println!("c dies without a word");
    let died = Instant::now();
    store.link("c").crash();
    drop(c);
    until(&members, &["a"]).await?;
    let noticed = died.elapsed();
    println!("noticed after {noticed:?}");
    ensure!(
        noticed <= Duration::from_secs(10),
        "within its ttl and a heartbeat: {noticed:?}"
    );

    println!("c is started again: the same name, a new incarnation");
    sleep(Duration::from_secs(1)).await;
    let c = start("c").await?;
    until(&members, &["a", "c"]).await?;
    c.shutdown().await?;
    Ok(a.shutdown().await?)
}
