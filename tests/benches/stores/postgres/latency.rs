//! How long a message takes.

use std::sync::Arc;

use coordinator_postgres::Spill;

use super::Bench;
use super::raw::{Session, listener, notifier};
use crate::figure::{Figure, Target};
use crate::messages::message;
use crate::nodes::shut_down;
use crate::pace::{Times, figures, through_nodes};

/// So much of a large message fits one NOTIFY, cut by hand.
const FRAGMENT: usize = 7_900;

/// Messages of 100 bytes.
pub(super) async fn small(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let target = Target::RatioAtMost(1.2);
    both(
        bench,
        "latency at 200/s, 100 bytes",
        "bus_latency",
        100,
        target,
    )
    .await
}

/// Messages of 20 KB, which no NOTIFY takes whole.
pub(super) async fn large(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let target = Target::RatioAtMost(2.0);
    both(bench, "latency at 200/s, 20 KB", "bus_20kb", 20_000, target).await
}

async fn both(
    bench: &Bench,
    what: &str,
    schema: &str,
    bytes: usize,
    target: Target,
) -> anyhow::Result<Vec<Figure>> {
    let publisher = bench.node(schema, Spill::Overflow).await?;
    let subscriber = bench.node(schema, Spill::Overflow).await?;
    let session = notifier(&bench.url()).await?;
    let mut rounds = Vec::new();
    for round in 0..=bench.rounds(7) {
        let raw = raw_round(&bench.url(), &session, bytes).await?;
        let ours = through_nodes(&publisher, &subscriber, bytes).await?;
        if round > 0 {
            rounds.push((raw, ours));
        }
    }
    shut_down(vec![publisher, subscriber]).await?;
    Ok(figures(what, &rounds, target))
}

/// By hand: one NOTIFY, or as many fragments as it takes in one statement.
async fn raw_round(url: &str, session: &Arc<Session>, bytes: usize) -> anyhow::Result<(f64, f64)> {
    let times = Times::new()?;
    let (arriving, fragments) = (times.clone(), bytes.div_ceil(FRAGMENT));
    let mut parts: Vec<String> = Vec::new();
    let on = move |payload: &str| {
        parts.push(payload.to_owned());
        if parts.len() == fragments {
            let whole = parts.concat();
            parts.clear();
            arriving.arrived(&whole);
        }
    };
    // The server wakes every session that listens, and so does the publisher's process.
    let listening = [
        listener(url, "raw_bench", on).await?,
        listener(url, "raw_bench", |_| ()).await?,
    ];
    let one = session.prepare("SELECT pg_notify('raw_bench', $1)").await?;
    let all = "SELECT pg_notify('raw_bench', x) FROM unnest($1::text[]) x";
    let all = session.prepare(all).await?;
    let session = session.clone();
    let send = move |number| {
        let (session, one, all) = (session.clone(), one.clone(), all.clone());
        tokio::spawn(async move {
            let message = message(number, bytes);
            if fragments == 1 {
                session.execute(&one, &[&message]).await
            } else {
                session.execute(&all, &[&cut(&message, number)]).await
            }
        });
    };
    times.keep_pace(send).await?;
    drop(listening);
    times.result()
}

/// Fragments, none equal to another: the server drops equal ones.
fn cut(message: &str, number: u64) -> Vec<String> {
    let mut fragments = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (one, others) = rest.split_at(rest.len().min(FRAGMENT));
        rest = others;
        // The first begins with the number already.
        fragments.push(match fragments.len() {
            0 => one.to_owned(),
            at => format!("{number}/{at}{one}"),
        });
    }
    fragments
}
