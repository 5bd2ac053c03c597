//! Redis, or Valkey.

use std::env;
use std::ffi::OsString;

use coordinator_servers as local;
use coordinator_servers::{REDIS_BIN, REDIS_URL, RedisProgram};

use super::container::Container;
use super::install::{self, Package};
use super::instead::{Instead, Ways};
use super::{Running, Server};
use crate::error::Error;

/// What tests can need: a server to use, and a program to start servers by.
const SERVER: &str = "redis";
const PROGRAM: &str = "redis-bin";

/// Redis, or Valkey.
pub(crate) struct Redis;

impl Server for Redis {
    fn needed_by(&self) -> &'static [&'static str] {
        &[
            "coordinator-redis",
            "coordinator-tests",
            "coordinator-examples",
        ]
    }

    fn parts(&self) -> &'static [&'static str] {
        &[SERVER, PROGRAM]
    }

    fn start(&self) -> Result<Box<dyn Running>, Error> {
        let mut program = RedisProgram::find();
        if let Some(url) = env::var_os(REDIS_URL) {
            return Ok(Box::new(Found {
                source: Source::Given(url),
                program: program.ok(),
            }));
        }
        if let Err(error) = &program {
            // What was named and is wrong is to be named rightly, not replaced.
            if env::var_os(REDIS_BIN).is_some() {
                return Err(no_server(error));
            }
            match on_another_way(error)? {
                Instead::Container(container) => return Ok(Box::new(Contained(container))),
                Instead::Installed(installed) => program = Ok(installed),
            }
        }
        let program = program.map_err(no_server)?;
        let server = local::Redis::start(&program, &[])?;
        Ok(Box::new(Found {
            source: Source::Private(Box::new(server)),
            program: Some(program),
        }))
    }
}

/// A server that is used directly.
struct Found {
    source: Source,
    program: Option<RedisProgram>,
}

/// Where the server for all tests comes from.
enum Source {
    /// The user has named it.
    Given(OsString),
    /// We have started it.
    Private(Box<local::Redis>),
}

impl Running for Found {
    fn described(&self) -> String {
        let server = match &self.source {
            Source::Given(_) => format!("Redis: the one that {REDIS_URL} names"),
            Source::Private(server) => {
                let program = server.program();
                let ((major, minor), place) = (program.version(), program.path().display());
                let name = program.name();
                format!("Redis: a private server of {name} {major}.{minor}, of {place}")
            }
        };
        match self.program {
            Some(_) => server,
            None => format!(
                "{server}; no program to start servers by: tests that break servers are skipped"
            ),
        }
    }

    fn told(&self) -> Vec<(&'static str, OsString)> {
        let url = match &self.source {
            Source::Given(url) => url.clone(),
            Source::Private(server) => server.url().into(),
        };
        let mut told = vec![(REDIS_URL, url)];
        let directory = self.program.as_ref().map(RedisProgram::directory);
        told.extend(directory.map(|directory| (REDIS_BIN, directory.into())));
        told
    }

    fn parts(&self) -> Vec<&'static str> {
        let mut parts = vec![SERVER];
        parts.extend(self.program.is_some().then_some(PROGRAM));
        parts
    }
}

/// A server in a container.
struct Contained(Container);

impl Running for Contained {
    fn described(&self) -> String {
        "Redis: a container; no program to start servers by: tests that break servers are skipped"
            .to_owned()
    }

    fn told(&self) -> Vec<(&'static str, OsString)> {
        vec![(REDIS_URL, self.0.url().into())]
    }

    fn parts(&self) -> Vec<&'static str> {
        vec![SERVER]
    }
}

/// What serves on a machine without a server's program.
fn on_another_way(missing: &local::Error) -> Result<Instead<RedisProgram>, Error> {
    let ways = Ways {
        container: SERVER,
        package: Package::Redis,
        find: RedisProgram::find,
    };
    ways.instead(missing).map_err(no_server)
}

/// What to do where there is no server.
fn no_server(why: impl std::fmt::Display) -> Error {
    Error::Server(format!(
        "the tests need a Redis or Valkey server:\n  {why}\n\
         Do one of these:\n\
         - install one: {}\n\
         - or name the directory of `redis-server` or `valkey-server`: {REDIS_BIN}=/path/to/bin\n\
         - or name a running one: {REDIS_URL}=redis://user:password@host:6379\n\
         - or start Docker, for a container\n\
         - or test what needs none: cargo xtask test -p coordinator-node",
        install::by_hand(&[Package::Redis])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_of_the_server_that_was_given_and_must_use_what_is_there() {
        let found = Found {
            source: Source::Given("redis://h".into()),
            program: None,
        };
        assert_eq!(found.told(), [(REDIS_URL, OsString::from("redis://h"))]);
        assert_eq!(Running::parts(&found), [SERVER]);
        let described = found.described();
        assert!(
            described.contains("tests that break servers are skipped"),
            "{described}"
        );
    }

    #[test]
    fn where_there_is_no_server_it_says_what_to_do() {
        let text = no_server("none here").to_string();
        for word in ["none here", REDIS_BIN, REDIS_URL, "install one: ", "Docker"] {
            assert!(text.contains(word), "{text}");
        }
    }
}
