//! The account that servers run as: Postgres and PgBouncer refuse to run as root.

use std::process::Command;

use crate::error::Error;
use crate::os;
use crate::programs;

/// Accounts that servers may run as, the best first.
const CANDIDATES: &[&str] = &["postgres", "nobody"];

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
}

impl Account {
    /// The account that servers are to run as. `None` is our own, which is not root's.
    pub fn for_servers() -> Result<Option<Self>, Error> {
        if !is_root()? {
            return Ok(None);
        }
        let mut found = CANDIDATES.iter().filter_map(|name| Self::named(name).ok());
        match found.next() {
            Some(account) => Ok(Some(account)),
            None => Err(Error::Missing(format!(
                "servers refuse to run as root, and this machine has none of the accounts {}",
                CANDIDATES.join(", ")
            ))),
        }
    }

    fn named(name: &str) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            uid: number("-u", Some(name))?,
            gid: number("-g", Some(name))?,
        })
    }

    /// Makes a program run as `account`, where there is one.
    pub fn run(account: Option<&Self>, command: &mut Command) {
        if let Some(account) = account {
            os::run_as(command, account);
        }
    }
}

/// Whether this process may do everything.
pub fn is_root() -> Result<bool, Error> {
    Ok(cfg!(unix) && number("-u", None)? == 0)
}

fn number(which: &str, name: Option<&str>) -> Result<u32, Error> {
    let said = programs::run(Command::new("id").arg(which).args(name))?;
    let read = said.parse();
    read.map_err(|_| Error::failed("ask for an account's number", said))
}
