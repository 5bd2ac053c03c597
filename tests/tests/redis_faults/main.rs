//! What real servers, networks and processes do to a fleet on Redis, each by its scenario's name.
//!
//! Nodes run as processes of their own where processes are killed or suspended, or where several are
//! compared. Overlap is measured by what they say of their trust, with moments of one clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its figures are for people"
)]

mod bus;
mod clusters;
mod elections;
mod errors;
mod kit;
mod locks;
mod members;
mod shards;
mod tls;
