//! `cargo xtask soak`: builds the soak and the nodes that it starts, optimised, and runs it.

use crate::error::Error;
use crate::process;

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    process::run_optimised("soak", &["soak", "pg_node"], arguments)
}

/// One minute: enough for each fault to happen.
pub(crate) fn short() -> Result<(), Error> {
    run(&["--minutes".to_owned(), "1".to_owned()])
}
