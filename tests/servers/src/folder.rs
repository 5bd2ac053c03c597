//! A temporary folder that goes with the process that made it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::cleaner::Cleaner;
use crate::error::Error;
use crate::os;
use crate::random;

/// A private temporary folder. Dropping it removes it; so does the end of this process, however it
/// comes, which also stops the servers whose numbers are in it: in `data/postmaster.pid`, or in
/// files that end with `.pid`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _cleaner: Cleaner,
}

impl Folder {
    /// A new one, which belongs to `account`, or to us.
    pub fn new(account: Option<&Account>) -> Result<Self, Error> {
        let name = format!("coordinator-{:08x}", random::number() >> 32);
        let temporary = env::temp_dir();
        // `ps` and the server must agree on its name, which they do on the real one.
        let temporary = temporary
            .canonicalize()
            .map_err(Error::at("find", &temporary))?;
        let path = temporary.join(name);
        os::create_private(&path).map_err(Error::at("create", &path))?;
        let folder = Self {
            _cleaner: Cleaner::of_folder(&path)?,
            path,
        };
        give(folder.path(), account)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that belongs to `account`, or to us, and that nobody else can read.
    pub fn write(
        &self,
        name: &str,
        text: &str,
        account: Option<&Account>,
    ) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(Error::at("write", &path))?;
        os::make_private(&path).map_err(Error::at("make private", &path))?;
        give(&path, account)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now cannot be removed by the cleaner either.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Copies a folder and all in it, and gives the copy to `account`.
pub(crate) fn copy(from: &Path, to: &Path, account: Option<&Account>) -> Result<(), Error> {
    os::create_private(to).map_err(Error::at("create", to))?;
    give(to, account)?;
    let entries = fs::read_dir(from).map_err(Error::at("read", from))?;
    for entry in entries {
        let entry = entry.map_err(Error::at("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::at("read", &source))?;
        if kind.is_dir() {
            copy(&source, &target, account)?;
        } else {
            fs::copy(&source, &target).map_err(Error::at("copy", &source))?;
            give(&target, account)?;
        }
    }
    Ok(())
}

fn give(path: &Path, account: Option<&Account>) -> Result<(), Error> {
    account.map_or(Ok(()), |account| {
        os::give(path, account).map_err(Error::at("give away", path))
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_is_private_and_goes_when_it_is_dropped() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_path_buf();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let file = folder.write("a", "text", None).unwrap();
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_copy_has_all_that_the_original_has() {
        let folder = Folder::new(None).unwrap();
        let original = folder.path().join("original");
        fs::create_dir_all(original.join("empty")).unwrap();
        fs::write(original.join("file"), "text").unwrap();
        let to = folder.path().join("copy");
        copy(&original, &to, None).unwrap();
        assert!(to.join("empty").is_dir());
        assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "text");
    }
}
