//! Tests that cannot run on this machine: one loud line, or a failure where they must.

use std::env;
use std::io::Write;
use std::thread;

use coordinator_servers::{Error, REQUIRE};

/// What was found, or else none, and the test that asked is said to be skipped.
///
/// # Panics
/// Where `part` is required: then the test fails.
pub(crate) fn found<T>(part: &str, found: Result<T, &Error>) -> Option<T> {
    found.map_err(|why| skip(part, why)).ok()
}

#[expect(
    clippy::print_stdout,
    reason = "the harness captures it and hands it on"
)]
fn skip(part: &str, why: &Error) {
    let required = env::var(REQUIRE);
    assert!(
        !required
            .as_deref()
            .is_ok_and(|required| requires(required, part)),
        "{REQUIRE} asks for {part}: {why}"
    );
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped {name}: {why}");
    if required.is_ok() {
        // Collected by `cargo xtask test`, which shows all of them at the end.
        println!("{line}");
    } else {
        // The harness keeps what passed tests print to itself, but not what is written here.
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

fn requires(required: &str, part: &str) -> bool {
    required.split(',').any(|word| word.trim() == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_required_by_its_whole_name() {
        assert!(requires("postgres, pgbouncer", "pgbouncer"));
        assert!(!requires("postgres-bin", "postgres"));
        assert!(!requires("", "postgres"));
    }
}
