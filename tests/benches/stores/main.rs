//! `cargo xtask bench postgres`, `cargo xtask bench redis`: what a backend costs, beside the best that
//! can be written by hand against the same server for the same job.
//!
//! The raw figure and ours alternate within one run, round by round, so that both meet the same
//! weather; the ratio is the median of the rounds' ratios. The server is a private one.
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
mod figure;
#[cfg(unix)]
mod fleet;
#[cfg(unix)]
mod flow;
#[cfg(unix)]
mod messages;
#[cfg(unix)]
mod nodes;
#[cfg(unix)]
mod pace;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod redis;
#[cfg(unix)]
mod run;

#[cfg(unix)]
fn main() -> anyhow::Result<()> {
    run::run()
}

#[cfg(not(unix))]
fn main() {
    println!("these measurements kill and suspend processes, which needs Unix");
}
