//! Postgres, and PgBouncer in front of it.

use std::env;
use std::ffi::OsString;

use coordinator_servers as local;
use coordinator_servers::{Binaries, POSTGRES_BIN, POSTGRES_TEMPLATE, POSTGRES_URL, Template};

use super::container::Container;
use super::install::{self, Package};
use super::instead::{Instead, Ways};
use super::{Running, Server};
use crate::error::Error;

/// What tests can need: a server to use, programs to start servers by, and a pooler.
const SERVER: &str = "postgres";
const PROGRAMS: &str = "postgres-bin";
const POOLER: &str = "pgbouncer";

/// What the server for all tests has.
const SETTINGS: &[(&str, &str)] = &[("max_connections", "500")];

/// Postgres, and PgBouncer in front of it.
pub(crate) struct Postgres;

impl Server for Postgres {
    fn needed_by(&self) -> &'static [&'static str] {
        &[
            "coordinator-postgres",
            "coordinator-tests",
            "coordinator-examples",
        ]
    }

    fn parts(&self) -> &'static [&'static str] {
        &[SERVER, PROGRAMS, POOLER]
    }

    fn start(&self) -> Result<Box<dyn Running>, Error> {
        let given = env::var_os(POSTGRES_URL);
        let mut binaries = Binaries::find();
        if let Err(error) = &binaries
            && given.is_none()
        {
            // What was named and is wrong is to be named rightly, not replaced.
            if env::var_os(POSTGRES_BIN).is_some() {
                return Err(no_server(error));
            }
            match on_another_way(error)? {
                Instead::Container(container) => return Ok(Box::new(Contained(container))),
                Instead::Installed(installed) => binaries = Ok(installed),
            }
        }
        let source = match given {
            Some(url) => Source::Given(url),
            None => Source::private(binaries.as_ref().map_err(no_server)?)?,
        };
        let pooler = given_or_installed_pooler(&source);
        Ok(Box::new(Found {
            source,
            binaries: binaries.ok(),
            pooler,
        }))
    }
}

/// A server that is used directly.
struct Found {
    source: Source,
    binaries: Option<Binaries>,
    pooler: bool,
}

/// Where the server for all tests comes from.
enum Source {
    /// The user has named it.
    Given(OsString),
    /// We have started it, with a template for those that tests start.
    Private(Box<(local::Postgres, Template)>),
}

impl Source {
    fn private(binaries: &Binaries) -> Result<Self, Error> {
        let template = Template::make(binaries.clone())?;
        let mut settings = SETTINGS.to_vec();
        if binaries.has_library("pg_stat_statements") {
            settings.push(("shared_preload_libraries", "pg_stat_statements"));
        }
        let server = local::Postgres::start(&template, &settings)?;
        Ok(Self::Private(Box::new((server, template))))
    }
}

impl Running for Found {
    fn described(&self) -> String {
        let server = match &self.source {
            Source::Given(_) => format!("Postgres: the one that {POSTGRES_URL} names"),
            Source::Private(private) => {
                let binaries = private.0.binaries();
                let (major, place) = (binaries.major(), binaries.directory().display());
                format!("Postgres: a private server of version {major}, of {place}")
            }
        };
        let without = |there: bool, text: &str| {
            if there {
                String::new()
            } else {
                format!("; {text}")
            }
        };
        let programs = without(
            self.binaries.is_some(),
            "no programs to start servers by: tests that break servers are skipped",
        );
        let pooler = without(
            self.pooler,
            "no PgBouncer: tests through a pooler are skipped",
        );
        format!("{server}{programs}{pooler}")
    }

    fn told(&self) -> Vec<(&'static str, OsString)> {
        let mut told = Vec::new();
        match &self.source {
            Source::Given(url) => told.push((POSTGRES_URL, url.clone())),
            Source::Private(private) => {
                told.push((POSTGRES_URL, private.0.url().into()));
                told.push((POSTGRES_TEMPLATE, private.1.path().into()));
            }
        }
        let directory = self.binaries.as_ref().map(Binaries::directory);
        told.extend(directory.map(|directory| (POSTGRES_BIN, directory.into())));
        told
    }

    fn parts(&self) -> Vec<&'static str> {
        let mut parts = vec![SERVER];
        parts.extend(self.binaries.is_some().then_some(PROGRAMS));
        parts.extend(self.pooler.then_some(POOLER));
        parts
    }
}

/// A server in a container.
struct Contained(Container);

impl Running for Contained {
    fn described(&self) -> String {
        "Postgres: a container; no programs to start servers by: tests that break servers are skipped"
            .to_owned()
    }

    fn told(&self) -> Vec<(&'static str, OsString)> {
        vec![(POSTGRES_URL, self.0.url().into())]
    }

    fn parts(&self) -> Vec<&'static str> {
        vec![SERVER]
    }
}

/// What serves on a machine without server programs.
fn on_another_way(missing: &local::Error) -> Result<Instead<Binaries>, Error> {
    let ways = Ways {
        container: SERVER,
        package: Package::Postgres,
        find: Binaries::find,
    };
    ways.instead(missing).map_err(no_server)
}

/// Whether there is a pooler. It is installed beside a server of our own only.
fn given_or_installed_pooler(source: &Source) -> bool {
    let there = || local::find_program("pgbouncer", local::PGBOUNCER_PLACES).is_some();
    if there() || matches!(source, Source::Given(_)) {
        return there();
    }
    match install::install(Package::PgBouncer) {
        Ok(_) => there(),
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// What to do where there is no server.
fn no_server(why: impl std::fmt::Display) -> Error {
    Error::Server(format!(
        "the tests need a Postgres server:\n  {why}\n\
         Do one of these:\n\
         - install one: {}\n\
         - or name its programs: {POSTGRES_BIN}=/path/to/bin\n\
         - or name a running one: {POSTGRES_URL}=postgres://user:password@host:5432/database\n\
         - or start Docker, for a container\n\
         - or test what needs none: cargo xtask test -p coordinator-node",
        install::by_hand(&[Package::Postgres, Package::PgBouncer])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str, pooler: bool) -> Found {
        Found {
            source: Source::Given(url.into()),
            binaries: None,
            pooler,
        }
    }

    #[test]
    fn tests_are_told_of_the_server_that_was_given_and_must_use_what_is_there() {
        let found = given("postgres://h/d", true);
        assert_eq!(
            found.told(),
            [(POSTGRES_URL, OsString::from("postgres://h/d"))]
        );
        assert_eq!(Running::parts(&found), [SERVER, POOLER]);
        assert!(
            found
                .described()
                .contains("tests that break servers are skipped")
        );
        assert!(!found.described().contains("PgBouncer"));
    }

    #[test]
    fn where_there_is_no_server_it_says_what_to_do() {
        let text = no_server("none here").to_string();
        for word in [
            "none here",
            POSTGRES_BIN,
            POSTGRES_URL,
            "install one: ",
            "Docker",
        ] {
            assert!(text.contains(word), "{text}");
        }
    }
}
