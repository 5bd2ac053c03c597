//! How long nobody leads.
//!
//! The nodes are processes of their own, and every moment is read from the one clock of the machine.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::async_trait;
use coordinator_tests::servers::{Direction, Mode, Proxy};

use super::Bench;
use super::handover::{Way, by_hand};
use super::raw::{Session, session};
use crate::figure::{Figure, Target, Unit, worst};
use crate::fleet::{Fleet, Queue};

/// A leader and who wait for its place.
const NODES: usize = 3;
const TTL: Duration = Duration::from_secs(10);
/// For faults after which the lease has to run out.
const TTLS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
const LATE: f64 = 0.050;
/// Who waits for the leader's place in the server.
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";

/// The server's queue.
struct Locks(Arc<Session>);

#[async_trait]
impl Queue for Locks {
    async fn waiting(&self) -> anyhow::Result<usize> {
        let row = self.0.query_one(WAITING, &[]).await?;
        Ok(usize::try_from(row.get::<_, i64>(0))?)
    }
}

async fn fleet(bench: &Bench, urls: Vec<String>, ttl: Duration) -> anyhow::Result<Fleet> {
    let queue = Locks(session(&bench.url()).await?);
    Fleet::start(queue, urls, ttl).await
}

/// The same URL for all of them.
async fn alike(bench: &Bench, schema: &str, ttl: Duration) -> anyhow::Result<Fleet> {
    fleet(bench, vec![bench.namespace(schema); NODES], ttl).await
}

/// `kill -9`, on a direct path.
pub(super) async fn killed(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut fleet = alike(bench, "leader_killed", TTL).await?;
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds(50) {
        let raw = by_hand(&bench.url(), Way::Vanishes).await?;
        rounds.extend(fleet.kill(1).await?.into_iter().map(|ours| (raw, ours)));
    }
    let what = "kill −9 of the leader to the next one, direct path";
    Ok(changes(what, &rounds, 0.010, Target::AtMost(0.050)))
}

/// From the end of the leader's work to its successor's beginning.
pub(super) async fn resigned(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut fleet = alike(bench, "leader_resigned", TTL).await?;
    let mut rounds = Vec::new();
    for _ in 0..bench.rounds(50) {
        let raw = by_hand(&bench.url(), Way::Unlocks).await?;
        rounds.extend(fleet.resign(1).await?.into_iter().map(|ours| (raw, ours)));
    }
    let what = "clean resign to the next leader";
    Ok(changes(what, &rounds, 0.003, Target::Nothing))
}

/// The middle and the worst of changes of leaders, beside those by hand.
fn changes(
    what: &str,
    rounds: &[(Duration, Duration)],
    middle: f64,
    at_worst: Target,
) -> Vec<Figure> {
    let (raw, ours): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    let seconds = rounds
        .iter()
        .map(|(raw, ours)| (raw.as_secs_f64(), ours.as_secs_f64()));
    let seconds: Vec<_> = seconds.collect();
    let what = |which: &str| format!("{what}: {which}; raw: a lock that passes on, and one commit");
    vec![
        Figure::paired(
            &what("p50"),
            Unit::Seconds,
            &seconds,
            Target::AtMost(middle),
        ),
        Figure::paired(
            &what(&format!("worst of {}", ours.len())),
            Unit::Seconds,
            &[(worst(&raw), worst(&ours))],
            at_worst,
        ),
    ]
}

/// SIGSTOP: everything stays connected, and nothing is sent any more.
pub(super) async fn frozen(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for ttl in TTLS {
        let schema = format!("leader_frozen_{}", ttl.as_millis());
        let mut fleet = alike(bench, &schema, ttl).await?;
        let mut spans = Vec::new();
        for _ in 0..bench.rounds(8) {
            let (old, at) = (fleet.leader, fleet.leader().suspend()?);
            let (leader, span) = fleet.next(at).await?;
            spans.push(span);
            fleet.programs[old].kill()?;
            fleet.replace(old, leader).await?;
        }
        figures.push(expiry("frozen leader to the next one", ttl, &spans, LATE));
    }
    Ok(figures)
}

/// Cut off: nothing passes any more, and neither side is told. The path is declared direct, for a
/// proxy does the cutting.
pub(super) async fn cut(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for ttl in TTLS {
        let schema = format!("leader_cut_{}", ttl.as_millis());
        let (mut proxies, mut urls) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let proxy = Proxy::to(bench.server.address())?;
            let url = bench.server.url_at(proxy.port());
            urls.push(format!("{url}?schema={schema}&direct=true"));
            proxies.push(proxy);
        }
        let mut fleet = fleet(bench, urls, ttl).await?;
        let mut spans = Vec::new();
        for _ in 0..bench.rounds(8) {
            let old = fleet.leader;
            let at = coordinator_tests::servers::process::now();
            proxies[old].set(Direction::Both, Mode::Lose);
            let (leader, span) = fleet.next(at).await?;
            spans.push(span);
            fleet.programs[old].kill()?;
            proxies[old].reset_all().await;
            proxies[old].set(Direction::Both, Mode::Pass);
            fleet.replace(old, leader).await?;
        }
        figures.push(expiry("leader cut off to the next one", ttl, &spans, LATE));
    }
    Ok(figures)
}

/// `kill -9` where a proxy stands between, so that no end of a session is believed.
pub(super) async fn proxied(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let ttl = Duration::from_secs(1);
    let proxy = Proxy::to(bench.server.address())?;
    let url = format!(
        "{}?schema=leader_proxied",
        bench.server.url_at(proxy.port())
    );
    let mut fleet = fleet(bench, vec![url; NODES], ttl).await?;
    let spans = fleet.kill(bench.rounds(10)).await?;
    Ok(vec![expiry(
        "kill −9 of the leader, through a proxy",
        ttl,
        &spans,
        0.0,
    )])
}

/// The worst of spans that may take a TTL, and so much more.
fn expiry(what: &str, ttl: Duration, spans: &[Duration], late: f64) -> Figure {
    let what = format!("{what}, ttl {ttl:?}: worst of {}", spans.len());
    let target = Target::AtMost(ttl.as_secs_f64() + late);
    Figure::alone(what, Unit::Seconds, worst(spans), target)
}
