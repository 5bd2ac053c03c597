//! Elections by vote, of whole fleets in virtual time: how fast, how chatty, and what a list of
//! voters, a release or a split bus may do to them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and their figures are for people"
)]

mod changes;
mod counted;
mod fail_over;
mod fleet;
mod splits;
mod traffic;
