//! Where something listens, as the library takes it.

use std::net::Ipv6Addr;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::socket2::TcpKeepalive;
use fred::types::RespVersion;
use fred::types::config::{Config, ConnectionConfig, Server, ServerConfig, TcpConfig};

use super::value::{code_of, said};
use super::wire::Plan;
use crate::client::What;
use crate::client::words::is_refusal;
use crate::endpoint::{Endpoint, Host, Topology};
use crate::error::ConnectError;
use crate::trouble::Trouble;

/// After so long without a packet the system probes whether the other end is still there.
const PROBE_AFTER: Duration = Duration::from_secs(5);

/// How to connect to it, for no longer than this.
pub(super) fn plan(
    endpoint: &Endpoint,
    at: &Host,
    what: What,
    within: Duration,
) -> Result<Plan, ConnectError> {
    if endpoint.tls {
        return Err(bad("there is no TLS yet: write `redis` for `rediss`"));
    }
    let (login, database) = match (&endpoint.topology, what) {
        (Topology::Sentinel { login, .. }, What::Sentinel) => (login, 0),
        _ => (&endpoint.login, endpoint.database),
    };
    let database = u8::try_from(database);
    let database = database.map_err(|_| bad("the client `fred` knows databases up to 255"))?;
    let config = Config {
        username: login.user.clone(),
        password: login.password.clone(),
        server: server(at)?,
        version: RespVersion::RESP3,
        database: Some(database).filter(|number| *number > 0),
        ..Config::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: within,
        internal_command_timeout: within,
        // A command that was sent may have run: it is not sent again.
        max_command_attempts: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(TcpKeepalive::new().with_time(PROBE_AFTER)),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    };
    Ok(Plan {
        config,
        connection,
        within,
    })
}

fn server(at: &Host) -> Result<ServerConfig, ConnectError> {
    match at {
        Host::Tcp(name, port) => Ok(ServerConfig::Centralized {
            server: Server::new(bracketed(name), *port),
        }),
        Host::Unix(_) => Err(bad(
            "the client `fred` has no way to a socket: choose the client `redis`",
        )),
    }
}

/// The library puts a colon and the port behind it.
fn bracketed(name: &str) -> String {
    match name.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => name.to_owned(),
    }
}

fn bad(reason: &str) -> ConnectError {
    ConnectError::BadUrl {
        reason: reason.to_owned(),
    }
}

/// Why no connection could be made.
pub(super) fn unconnected(host: &Host, error: Error) -> ConnectError {
    let host = host.to_string();
    if let (Trouble::Unavailable(source), _) = said(error.details()) {
        return ConnectError::Unusable { host, source };
    }
    let is_refusal = is_refusal(code_of(error.details())) || *error.kind() == ErrorKind::Auth;
    let source = error.into();
    if is_refusal {
        ConnectError::Refused { host, source }
    } else {
        ConnectError::Unreachable { host, source }
    }
}
