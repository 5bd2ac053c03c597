//! The scenarios that are shown by simulation, each by its name: whole fleets in virtual time, with
//! all invariants checked at every step, and with nothing but the faults that make the scenario.
//! Each test also proves that its scenario came about.
//!
//! `COORDINATOR_SEEDS=100` plays so many seeds of each kind of world instead of a few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its figures are for people"
)]

mod crowd;
mod elections;
mod members;
mod play;
mod shards;
mod undisturbed;
mod weights;
