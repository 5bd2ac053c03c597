//! Nodes in this process, and nodes as processes of their own.

use std::io;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use coordinator_node::Node;
use coordinator_tests::servers::Program;
use coordinator_tests::servers::process::Event;
use futures_util::future::select_all;
use tokio::task::JoinSet;

/// Enough for anything that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Ends all of them at once.
pub(crate) async fn shut_down(nodes: Vec<Node>) -> anyhow::Result<()> {
    let mut ending = JoinSet::new();
    for node in nodes {
        ending.spawn(async move { node.shutdown().await });
    }
    while let Some(ended) = ending.join_next().await {
        ended??;
    }
    Ok(())
}

/// A node in a process of its own, with its first orders.
pub(crate) fn process(url: &str, ttl: Duration, orders: &[&str]) -> anyhow::Result<Program> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pg_node"));
    command.args(["--url", url, "--ttl", &ttl.as_millis().to_string()]);
    let started = Program::start(command.args(orders));
    started.context("start a node as a process")
}

/// Waits until one of them, but not that one, says something that begins so, and returns which.
pub(crate) async fn first_of(
    programs: &mut [Program],
    but: Option<usize>,
    beginning: &str,
) -> anyhow::Result<(usize, Event)> {
    let others = programs
        .iter_mut()
        .enumerate()
        .filter(|(which, _)| Some(*which) != but);
    let waiting = others.map(|(which, program)| {
        Box::pin(async move { (which, program.until(beginning, PATIENCE).await) })
    });
    let ((which, said), ..) = select_all(waiting).await;
    Ok((which, said?))
}

/// How long after `since` it was.
pub(crate) fn after(event: &Event, since: Duration) -> io::Result<Duration> {
    let early = || io::Error::other(format!("`{}` came before its cause", event.text));
    event.at.checked_sub(since).ok_or_else(early)
}
