//! Where something listens, as the library takes it.

use std::net::Ipv6Addr;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::socket2::TcpKeepalive;
use fred::types::RespVersion;
use fred::types::config::{Config, ConnectionConfig, Server, ServerConfig, TcpConfig};

use super::value::code_of;
use super::wire::Plan;
use crate::client::{What, words};
use crate::endpoint::{Endpoint, Host, Login, Topology};
use crate::error::ConnectError;

/// After so long without a packet the system probes whether the other end is still there.
const PROBE_AFTER: Duration = Duration::from_secs(5);

const NO_SOCKET: &str = "the client `fred` has no way to a socket: choose the client `redis`";

/// How to connect to it, for no longer than this, and not yet encrypted.
pub(super) fn plan(
    endpoint: &Endpoint,
    at: &Host,
    what: What,
    within: Duration,
) -> Result<Plan, ConnectError> {
    let (login, database) = match (&endpoint.topology, what) {
        (Topology::Sentinel { login, .. }, What::Sentinel) => (login, 0),
        _ => (&endpoint.login, endpoint.database),
    };
    let database = u8::try_from(database);
    let database = database.map_err(|_| bad("the client `fred` knows databases up to 255"))?;
    let config = Config {
        username: login.user.as_deref().map(quoted),
        password: login.password.as_deref().map(quoted),
        server: server(at)?,
        version: RespVersion::RESP3,
        database: Some(database).filter(|number| *number > 0),
        ..Config::default()
    };
    Ok(patient(config, within))
}

/// The same, with all else as a client of the application has it.
pub(super) fn like(
    theirs: &Config,
    at: &Host,
    what: What,
    within: Duration,
) -> Result<Plan, ConnectError> {
    let mut config = Config {
        server: match known(&theirs.server, at) {
            Some(server) => ServerConfig::Centralized { server },
            None => server(at)?,
        },
        version: RespVersion::RESP3,
        fail_fast: true,
        ..theirs.clone()
    };
    if let (
        ServerConfig::Sentinel {
            username, password, ..
        },
        What::Sentinel,
    ) = (&theirs.server, what)
    {
        config.username.clone_from(username);
        config.password.clone_from(password);
        config.database = None;
    }
    Ok(patient(config, within))
}

/// A server as the application has named it, if it has: the certificate may be for another name than the host's.
fn known(theirs: &ServerConfig, at: &Host) -> Option<Server> {
    let hosts = theirs.hosts();
    let server = hosts.into_iter().find(|server| host(server) == *at)?;
    Some(server)
}

fn host(server: &Server) -> Host {
    let name = server.host.trim_start_matches('[').trim_end_matches(']');
    Host::Tcp(name.to_owned(), server.port)
}

/// Where a client of the application connects.
pub(super) fn endpoint(theirs: &Config) -> Result<Endpoint, ConnectError> {
    let topology = match &theirs.server {
        ServerConfig::Centralized { .. } => Topology::Server,
        ServerConfig::Clustered { .. } => Topology::Cluster,
        ServerConfig::Sentinel { service_name, .. } => Topology::Sentinel {
            name: service_name.clone(),
            login: Login::default(),
        },
        #[allow(
            unreachable_patterns,
            reason = "the application may have a feature of the library with one more"
        )]
        _ => return Err(bad(NO_SOCKET)),
    };
    Ok(Endpoint {
        topology,
        tls: None,
        hosts: theirs.server.hosts().iter().map(host).collect(),
        login: Login {
            user: theirs.username.clone(),
            password: theirs.password.clone(),
        },
        database: theirs.database.unwrap_or_default().into(),
    })
}

fn patient(config: Config, within: Duration) -> Plan {
    let connection = ConnectionConfig {
        // Ours ends first, and says more.
        connection_timeout: within * 2,
        internal_command_timeout: within * 2,
        // A command that was sent may have run: it is not sent again.
        max_command_attempts: 1,
        tcp: TcpConfig {
            nodelay: Some(true),
            keepalive: Some(TcpKeepalive::new().with_time(PROBE_AFTER)),
            ..TcpConfig::default()
        },
        ..ConnectionConfig::default()
    };
    Plan {
        config,
        connection,
        within,
        silent: "no answer came in time",
    }
}

fn server(at: &Host) -> Result<ServerConfig, ConnectError> {
    match at {
        Host::Tcp(name, port) => Ok(ServerConfig::Centralized {
            server: named(Server::new(bracketed(name), *port), name),
        }),
        Host::Unix(_) => Err(bad(NO_SOCKET)),
    }
}

/// The library logs in by a line of words with spaces between, and quotes none of them: so a word that needs it is quoted here, as
/// servers read such lines.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte > b' ' && !matches!(byte, b'"' | b'\'' | 0x7f);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    let hexadecimal = word.bytes().map(|byte| format!("\\x{byte:02x}"));
    format!("\"{}\"", hexadecimal.collect::<String>())
}

/// The name that the certificate is for.
#[cfg(feature = "tls")]
fn named(mut server: Server, name: &str) -> Server {
    server.tls_server_name = Some(name.into());
    server
}

#[cfg(not(feature = "tls"))]
fn named(server: Server, _name: &str) -> Server {
    server
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

/// What the library says of a connection that the other end breaks off: kinds of errors of the system.
const BROKEN_OFF: [&str; 3] = ["ConnectionReset", "BrokenPipe", "UnexpectedEof"];

/// Why no connection could be made.
pub(super) fn unconnected(host: &Host, error: Error) -> ConnectError {
    let host = host.to_string();
    if *error.kind() == ErrorKind::Auth {
        let source = error.into();
        return ConnectError::Refused { host, source };
    }
    let is_broken_off = BROKEN_OFF
        .iter()
        .any(|words| error.details().contains(words));
    if is_broken_off {
        return words::broken_off(host, error.into());
    }
    let code = code_of(error.details()).to_owned();
    let detail = error.details().get(code.len()..).unwrap_or_default();
    let detail = detail.trim_start().to_owned();
    words::unconnected(host, &code, &detail, error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_a_line_would_tear_apart_is_quoted() {
        assert_eq!(quoted("plain-é\\%"), "plain-é\\%");
        assert_eq!(quoted("a b"), r#""\x61\x20\x62""#);
        assert_eq!(quoted("\""), r#""\x22""#);
        assert_eq!(quoted("\r\n"), r#""\x0d\x0a""#);
        assert_eq!(quoted(""), r#""""#);
    }
}
