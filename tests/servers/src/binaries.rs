//! The programs of a Postgres server: where they are on this machine, and of which version.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::programs;

/// The oldest version that we support.
pub const OLDEST: u32 = 14;

/// Where packages put them: the folder, what the names in it begin with, and the folder below.
const PLACES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),         // Debian
    ("/usr/libexec", "postgresql", ""),         // Alpine
    ("/usr", "pgsql-", "bin"),                  // PostgreSQL's own RPMs
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew, Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew, Intel
    ("/usr/local", "pgsql", "bin"),             // built from source
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// What must be there.
const PROGRAMS: &[&str] = &["postgres", "initdb", "pg_ctl"];

/// The programs of one version of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// Those that [`POSTGRES_BIN`](crate::POSTGRES_BIN) names; else those on the search path; else
    /// the newest at the places where packages put them.
    pub fn find() -> Result<Self, Error> {
        if !cfg!(unix) {
            let text = "private servers are started on Unix only";
            return Err(Error::Missing(text.to_owned()));
        }
        if let Some(directory) = env::var_os(crate::POSTGRES_BIN) {
            return Self::at(Path::new(&directory));
        }
        let on_path = programs::find("postgres", &[]);
        // A link to one program says where its fellows are.
        let on_path = on_path.and_then(|program| program.canonicalize().ok());
        let on_path = on_path.and_then(|program| program.parent().map(Path::to_path_buf));
        let mut found: Vec<Self> = on_path.iter().flat_map(|path| Self::at(path)).collect();
        let mut installed: Vec<Self> = installed().iter().flat_map(|path| Self::at(path)).collect();
        installed.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        found.extend(installed);
        found.into_iter().next().ok_or_else(|| {
            Error::Missing(format!(
                "no Postgres server of version {OLDEST} or later is on the search path or where \
                 packages put it"
            ))
        })
    }

    /// Those in a directory.
    pub fn at(directory: &Path) -> Result<Self, Error> {
        let place = directory.display();
        for program in PROGRAMS {
            if !directory.join(program).is_file() {
                return Err(Error::Missing(format!(
                    "there is no `{program}` in {place}"
                )));
            }
        }
        let said = programs::run(Command::new(directory.join("postgres")).arg("--version"))?;
        match major(&said) {
            Some(major) if major >= OLDEST => Ok(Self {
                directory: directory.to_path_buf(),
                major,
            }),
            _ => Err(Error::Missing(format!(
                "{place} has `{said}`; version {OLDEST} or later is needed"
            ))),
        }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Their major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A command that runs one of them.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        let ours = env::vars_os().map(|(name, _)| name);
        // What is set for the user's own servers must not lead us there.
        for name in ours.filter(|name| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// Whether the server can preload a library.
    pub fn has_library(&self, name: &str) -> bool {
        let mut places = vec![
            self.directory.join("../lib"),
            self.directory.join("../lib/postgresql"),
        ];
        let said = programs::run(self.command("pg_config").arg("--pkglibdir"));
        places.extend(said.ok().map(PathBuf::from));
        let file =
            |place: &PathBuf, ending: &str| place.join(name).with_extension(ending).is_file();
        places
            .iter()
            .any(|place| file(place, "so") || file(place, "dylib"))
    }
}

/// The directories at the usual places.
fn installed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, beginning, below) in PLACES {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let named =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
        found.extend(named.map(|entry| entry.path().join(below)));
    }
    found.retain(|directory| directory.join("postgres").is_file());
    found
}

/// The major version in what a server says of itself.
fn major(said: &str) -> Option<u32> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|letter: char| !letter.is_ascii_digit());
    version[..digits.unwrap_or(version.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_however_it_ends() {
        let debian = "postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)";
        assert_eq!(major(debian), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta2"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major("something else 17"), None);
    }

    #[test]
    fn a_directory_without_a_server_says_what_is_missing() {
        let missing = Binaries::at(Path::new("/nowhere")).unwrap_err();
        let text = missing.to_string();
        assert!(
            text.contains("`postgres`") && text.contains("/nowhere"),
            "{text}"
        );
    }
}
