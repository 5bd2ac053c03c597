//! Errors: what the driver said, sorted by what to do next, with words that say what that is.

use std::fmt;
use std::time::Duration;

use coordinator_core::BoxError;
use tokio_postgres::error::SqlState;

/// Why no connection to the store could be made. Messages hold no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no Postgres URL.
    #[error("this is no Postgres URL (`postgres://user@host/database`): {reason}")]
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// The schema's name would need quotes, or is too long.
    #[error(
        "`{schema}` is no name for a schema: 1 to 48 of a-z, 0-9 and _, no digit first, not `pg_…`"
    )]
    BadSchema {
        /// The name given.
        schema: String,
    },
    /// A setting that cannot be.
    #[error("{setting} cannot be {given}: {wanted}")]
    BadSetting {
        /// Which.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What would be right.
        wanted: String,
    },
    /// No host of the URL could be reached.
    #[error(
        "cannot reach Postgres at {host}: check that it runs, listens there, and that the port is open"
    )]
    Unreachable {
        /// The host and port, or socket.
        host: String,
        /// What the system said.
        source: BoxError,
    },
    /// The server runs, and lets nobody in at present: it has no connection left, or is starting up or shutting
    /// down. The source says which, and what to do.
    #[error("Postgres at {host} runs, and lets nobody in at present")]
    NotNow {
        /// The host and port, or socket.
        host: String,
        /// What the server said, and what to do.
        source: BoxError,
    },
    /// The server refused the user.
    #[error(
        "Postgres at {host} refused the user: check user, password, database and `pg_hba.conf`"
    )]
    Refused {
        /// The host and port, or socket.
        host: String,
        /// What the server said.
        source: BoxError,
    },
    /// TLS is demanded by the URL, or the handshake failed.
    #[error("no TLS connection to {host}: {reason}")]
    Tls {
        /// The host and port.
        host: String,
        /// Why.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("Postgres at {host} did not answer within {within:?}")]
    TimedOut {
        /// The host and port, or socket.
        host: String,
        /// The limit.
        within: Duration,
    },
    /// The server is too old.
    #[error("Postgres {found} is too old: version 14 or later is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The server is a standby.
    #[error("Postgres at {host} is a read-only standby: connect to the primary")]
    ReadOnly {
        /// The host and port, or socket.
        host: String,
    },
    /// A pooler moves our statements between sessions.
    #[error(
        "a pooler in transaction mode stands between us and Postgres at {host}, so session locks would \
         strand: give a URL that leads to the server itself, or choose `Leases::Row`"
    )]
    Pooler {
        /// The host and port.
        host: String,
        /// How it was noticed.
        noticed: String,
    },
    /// The schema is not there, or not new enough, and may not be made.
    #[error(
        "schema `{schema}` is at version {found}, version {needed} is needed: run once with a role that \
         may create it, or apply the statements that `coordinator_postgres::migration_sql` prints"
    )]
    NotMigrated {
        /// The schema.
        schema: String,
        /// Its version; 0: it is not there.
        found: i32,
        /// The version that this build needs.
        needed: i32,
    },
    /// Something of another kind stands where our tables go.
    #[error(
        "schema `{schema}` holds `{object}`, which Coordinator has not made: choose another schema, or \
         move it away"
    )]
    ForeignObjects {
        /// The schema.
        schema: String,
        /// What is in the way.
        object: String,
    },
    /// The role may not do what is needed.
    #[error(
        "the role lacks a right: {missing}; grant it, or all that a role needs with the statements that \
         `coordinator_postgres::role_sql` prints"
    )]
    NoRights {
        /// What the server said.
        missing: String,
    },
    /// Another process named another longest TTL.
    #[error(
        "schema `{schema}` has the longest TTL {stored:?}, this process names {ours:?}: all must name the same"
    )]
    OtherMaxTtl {
        /// The schema.
        schema: String,
        /// What is stored.
        stored: Duration,
        /// What this process named.
        ours: Duration,
    },
    /// Durable messages carry transactions that this server has not seen.
    #[error(
        "the log of schema `{schema}` holds messages of transactions that this server has not seen, as after \
         a restore from a dump: they would not be delivered; stop all its processes and run \
         `select \"{schema}\".log_repair()`"
    )]
    RestoredLog {
        /// The schema.
        schema: String,
    },
    /// Another process holds leases in another way.
    #[error(
        "schema `{schema}` holds leases by `{stored}`, this process by `{ours}`: all must name the same. To \
         change it, stop all processes for the longest TTL, then `update {schema}.identity set leases = \
         '{ours}'`"
    )]
    OtherLeases {
        /// The schema.
        schema: String,
        /// What is stored.
        stored: String,
        /// What this process named.
        ours: &'static str,
    },
    /// The server refused a statement of the set-up.
    #[error("Postgres refused to {doing}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What the server said, and what to do.
        source: BoxError,
    },
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NotNow { .. }
            | Self::TimedOut { .. }
            | Self::ReadOnly { .. } => true,
            // A server that shuts down in mid-word, that has no room, whose locks were all taken.
            Self::Failed { source, .. } => {
                let told = source.downcast_ref::<Advised>();
                told.is_some_and(|told| outcome_of_error(&told.0) != Outcome::Refused)
            }
            _ => false,
        }
    }

    pub(crate) fn failed(doing: &'static str, error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NoRights {
                missing: server_message(&error),
            },
            _ => Self::Failed {
                doing,
                source: Box::new(Advised(error)),
            },
        }
    }
}

/// What the server said, without the driver's own words.
pub(crate) fn server_message(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |told| told.message().to_owned())
}

/// What became of a statement that brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It had no effect, and may be tried again.
    NothingHappened,
    /// It may have had its effect.
    Unknown,
    /// It had no effect, and never will.
    Refused,
}

/// A statement that brought no answer.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) outcome: Outcome,
    pub(crate) source: BoxError,
}

impl CallError {
    pub(crate) fn nothing_happened(source: impl Into<BoxError>) -> Self {
        Self {
            outcome: Outcome::NothingHappened,
            source: source.into(),
        }
    }

    pub(crate) fn unknown(source: impl Into<BoxError>) -> Self {
        Self {
            outcome: Outcome::Unknown,
            source: source.into(),
        }
    }

    pub(crate) fn refused(source: impl Into<BoxError>) -> Self {
        Self {
            outcome: Outcome::Refused,
            source: source.into(),
        }
    }
}

/// What a pool said of a statement that changes nothing, that may be repeated, or that is part of a
/// transaction of others.
impl From<sqlx::Error> for CallError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(told) => told.code(),
            _ => None,
        };
        let state = code.as_deref().map(SqlState::from_code);
        let source = match state.as_ref().and_then(advice) {
            Some(advice) => format!("{error}: {advice}"),
            None => error.to_string(),
        };
        match state.as_ref().map(outcome_of) {
            Some(Outcome::Refused) => Self::refused(source),
            Some(Outcome::NothingHappened | Outcome::Unknown) | None => {
                Self::nothing_happened(source)
            }
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl From<tokio_postgres::Error> for CallError {
    fn from(error: tokio_postgres::Error) -> Self {
        let outcome = outcome_of_error(&error);
        Self {
            outcome,
            source: Box::new(Advised(error)),
        }
    }
}

fn outcome_of_error(error: &tokio_postgres::Error) -> Outcome {
    // Without a code: the session ended, or the answer could not be read.
    error.code().map_or(Outcome::Unknown, outcome_of)
}

/// By class: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn outcome_of(state: &SqlState) -> Outcome {
    match &state.code()[..2] {
        // Connection exceptions and operator intervention: a commit may have been under way. But a
        // cancelled statement is rolled back.
        _ if *state == SqlState::QUERY_CANCELED => Outcome::NothingHappened,
        "08" | "57" => Outcome::Unknown,
        // Out of resources, out of locks, serialization, limits, system errors: rolled back.
        "40" | "53" | "54" | "55" | "58" | "25" => Outcome::NothingHappened,
        _ => Outcome::Refused,
    }
}

macro_rules! into_backend_errors {
    ($($name:ident($subject:ty): $method:ident;)*) => {
        impl CallError {$(
            #[doc = concat!("As the error of a trait: [`", stringify!($name), "`](coordinator_core::", stringify!($name), ").")]
            #[allow(dead_code, reason = "one for each trait")]
            pub(crate) fn $method(self, operation: &'static str, subject: $subject) -> coordinator_core::$name {
                match self.outcome {
                    Outcome::NothingHappened => coordinator_core::$name::unavailable(operation, subject, self.source),
                    Outcome::Unknown => coordinator_core::$name::indeterminate(operation, subject, self.source),
                    Outcome::Refused => coordinator_core::$name::rejected(operation, subject, self.source),
                }
            }
        )*}
    };
}

into_backend_errors! {
    LockError(&coordinator_core::Key): of_lock;
    MembershipError(&coordinator_core::Group): of_members;
    AssignmentError(&coordinator_core::Keyspace): of_assignment;
    CheckpointError(&coordinator_core::Keyspace): of_checkpoint;
    BusError(&coordinator_core::Topic): of_bus;
}

/// A driver's error, with what the server said and what to do about it.
#[derive(Debug)]
pub(crate) struct Advised(pub(crate) tokio_postgres::Error);

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(told) = self.0.as_db_error() else {
            return self.0.fmt(f);
        };
        write!(f, "{} ({})", told.message(), told.code().code())?;
        match advice(told.code()) {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Advised {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // What the server said is in our own words already.
        match self.0.as_db_error() {
            Some(_) => None,
            None => std::error::Error::source(&self.0),
        }
    }
}

/// What to do after an error of the server.
pub(crate) fn advice(state: &SqlState) -> Option<&'static str> {
    Some(match state.code() {
        "53100" => "the server's disk is full: free space there; nothing was stored",
        "53200" => "the server is out of memory",
        "53300" => "the server has no connection left: raise `max_connections`, or close some",
        "25006" => {
            "the server is read-only: it is a standby, or was demoted; connect to the primary"
        }
        "42501" => {
            "grant the role what is missing: `coordinator_postgres::role_sql` prints all that it needs"
        }
        "42P01" | "42883" | "42703" | "42704" | "3F000" => {
            "the schema is missing or older than this program: let it migrate, or apply `migration_sql`"
        }
        "54000" => {
            "if it names the NOTIFY queue: a session that listens keeps it from being emptied while it holds a transaction open; the \
             server's log names its process, since the queue was half full; a superuser, or a member of pg_read_all_stats, finds it \
             most often by: `select pid, usename, xact_start from pg_stat_activity where state like 'idle in transaction%' \
             order by xact_start`; end it"
        }
        "57P01" | "57P02" | "57P03" => {
            "the server is starting up or shutting down: wait until it takes connections"
        }
        "28P01" | "28000" => "check user, password and `pg_hba.conf`",
        "3D000" => "create the database, or name another in the URL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_changes_nothing_and_a_lost_session_may_have() {
        let of = |code: &str| outcome_of(&SqlState::from_code(code));
        assert_eq!(of("53100"), Outcome::NothingHappened);
        assert_eq!(of("57014"), Outcome::NothingHappened);
        assert_eq!(of("57P01"), Outcome::Unknown);
        assert_eq!(of("42P01"), Outcome::Refused);
        assert!(advice(&SqlState::from_code("53100")).is_some_and(|text| text.contains("disk")));
    }
}
