//! The Postgres backend, against real servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed helper is a failed test"
)]

mod bus;
mod deaths;
mod dropped;
mod fences;
mod fixture;
mod guests;
mod janitor;
mod locks;
mod members;
mod row_leases;
mod takeovers;
mod upgrades;
#[path = "../kit/warnings.rs"]
mod warnings;
mod witness;
