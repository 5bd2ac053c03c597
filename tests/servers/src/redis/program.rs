//! The program of a Redis or Valkey server: where it is on this machine, and of which version.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::programs;

/// The oldest version that we support.
pub const OLDEST: (u32, u32) = (6, 2);

/// What the program is called, the preferred name first.
const NAMES: &[&str] = &["redis-server", "valkey-server"];

/// Where packages put it, besides the search path.
const PLACES: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/redis/bin",
    "/opt/homebrew/opt/valkey/bin",
    "/snap/bin",
];

/// Since this version, tests that need `DEBUG` must ask for it.
const DEBUG_IS_ASKED_FOR: (u32, u32) = (7, 0);

/// A server's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisProgram {
    path: PathBuf,
    valkey: bool,
    version: (u32, u32),
}

impl RedisProgram {
    /// That in the directory which [`REDIS_BIN`](crate::REDIS_BIN) names; else the first that is
    /// recent enough on the search path, or at the places where packages put it.
    pub fn find() -> Result<Self, Error> {
        if !cfg!(unix) {
            let text = "private servers are started on Unix only";
            return Err(Error::Missing(text.to_owned()));
        }
        if let Some(directory) = env::var_os(crate::REDIS_BIN) {
            return Self::in_directory(Path::new(&directory));
        }
        let mut complaints = Vec::new();
        for path in NAMES.iter().filter_map(|name| programs::find(name, PLACES)) {
            match Self::at(&path) {
                Ok(program) => return Ok(program),
                Err(error) => complaints.push(error.to_string()),
            }
        }
        let (major, minor) = OLDEST;
        complaints.push(format!(
            "no Redis or Valkey server of version {major}.{minor} or later is on the search path or \
             where packages put it"
        ));
        Err(Error::Missing(complaints.join("; ")))
    }

    /// That in a directory.
    pub fn in_directory(directory: &Path) -> Result<Self, Error> {
        let mut paths = NAMES.iter().map(|name| directory.join(name));
        let Some(path) = paths.find(|path| path.is_file()) else {
            let (names, place) = (NAMES.join("` or `"), directory.display());
            return Err(Error::Missing(format!("there is no `{names}` in {place}")));
        };
        Self::at(&path)
    }

    /// This one. A link is not followed: the program looks at its own name to know what it is.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let said = programs::run(Command::new(path).arg("--version"))?;
        match version(&said) {
            Some(version) if version >= OLDEST => Ok(Self {
                path: path.to_path_buf(),
                valkey: said.starts_with("Valkey"),
                version,
            }),
            _ => {
                let (place, (major, minor)) = (path.display(), OLDEST);
                Err(Error::Missing(format!(
                    "{place} is `{said}`; version {major}.{minor} or later is needed"
                )))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that it is in.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Its version, as `7.0`.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// What it calls itself.
    pub fn name(&self) -> &'static str {
        if self.valkey { "Valkey" } else { "Redis" }
    }

    /// What one of this version is to be started with besides.
    pub(super) fn own_settings(&self) -> &'static [(&'static str, &'static str)] {
        if self.version >= DEBUG_IS_ASKED_FOR {
            &[("enable-debug-command", "yes")]
        } else {
            &[]
        }
    }
}

/// The version in what a server says of itself: `Redis server v=7.0.15 sha=…`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, rest) = said.split_once(" v=")?;
    let mut parts = rest.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_both_say() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version(redis), Some((7, 0)));
        let valkey = "Valkey server v=8.1.3 sha=00000000:0 malloc=libc bits=64";
        assert_eq!(version(valkey), Some((8, 1)));
        assert_eq!(version("something else 7.0"), None);
    }

    #[test]
    fn a_directory_without_a_server_says_what_is_missing() {
        let missing = RedisProgram::in_directory(Path::new("/nowhere")).unwrap_err();
        let text = missing.to_string();
        assert!(
            text.contains("`redis-server`") && text.contains("/nowhere"),
            "{text}"
        );
    }
}
