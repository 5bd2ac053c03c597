//! How long nobody leads.

use std::time::Duration;

use coordinator_core::async_trait;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

use super::Bench;
use super::raw::connection;
use crate::figure::{Figure, Target};
use crate::fleet::{Fleet, Queue, middle_and_worst};

/// A leader and who wait for its place.
const NODES: usize = 3;
/// A lease has to run out, for nothing but the clock tells of a death.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(10);

/// The line of those who wait, as the backend keeps it.
struct Line {
    connection: MultiplexedConnection,
    key: String,
}

#[async_trait]
impl Queue for Line {
    async fn waiting(&self) -> anyhow::Result<usize> {
        Ok(self.connection.clone().zcard(&self.key).await?)
    }
}

async fn fleet(bench: &Bench, namespace: &str, ttl: Duration) -> anyhow::Result<Fleet> {
    let parameters = format!("namespace={namespace}&trust_empty_store=true");
    let url = format!("{}?{parameters}", bench.url());
    let line = Line {
        connection: connection(&bench.url()).await?,
        key: format!("{{{namespace}:g}}:line:g/election/e"),
    };
    Fleet::start(line, vec![url; NODES], ttl).await
}

/// `kill -9` of the leader.
pub(super) async fn killed(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut fleet = fleet(bench, "leader_killed", SHORT).await?;
    let spans = fleet.kill(bench.rounds(100)).await?;
    Ok(middle_and_worst(
        "kill −9 of the leader to the next one, ttl 500 ms",
        &spans,
        (Target::Nothing, Target::AtMost(0.600)),
    ))
}

/// From the end of the leader's work to its successor's beginning.
pub(super) async fn resigned(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut fleet = fleet(bench, "leader_resigned", LONG).await?;
    let spans = fleet.resign(bench.rounds(50)).await?;
    Ok(middle_and_worst(
        "clean resign to the next leader",
        &spans,
        (Target::AtMost(0.001), Target::Nothing),
    ))
}
