//! What cannot work says what to do: soon, without a panic, and without a password in its words.

mod fake;
mod others;
mod queue;
mod refused;
mod replicas;
mod rights;

use std::error::Error;
use std::time::Duration;

use coordinator_node::{Node, StartError};
use coordinator_postgres::{ConnectError, PostgresBackend, PostgresConfig};
use tokio::time::timeout;

use crate::kit::LONG;

/// In each URL that must not work.
const SECRET: &str = "s3cret";

/// An error and its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The error of a connection that must not come about, and its words. It comes soon.
async fn refusal(config: impl Into<PostgresConfig>) -> (ConnectError, String) {
    let config = config.into();
    let limit = config.connect_timeout + Duration::from_secs(5);
    let connected = timeout(limit, PostgresBackend::connect(config)).await;
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
