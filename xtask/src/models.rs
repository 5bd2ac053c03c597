//! `cargo xtask models`: visits every state of the models of the protocols.

use crate::error::Error;
use crate::process::{self, cargo};

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let run = [
        "run",
        "--release",
        "-p",
        "coordinator-tests",
        "--bin",
        "models",
        "--",
    ];
    process::run(cargo(run).args(arguments))
}
