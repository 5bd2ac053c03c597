//! What cannot work says what to do: soon, without a panic, and without a password in its words.

mod clusters;
mod fake;
mod guarantees;
mod mid_work;
mod refused;
mod rights;
mod sentinels;
mod unfit;

use std::time::Duration;

use coordinator_node::{Node, StartError};
use coordinator_redis::{ConnectError, RedisBackend, RedisConfig};
use tokio::time::timeout;

use crate::kit::{LONG, chain};

/// A password that must show nowhere.
const SECRET: &str = "open-sesame";

/// The error of a connection that must not come about, and its words. It comes soon.
pub(crate) async fn refusal(config: impl Into<RedisConfig>) -> (ConnectError, String) {
    let config = config.into();
    let limit = config.connect_timeout + Duration::from_secs(5);
    let connected = timeout(limit, RedisBackend::connect(config)).await;
    let error = connected
        .expect("it hangs")
        .map(drop)
        .expect_err("it cannot connect");
    let text = chain(&error);
    println!("{text}");
    assert!(!text.contains(SECRET), "{text}");
    (error, text)
}

/// The same of a node that must not start.
async fn start_refusal(url: &str) -> (StartError, String) {
    let started = timeout(LONG, Node::builder("g").url(url).start()).await;
    let error = started
        .expect("it hangs")
        .map(drop)
        .expect_err("it cannot start");
    let text = chain(&error);
    assert!(!text.contains(SECRET), "{text}");
    (error, text)
}
