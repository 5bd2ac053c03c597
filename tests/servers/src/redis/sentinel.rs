//! A Sentinel: it promotes a replica when enough of its kind see the primary gone.

use super::{Kind, Redis};
use crate::error::Error;

/// What the primary is called, as clients ask for it.
pub const SENTINEL_NAME: &str = "coordinator";

/// Starts one that watches a primary. So many of them must agree that it is gone, and so many
/// milliseconds it must have been silent. It asks no password.
pub fn sentinel(primary: &Redis, quorum: u32, silent_ms: u32) -> Result<Redis, Error> {
    let mut server = Redis::prepare(&primary.program, Kind::Sentinel, String::new())?;
    let monitor = format!(
        "monitor {SENTINEL_NAME} 127.0.0.1 {} {quorum}",
        primary.port
    );
    let settings = [
        monitor,
        format!("auth-pass {SENTINEL_NAME} {}", primary.password),
        format!("down-after-milliseconds {SENTINEL_NAME} {silent_ms}"),
        format!("failover-timeout {SENTINEL_NAME} 5000"),
        format!("parallel-syncs {SENTINEL_NAME} 1"),
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|line| ("sentinel", line.as_str()))
        .collect();
    server.first_start(&settings)?;
    // They look at servers and at each other every ten seconds, and tell of themselves every two.
    // What has no such command (before 7.0) takes its time.
    let hurry = ["info-period", "500", "publish-period", "200"];
    server
        .talk()?
        .try_ask(&[&["SENTINEL", "DEBUG"], &hurry[..]].concat())?;
    Ok(server)
}
