//! The Redis backend, against real servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed helper is a failed test"
)]

mod bus;
mod fences;
mod fixture;
mod identity;
mod janitor;
mod locks;
mod members;
