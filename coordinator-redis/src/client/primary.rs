//! A store of several servers of which one is the primary, now this and now that: Sentinels say which one, or each of
//! some servers is asked. All calls go to the primary that is known; where another takes its place, listeners are told of a loss.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::exchange::{self, Routes};
use super::sentinel::Sentinels;
use super::{Chosen, Client, Dial, Listener, PubSub, Value, What};
use crate::endpoint::{Endpoint, Host, Topology};
use crate::error::ConnectError;
use crate::reply::Read as _;
use crate::script::Script;
use crate::trouble::Trouble;

/// How often to look who the primary is, where nothing has failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait between two looks, whatever fails.
const BREATH: Duration = Duration::from_millis(100);

/// The servers, and the primary among them.
pub(super) struct Followed {
    me: Weak<Followed>,
    dial: Arc<dyn Dial>,
    /// Where to ask, for people.
    shown: String,
    finder: Finder,
    current: Mutex<Current>,
    /// Says that the primary is another, or that none is known.
    changed: watch::Sender<u64>,
    doubt: Arc<Notify>,
    /// So many bytes of messages wait for a listener.
    listen_bytes: usize,
}

/// Who knows the primary.
#[derive(Debug)]
enum Finder {
    /// Each of these servers, of itself.
    Servers(Vec<Host>),
    Sentinels(Sentinels),
}

#[derive(Debug, Default)]
struct Current {
    /// Counts primaries.
    number: u64,
    primary: Option<Primary>,
}

#[derive(Debug, Clone)]
struct Primary {
    host: Host,
    client: Arc<dyn Client>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Primary,
    Replica,
    Unknown,
}

impl Followed {
    /// Finds the primary, and follows it from then on, until this is dropped.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        dial: Arc<dyn Dial>,
        listen_bytes: usize,
    ) -> Result<Arc<Self>, ConnectError> {
        let hosts: Vec<String> = endpoint.hosts.iter().map(Host::to_string).collect();
        let finder = match &endpoint.topology {
            Topology::Sentinel { name, .. } => {
                Finder::Sentinels(Sentinels::new(name, &endpoint.hosts, dial.as_ref())?)
            }
            Topology::Server | Topology::Cluster => Finder::Servers(endpoint.hosts.clone()),
        };
        let followed = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            dial,
            shown: hosts.join(","),
            finder,
            current: Mutex::default(),
            changed: watch::Sender::new(0),
            doubt: Arc::default(),
            listen_bytes,
        });
        followed.take(followed.find().await?);
        tokio::spawn(follow(followed.me.clone(), followed.doubt.clone()));
        Ok(followed)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<Primary> {
        self.current().primary.clone()
    }

    fn primary(&self) -> Result<Arc<dyn Client>, Trouble> {
        let known = self.known().map(|primary| primary.client);
        known.ok_or_else(|| Trouble::unavailable("no primary is known now"))
    }

    /// What a call that fails means: the primary may be another.
    fn judge<T>(&self, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(Trouble::Unavailable(_) | Trouble::Indeterminate(_)) = &answer {
            self.doubt.notify_one();
        }
        answer
    }

    fn take(&self, primary: Primary) {
        tracing::debug!(host = %primary.host, "this server is the primary");
        self.set(Some(primary));
    }

    /// It is the primary no more, as far as is known.
    fn leave(&self, primary: &Primary) {
        tracing::debug!(host = %primary.host, "this server is the primary no more");
        self.set(None);
    }

    fn set(&self, primary: Option<Primary>) {
        let number = {
            let mut current = self.current();
            current.number += 1;
            current.primary = primary;
            current.number
        };
        self.changed.send_replace(number);
    }

    /// The primary, connected.
    async fn find(&self) -> Result<Primary, ConnectError> {
        match &self.finder {
            Finder::Sentinels(sentinels) => {
                let host = sentinels.primary(&self.shown).await?;
                self.reach(&host).await.map_err(|error| match error {
                    // What Sentinels say is older than what the server is, or the server's is.
                    ConnectError::Replica { .. } | ConnectError::Unreachable { .. } => {
                        self.no_primary(error)
                    }
                    other => other,
                })
            }
            Finder::Servers(hosts) => {
                let mut errors = Vec::new();
                for host in hosts {
                    match self.reach(host).await {
                        Ok(primary) => return Ok(primary),
                        Err(error) => errors.push(error),
                    }
                }
                Err(worst(errors, |text| self.no_primary(text)))
            }
        }
    }

    async fn reach(&self, host: &Host) -> Result<Primary, ConnectError> {
        let client = self.dial.client(host, What::Primary)?;
        client.reach().await?;
        let host = host.clone();
        Ok(Primary { host, client })
    }

    fn no_primary(&self, source: impl Into<coordinator_core::BoxError>) -> ConnectError {
        ConnectError::NoPrimary {
            host: self.shown.clone(),
            source: source.into(),
        }
    }

    /// Looks whether the primary that is known is still one, and finds the one that is.
    async fn look(&self) {
        let known = self.known();
        let role = match &known {
            Some(primary) => role(primary.client.as_ref()).await,
            None => Role::Unknown,
        };
        if let Some(primary) = known.as_ref().filter(|_| role == Role::Replica) {
            self.leave(primary);
        }
        if let Finder::Sentinels(sentinels) = &self.finder {
            match (sentinels.primary(&self.shown).await, &known) {
                // It connects again by itself.
                (Ok(host), Some(primary)) if primary.host == host && role != Role::Replica => {
                    return;
                }
                // Deposed: what it grants from here on is not the store's word (I8).
                (Ok(_), Some(primary)) if role != Role::Replica => self.leave(primary),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    tracing::debug!(%error, "Sentinels do not say who the primary is");
                    return;
                }
            }
        } else if role == Role::Primary {
            return;
        }
        match self.find().await {
            Ok(primary)
                if known.is_some_and(|known| known.host == primary.host)
                    && self.known().is_some() => {}
            Ok(primary) => self.take(primary),
            Err(error) => tracing::debug!(%error, "there is no primary"),
        }
    }
}

/// Looks once in a while, and soon after a failure, until nobody needs it any more.
async fn follow(followed: Weak<Followed>, doubt: Arc<Notify>) {
    loop {
        drop(timeout(LOOK_EVERY, doubt.notified()).await);
        let Some(followed) = followed.upgrade() else {
            return;
        };
        followed.look().await;
        drop(followed);
        sleep(BREATH).await;
    }
}

async fn role(client: &dyn Client) -> Role {
    let question = vec![
        Bytes::from_static(b"INFO"),
        Bytes::from_static(b"replication"),
    ];
    let Ok(answers) = client.pipeline(vec![question]).await else {
        return Role::Unknown;
    };
    match answers.first() {
        Some(Ok(answer)) => match answer.text() {
            Ok(text) if text.contains("role:slave") => Role::Replica,
            Ok(_) => Role::Primary,
            Err(_) => Role::Unknown,
        },
        _ => Role::Unknown,
    }
}

/// What is to be told of several errors: one that no other time would mend, if all are; else all of them.
pub(super) fn worst(
    mut errors: Vec<ConnectError>,
    all: impl FnOnce(String) -> ConnectError,
) -> ConnectError {
    if !errors.iter().any(ConnectError::is_transient) && !errors.is_empty() {
        return errors.swap_remove(0);
    }
    let texts: Vec<String> = errors.iter().map(chain).collect();
    all(texts.join("; "))
}

/// An error and its sources.
fn chain(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[async_trait]
impl Client for Followed {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        match self.known() {
            Some(primary) => primary.client.reach().await,
            None => Err(self.no_primary("none is known now")),
        }
    }

    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        self.judge(self.primary()?.eval(script, keys, args).await)
    }

    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let answers = match self.primary() {
            Ok(primary) => primary.publish(how, batch).await,
            Err(trouble) => trouble.of_each(batch.len()),
        };
        answers
            .into_iter()
            .map(|answer| self.judge(answer))
            .collect()
    }

    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        self.judge(self.primary()?.pipeline(commands).await)
    }

    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble> {
        let routes = self.me.upgrade().ok_or_else(Trouble::closed)?;
        Ok(exchange::open(
            routes,
            self.changed.subscribe(),
            how,
            self.listen_bytes,
        ))
    }
}

impl Routes for Followed {
    fn route(&self, _channel: &[u8]) -> Option<(u64, Arc<dyn Client>)> {
        let current = self.current();
        let primary = current.primary.as_ref()?;
        Some((current.number, primary.client.clone()))
    }

    fn suspect(&self) {
        self.doubt.notify_one();
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("finder", &self.finder)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}
