//! Which clients of the backend tests run on.

use std::env;

/// `redis`, `fred`, or both with a comma between.
const WANTED: &str = "COORDINATOR_TEST_REDIS_CLIENTS";

/// All clients of the backend.
const ALL: [&str; 2] = ["redis", "fred"];

/// The clients that tests run on, as URLs name them: both, or those that a variable names.
///
/// # Panics
/// Where it names none.
pub fn wanted_clients() -> Vec<&'static str> {
    let Ok(wanted) = env::var(WANTED) else {
        return ALL.to_vec();
    };
    let mut clients = ALL.to_vec();
    clients.retain(|client| wanted.split(',').any(|wanted| wanted.trim() == *client));
    assert!(!clients.is_empty(), "{WANTED}={wanted} names no client");
    clients
}
