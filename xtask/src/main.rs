//! The project's own commands: `cargo xtask help` lists them.
//!
//! Nothing but the standard library (the one crate of ours that is used has nothing else either), so
//! that the first `cargo xtask test` of a fresh clone starts at once.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to its user"
)]

mod artifacts;
mod bench;
mod ci;
mod error;
mod examples;
mod models;
mod mutants;
mod process;
mod report;
mod servers;
mod sim;
mod soak;
mod targets;
mod test;

use std::env;
use std::process::ExitCode;

use error::Error;

const HELP: &str = "\
The commands of this project.

usage: cargo xtask <command> [arguments]

  test [ARGS]            every test of the workspace, doctests included. ARGS go to `cargo test` as they are:
                           cargo xtask test -p coordinator-node
                           cargo xtask test resign
                           cargo xtask test -- --test-threads 1
                         The servers that tests need are found on the machine, started for this run
                         in a temporary folder, or installed where that is allowed (TESTING.md)
  servers                start those servers, print the variables that tell tests of them, and stay
                         until the input ends or Ctrl-C
  examples [NAME..]      run every example (or those named) with a time limit each; all but the
                         demo, which is `cargo run --release --example demo`. Those on a database
                         get one as tests do, and are skipped where there is none
  bench [FILTER]         run the benchmarks whose id contains FILTER, optimised, and show all
                         figures in one table, against their targets
  bench postgres [GROUP..]
  bench redis [GROUP..]  measure that backend on a private server, beside what can be written by
                         hand; --list names the groups of figures
  soak [--backend postgres|redis] [--minutes N] [--seed S] [--trace]
                         nodes as processes on a private server (of Postgres unless told), under
                         random faults, for 30 minutes; then look for two holders, lost messages,
                         and leaks
  sim [ARGS]             the simulation: whole fleets under faults, each from one seed, every step
                         checked. By default 2,000 seeds; a violation prints its replay:
                           cargo xtask sim --seeds 200000 --first 5000 --jobs 4
                           cargo xtask sim --seed 103 --trace
                           cargo xtask sim --seed 103 --keep 3,17,21
                           cargo xtask sim --help
  models [NAME]          visit every state of every model (or of those whose name contains NAME),
                         optimised; one line for each, with a counterexample where there is one
  mutants [NAME..] [--seeds N] [--write] [--tree]
                         is the simulation able to see what it is there to see? Runs it against
                         every mutant (or those named): the code without one of its rules. Each
                         must be caught within N seeds (1,000). --write writes the table into
                         docs/mutants.md; --tree only makes the copy of the workspace that has
                         them, for runs by hand
  check-targets [--install] [TARGET..]
                         `cargo check` for macOS and Windows, where the standard library for that
                         target is installed; says which targets it had to skip, and why. With
                         --install, rustup is asked to install what is missing
  ci                     all that must pass before a change lands: format, lints, docs, tests, models,
                         examples, the demo (also on each store), other platforms
  help                   this text
";

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Told(_)) {
                eprintln!("xtask: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(mut arguments: Vec<String>) -> Result<(), Error> {
    if arguments.is_empty() {
        return Err(Error::Usage(
            "which command? `cargo xtask help` lists them".to_owned(),
        ));
    }
    let command = arguments.remove(0);
    match command.as_str() {
        "test" => test::run(&arguments),
        "servers" => servers::run(&arguments),
        "examples" => examples::run(&arguments),
        "bench" => bench::run(&arguments),
        "sim" => sim::run(&arguments),
        "soak" => soak::run(&arguments),
        "models" => models::run(&arguments),
        "mutants" => mutants::run(&arguments),
        "check-targets" => targets::run(&arguments),
        "ci" => ci::run(&arguments),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => Err(Error::Usage(format!(
            "there is no command `{unknown}`; `cargo xtask help` lists them"
        ))),
    }
}
