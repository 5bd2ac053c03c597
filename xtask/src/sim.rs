//! `cargo xtask sim`: builds the simulation, optimised, and runs it.

use std::process::Command;

use crate::error::Error;
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let build = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "coordinator-tests",
        "--bin",
        "sim",
    ];
    // Not announced: with `--quiet` its last line is all there is.
    let mut cargo = process::cargo(build);
    let status = cargo.status().map_err(Error::io("start `cargo build`"))?;
    process::succeeded(&cargo, status)?;
    let name = format!("sim{}", std::env::consts::EXE_SUFFIX);
    let mut sim = Command::new(process::target_dir().join("release").join(name));
    let status = sim
        .args(arguments)
        .status()
        .map_err(Error::io("start the simulation"))?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said what was wrong, and its last line stays the last.
        Some(code) => Err(Error::Told(u8::try_from(code).unwrap_or(1))),
        None => process::succeeded(&sim, status),
    }
}
