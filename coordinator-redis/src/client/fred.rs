//! The client of the `fred` crate.

mod ear;
mod line;
mod target;
mod value;
mod wire;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::error::Error;
use fred::interfaces::ClientLike as _;
use fred::types::Resp3Frame as Frame;
use fred::types::config::Config;
#[cfg(feature = "tls")]
use fred::types::config::TlsConfig;
use tokio::time::Instant;
#[cfg(feature = "tls")]
use tokio_rustls::TlsConnector;

use super::{Chosen, Client, Dial, Listener, PubSub, Value, What, words};
use crate::config::RedisConfig;
use crate::endpoint::{Endpoint, Host};
use crate::error::ConnectError;
use crate::reply::Read as _;
use crate::script::Script;
use crate::trouble::Trouble;
use value::{code_of, error_of, failed, read, said};
use wire::{Plan, Wire};

/// After a failed attempt to connect, calls fail at once for so long.
const BREATH: Duration = Duration::from_millis(50);
/// A connection that hears no channels needs next to no room for messages.
const NO_MESSAGES: usize = 8;

/// What connections are made like.
enum Model {
    /// What a URL says.
    Url(Box<Endpoint>),
    /// A client of the application.
    Theirs(Box<Config>),
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(endpoint) => endpoint.fmt(f),
            // It shows its password.
            Self::Theirs(_) => f.write_str("Theirs"),
        }
    }
}

/// Makes clients by the `fred` crate.
#[derive(Debug)]
pub(crate) struct FredDial {
    model: Model,
    connect: Duration,
    answer: Duration,
    listen_bytes: usize,
    #[cfg(feature = "tls")]
    tls: Option<TlsConfig>,
}

impl FredDial {
    #[cfg_attr(
        not(feature = "tls"),
        allow(clippy::unnecessary_wraps, reason = "files are read for TLS alone")
    )]
    pub(crate) fn new(endpoint: &Endpoint, config: &RedisConfig) -> Result<Self, ConnectError> {
        Ok(Self {
            model: Model::Url(Box::new(endpoint.clone())),
            connect: config.connect_timeout,
            answer: config.response_timeout,
            listen_bytes: config.listen_bytes,
            #[cfg(feature = "tls")]
            tls: match &endpoint.tls {
                Some(trust) => {
                    let config = super::tls::config(trust)?;
                    Some(TlsConfig::from(TlsConnector::from(config)))
                }
                None => None,
            },
        })
    }

    /// By a client of the application: where it connects, and what makes clients like it.
    pub(crate) fn like(
        client: &fred::clients::Client,
        config: &RedisConfig,
    ) -> Result<(Endpoint, Self), ConnectError> {
        let theirs = client.client_config();
        let endpoint = target::endpoint(&theirs)?;
        let dial = Self {
            connect: config.connect_timeout,
            answer: config.response_timeout,
            listen_bytes: config.listen_bytes,
            #[cfg(feature = "tls")]
            tls: theirs.tls.clone(),
            model: Model::Theirs(Box::new(theirs)),
        };
        Ok((endpoint, dial))
    }

    fn plan(&self, at: &Host, what: What) -> Result<Plan, ConnectError> {
        let plan = match &self.model {
            Model::Url(endpoint) => target::plan(endpoint, at, what, self.connect)?,
            Model::Theirs(config) => target::like(config, at, what, self.connect)?,
        };
        #[cfg(feature = "tls")]
        let plan = plan.encrypted(self.tls.clone());
        Ok(plan)
    }
}

impl Dial for FredDial {
    fn client(&self, at: &Host, what: What) -> Result<Arc<dyn Client>, ConnectError> {
        Ok(Arc::new(FredClient {
            plan: self.plan(at, what)?,
            host: at.clone(),
            what,
            within: self.answer,
            listen_bytes: self.listen_bytes,
            line: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        }))
    }
}

/// One server, by one connection that all calls share.
#[derive(Debug)]
struct FredClient {
    plan: Plan,
    host: Host,
    what: What,
    /// How long an answer may take.
    within: Duration,
    listen_bytes: usize,
    line: Mutex<Line>,
    /// Held by who connects: one attempt at a time.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Line {
    wire: Option<Arc<Wire>>,
    failed_at: Option<Instant>,
}

impl FredClient {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(&self) -> Result<Wire, ConnectError> {
        let failed = |error| target::unconnected(&self.host, error);
        let wire = Wire::dial(&self.plan, NO_MESSAGES).await.map_err(failed)?;
        if self.is_replica(&wire).await? && self.what == What::Primary {
            let host = self.shown();
            return Err(ConnectError::Replica { host });
        }
        Ok(wire)
    }

    /// Whether a server only reads. One that does not tell is found out by its first refusal. Some servers break off at the first
    /// words, which the library takes for an answer: so it is asked in any case.
    async fn is_replica(&self, wire: &Wire) -> Result<bool, ConnectError> {
        let question = vec!["INFO".into(), "replication".into()];
        let answer = wire.wait(self.within, wire.ask(question)).await;
        let host = self.shown();
        match answer {
            Ok(Ok(answer)) => Ok(read(answer)
                .is_ok_and(|answer| answer.text().is_ok_and(|text| text.contains("role:slave")))),
            Ok(Err(error)) => Err(words::broken_off(host, error.into())),
            Err(_) if wire.has_ended() => {
                let source = "it was closed as soon as it was there".into();
                Err(words::broken_off(host, source))
            }
            Err(_) => {
                let source = "no answer came in time".into();
                Err(ConnectError::Unreachable { host, source })
            }
        }
    }

    /// The connection that calls share, made anew if need be.
    async fn wire(&self) -> Result<Arc<Wire>, Trouble> {
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
    async fn dial_alone(&self) -> Result<Arc<Wire>, ConnectError> {
        match self.dial().await {
            Ok(wire) => {
                let wire = Arc::new(wire);
                self.line().wire = Some(wire.clone());
                Ok(wire)
            }
            Err(error) => {
                self.line().failed_at = Some(Instant::now());
                Err(error)
            }
        }
    }

    fn ready(&self) -> Result<Option<Arc<Wire>>, Trouble> {
        let mut line = self.line();
        if line.wire.as_ref().is_some_and(|wire| wire.has_ended()) {
            line.wire = None;
        }
        if let Some(wire) = &line.wire {
            return Ok(Some(wire.clone()));
        }
        match line.failed_at {
            Some(at) if at.elapsed() < BREATH => {
                Err(Trouble::unavailable("there is no connection to the server"))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// What an error of a call means. A connection that is broken, or leads to the wrong server, is given up.
    fn judge(&self, (trouble, is_broken): (Trouble, bool), wire: &Arc<Wire>) -> Trouble {
        if is_broken {
            self.give_up(wire);
        }
        trouble
    }

    /// A call that fails late must not close the connection's successor.
    fn give_up(&self, wire: &Arc<Wire>) {
        let mut line = self.line();
        if line.wire.as_ref().is_some_and(|now| Arc::ptr_eq(now, wire)) {
            line.wire = None;
        }
    }

    /// Sends these in order, nothing between them, and waits for all answers.
    async fn together<T>(
        &self,
        wire: &Arc<Wire>,
        calls: impl Iterator<Item = impl Future<Output = Result<T, Error>> + Send>,
    ) -> Result<Vec<Result<T, Error>>, Trouble> {
        let answers = wire.wait(self.within, wire.together(calls.collect())).await;
        if answers.is_err() {
            self.give_up(wire);
        }
        answers
    }

    async fn publish_all(
        &self,
        how: PubSub,
        batch: Vec<(Bytes, Bytes)>,
    ) -> Result<Vec<Result<(), Trouble>>, Trouble> {
        let wire = self.wire().await?;
        let calls = batch.into_iter();
        let calls = calls.map(|(channel, payload)| wire.publish(how, channel, payload));
        let answers = self.together(&wire, calls).await?.into_iter();
        let judge = |error| self.judge(failed(error), &wire);
        Ok(answers.map(|answer| answer.map_err(judge)).collect())
    }

    fn judged(&self, answer: Result<Frame, Error>, wire: &Arc<Wire>) -> Result<Value, Trouble> {
        let frame = answer.map_err(|error| self.judge(failed(error), wire))?;
        match error_of(&frame) {
            Some(error) => Err(self.judge(said(&error), wire)),
            None => read(frame),
        }
    }

    async fn call(&self, command: Vec<Bytes>) -> Result<Value, CallError> {
        let wire = self.wire().await?;
        let call = std::iter::once(wire.ask(command));
        let Some(answer) = self.together(&wire, call).await?.pop() else {
            return Err(Trouble::unreadable("nothing").into());
        };
        match answer.as_ref().ok().and_then(error_of) {
            Some(error) if code_of(&error) == "NOSCRIPT" => Err(CallError::NoScript),
            Some(_) | None => Ok(self.judged(answer, &wire)?),
        }
    }
}

/// Why a command brought no value.
enum CallError {
    /// The server does not know the script. Nothing was done.
    NoScript,
    Trouble(Trouble),
}

impl From<Trouble> for CallError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoScript => Self::unavailable("the server has forgotten the script"),
            CallError::Trouble(trouble) => trouble,
        }
    }
}

fn eval(how: &'static str, what: String, keys: &[Bytes], args: &[Bytes]) -> Vec<Bytes> {
    let mut words = vec![how.into(), what.into(), keys.len().to_string().into()];
    words.extend(keys.iter().chain(args).cloned());
    words
}

#[async_trait]
impl Client for FredClient {
    fn shown(&self) -> String {
        self.host.to_string()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        let _alone = self.dialling.lock().await;
        if matches!(self.ready(), Ok(Some(_))) {
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
        let known = eval("EVALSHA", script.sha().to_owned(), &keys, &args);
        match self.call(known).await {
            Err(CallError::NoScript) => {
                tracing::debug!(script = script.name(), "loaded into the server");
                Ok(self.call(eval("EVAL", script.text(), &keys, &args)).await?)
            }
            answer => Ok(answer?),
        }
    }

    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let count = batch.len();
        match self.publish_all(how, batch).await {
            Ok(answers) => answers,
            Err(trouble) => trouble.of_each(count),
        }
    }

    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let wire = self.wire().await?;
        let calls = commands.into_iter().map(|words| wire.ask(words));
        let answers = self.together(&wire, calls).await?;
        let answers = answers.into_iter();
        Ok(answers.map(|answer| self.judged(answer, &wire)).collect())
    }

    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble> {
        let (how, plan) = (*how.borrow(), self.plan.clone());
        ear::open(plan, how, self.shown(), self.listen_bytes).await
    }
}
