//! `cargo xtask examples`: every example runs to a good end, in time.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::artifacts::{self, Artifact};
use crate::error::Error;
use crate::process;
use crate::servers::{Servers, Store};

/// How long an example may take. They run in virtual time, or for a few seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// Runs in a step of its own, optimised: `cargo run --release --example demo`.
const DEMO: &str = "demo";

/// How the names of examples begin that need a store, and which one that is.
const ON_STORES: [(&str, Store); 2] = [("postgres_", Store::Postgres), ("redis_", Store::Redis)];

/// How those are told where it is.
const URL: &str = "COORDINATOR_URL";

pub(crate) fn run(names: &[String]) -> Result<(), Error> {
    let arguments = ["build", "--workspace", "--all-features", "--examples"];
    let examples = chosen(artifacts::build("example", &arguments)?, names)?;
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    let mut stores = Stores::default();
    for example in &examples {
        let mut command = Command::new(&example.executable);
        command.current_dir(process::root()).stdin(Stdio::null());
        if let Some(store) = needed_by(&example.name) {
            let Some(url) = stores.url(store)? else {
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
        println!("\nSKIPPED, for want of a store: {}", skipped.join(", "));
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

fn needed_by(example: &str) -> Option<Store> {
    let mut needed = ON_STORES.iter();
    let needed = needed.find(|(beginning, _)| example.starts_with(beginning));
    needed.map(|(_, store)| *store)
}

/// Those that examples have needed so far, each started once.
#[derive(Default)]
struct Stores(Vec<(Store, Option<Servers>)>);

impl Stores {
    /// Where one is. `None`: there is none, which was said.
    fn url(&mut self, store: Store) -> Result<Option<OsString>, Error> {
        if self.0.iter().all(|(known, _)| *known != store) {
            self.0.push((store, Servers::if_there(store)?));
        }
        let found = self.0.iter().find(|(known, _)| *known == store);
        let servers = found.and_then(|(_, servers)| servers.as_ref());
        Ok(servers.and_then(|servers| servers.url(store)))
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
