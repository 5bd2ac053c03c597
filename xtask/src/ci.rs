//! `cargo xtask ci`: all that must pass before a change lands.

use std::env;

use crate::error::Error;
use crate::process::{self, cargo};
use crate::report::Steps;
use crate::servers::{Servers, Store};
use crate::{examples, models, sim, soak, targets};

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
    steps.step("tests", tests);
    steps.step("models", || models::run(&[]));
    steps.step("simulation", || sim::run(&[]));
    steps.step("soak on Postgres", || soak::short("postgres"));
    steps.step("soak on Redis", || soak::short("redis"));
    steps.step("examples", || examples::run(&[]));
    steps.step("demo", demo);
    steps.step("demo on Postgres", || demo_on("Postgres", Store::Postgres));
    steps.step("demo on Redis", || demo_on("Redis", Store::Redis));
    steps.step("other platforms", other_platforms);
    steps.finish()
}

/// Conformance of the Redis backend by both of its clients; its faults, Sentinel and Cluster by the one that
/// most will use, for time's sake. The README's command runs them by both.
fn tests() -> Result<(), Error> {
    let mut command = cargo(["xtask", "test"]);
    process::run(command.env("COORDINATOR_TEST_REDIS_CLIENTS", "redis"))
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

/// As processes on a store, which are really killed and frozen.
fn demo_on(name: &str, store: Store) -> Result<(), Error> {
    let Some(servers) = Servers::if_there(store)? else {
        println!("SKIPPED, for want of a server: the demo on {name}");
        return Ok(());
    };
    let mut command = cargo(["run", "--release", "--example", "demo", "--", "--backend"]);
    match servers.url(store) {
        // Not shown: there may be a password in it.
        Some(url) => process::run_as(&format!("the demo on {name}"), command.arg(url)),
        None => Err(Error::Server("the server has no URL".to_owned())),
    }
}

fn other_platforms() -> Result<(), Error> {
    // A developer's toolchain is the developer's: only a machine that is there for this is changed.
    let install = env::var_os("CI").map(|_| "--install".to_owned());
    targets::run(install.as_slice())
}
