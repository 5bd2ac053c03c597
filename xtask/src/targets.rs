//! `cargo xtask check-targets`: does the workspace compile for other platforms, as far as `cargo
//! check` can tell on this machine?

use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::process;

/// The platforms besides Linux that users run on.
const TARGETS: &[&str] = &[
    "aarch64-apple-darwin",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-gnu",
    "x86_64-pc-windows-msvc",
];

/// Everything but TLS.
const FEATURES: &str = "coordinator-node/json,coordinator-node/memory,coordinator-node/postgres,\
                        coordinator-node/redis,coordinator-node/signal,coordinator-node/metrics";

/// Asks for what is missing to be installed. Without it nothing of the machine is changed.
const INSTALL: &str = "--install";

/// How long the download of one standard library may take.
const INSTALL_LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let asked = arguments.iter().map(String::as_str);
    let asked: Vec<&str> = asked.filter(|argument| *argument != INSTALL).collect();
    let install = asked.len() < arguments.len();
    let targets = if asked.is_empty() { TARGETS } else { &asked };
    let mut checked = Vec::new();
    let mut skipped = Vec::new();
    let mut failed = Vec::new();
    for &target in targets {
        if install && !has_std(target)? {
            install_std(target);
        }
        if !has_std(target)? {
            skipped.push(target);
            continue;
        }
        // Not the tests: they prove nothing until they run. Examples show what users can compile. And
        // not TLS: its provider needs a C compiler for that platform.
        let arguments = [
            "check",
            "--workspace",
            "--exclude",
            "coordinator-tests",
            "--no-default-features",
            "--features",
            FEATURES,
            "--lib",
            "--bins",
            "--examples",
        ];
        match process::run(process::cargo(arguments).args(["--target", target])) {
            Ok(()) => checked.push(target),
            Err(error) => failed.push(error.to_string()),
        }
    }
    println!("checked: {}", names(&checked));
    println!(
        "failed: {}",
        names(&failed.iter().map(String::as_str).collect::<Vec<_>>())
    );
    println!("skipped: {}", names(&skipped));
    if !skipped.is_empty() {
        println!(
            "  skipped targets have no standard library here; with `--install`, rustup is asked for it"
        );
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Unexpected(failed.join("; ")))
    }
}

fn names(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Tries to install the standard library. Where that cannot be, the target is skipped.
fn install_std(target: &str) {
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", target]);
    if let Err(error) = process::run_for(&mut rustup, INSTALL_LIMIT) {
        println!("{error}");
    }
}

/// Whether the toolchain has a standard library for `target`.
fn has_std(target: &str) -> Result<bool, Error> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(Error::io("start `rustc`"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Usage(format!(
            "`{target}` is no target of rustc: {}",
            reason.trim()
        )));
    }
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(std::fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some()))
}
