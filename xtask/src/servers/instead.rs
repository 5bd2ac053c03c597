//! What serves where no server's programs are found.

use std::env;

use coordinator_servers as local;

use super::container::{self, Container};
use super::install::{self, Package};
use crate::error::Error;

/// What serves on a machine without server programs.
pub(crate) enum Instead<P> {
    Container(Container),
    Installed(P),
}

/// The ways to it.
pub(crate) struct Ways<P> {
    /// What the program that starts containers calls the store.
    pub(crate) container: &'static str,
    /// What can be installed.
    pub(crate) package: Package,
    /// Finds the programs once they are installed.
    pub(crate) find: fn() -> Result<P, local::Error>,
}

/// One way to a server; none if it is not open to us.
type Way<P> = fn(&Ways<P>) -> Result<Option<Instead<P>>, Error>;

impl<P> Ways<P> {
    /// A container first, which changes nothing of the machine. A machine that is there for tests
    /// gets the programs first: with a container alone, tests that break servers are skipped. None:
    /// what each way has complained of.
    pub(crate) fn instead(&self, missing: &local::Error) -> Result<Instead<P>, String> {
        let mut ways: [Way<P>; 2] = [Self::in_container, Self::installed];
        if env::var_os("CI").is_some() {
            ways.reverse();
        }
        let mut complaints = vec![missing.to_string()];
        for way in ways {
            match way(self) {
                Ok(Some(instead)) => return Ok(instead),
                Ok(None) => (),
                Err(error) => complaints.push(error.to_string()),
            }
        }
        Err(complaints.join("\n  "))
    }

    fn in_container(&self) -> Result<Option<Instead<P>>, Error> {
        Ok(container::start(self.container)?.map(Instead::Container))
    }

    fn installed(&self) -> Result<Option<Instead<P>>, Error> {
        if !install::install(self.package)? {
            return Ok(None);
        }
        Ok(Some(Instead::Installed((self.find)()?)))
    }
}
