//! A namespace of its own for each test, so that tests share a server and nothing else.

use std::io::Write;
use std::thread;

use coordinator_servers::{Error, Talk};

use super::shared;
use crate::servers::names::fresh_name;

/// So many keys are looked at in one step.
const STEP: &str = "1000";

/// A namespace that nobody else uses. The keys under it go with this, also when the test fails.
#[derive(Debug)]
pub struct Space {
    url: String,
    name: String,
}

/// A namespace in the server that this run's tests share; none where there is no server.
///
/// # Panics
/// Where a server is required and there is none.
pub fn fresh_space() -> Option<Space> {
    shared().map(Space::at)
}

impl Space {
    /// A namespace in another server, by the URL of one who may remove its keys.
    pub fn at(url: impl Into<String>) -> Self {
        let (url, name) = (url.into(), fresh_name());
        Self { url, name }
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name: lower-case letters, digits and underscores, at most 48.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that have its name in them.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let mut talk = Talk::to(&self.url)?;
        let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
        let pattern = format!("*{}*", self.name);
        loop {
            let found = talk.ask(&["SCAN", &cursor, "MATCH", &pattern, "COUNT", STEP])?;
            if let [next, found] = found.list() {
                cursor = next.text();
                keys.extend(found.list().iter().map(super::Reply::text));
            }
            if cursor == "0" {
                return Ok(keys);
            }
        }
    }

    fn remove(&self) -> Result<(), Error> {
        let keys = self.keys()?;
        let mut talk = Talk::to(&self.url)?;
        for key in &keys {
            talk.ask(&["UNLINK", key])?;
        }
        Ok(())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // The test's runtime may be paused, or the one thread that runs it may be ours: this needs
        // none.
        let removed = thread::scope(|scope| {
            let removed = scope.spawn(|| self.remove().map_err(|error| error.to_string()));
            removed.join().unwrap_or_else(|_| Err("a panic".to_owned()))
        });
        if let Err(why) = removed {
            let name = &self.name;
            let line = format!("the keys of {name} are left behind: {why}\n");
            drop(std::io::stderr().write_all(line.as_bytes()));
        }
    }
}
