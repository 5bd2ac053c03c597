//! What the first words of a server's errors mean, whichever client heard them.

use std::fmt;

use coordinator_core::BoxError;

use crate::endpoint::Host;
use crate::error::ConnectError;
use crate::trouble::{Elsewhere, Trouble};

/// What the server says when a request had no effect, and another time or another server may take it; and what to do.
const NOT_NOW: [(&str, &str); 10] = [
    (
        "READONLY",
        "the server is a read-only replica: connect to the primary",
    ),
    ("LOADING", "the server still loads its data: try again"),
    (
        "MASTERDOWN",
        "the replica has lost its primary: connect to the primary",
    ),
    ("CLUSTERDOWN", "the cluster is down"),
    ("TRYAGAIN", "the cluster moves the keys"),
    ("BUSY", "a script runs for too long: see `SCRIPT KILL`"),
    (
        "NOREPLICAS",
        "too few replicas are in reach for `min-replicas-to-write`: start them, or look at the network between",
    ),
    (
        "MISCONF",
        "the server cannot save its data, and refuses writes: look at its disk and its log",
    ),
    ("OOM", "the server's memory is used up: raise `maxmemory`"),
    (
        "UNKILLABLE",
        "a script runs for too long, and has written already: wait, or `SHUTDOWN NOSAVE`",
    ),
];

/// What an error means that begins with this code, if that is known, and whether the connection is to be given up.
pub(super) fn known(code: &str, detail: &str, whole: &dyn fmt::Display) -> Option<(Trouble, bool)> {
    if let Some(elsewhere) = elsewhere(code, detail) {
        return Some((Trouble::Elsewhere(elsewhere), false));
    }
    if code == "OTHERTTL" {
        let stored = detail.to_owned();
        return Some((Trouble::OtherMaxTtl { stored }, false));
    }
    if is_denial(code, detail) {
        return Some((Trouble::Denied(whole.to_string().into()), false));
    }
    let (_, advice) = NOT_NOW.iter().find(|(known, _)| *known == code)?;
    // A fail-over made it a replica: the next connection may find the primary.
    let is_broken = code == "READONLY";
    let trouble = Trouble::unavailable(format!("{advice} ({whole})"));
    Some((trouble, is_broken))
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

/// Whether the user has no right to it, or is none. Of a command in a script servers before 7.4 say so without a code.
fn is_denial(code: &str, detail: &str) -> bool {
    is_refusal(code)
        || detail.starts_with("The user executing the script can't")
        || detail.starts_with("user executing the script can't")
        || detail.starts_with("ACL failure in script")
}

/// Whether the server refuses the user.
fn is_refusal(code: &str) -> bool {
    matches!(code, "WRONGPASS" | "NOAUTH" | "NOPERM")
}

/// Why no connection could be made to a host, by an error that may begin with a code.
pub(super) fn unconnected(host: String, code: &str, detail: &str, error: BoxError) -> ConnectError {
    if let Some((Trouble::Unavailable(source), _)) = known(code, detail, &error) {
        return ConnectError::Unusable { host, source };
    }
    if is_refusal(code) {
        let source = error;
        return ConnectError::Refused { host, source };
    }
    #[cfg(feature = "tls")]
    if let Some(advice) = super::tls::advice(&error.to_string()) {
        let source = error;
        return ConnectError::Tls {
            host,
            advice,
            source,
        };
    }
    let source = error;
    ConnectError::Unreachable { host, source }
}

/// Why there is no connection to a host that has broken it off.
pub(super) fn broken_off(host: String, error: BoxError) -> ConnectError {
    match unconnected(host, "", "", error) {
        ConnectError::Unreachable { host, source } => ConnectError::BrokenOff { host, source },
        other => other,
    }
}
