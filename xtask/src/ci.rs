//! `cargo xtask ci`: all that must pass before a change lands.

use std::env;

use crate::error::Error;
use crate::process::{self, cargo};
use crate::report::Steps;
use crate::{examples, models, sim, targets};

/// The faults and hand-offs of the demo differ with its seed.
const SEEDS: [&str; 2] = ["1", "2"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if let Some(argument) = arguments.first() {
        return Err(Error::Usage(format!(
            "`ci` takes no argument, and got `{argument}`"
        )));
    }
    let mut steps = Steps::default();
    steps.step("format", || {
        process::run(&mut cargo(["fmt", "--all", "--check"]))
    });
    steps.step("lints", lints);
    steps.step("docs", docs);
    steps.step("tests", || process::run(&mut cargo(["xtask", "test"])));
    steps.step("models", || models::run(&[]));
    steps.step("simulation", || sim::run(&[]));
    steps.step("examples", || examples::run(&[]));
    steps.step("demo", demo);
    steps.step("other platforms", other_platforms);
    steps.finish()
}

fn lints() -> Result<(), Error> {
    let deny = ["--", "-D", "warnings"];
    process::run(cargo(["clippy", "--workspace", "--all-targets", "--all-features"]).args(deny))?;
    // Features only add: the runtime must stand without any of them.
    process::run(cargo(["clippy", "-p", "coordinator-node", "--no-default-features"]).args(deny))
}

fn docs() -> Result<(), Error> {
    let mut command = cargo(["doc", "--workspace", "--all-features", "--no-deps"]);
    process::run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn demo() -> Result<(), Error> {
    for seed in SEEDS {
        process::run(&mut cargo([
            "run",
            "--release",
            "--example",
            "demo",
            "--",
            "--seed",
            seed,
        ]))?;
    }
    Ok(())
}

fn other_platforms() -> Result<(), Error> {
    // A developer's toolchain is the developer's: only a machine that is there for this is changed.
    let install = env::var_os("CI").map(|_| "--install".to_owned());
    targets::run(install.as_slice())
}
