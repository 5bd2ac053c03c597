//! `cargo xtask bench postgres`: what the Postgres backend costs, beside the best that can be
//! written by hand against the same server for the same job.
//!
//! The raw figure and ours alternate within one run, round by round, so that both meet the same
//! weather; the ratio is the median of the rounds' ratios. The server is a private one, on the disk,
//! and syncs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "measurements are there to be printed"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "counts and spans far below 2^52"
)]

#[cfg(unix)]
mod durable;
#[cfg(unix)]
mod failover;
#[cfg(unix)]
mod figure;
#[cfg(unix)]
mod handover;
#[cfg(unix)]
mod host;
#[cfg(unix)]
mod idle;
#[cfg(unix)]
mod latency;
#[cfg(unix)]
mod nodes;
#[cfg(unix)]
mod raw;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod shards;
#[cfg(unix)]
mod throughput;

#[cfg(unix)]
fn main() -> anyhow::Result<()> {
    run::run()
}

#[cfg(not(unix))]
fn main() {
    println!("these measurements kill and suspend processes, which needs Unix");
}
