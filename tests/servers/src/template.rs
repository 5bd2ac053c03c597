//! A database cluster that was never started, to be copied: `initdb` takes a second, a copy a tenth
//! of that.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::error::Error;
use crate::folder::Folder;
use crate::programs;
use crate::random;

const DATA: &str = "data";
const PASSWORD: &str = "password";

/// A database cluster that was never started. Copies of one have the same system identifier, as
/// servers have that were restored from one backup: make another where it must differ.
#[derive(Debug)]
pub struct Template {
    pub(crate) binaries: Binaries,
    pub(crate) account: Option<Account>,
    pub(crate) password: String,
    path: PathBuf,
    /// None if another process made it.
    _folder: Option<Folder>,
}

impl Template {
    /// Makes one, by `initdb`.
    ///
    /// Its superuser is `postgres`, with a random password that goes over loopback as it is: other
    /// users of the machine stay out, and tests do not wait for a slow hash at each connection.
    pub fn make(binaries: Binaries) -> Result<Self, Error> {
        let account = Account::for_servers()?;
        let folder = Folder::new(account.as_ref())?;
        let password = random::password();
        let file = folder.write(PASSWORD, &password, account.as_ref())?;
        let mut command = binaries.command("initdb");
        command
            .current_dir(folder.path())
            .env("HOME", folder.path());
        command.arg("--pgdata").arg(folder.path().join(DATA));
        command.arg("--pwfile").arg(file);
        command.args(["--username=postgres", "--auth=password", "--encoding=UTF8"]);
        command.args(["--locale=C", "--no-sync", "--no-instructions"]);
        Account::run(account.as_ref(), &mut command);
        programs::run(&mut command)?;
        Ok(Self {
            binaries,
            account,
            password,
            path: folder.path().to_path_buf(),
            _folder: Some(folder),
        })
    }

    /// The one that another process has made for us, if [`POSTGRES_TEMPLATE`](crate::POSTGRES_TEMPLATE)
    /// names it.
    pub fn of_this_run(binaries: &Binaries) -> Result<Option<Self>, Error> {
        let Some(path) = env::var_os(crate::POSTGRES_TEMPLATE) else {
            return Ok(None);
        };
        let path = PathBuf::from(path);
        let file = path.join(PASSWORD);
        Ok(Some(Self {
            binaries: binaries.clone(),
            account: Account::for_servers()?,
            password: fs::read_to_string(&file).map_err(Error::at("read", &file))?,
            path,
            _folder: None,
        }))
    }

    /// What to set [`POSTGRES_TEMPLATE`](crate::POSTGRES_TEMPLATE) to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The programs that it was made by.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }
}
