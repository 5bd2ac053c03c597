//! Why there is no server.

use std::fmt;
use std::io;
use std::path::Path;

/// Why there is no server, or why it did not do what was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The machine has nothing to start a server by. The text says where it was sought.
    Missing(String),
    /// A file, a folder or a program could not be used.
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended with a failure, or a server did not become ready.
    Failed {
        /// What was tried.
        doing: String,
        /// What it has said.
        said: String,
    },
}

impl Error {
    /// For `map_err`: what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    pub(crate) fn at(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }

    pub(crate) fn failed(doing: impl Into<String>, said: impl Into<String>) -> Self {
        let (doing, said) = (doing.into(), said.into());
        Self::Failed { doing, said }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(text) => f.write_str(text),
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::Failed { doing, said } => write!(f, "cannot {doing}: {}", said.trim()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Missing(_) | Self::Failed { .. } => None,
        }
    }
}
