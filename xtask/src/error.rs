//! Why a command of ours did not succeed.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a command of ours did not succeed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line makes no sense.
    Usage(String),
    /// A program could not be started, or its output not be read.
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended with a failure, which it has explained itself.
    Failed {
        /// Its command line.
        program: String,
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
    },
    /// A program did not end in time, and was ended.
    TimedOut {
        /// Its command line.
        program: String,
        /// The time it had.
        limit: Duration,
    },
    /// A program succeeded, but not with what it should have shown.
    Unexpected(String),
    /// There is no server for the tests. The text says what to do.
    Server(String),
    /// Several steps failed; the summary has named them.
    Steps(Vec<&'static str>),
    /// A program ended with this exit code, and has said all there is to say.
    Told(u8),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |source| Self::Io { doing, source }
    }

    /// 2 for a wrong command line, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Told(code) => *code,
            Self::Io { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Unexpected(_)
            | Self::Server(_)
            | Self::Steps(_) => 1,
        }
    }
}

impl From<coordinator_servers::Error> for Error {
    fn from(error: coordinator_servers::Error) -> Self {
        Self::Server(error.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unexpected(text) | Self::Server(text) => f.write_str(text),
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::Failed {
                program,
                code: Some(code),
            } => {
                write!(f, "`{program}` failed with exit code {code}")
            }
            Self::Failed {
                program,
                code: None,
            } => write!(f, "`{program}` was ended by a signal"),
            Self::TimedOut { program, limit } => {
                write!(
                    f,
                    "`{program}` was still running after {limit:?}, and was ended"
                )
            }
            Self::Steps(names) => write!(f, "failed: {}", names.join(", ")),
            Self::Told(code) => write!(f, "exit code {code}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Usage(_)
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Unexpected(_)
            | Self::Server(_)
            | Self::Steps(_)
            | Self::Told(_) => None,
        }
    }
}
