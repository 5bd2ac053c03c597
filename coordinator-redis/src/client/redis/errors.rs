//! What errors of the `redis` crate, and of the server, mean.

use redis::{ErrorKind, RedisError};

use crate::endpoint::Host;
use crate::error::ConnectError;
use crate::trouble::{Elsewhere, Trouble};

/// What the server says when a request had no effect, and another time or another server may take it; and what to do.
const NOT_NOW: [(&str, &str); 10] = [
    (
        "READONLY",
        "the server is a read-only replica: connect to the primary",
    ),
    ("LOADING", "the server still loads its data"),
    ("MASTERDOWN", "the replica has lost its primary"),
    ("CLUSTERDOWN", "the cluster is down"),
    ("TRYAGAIN", "the cluster moves the keys"),
    ("BUSY", "a script runs for too long: see `SCRIPT KILL`"),
    (
        "NOREPLICAS",
        "too few replicas are in reach for `min-replicas-to-write`",
    ),
    (
        "MISCONF",
        "the server cannot save its data, and refuses writes",
    ),
    ("OOM", "the server's memory is used up: raise `maxmemory`"),
    (
        "UNKILLABLE",
        "a script runs for too long, and has written already",
    ),
];

/// What an error of a call means, and whether its connection is to be given up.
pub(super) fn failed(error: RedisError) -> (Trouble, bool) {
    let code = error.code().unwrap_or_default().to_owned();
    if let Some((_, advice)) = NOT_NOW.iter().find(|(known, _)| *known == code) {
        // A fail-over made it a replica: the next connection may find the primary.
        let is_broken = code == "READONLY";
        return (
            Trouble::unavailable(format!("{advice} ({error})")),
            is_broken,
        );
    }
    if let Some(elsewhere) = elsewhere(&code, error.detail().unwrap_or_default()) {
        return (Trouble::Elsewhere(elsewhere), false);
    }
    if code == "OTHERTTL" {
        let stored = error.detail().unwrap_or_default().to_owned();
        return (Trouble::OtherMaxTtl { stored }, false);
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

/// Reads `MOVED 3999 host:port`, and `ASK 3999 host:port`.
fn elsewhere(code: &str, detail: &str) -> Option<Elsewhere> {
    let once = match code {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (slot, at) = detail.split_once(' ')?;
    let host = at.rsplit_once(':').and_then(|(name, port)| {
        let port = port.parse().ok()?;
        (!name.is_empty()).then(|| Host::Tcp(name.to_owned(), port))
    });
    let slot = slot.parse().ok()?;
    Some(Elsewhere { slot, host, once })
}

/// No connection could be made, so nothing was sent.
pub(super) fn refused(error: RedisError) -> Trouble {
    Trouble::Unavailable(error.into())
}

/// Why no first connection could be made.
pub(super) fn unconnected(host: &str, error: RedisError) -> ConnectError {
    let host = host.to_owned();
    let code = error.code().unwrap_or_default();
    let is_refusal = matches!(code, "WRONGPASS" | "NOAUTH" | "NOPERM")
        || error.kind() == ErrorKind::AuthenticationFailed;
    let source = error.into();
    if is_refusal {
        ConnectError::Refused { host, source }
    } else {
        ConnectError::Unreachable { host, source }
    }
}
