//! Tests across crates, and of the documents; the simulation; and the servers that tests need.

pub mod servers;
pub mod sim;

pub mod models;

/// The programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
