//! The client of the `redis` crate.

#[cfg(feature = "tls")]
mod cipher;
mod ear;
mod errors;
mod line;
mod road;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    Cmd, ConnectionAddr, IntoConnectionInfo as _, Pipeline, ProtocolVersion, RedisConnectionInfo,
};
#[cfg(feature = "tls")]
use rustls::ClientConfig;
use tokio::time::Instant;

#[cfg(feature = "tls")]
use super::tls;

use super::{Chosen, Client, Dial, Listener, PubSub, Value, What};
use crate::config::RedisConfig;
use crate::endpoint::{Endpoint, Host, Topology};
use crate::error::ConnectError;
use crate::reply::Read as _;
use crate::script::Script;
use crate::trouble::Trouble;
#[cfg(feature = "tls")]
use cipher::Cipher;
use errors::failed;
use road::Road;

/// After a failed attempt to connect, calls fail at once for so long.
const BREATH: Duration = Duration::from_millis(50);

/// One server, by one connection that all calls share.
#[derive(Debug)]
struct RedisClient {
    road: Road,
    what: What,
    limits: Limits,
    line: Mutex<Line>,
    /// Held by who connects: one attempt at a time.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    /// Counts connections: a call that fails late must not close its successor.
    number: u64,
    failed_at: Option<Instant>,
}

/// The system gives a connection up whose other end has shown no sign of life for ten seconds, where
/// it can be told so.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
fn attentive(tcp: TcpSettings) -> TcpSettings {
    tcp.set_user_timeout(Duration::from_secs(10))
}

/// Elsewhere the time limit of each call, and the probe of a listener, have to do.
#[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
fn attentive(tcp: TcpSettings) -> TcpSettings {
    tcp
}

/// Makes clients by the `redis` crate.
#[derive(Debug)]
pub(crate) struct RedisDial {
    endpoint: Endpoint,
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Option<Arc<ClientConfig>>,
}

/// For how long to wait, and how much may wait to be heard.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    answer: Duration,
    listen_bytes: usize,
}

impl From<&RedisConfig> for Limits {
    fn from(config: &RedisConfig) -> Self {
        Self {
            connect: config.connect_timeout,
            answer: config.response_timeout,
            listen_bytes: config.listen_bytes,
        }
    }
}

impl RedisDial {
    #[cfg_attr(
        not(feature = "tls"),
        allow(clippy::unnecessary_wraps, reason = "files are read for TLS alone")
    )]
    pub(crate) fn new(endpoint: &Endpoint, config: &RedisConfig) -> Result<Self, ConnectError> {
        Ok(Self {
            endpoint: endpoint.clone(),
            limits: config.into(),
            #[cfg(feature = "tls")]
            tls: endpoint.tls.as_ref().map(tls::config).transpose()?,
        })
    }

    fn road(&self, at: &Host, client: redis::Client) -> Road {
        let road = Road::new(client, self.limits.connect);
        #[cfg(feature = "tls")]
        if let (Some(config), Host::Tcp(name, port)) = (&self.tls, at) {
            let cipher = Cipher::new(config.clone(), name.clone(), *port);
            return road.by(Some(cipher));
        }
        #[cfg(not(feature = "tls"))]
        let _: &Host = at;
        road
    }
}

fn address(at: &Host) -> ConnectionAddr {
    match at {
        Host::Tcp(name, port) => ConnectionAddr::Tcp(name.clone(), *port),
        Host::Unix(path) => ConnectionAddr::Unix(path.clone()),
    }
}

/// A client that the application has made, of one server.
pub(crate) fn given(client: redis::Client, config: &RedisConfig) -> Arc<dyn Client> {
    let limits = Limits::from(config);
    let road = Road::new(client, limits.connect);
    Arc::new(RedisClient::new(road, What::Primary, limits))
}

impl Dial for RedisDial {
    fn client(&self, at: &Host, what: What) -> Result<Arc<dyn Client>, ConnectError> {
        let bad = |error: redis::RedisError| ConnectError::BadUrl {
            reason: error.to_string(),
        };
        let (login, database) = match (&self.endpoint.topology, what) {
            (Topology::Sentinel { login, .. }, What::Sentinel) => (login, 0),
            _ => (&self.endpoint.login, self.endpoint.database),
        };
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(database);
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        let info = address(at).into_connection_info().map_err(bad)?;
        let tcp = attentive(TcpSettings::default().set_nodelay(true));
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        let client = redis::Client::open(info).map_err(bad)?;
        let road = self.road(at, client);
        Ok(Arc::new(RedisClient::new(road, what, self.limits)))
    }
}

impl RedisClient {
    fn new(road: Road, what: What, limits: Limits) -> Self {
        Self {
            road,
            what,
            limits,
            line: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(&self) -> Result<MultiplexedConnection, ConnectError> {
        let dialled = self.road.shared(self.limits.answer);
        let failed = |error| errors::unconnected(&self.shown(), error);
        let mut connection = dialled.await.map_err(failed)?;
        if self.what == What::Primary && is_replica(&mut connection).await.map_err(failed)? {
            let host = self.shown();
            return Err(ConnectError::Replica { host });
        }
        Ok(connection)
    }

    /// The connection that calls share, made anew if need be.
    async fn connection(&self) -> Result<(MultiplexedConnection, u64), Trouble> {
        if let Some(ready) = self.ready()? {
            return Ok(ready);
        }
        let _alone = self.dialling.lock().await;
        if let Some(ready) = self.ready()? {
            return Ok(ready);
        }
        let dialled = self.dial_alone().await;
        dialled.map_err(|error| Trouble::Unavailable(error.into()))
    }

    /// By whoever holds `dialling`.
    async fn dial_alone(&self) -> Result<(MultiplexedConnection, u64), ConnectError> {
        match self.dial().await {
            Ok(connection) => {
                let mut line = self.line();
                line.number += 1;
                line.connection = Some(connection.clone());
                Ok((connection, line.number))
            }
            Err(error) => {
                self.line().failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    fn ready(&self) -> Result<Option<(MultiplexedConnection, u64)>, Trouble> {
        let line = self.line();
        if let Some(connection) = &line.connection {
            return Ok(Some((connection.clone(), line.number)));
        }
        match line.failed_at {
            Some(at) if at.elapsed() < BREATH => {
                Err(Trouble::unavailable("there is no connection to the server"))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// What an error of a call means. A connection that is broken, or leads to the wrong server, is given up.
    fn judge(&self, error: redis::RedisError, number: u64) -> Trouble {
        let (trouble, is_broken) = failed(error);
        if is_broken {
            let mut line = self.line();
            if line.number == number {
                line.connection = None;
            }
        }
        trouble
    }

    async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        let (mut connection, number) = self.connection().await.map_err(CallError::Trouble)?;
        match connection.req_packed_command(command).await {
            Ok(redis::Value::ServerError(error)) if error.code() == "NOSCRIPT" => {
                Err(CallError::NoScript)
            }
            Ok(redis::Value::ServerError(error)) => {
                Err(CallError::Trouble(self.judge(error.into(), number)))
            }
            Err(error) if error.code() == Some("NOSCRIPT") => Err(CallError::NoScript),
            Err(error) => Err(CallError::Trouble(self.judge(error, number))),
            Ok(value) => read(value).map_err(CallError::Trouble),
        }
    }
}

/// Why a command brought no value.
enum CallError {
    /// The server does not know the script. Nothing was done.
    NoScript,
    Trouble(Trouble),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoScript => Self::unavailable("the server has forgotten the script"),
            CallError::Trouble(trouble) => trouble,
        }
    }
}

fn eval(how: &str, what: &str, keys: &[Bytes], args: &[Bytes]) -> Cmd {
    let mut command = redis::cmd(how);
    command.arg(what).arg(keys.len());
    for text in keys.iter().chain(args) {
        command.arg(text.as_ref());
    }
    command
}

fn command(words: &[Bytes]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

#[async_trait]
impl Client for RedisClient {
    fn shown(&self) -> String {
        self.road.shown()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        let _alone = self.dialling.lock().await;
        if self.line().connection.is_some() {
            return Ok(());
        }
        self.dial_alone().await.map(drop)
    }

    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        match self
            .call(&eval("EVALSHA", script.sha(), &keys, &args))
            .await
        {
            Err(CallError::NoScript) => {
                tracing::debug!(script = script.name(), "loaded into the server");
                let whole = eval("EVAL", &script.text(), &keys, &args);
                Ok(self.call(&whole).await?)
            }
            answer => Ok(answer?),
        }
    }

    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let word = Bytes::from_static(how.publish().as_bytes());
        let count = batch.len();
        let commands = batch.into_iter();
        let commands = commands.map(|(channel, payload)| vec![word.clone(), channel, payload]);
        match self.pipeline(commands.collect()).await {
            Ok(answers) => answers.into_iter().map(|answer| answer.map(drop)).collect(),
            Err(trouble) => trouble.of_each(count),
        }
    }

    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let (mut connection, number) = self.connection().await?;
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for words in &commands {
            pipeline.add_command(command(words));
        }
        let sent = connection.req_packed_commands(&pipeline, 0, commands.len());
        let answers = sent.await.map_err(|error| self.judge(error, number))?;
        let answers = answers.into_iter().map(|answer| match answer {
            redis::Value::ServerError(error) => Err(self.judge(error.into(), number)),
            value => read(value),
        });
        Ok(answers.collect())
    }

    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble> {
        let (how, limits) = (*how.borrow(), self.limits);
        ear::open(self.road.clone(), how, limits.connect, limits.listen_bytes).await
    }
}

/// Whether a server only reads. One that does not tell is found out by its first refusal.
async fn is_replica(connection: &mut MultiplexedConnection) -> Result<bool, redis::RedisError> {
    let question = redis::cmd("INFO").arg("replication").to_owned();
    match connection.req_packed_command(&question).await {
        Ok(redis::Value::ServerError(_)) => Ok(false),
        Ok(answer) => Ok(read(answer)
            .as_ref()
            .is_ok_and(|answer| answer.text().is_ok_and(|text| text.contains("role:slave")))),
        Err(error) if error.code().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(value: redis::Value) -> Result<Value, Trouble> {
    let list = |list: Vec<redis::Value>| -> Result<Value, Trouble> {
        let list: Result<_, _> = list.into_iter().map(read).collect();
        list.map(Value::Array)
    };
    Ok(match value {
        redis::Value::Nil => Value::Nil,
        redis::Value::Int(number) => Value::Int(number),
        redis::Value::Boolean(is_so) => Value::Int(is_so.into()),
        redis::Value::BulkString(text) => Value::Bytes(text.into()),
        redis::Value::VerbatimString { text, .. } => Value::Bytes(text.into()),
        redis::Value::Double(number) => Value::Bytes(number.to_string().into()),
        redis::Value::SimpleString(word) => Value::Status(word),
        redis::Value::Okay => Value::Status("OK".to_owned()),
        redis::Value::Array(values) | redis::Value::Set(values) => list(values)?,
        redis::Value::Map(pairs) => list(
            pairs
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect(),
        )?,
        redis::Value::ServerError(error) => return Err(failed(error.into()).0),
        other => return Err(Trouble::unreadable(&format!("{other:?}"))),
    })
}
