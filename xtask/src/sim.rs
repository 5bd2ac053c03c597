//! `cargo xtask sim`: builds the simulation, optimised, and runs it.

use crate::error::Error;
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    process::run_optimised("sim", &["sim"], arguments)
}
