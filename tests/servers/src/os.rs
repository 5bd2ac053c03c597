//! What only Unix has: accounts, owners of files, groups of processes.
//!
//! Elsewhere this compiles and does nothing: no server is ever found there.

#[cfg(not(unix))]
pub use elsewhere::detach;
#[cfg(not(unix))]
pub(crate) use elsewhere::{create_private, give, make_private, run_as};
#[cfg(unix)]
pub use unix::detach;
#[cfg(unix)]
pub(crate) use unix::{create_private, give, make_private, run_as};

#[cfg(unix)]
mod unix {
    use std::fs::{DirBuilder, Permissions, set_permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    use crate::account::Account;

    /// Creates a folder that only its owner can enter. It must be new.
    pub(crate) fn create_private(path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    /// Lets nobody but its owner read and write a file.
    pub(crate) fn make_private(path: &Path) -> io::Result<()> {
        set_permissions(path, Permissions::from_mode(0o600))
    }

    /// Makes the account the owner of a file.
    pub(crate) fn give(path: &Path, account: &Account) -> io::Result<()> {
        lchown(path, Some(account.uid), Some(account.gid))
    }

    /// Starts the program as that account. The standard library drops our groups as well.
    pub(crate) fn run_as(command: &mut Command, account: &Account) {
        command.uid(account.uid).gid(account.gid);
    }

    /// Keeps a Ctrl-C at the terminal from the program: what we started, we end.
    pub fn detach(command: &mut Command) {
        command.process_group(0);
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::io;
    use std::path::Path;
    use std::process::Command;

    use crate::account::Account;

    pub(crate) fn create_private(path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    pub(crate) fn make_private(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn give(_: &Path, _: &Account) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn run_as(_: &mut Command, _: &Account) {}

    /// Nothing to do here.
    pub fn detach(_: &mut Command) {}
}
