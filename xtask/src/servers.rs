//! The stores that tests need besides this process.
//!
//! There are none yet: every test runs on the memory backend. A backend with a server of its own
//! adds one [`Server`] here, and its tests read the URL from the environment.

use std::process::Command;

use crate::error::Error;

/// A store that some tests need.
pub(crate) trait Server {
    /// The environment variable through which tests are told its URL.
    fn variable(&self) -> &'static str;

    /// Finds a running one, or starts one that ends when the returned guard is dropped.
    fn start(&self) -> Result<Box<dyn Running>, Error>;
}

/// A store that answers.
pub(crate) trait Running {
    /// Where it is.
    fn url(&self) -> String;
}

/// Every store that tests need.
const SERVERS: &[&dyn Server] = &[];

/// The stores of one run. Dropping this ends those that were started for it.
#[derive(Default)]
pub(crate) struct Servers {
    running: Vec<(&'static str, Box<dyn Running>)>,
}

impl Servers {
    /// Makes every store answer.
    pub(crate) fn start() -> Result<Self, Error> {
        let mut servers = Self::default();
        for server in SERVERS {
            servers.running.push((server.variable(), server.start()?));
        }
        Ok(servers)
    }

    /// Tells a program where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        for (variable, server) in &self.running {
            command.env(variable, server.url());
        }
    }
}
