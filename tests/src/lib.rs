//! Tests across crates, and of the documents; and the simulation.

pub mod sim;

pub mod models;

/// The programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
