//! A Redis server, as it shows itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::NAME;
use crate::servers::{Error, Redis, Reply};

const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);
/// So many keys are looked at in one step.
const STEP: &str = "1000";

/// The connections of the nodes: each line of `CLIENT LIST` but that of who asks.
async fn connections(server: &Redis) -> Result<Vec<String>, Error> {
    let list = server.ask(&["CLIENT", "LIST"]).await?.text();
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    Ok(others.map(str::to_owned).collect())
}

/// How many connections the nodes have.
pub(super) async fn sessions(server: &Redis) -> Result<i64, String> {
    let connections = connections(server).await.map_err(said)?;
    Ok(i64::try_from(connections.len()).unwrap_or(i64::MAX))
}

/// Ends one of the nodes' connections: at that share of all.
pub(super) async fn terminate(server: &Redis, which: f64) -> Result<(), String> {
    let connections = connections(server).await.map_err(said)?;
    let ids = connections.iter().filter_map(|line| {
        let id = line.strip_prefix("id=")?;
        id.split(' ').next()
    });
    let ids: Vec<_> = ids.collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of some dozens"
    )]
    let at = (which * ids.len() as f64) as usize;
    match ids.get(at) {
        // It may have ended by itself meanwhile.
        Some(id) => drop(server.ask(&["CLIENT", "KILL", "ID", id]).await),
        None => return Err("there is no connection to end".to_owned()),
    }
    Ok(())
}

/// How many elements the keys of each kind have, all groups together.
pub(super) async fn rows(server: &Redis) -> Result<BTreeMap<String, i64>, String> {
    let mut rows = BTreeMap::new();
    let pattern = format!("{{{NAME}:*");
    let mut cursor = "0".to_owned();
    loop {
        let step = ["SCAN", &cursor, "MATCH", &pattern, "COUNT", STEP];
        let found = server.ask(&step).await.map_err(said)?;
        let [next, keys] = found.list() else {
            return Err("SCAN said something else than keys".to_owned());
        };
        for key in keys.list().iter().map(Reply::text) {
            let kind = key
                .split("}:")
                .nth(1)
                .and_then(|rest| rest.split(':').next());
            let kind = kind.unwrap_or("other").to_owned();
            *rows.entry(kind).or_default() += elements(server, &key).await.map_err(said)?;
        }
        cursor = next.text();
        if cursor == "0" {
            return Ok(rows);
        }
    }
}

/// How many elements a key has.
async fn elements(server: &Redis, key: &str) -> Result<i64, Error> {
    let kind = server.ask(&["TYPE", key]).await?.text();
    let count = match kind.as_str() {
        "hash" => "HLEN",
        "zset" => "ZCARD",
        "stream" => "XLEN",
        _ => return Ok(1),
    };
    let said = server.ask(&[count, key]).await?.text();
    let unreadable = || Error::Missing(format!("{count} said `{said}`"));
    said.parse().map_err(|_| unreadable())
}

/// Waits until it answers.
pub(super) async fn answers(server: &Redis) -> Result<(), String> {
    let asked = async {
        while server.ask(&["PING"]).await.is_err() {
            sleep(AGAIN).await;
        }
    };
    let answered = timeout(PATIENCE, asked).await;
    answered.map_err(|_| "the server does not answer".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn said(error: Error) -> String {
    error.to_string()
}
