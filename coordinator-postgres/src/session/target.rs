//! The server of a URL: its hosts, how to be let in, and how to cancel what runs there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coordinator_core::BoxError;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Config, NoTls};

use super::peek::{Peek, Pid};
use super::wire::{Place, Wire};
use super::{Inbox, Session};
use crate::config::PostgresConfig;
use crate::error::{ConnectError, server_message};
use crate::takeover::server_keepalive;

/// A server to dial: everything the URL says.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    config: Config,
    places: Vec<Place>,
    /// Which of them last let us in.
    host: Arc<AtomicUsize>,
    #[cfg(feature = "tls")]
    tls: super::tls::Tls,
    url: Url,
    within: Duration,
}

/// What the server is to do with a session of ours that is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// The session is ended after so long without a statement.
    pub(crate) idle: Duration,
    /// How often a statement that waits looks whether we are still there.
    pub(crate) check: Duration,
}

impl Target {
    pub(crate) fn new(given: &PostgresConfig) -> Result<Self, ConnectError> {
        let url = Url::parse(&given.url)?;
        let bad = |error: tokio_postgres::Error| ConnectError::BadUrl {
            reason: chain(&error),
        };
        let mut config: Config = url.text.parse().map_err(bad)?;
        config.application_name(&given.application_name);
        if url.verifies {
            config.ssl_mode(SslMode::Require);
        }
        let places = places(&config)?;
        #[cfg(feature = "tls")]
        let tls = super::tls::Tls::new(&config, &url)?;
        #[cfg(not(feature = "tls"))]
        no_tls(&mut config, &places)?;
        Ok(Self {
            config,
            places,
            host: Arc::default(),
            #[cfg(feature = "tls")]
            tls,
            url,
            within: given.connect_timeout,
        })
    }

    /// Which host of the URL last let us in; before that, the first.
    pub(crate) fn host(&self) -> usize {
        self.host.load(Ordering::Relaxed)
    }

    /// What the URL says, as the driver has read it.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the server's certificate is checked, and if so, whether for the host's name.
    pub(crate) fn verifies(&self) -> Option<bool> {
        self.url.verifies.then_some(self.url.names_host)
    }

    /// The file of those who may have signed it.
    pub(crate) fn roots(&self) -> Option<&str> {
        self.url.roots.as_deref()
    }

    /// The hosts, for people.
    pub(crate) fn shown(&self) -> String {
        let places: Vec<_> = self.places.iter().map(ToString::to_string).collect();
        places.join(", ")
    }

    /// Dials the hosts in order, and takes the first that lets us in. Of several, one that only reads
    /// is passed over: which of them is the primary may change.
    pub(crate) async fn dial(
        &self,
        timeouts: Option<Timeouts>,
        inbox: Inbox,
    ) -> Result<Session, ConnectError> {
        let mut config = self.config.clone();
        if let Some(timeouts) = timeouts {
            config.options(options(self.config.get_options(), timeouts));
        }
        let mut last = None;
        for (host, place) in self.places.iter().enumerate() {
            let attempt = self.dial_primary(&config, place, &inbox);
            match timeout(self.within, attempt).await {
                Ok(Ok(session)) => {
                    self.host.store(host, Ordering::Relaxed);
                    return Ok(session);
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => {
                    last = Some(ConnectError::TimedOut {
                        host: place.to_string(),
                        within: self.within,
                    });
                }
            }
        }
        Err(last.unwrap_or(ConnectError::BadUrl {
            reason: "it names no host".to_owned(),
        }))
    }

    async fn dial_primary(
        &self,
        config: &Config,
        place: &Place,
        inbox: &Inbox,
    ) -> Result<Session, ConnectError> {
        let session = self.dial_one(config, place, inbox).await?;
        if self.places.len() > 1 && reads_only(&session).await? {
            return Err(ConnectError::ReadOnly {
                host: place.to_string(),
            });
        }
        Ok(session)
    }

    async fn dial_one(
        &self,
        config: &Config,
        place: &Place,
        inbox: &Inbox,
    ) -> Result<Session, ConnectError> {
        let unreachable = |error: std::io::Error| ConnectError::Unreachable {
            host: place.to_string(),
            source: Box::new(error),
        };
        let wire = Wire::dial(place, self.within).await.map_err(unreachable)?;
        let ends = wire.ends().map_err(unreachable)?;
        let pid = Pid::default();
        let config = &for_place(config, place);
        let asks = config.get_ssl_mode() != SslMode::Disable;
        let stream = Peek::new(wire, pid.clone(), asks);
        let refused = |error: tokio_postgres::Error| refusal(place, error);
        let seen = || Some(pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0);
        #[cfg(feature = "tls")]
        if asks {
            let connector = self.tls.connector(place, pid.clone());
            let connected = config.connect_raw(stream, connector).await;
            let (client, connection) = connected.map_err(refused)?;
            return Ok(Session::start(
                client,
                connection,
                seen(),
                ends,
                inbox.clone(),
            ));
        }
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(refused)?;
        Ok(Session::start(
            client,
            connection,
            seen(),
            ends,
            inbox.clone(),
        ))
    }

    /// Asks each host to cancel: only the one that runs the statement knows the key.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), BoxError> {
        let mut last: Option<BoxError> = None;
        for place in &self.places {
            match timeout(self.within, self.cancel_one(token, place)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => last = Some(error),
                Err(error) => last = Some(error.into()),
            }
        }
        last.map_or(Ok(()), Err)
    }

    async fn cancel_one(&self, token: &CancelToken, place: &Place) -> Result<(), BoxError> {
        let wire = Wire::dial(place, self.within).await?;
        let stream = Peek::new(wire, Pid::default(), true);
        #[cfg(feature = "tls")]
        if for_place(&self.config, place).get_ssl_mode() != SslMode::Disable {
            let connector = self.tls.connector(place, Pid::default());
            return Ok(token.cancel_query_raw(stream, connector).await?);
        }
        Ok(token.cancel_query_raw(stream, NoTls).await?)
    }
}

async fn reads_only(session: &Session) -> Result<bool, ConnectError> {
    let asked = "select pg_catalog.pg_is_in_recovery()";
    let answer = session.client().query_typed(asked, &[]).await;
    let failed = |error| ConnectError::failed("ask whether the server is a standby", error);
    let rows = answer.map_err(failed)?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// No TLS on a socket of this machine, as everywhere.
fn for_place(config: &Config, place: &Place) -> Config {
    let mut config = config.clone();
    if matches!(place, Place::Unix(_)) {
        config.ssl_mode(SslMode::Disable);
    }
    config
}

/// P1: by start-up options, so that `RESET` and `DISCARD ALL` restore them.
fn options(own: Option<&str>, timeouts: Timeouts) -> String {
    let (idle, check) = (timeouts.idle.as_millis(), timeouts.check.as_millis());
    let keepalive = server_keepalive(timeouts.idle);
    let ours = format!(
        "-c idle_session_timeout={idle} -c idle_in_transaction_session_timeout={idle} \
         -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_isolation=read\\ committed \
         -c default_transaction_read_only=off -c client_connection_check_interval={check} \
         -c tcp_keepalives_idle={keepalive} -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3 \
         -c tcp_user_timeout={idle}"
    );
    match own {
        Some(own) => format!("{own} {ours}"),
        None => ours,
    }
}

fn places(config: &Config) -> Result<Vec<Place>, ConnectError> {
    let ports = config.get_ports();
    let port = |index: usize| match ports {
        [] => 5432,
        [one] => *one,
        several => several.get(index).copied().unwrap_or(5432),
    };
    let hosts = config.get_hosts().iter().enumerate();
    let named: Vec<_> = hosts
        .map(|(index, host)| match host {
            Host::Tcp(name) => Place::Tcp {
                host: match config.get_hostaddrs().get(index) {
                    Some(address) => address.to_string(),
                    None => name.clone(),
                },
                port: port(index),
            },
            #[cfg(unix)]
            Host::Unix(folder) => Place::Unix(socket_in(folder, port(index))),
        })
        .collect();
    if named.is_empty() {
        return Err(ConnectError::BadUrl {
            reason: "it names no host".to_owned(),
        });
    }
    Ok(named)
}

#[cfg_attr(not(unix), allow(dead_code, reason = "no such sockets here"))]
fn socket_in(folder: &Path, port: u16) -> std::path::PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

#[cfg(not(feature = "tls"))]
fn no_tls(config: &mut Config, places: &[Place]) -> Result<(), ConnectError> {
    let demanded = config.get_ssl_mode() == SslMode::Require;
    if let Some(place) = places.first().filter(|_| demanded) {
        return Err(ConnectError::Tls {
            host: place.to_string(),
            reason: "this build leaves TLS out: enable the feature `tls`".to_owned(),
        });
    }
    config.ssl_mode(SslMode::Disable);
    Ok(())
}

/// Why the server did not let us in.
fn refusal(place: &Place, error: tokio_postgres::Error) -> ConnectError {
    let host = place.to_string();
    let Some(told) = error.as_db_error() else {
        let text = chain(&error);
        return if text.contains("TLS") || text.contains("ertificate") {
            ConnectError::Tls { host, reason: text }
        } else {
            let source = text.into();
            ConnectError::Unreachable { host, source }
        };
    };
    let from_pooler = told.message().contains("unsupported startup parameter");
    match *told.code() {
        _ if from_pooler => ConnectError::Pooler {
            host,
            noticed: server_message(&error),
        },
        SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN => {
            let source = Box::new(crate::error::Advised(error));
            ConnectError::NotNow { host, source }
        }
        _ => {
            let source = Box::new(crate::error::Advised(error));
            ConnectError::Refused { host, source }
        }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A URL without what the driver does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// What the driver reads.
    text: String,
    /// `sslmode=verify-ca` or `verify-full`: the server's certificate is checked.
    pub(super) verifies: bool,
    /// Whether it must be for the host's name.
    pub(super) names_host: bool,
    /// `sslrootcert`: the file of those who may have signed it.
    pub(super) roots: Option<String>,
}

impl Url {
    fn parse(given: &str) -> Result<Self, ConnectError> {
        let mut url = Self {
            text: String::new(),
            verifies: false,
            names_host: false,
            roots: None,
        };
        let is_url = given.starts_with("postgres://") || given.starts_with("postgresql://");
        if !is_url && !given.contains('=') {
            return Err(ConnectError::BadUrl {
                reason: "it begins with neither `postgres://` nor `host=`".to_owned(),
            });
        }
        let (address, parameters, between) = match given.split_once('?') {
            Some((address, parameters)) if is_url => (address, parameters, '&'),
            _ if is_url => (given, "", '&'),
            _ => ("", given, ' '),
        };
        let pairs = parameters.split(between).filter(|pair| !pair.is_empty());
        let kept: Vec<_> = pairs.filter(|pair| !url.take(pair)).collect();
        url.text = match (is_url, kept.is_empty()) {
            (true, true) => address.to_owned(),
            (true, false) => format!("{address}?{}", kept.join("&")),
            (false, _) => kept.join(" "),
        };
        Ok(url)
    }

    /// Whether this parameter is ours.
    fn take(&mut self, pair: &str) -> bool {
        match pair.split_once('=') {
            Some(("sslmode", mode @ ("verify-ca" | "verify-full"))) => {
                self.verifies = true;
                self.names_host = mode == "verify-full";
                true
            }
            Some(("sslrootcert", file)) => {
                self.roots = Some(file.to_owned()).filter(|file| file != "system");
                self.verifies = true;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_does_not_know_is_taken_out() -> Result<(), ConnectError> {
        let url = Url::parse("postgres://h/db?sslmode=verify-full&connect_timeout=3")?;
        assert_eq!(url.text, "postgres://h/db?connect_timeout=3");
        assert!(url.verifies && url.names_host);
        let url = Url::parse("host=h sslmode=verify-ca sslrootcert=/a/b")?;
        assert_eq!(url.text, "host=h");
        assert_eq!(url.roots.as_deref(), Some("/a/b"));
        assert!(!url.names_host);
        Ok(())
    }

    #[test]
    fn a_text_that_is_no_url_says_so_and_shows_no_password() {
        for bad in [
            "",
            "mysql://me:secret@h/db",
            "nonsense",
            "postgres://me:secret@h:port/db",
        ] {
            let error = Target::new(&PostgresConfig::new(bad)).map(drop);
            let text = error.expect_err("no URL").to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn several_hosts_are_tried_in_order() -> Result<(), ConnectError> {
        let target = Target::new(&PostgresConfig::new("postgres://a,b:1/db"))?;
        assert_eq!(target.shown(), "a:5432, b:1");
        Ok(())
    }
}
