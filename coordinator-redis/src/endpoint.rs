//! Where the store is: a URL, read.
//!
//! | URL | the store |
//! |---|---|
//! | `redis://host:port/database` | a server; of several hosts, with commas between, the one that is a primary |
//! | `redis+unix:///path` | a server, by its socket |
//! | `redis-sentinel://host:port,host:port/name` | the primary that Sentinels know by that name |
//! | `redis-cluster://host:port,host:port` | a cluster, of which some nodes are named |
//!
//! With `rediss` for `redis`, by TLS: `ca` names a file of the certificates to trust, instead of those that the system does;
//! `cert` and `key` name files of a certificate of our own. User and password of the servers come before the hosts, as in
//! `redis://user:password@host`.

use std::fmt;
use std::path::PathBuf;

use crate::error::ConnectError;

/// Where servers listen, and Sentinels.
const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Parameters of a URL that say how to reach the store.
pub(crate) const PARAMETERS: [&str; 9] = [
    "sentinel_user",
    "sentinel_password",
    "user",
    "pass",
    "db",
    "protocol",
    "ca",
    "cert",
    "key",
];

/// Where the store is, and who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) topology: Topology,
    /// How the connections are encrypted, if they are.
    pub(crate) tls: Option<Trust>,
    /// At least one: servers, Sentinels, or nodes of a cluster.
    pub(crate) hosts: Vec<Host>,
    /// For the servers.
    pub(crate) login: Login,
    pub(crate) database: i64,
}

/// What the servers are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One of them is the primary.
    Server,
    /// Sentinels say which one is.
    Sentinel {
        /// What they call it.
        name: String,
        /// For the Sentinels.
        login: Login,
    },
    /// Each has a part of the keys.
    Cluster,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whom to believe, and as whom to come, where connections are encrypted. All are files, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "tls"),
    allow(dead_code, reason = "nothing is encrypted")
)]
pub(crate) struct Trust {
    /// The certificates of those who sign. `None`: those that the system trusts.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// Who comes. Shows no password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads a URL. Errors show none of it: it may hold a password.
    pub(crate) fn read(url: &str) -> Result<Self, ConnectError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| bad("there is no `://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = Query::read(query)?;
        let (rest, login) = match rest.rsplit_once('@') {
            Some((login, rest)) => (rest, Login::read(login)?),
            None => (rest, query.login("user", "pass")),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = decoded(path)?;
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").unwrap_or(scheme)),
        };
        let mut port = SERVER_PORT;
        let (topology, database) = match kind {
            "" | "+tls" => (Topology::Server, path),
            "unix" | "+unix" if hosts.is_empty() => {
                return Self::socket(&path, login, &query);
            }
            "-sentinel" => {
                port = SENTINEL_PORT;
                let (name, database) = path.split_once('/').unwrap_or((&path, ""));
                if name.is_empty() {
                    return Err(bad(
                        "after the Sentinels comes the name that they know the primary by: \
                         `redis-sentinel://host:26379,host:26379/name`",
                    ));
                }
                let login = query.login("sentinel_user", "sentinel_password");
                let name = name.to_owned();
                (Topology::Sentinel { name, login }, database.to_owned())
            }
            "-cluster" => (Topology::Cluster, path),
            _ => return Err(bad(&format!("nothing is known by `{scheme}://`"))),
        };
        let hosts: Result<Vec<Host>, _> = hosts.split(',').map(|text| host(text, port)).collect();
        let database = number(query.get("db").unwrap_or(&database))?;
        if topology == Topology::Cluster && database != 0 {
            return Err(bad("a cluster has no databases but 0"));
        }
        Ok(Self {
            topology,
            tls: query.trust(tls)?,
            hosts: hosts?,
            login,
            database,
        })
    }

    fn socket(path: &str, login: Login, query: &Query<'_>) -> Result<Self, ConnectError> {
        Ok(Self {
            topology: Topology::Server,
            tls: query.trust(false)?,
            hosts: vec![Host::Unix(PathBuf::from(format!("/{path}")))],
            login,
            database: number(query.get("db").unwrap_or_default())?,
        })
    }
}

impl Login {
    fn read(text: &str) -> Result<Self, ConnectError> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (text, None),
        };
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        Ok(Self { user, password })
    }
}

struct Query<'a>(Vec<(&'a str, String)>);

impl<'a> Query<'a> {
    fn read(text: &'a str) -> Result<Self, ConnectError> {
        let mut found = Vec::new();
        for parameter in text.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !PARAMETERS.contains(&name) {
                return Err(bad(&format!("there is no parameter `{name}`")));
            }
            found.push((name, decoded(value)?));
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let found = pairs.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn login(&self, user: &str, password: &str) -> Login {
        Login {
            user: self.get(user).map(str::to_owned),
            password: self.get(password).map(str::to_owned),
        }
    }
}

impl Query<'_> {
    fn trust(&self, tls: bool) -> Result<Option<Trust>, ConnectError> {
        let file = |name| self.get(name).map(PathBuf::from);
        let own = match (file("cert"), file("key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(bad("`cert` and `key` come together")),
        };
        let ca = file("ca");
        match tls {
            true => Ok(Some(Trust { ca, own })),
            false if ca.is_none() && own.is_none() => Ok(None),
            false => Err(bad(
                "`ca`, `cert` and `key` are of TLS: write `rediss` for `redis`, or leave them out",
            )),
        }
    }
}

fn bad(reason: &str) -> ConnectError {
    ConnectError::BadUrl {
        reason: reason.to_owned(),
    }
}

fn number(text: &str) -> Result<i64, ConnectError> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse::<u32>();
    number.map(i64::from).map_err(|_| {
        bad("after the host comes the number of a database, or nothing: `redis://host:6379/0`")
    })
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host(text: &str, port: u16) -> Result<Host, ConnectError> {
    let (name, given) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, rest)) => (name, rest.strip_prefix(':').or(Some(""))),
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match given {
        None => port,
        Some(given) => given
            .parse()
            .map_err(|_| bad("after a host and a colon comes the number of a port"))?,
    };
    if name.is_empty() {
        return Err(bad("a host is missing"));
    }
    Ok(Host::Tcp(decoded(name)?, port))
}

/// Reads `%20` and its like.
fn decoded(text: &str) -> Result<String, ConnectError> {
    let wrong = || bad("a `%` is not followed by two hexadecimal digits of UTF-8 text");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(name: &str, port: u16) -> Host {
        Host::Tcp(name.to_owned(), port)
    }

    fn login(user: Option<&str>, password: Option<&str>) -> Login {
        let (user, password) = (user.map(str::to_owned), password.map(str::to_owned));
        Login { user, password }
    }

    #[test]
    fn a_server_has_a_host_and_perhaps_more() {
        let read = Endpoint::read("redis://h").unwrap();
        let plain = Endpoint {
            topology: Topology::Server,
            tls: None,
            hosts: vec![tcp("h", 6379)],
            login: Login::default(),
            database: 0,
        };
        assert_eq!(read, plain);
        let read = Endpoint::read("rediss://me:a%40b%3A@[::1]:7,h2,h3:1/5").unwrap();
        let full = Endpoint {
            tls: Some(Trust::default()),
            hosts: vec![tcp("::1", 7), tcp("h2", 6379), tcp("h3", 1)],
            login: login(Some("me"), Some("a@b:")),
            database: 5,
            ..plain.clone()
        };
        assert_eq!(read, full);
        assert_eq!(read.hosts[0].to_string(), "[::1]:7");
        let read = Endpoint::read("redis+unix:///run/redis.sock?db=3&pass=x").unwrap();
        let socket = Endpoint {
            hosts: vec![Host::Unix("/run/redis.sock".into())],
            login: login(None, Some("x")),
            database: 3,
            ..plain
        };
        assert_eq!(read, socket);
    }

    #[test]
    fn files_say_whom_to_trust_and_as_whom_to_come() {
        let read = Endpoint::read("rediss://h?ca=/a%20b&cert=c&key=k").unwrap();
        let trust = Trust {
            ca: Some("/a b".into()),
            own: Some(("c".into(), "k".into())),
        };
        assert_eq!(read.tls, Some(trust));
        for wrong in [
            "redis://h?ca=a",
            "rediss://h?cert=c",
            "rediss://h?key=k",
            "redis+unix:///s?ca=a",
        ] {
            assert!(Endpoint::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sentinels_have_a_name_for_the_primary_and_a_password_of_their_own() {
        let url = "redis-sentinel://:s@a,b:1/main/2?sentinel_user=u&sentinel_password=%20";
        let read = Endpoint::read(url).unwrap();
        let topology = Topology::Sentinel {
            name: "main".to_owned(),
            login: login(Some("u"), Some(" ")),
        };
        assert_eq!(read.topology, topology);
        assert_eq!(read.hosts, [tcp("a", 26379), tcp("b", 1)]);
        assert_eq!((read.login, read.database), (login(None, Some("s")), 2));
        let cluster = Endpoint::read("redis-cluster://a,b:1/").unwrap();
        assert_eq!(cluster.topology, Topology::Cluster);
        assert_eq!(cluster.hosts, [tcp("a", 6379), tcp("b", 1)]);
    }

    #[test]
    fn what_is_no_url_is_told_without_its_password() {
        for url in [
            "h:1",
            "redis://",
            "redis://:secret@",
            "redis://:secret@h:port",
            "redis://:secret@h/one",
            "redis://:secret%@h",
            "redis://:secret@h,",
            "redis://:secret@h?nonsense=1",
            "redis-sentinel://:secret@h",
            "redis-cluster://:secret@h/1",
            "http://:secret@h",
        ] {
            let error = Endpoint::read(url).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let shown = format!("{:?}", Endpoint::read("redis://:secret@h"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
