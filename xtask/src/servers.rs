//! The stores that tests need besides this process.
//!
//! A backend with a server of its own adds one [`Server`] here, and its tests read where it is from
//! the environment.

mod container;
mod install;
mod instead;
mod postgres;
mod redis;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Command;

use coordinator_servers::{POSTGRES_URL, REDIS_URL, REQUIRE};

use crate::error::Error;

/// A store that some tests need.
pub(crate) trait Server {
    /// The packages whose tests need it.
    fn needed_by(&self) -> &'static [&'static str];

    /// All that tests may need of it, by the words of [`REQUIRE`].
    fn parts(&self) -> &'static [&'static str];

    /// Finds a running one, or starts one that ends when the returned guard is dropped.
    fn start(&self) -> Result<Box<dyn Running>, Error>;
}

/// A store that answers.
pub(crate) trait Running {
    /// What it is and where it comes from, for whoever reads along.
    fn described(&self) -> String;

    /// How tests are told where it is: environment variables.
    fn told(&self) -> Vec<(&'static str, OsString)>;

    /// Which of its parts are there.
    fn parts(&self) -> Vec<&'static str>;
}

/// The stores by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Postgres,
    Redis,
}

impl Store {
    fn server(self) -> &'static dyn Server {
        match self {
            Self::Postgres => &postgres::Postgres,
            Self::Redis => &redis::Redis,
        }
    }

    /// The variable that tells where it is.
    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => POSTGRES_URL,
            Self::Redis => REDIS_URL,
        }
    }
}

/// Every store that tests need.
const SERVERS: &[&dyn Server] = &[&postgres::Postgres, &redis::Redis];

/// `cargo xtask servers`: starts them all, and stays until the input ends.
pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if let Some(argument) = arguments.first() {
        let text = format!("`servers` takes no argument, and got `{argument}`");
        return Err(Error::Usage(text));
    }
    let servers = Servers::start(SERVERS.iter().copied())?;
    for (name, value) in servers.told() {
        println!("export {name}={}", quoted(&value));
    }
    println!("# until the input ends, or Ctrl-C");
    let read = io::copy(&mut io::stdin(), &mut io::sink());
    read.map(drop)
        .map_err(Error::io("wait for the end of the input"))
}

/// The stores of one run. Dropping this ends those that were started for it; so does the end of this
/// process, however it comes.
#[derive(Default)]
pub(crate) struct Servers {
    running: Vec<Box<dyn Running>>,
    required: Vec<&'static str>,
}

impl Servers {
    /// Makes every store answer that a `cargo test` with these arguments needs.
    pub(crate) fn for_tests(arguments: &[String]) -> Result<Self, Error> {
        let servers = SERVERS.iter().copied();
        Self::start(servers.filter(|server| is_needed(server.needed_by(), arguments)))
    }

    /// One store alone, for what may also be left out: none where there is none, which is said. A
    /// machine that is there for tests must have it.
    pub(crate) fn if_there(store: Store) -> Result<Option<Self>, Error> {
        match Self::start(std::iter::once(store.server())) {
            Ok(servers) => Ok(Some(servers)),
            Err(Error::Server(why)) if env::var_os("CI").is_none() => {
                eprintln!("{why}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where the server of this store is.
    pub(crate) fn url(&self, store: Store) -> Option<OsString> {
        let told = self.running.iter().flat_map(|running| running.told());
        let mut urls = told.filter(|(name, _)| *name == store.variable());
        urls.next().map(|(_, url)| url)
    }

    fn start(wanted: impl Iterator<Item = &'static dyn Server>) -> Result<Self, Error> {
        let in_ci = env::var_os("CI").is_some();
        let mut servers = Self::default();
        for server in wanted {
            let running = server.start()?;
            eprintln!("{}", running.described());
            // What is there must be used. A machine that is there for tests must have it all.
            let must = if in_ci {
                server.parts().to_vec()
            } else {
                running.parts()
            };
            servers.required.extend(must);
            servers.running.push(running);
        }
        Ok(servers)
    }

    /// Tells a program where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(self.told());
    }

    fn told(&self) -> Vec<(&'static str, OsString)> {
        let mut told: Vec<_> = self
            .running
            .iter()
            .flat_map(|running| running.told())
            .collect();
        // Whoever has said it themselves is not overruled.
        if env::var_os(REQUIRE).is_none() && !self.required.is_empty() {
            told.push((REQUIRE, self.required.join(",").into()));
        }
        told
    }
}

/// Whether a `cargo test` with these arguments runs tests of one of the packages.
fn is_needed(packages: &[&str], arguments: &[String]) -> bool {
    let ours = arguments.iter().take_while(|argument| *argument != "--");
    let ours: Vec<&str> = ours.map(String::as_str).collect();
    if ours.contains(&"--no-run") || ours.contains(&"--help") {
        return false;
    }
    let named: Vec<&str> = (0..ours.len())
        .filter_map(|at| package(&ours, at))
        .collect();
    // A pattern may stand for any of them.
    let meant = |name: &&str| packages.contains(name) || name.contains(['*', '?', '[']);
    named.is_empty() || named.iter().any(meant)
}

/// The package that the argument at this place names.
fn package<'a>(arguments: &[&'a str], at: usize) -> Option<&'a str> {
    match arguments[at] {
        "-p" | "--package" => arguments.get(at + 1).copied(),
        other => {
            let rest = other.strip_prefix("--package=");
            rest.or_else(|| other.strip_prefix("-p").filter(|rest| !rest.is_empty()))
        }
    }
}

/// The value as a shell reads it.
fn quoted(value: &OsStr) -> String {
    format!("'{}'", value.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(line: &str) -> bool {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        is_needed(&["coordinator-postgres", "coordinator-tests"], &arguments)
    }

    #[test]
    fn servers_are_started_for_the_tests_that_need_them() {
        assert!(needed(""));
        assert!(needed("some_test -- --test-threads 1"));
        assert!(needed("-p coordinator-core -p coordinator-postgres"));
        assert!(needed("-pcoordinator-tests"));
        assert!(needed("--package=coordinator-*"));
        assert!(!needed("-p coordinator-core"));
        assert!(!needed("--package coordinator-core"));
        assert!(!needed("--package=coordinator-core -- -p"));
        assert!(!needed("--no-run"));
    }

    #[test]
    fn values_are_quoted_for_a_shell() {
        assert_eq!(quoted(OsStr::new("a b")), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")), r"'it'\''s'");
    }
}
