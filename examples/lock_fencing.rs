//! A lock alone cannot stop a writer that was frozen while it held it: the resource must look at
//! the token, and refuse a lower one than it has seen.
//!
//! `cargo run --example lock_fencing`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use anyhow::ensure;
use coordinator_memory::MemoryStore;
use coordinator_node::{FencingToken, Node};
use tokio::time::sleep;

/// Any resource: a table with a column for the token, a file service, a device.
#[derive(Debug, Default)]
struct Account {
    balance: i64,
    fence: Option<FencingToken>,
}

impl Account {
    /// `update accounts set balance = $1, fence = $2 where fence <= $2`
    fn write(&mut self, balance: i64, token: FencingToken) -> Result<(), String> {
        if self.fence > Some(token) {
            return Err(format!("token {token} is stale, {:?} was seen", self.fence));
        }
        (self.balance, self.fence) = (balance, Some(token));
        Ok(())
    }
}

// Virtual time: the seconds below pass at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let store = MemoryStore::new();
    let start = async |name: &str| {
        let node = Node::builder("bank").member(name);
        node.backend(store.connect(name)).start().await
    };
    let (a, b) = (start("a").await?, start("b").await?);
    let mut account = Account::default();

    let held = a.lock("account/42").acquire().await?;
    let token = held.token()?;
    println!("a holds the lock with token {token}, and prepares a write of 100");

    // a's machine stops for a while: it can neither renew nor notice.
    store.link("a").pause();
    println!("a is frozen");
    let successor = b.lock("account/42").acquire().await?;
    account
        .write(250, successor.token()?)
        .map_err(anyhow::Error::msg)?;
    println!(
        "b holds the lock with token {}, and writes 250",
        successor.token()?
    );

    store.link("a").resume();
    sleep(Duration::from_secs(1)).await;
    // The guard tells the truth, if it is asked …
    let lost = held.token();
    println!("a wakes up, and asks its guard: {lost:?}");
    ensure!(lost.is_err(), "a guard gives no token once trust has ended");
    // … and for a write that was on its way already, there is the fence.
    let late = account.write(100, token);
    println!("a's write arrives late: {late:?}");
    ensure!(late.is_err(), "a stale token is refused");
    ensure!(account.balance == 250, "b's write stands");

    successor.release().await?;
    drop(held);
    a.shutdown().await?;
    b.shutdown().await?;
    Ok(())
}
