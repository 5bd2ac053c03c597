//! Tests across crates, and of the documents; the simulation; the servers that tests need; and the
//! soak on them.

pub mod effects;
pub mod servers;
pub mod sim;
#[cfg(unix)]
pub mod soak;

pub mod models;

/// The programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
