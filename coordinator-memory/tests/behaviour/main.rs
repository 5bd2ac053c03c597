//! What members see of a store in memory, and of the faults that a test puts in their way.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's helpers fail as its functions do"
)]

mod bus;
mod common;
mod locks;
mod memory_loss;
mod observer;
mod process;
mod replay;
mod requests;
