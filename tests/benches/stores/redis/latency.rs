//! How long a message takes.

use redis::AsyncCommands;

use super::Bench;
use super::raw::{connection, listener};
use crate::figure::{Figure, Target};
use crate::messages::message;
use crate::nodes::shut_down;
use crate::pace::{Times, figures, through_nodes};

/// Messages of 100 bytes.
pub(super) async fn small(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let what = "latency at 200/s, 100 bytes";
    both(bench, what, "bus_latency", 100, Target::RatioAtMost(1.3)).await
}

/// Messages of 20 KB.
pub(super) async fn large(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let what = "latency at 200/s, 20 KB";
    both(bench, what, "bus_20kb", 20_000, Target::RatioAtMost(1.3)).await
}

async fn both(
    bench: &Bench,
    what: &str,
    namespace: &str,
    bytes: usize,
    target: Target,
) -> anyhow::Result<Vec<Figure>> {
    let config = bench.config(namespace);
    let publisher = bench.node(config.clone()).await?;
    let subscriber = bench.node(config).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_round(&bench.url(), bytes).await?;
        let ours = through_nodes(&publisher, &subscriber, bytes).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(figures(what, &rounds, target))
}

/// By hand: PUBLISH, and a connection that listens.
async fn raw_round(url: &str, bytes: usize) -> anyhow::Result<(f64, f64)> {
    let times = Times::new()?;
    let arriving = times.clone();
    let on = move |_: &str, payload: &[u8]| {
        if let Ok(message) = std::str::from_utf8(payload) {
            arriving.arrived(message);
        }
    };
    let listening = listener(url, &["raw/paced".to_owned()], on).await?;
    let connection = connection(url).await?;
    let send = move |number| {
        let mut connection = connection.clone();
        tokio::spawn(async move {
            let message = message(number, bytes);
            connection.publish::<_, _, ()>("raw/paced", message).await
        });
    };
    times.keep_pace(send).await?;
    drop(listening);
    times.result()
}
