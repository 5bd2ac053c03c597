//! What nodes ask of the server when nothing happens, counted by the server.

use std::time::Duration;

use anyhow::Context;
use coordinator_core::Backend;
use coordinator_node::Node;
use coordinator_postgres::{PostgresBackend, PostgresConfig};
use tokio::time::{sleep, timeout};

use super::Bench;
use super::raw::{Session, session};
use crate::figure::{Figure, Target, Unit};
use crate::nodes::{PATIENCE, shut_down};

/// Of default TTLs there are six in this, and two re-arms of a waiting candidate.
const WATCHED: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(5);
/// The connections' own start is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// Who each is for the server: statements are counted by role.
const ROLES: [&str; 3] = ["bench_leader", "bench_candidate", "bench_member"];

/// All statements of a role, and those that only ask whether the session lives (U5).
const CALLS: &str = "SELECT r.rolname::text, coalesce(sum(s.calls) FILTER (WHERE NOT probe), 0)::float8, \
    coalesce(sum(s.calls) FILTER (WHERE probe), 0)::float8 \
    FROM pg_roles r LEFT JOIN (SELECT *, query ~* '^\\s*select\\s*(\\$?1)?\\s*;?\\s*$' \
    OR query ~* 'probe' AS probe FROM pg_stat_statements WHERE toplevel) s ON s.userid = r.oid \
    WHERE r.rolname LIKE 'bench\\_%' GROUP BY 1";

/// Every statement, for whoever wonders.
const EACH: &str = "SELECT r.rolname::text, s.calls::float8, left(s.query, 90) FROM pg_stat_statements s \
    JOIN pg_roles r ON s.userid = r.oid WHERE r.rolname LIKE 'bench\\_%' AND toplevel ORDER BY 1, 2 DESC";

/// Of all updates in the schema how many changed no index.
const HOT: &str = "SELECT relname::text, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables \
    WHERE schemaname = 'idle' AND n_tup_upd > 0 ORDER BY 1";

/// A leader, a candidate and a member, for a minute.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let look = session(&bench.url()).await?;
    look.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        .await?;
    for role in ROLES {
        let create = format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'bench'");
        look.batch_execute(&create).await?;
    }
    let leader = locks_only(&url_of(bench, ROLES[0])).await?;
    let election = leader.election("e");
    let leads = timeout(PATIENCE, election.campaign())
        .await
        .context("nobody leads")??;
    let candidate = locks_only(&url_of(bench, ROLES[1])).await?;
    let waiting = tokio::spawn({
        let election = candidate.election("e");
        async move { election.campaign().await.map(drop) }
    });
    let backend = PostgresBackend::connect(config(&url_of(bench, ROLES[2]))).await?;
    let member = Node::builder("idle").backend(backend).start().await?;
    sleep(SETTLE).await;
    look.execute("SELECT pg_stat_statements_reset()", &[])
        .await?;
    let watched = if bench.effort.is_quick {
        QUICK
    } else {
        WATCHED
    };
    sleep(watched).await;
    let figures = figures(&look, watched).await;
    waiting.abort();
    drop(leads);
    shut_down(vec![leader, candidate, member]).await?;
    figures
}

async fn figures(look: &Session, watched: Duration) -> anyhow::Result<Vec<Figure>> {
    for row in look.query(EACH, &[]).await? {
        let (role, calls, query): (&str, f64, &str) = (row.get(0), row.get(1), row.get(2));
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        eprintln!("  {role}: {calls:.0} × {query}");
    }
    let rows = look.query(CALLS, &[]).await?;
    let mut figures = Vec::new();
    let kinds = [
        (ROLES[1], "a waiting candidate: queries in 30 s", 30.0, 1.0),
        (ROLES[0], "a leader: queries per ttl (10 s)", 10.0, 4.0),
        (ROLES[2], "a member: queries in 2 s", 2.0, 1.0),
    ];
    for (role, what, per, most) in kinds {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == role);
        let row = row.context("a role is not there")?;
        let (calls, probes): (f64, f64) = (row.get(1), row.get(2));
        let scale = per / watched.as_secs_f64();
        let what = format!("{what}, beside {:.1} probes", probes * scale);
        figures.push(Figure::alone(
            what,
            Unit::Count,
            calls * scale,
            Target::AtMost(most),
        ));
    }
    for row in look.query(HOT, &[]).await? {
        let (table, updates, hot): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let what = format!("updates of `{table}` that are HOT, of {updates}");
        let share = hot as f64 / updates as f64 * 100.0;
        // The first updates of a new row may find a page that is full.
        let target = if table.contains("beat") {
            Target::AtLeast(100.0)
        } else {
            Target::Nothing
        };
        figures.push(Figure::alone(what, Unit::Percent, share, target));
    }
    Ok(figures)
}

fn url_of(bench: &Bench, role: &str) -> String {
    format!(
        "postgres://{role}:bench@127.0.0.1:{}/postgres",
        bench.server.port()
    )
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::new(url).schema("idle")
}

/// A node that can do nothing but hold leases.
async fn locks_only(url: &str) -> anyhow::Result<Node> {
    let backend = Backend::from(PostgresBackend::connect(config(url)).await?);
    let mut locks = Backend::default();
    locks.locks = backend.locks;
    Ok(Node::builder("idle").backend(locks).start().await?)
}
