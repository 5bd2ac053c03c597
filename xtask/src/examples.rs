//! `cargo xtask examples`: every example runs to a good end, in time.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::artifacts::{self, Artifact};
use crate::error::Error;
use crate::process;
use crate::servers::Servers;

/// How long an example may take. They run in virtual time, or for a few seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// Runs in a step of its own, optimised: `cargo run --release --example demo`.
const DEMO: &str = "demo";

/// How the names of examples begin that need a database.
const ON_POSTGRES: &str = "postgres_";

/// How those are told where it is.
const URL: &str = "COORDINATOR_URL";

pub(crate) fn run(names: &[String]) -> Result<(), Error> {
    let arguments = ["build", "--workspace", "--all-features", "--examples"];
    let examples = chosen(artifacts::build("example", &arguments)?, names)?;
    let needy = |example: &Artifact| example.name.starts_with(ON_POSTGRES);
    let servers = if examples.iter().any(needy) {
        Servers::postgres_if_there()?
    } else {
        None
    };
    let url = servers.as_ref().and_then(Servers::postgres_url);
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for example in &examples {
        let mut command = Command::new(&example.executable);
        command.current_dir(process::root()).stdin(Stdio::null());
        if needy(example) {
            let Some(url) = &url else {
                skipped.push(example.name.as_str());
                continue;
            };
            command.env(URL, url);
        }
        println!();
        if let Err(error) = process::run_for(&mut command, LIMIT) {
            println!("{error}");
            failed.push(error.to_string());
        }
    }
    if !skipped.is_empty() {
        println!("\nSKIPPED, for want of a database: {}", skipped.join(", "));
    }
    println!(
        "\nexamples: {} passed, {} failed, {} skipped",
        examples.len() - failed.len() - skipped.len(),
        failed.len(),
        skipped.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Unexpected(failed.join("; ")))
    }
}

fn chosen(all: Vec<Artifact>, names: &[String]) -> Result<Vec<Artifact>, Error> {
    if names.is_empty() {
        let found: Vec<_> = all
            .into_iter()
            .filter(|example| example.name != DEMO)
            .collect();
        if found.is_empty() {
            return Err(Error::Unexpected("there is no example to run".to_owned()));
        }
        return Ok(found);
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| all.iter().all(|one| one.name != **name))
    {
        let known: Vec<_> = all.iter().map(|example| example.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "there is no example `{unknown}`; there are: {}",
            known.join(", ")
        )));
    }
    Ok(all
        .into_iter()
        .filter(|example| names.contains(&example.name))
        .collect())
}
