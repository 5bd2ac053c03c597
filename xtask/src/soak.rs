//! `cargo xtask soak`: builds the soak and the nodes that it starts, optimised, and runs it.

use crate::error::Error;
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    process::run_optimised("soak", &["soak", "pg_node"], arguments)
}

/// One minute, of one seed: enough for each fault to happen, and the same faults each time.
pub(crate) fn short(backend: &str) -> Result<(), Error> {
    let arguments = ["--minutes", "1", "--seed", "1", "--backend", backend];
    run(&arguments.map(str::to_owned))
}
