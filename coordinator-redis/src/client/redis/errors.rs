//! What errors of the `redis` crate, and of the server, mean.

use redis::{ErrorKind, RedisError};

use crate::client::words::{self, known};
use crate::error::ConnectError;
use crate::trouble::Trouble;

/// What an error of a call means, and whether its connection is to be given up.
pub(super) fn failed(error: RedisError) -> (Trouble, bool) {
    let detail = error.detail().unwrap_or_default();
    if let Some(known) = known(error.code().unwrap_or_default(), detail, &error) {
        return known;
    }
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => (Trouble::Indeterminate(error.into()), true),
        ErrorKind::ClusterConnectionNotFound => (Trouble::Unavailable(error.into()), true),
        _ if error.is_connection_dropped() || error.is_timeout() => {
            (Trouble::Indeterminate(error.into()), true)
        }
        _ => (Trouble::Rejected(error.into()), false),
    }
}

/// No connection could be made, so nothing was sent.
pub(super) fn refused(error: RedisError) -> Trouble {
    match failed(error).0 {
        Trouble::Indeterminate(error) | Trouble::Rejected(error) => Trouble::Unavailable(error),
        other => other,
    }
}

/// Why no connection could be made.
pub(super) fn unconnected(host: &str, error: RedisError) -> ConnectError {
    let host = host.to_owned();
    let code = error.code().unwrap_or_default().to_owned();
    let detail = error.detail().unwrap_or_default().to_owned();
    if error.kind() == ErrorKind::AuthenticationFailed {
        let source = error.into();
        return ConnectError::Refused { host, source };
    }
    let is_broken_off = error.is_connection_dropped() && !error.is_connection_refusal();
    if is_broken_off {
        words::broken_off(host, error.into())
    } else {
        words::unconnected(host, &code, &detail, error.into())
    }
}
