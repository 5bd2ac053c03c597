//! Redis servers: the one that all tests share, and private ones to break.

mod clients;
mod cluster;
mod sentinels;
mod space;

use std::env;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use coordinator_servers as local;
use coordinator_servers::{Error, REDIS_URL, RedisProgram, Reply, Talk};
use tokio::task;
use tokio::time::sleep;

use super::blocking::{blocking, unpanicked};
use super::settings::Settings;
use super::skip;

pub use clients::wanted_clients;
pub use cluster::Cluster;
pub use sentinels::{SENTINEL_NAME, Sentinels};
pub use space::{Space, fresh_space};

/// How long a server may take to come to a state.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(5);

/// The URL of the server that the tests of this run share: the one that `cargo xtask test` or the
/// user has named, or one that this process starts at the first call, and that ends with it.
///
/// # Panics
/// Where a server is required and there is none.
pub fn shared() -> Option<String> {
    static STARTED: OnceLock<Result<local::Redis, Error>> = OnceLock::new();
    if let Ok(url) = env::var(REDIS_URL) {
        return Some(url);
    }
    let started = STARTED.get_or_init(|| {
        let program = program().map_err(|error| Error::Missing(error.to_string()))?;
        local::Redis::start(program, &[])
    });
    skip::found("redis", started.as_ref()).map(local::Redis::url)
}

/// The URL of a cluster of three primaries that the tests of this process share, started at the first call.
///
/// # Panics
/// Where the program is required and there is none.
pub fn shared_cluster() -> Option<String> {
    static STARTED: OnceLock<Result<Vec<local::Redis>, Error>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let program = program().map_err(|error| Error::Missing(error.to_string()))?;
        // On a busy machine nodes are silent for a while.
        local::in_a_cluster(program, 3, &[("cluster-node-timeout", "30000")])
    });
    let nodes = skip::found("redis-bin", started.as_ref())?;
    let hosts: Vec<_> = nodes
        .iter()
        .map(|node| node.address().to_string())
        .collect();
    let password = nodes.first().map(local::Redis::password)?;
    Some(format!("redis-cluster://:{password}@{}", hosts.join(",")))
}

/// The URL by which Sentinels tell the primary that the tests of this process share, started at the first call.
///
/// # Panics
/// Where the program is required and there is none.
pub fn shared_sentinels() -> Option<String> {
    static STARTED: OnceLock<Result<[local::Redis; 2], Error>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let program = program().map_err(|error| Error::Missing(error.to_string()))?;
        let primary = local::Redis::start(program, &[])?;
        let sentinel = local::sentinel(&primary, 1, 60_000)?;
        Ok([primary, sentinel])
    });
    let [primary, sentinel] = skip::found("redis-bin", started.as_ref())?;
    let (password, host) = (primary.password(), sentinel.address());
    Some(format!(
        "redis-sentinel://:{password}@{host}/{SENTINEL_NAME}"
    ))
}

/// What private servers are started by.
fn program() -> Result<&'static RedisProgram, &'static Error> {
    static FOUND: OnceLock<Result<RedisProgram, Error>> = OnceLock::new();
    FOUND.get_or_init(RedisProgram::find).as_ref()
}

/// The same, or the test is skipped: on the thread that has its name.
async fn programs() -> Option<&'static RedisProgram> {
    let found = task::spawn_blocking(program).await;
    skip::found("redis-bin", unpanicked(found))
}

/// A private server that a test may stop, crash, suspend and promote. The last clone that is dropped
/// ends it, and removes all it had.
#[derive(Debug, Clone)]
pub struct Redis {
    server: Arc<Mutex<local::Redis>>,
    port: u16,
}

impl Redis {
    /// Starts one, with settings as in `redis.conf`. It forgets all when it ends, unless `appendonly`
    /// is set. `None` where the machine has no program for it.
    ///
    /// # Errors
    /// When there is a program and the server does not start.
    ///
    /// # Panics
    /// Where the program is required and there is none.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Option<Self>, Error> {
        let Some(program) = programs().await else {
            return Ok(None);
        };
        let settings = Settings::from(settings);
        let start = move || local::Redis::start(program, &settings.borrowed());
        blocking(start).await.map(|server| Some(server.into()))
    }

    /// Starts one that follows a primary at that port of 127.0.0.1, the primary's own, or that of a
    /// proxy in front of it; and waits until it has all.
    pub async fn replica_of(
        primary: &Self,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let settings = Settings::from(settings);
        let start = move |primary: &mut local::Redis| {
            local::Redis::replica_of(primary, port, &settings.borrowed())
        };
        primary.with(start).await.map(Self::from)
    }

    /// The version of the servers that are started here, as `(7, 0)`.
    pub fn version() -> Option<(u32, u32)> {
        program().ok().map(RedisProgram::version)
    }

    /// Whether those have sharded channels.
    pub fn has_sharded_channels() -> bool {
        Self::version().is_some_and(|version| version >= (7, 0))
    }

    /// The URL of the user who may do all, over TCP.
    pub fn url(&self) -> String {
        self.look(local::Redis::url)
    }

    /// The same, at another port of 127.0.0.1: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        self.look(|server| server.url_at(port))
    }

    /// The password of the user who may do all.
    pub fn password(&self) -> String {
        self.look(|server| server.password().to_owned())
    }

    /// Its port on 127.0.0.1, the same for as long as it lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.look(local::Redis::address)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.look(local::Redis::log)
    }

    /// Runs one command as the user who may do all, which must succeed.
    pub async fn ask(&self, command: &[&str]) -> Result<Reply, Error> {
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        self.talk(move |talk| talk.ask(&command.iter().map(String::as_str).collect::<Vec<_>>()))
            .await
    }

    /// What `INFO` says of something.
    pub async fn info(&self, section: &str, name: &str) -> Result<String, Error> {
        let (section, name) = (section.to_owned(), name.to_owned());
        let said = self.talk(move |talk| talk.info(&section, &name)).await;
        said.map(Option::unwrap_or_default)
    }

    /// Waits until `INFO` says this of something. Sentinels close all connections of a server that they
    /// make a replica, ours too.
    pub async fn until_info(&self, section: &str, name: &str, value: &str) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let asked = self.info(section, name).await;
            if asked.as_ref().is_ok_and(|said| said == value) {
                return Ok(());
            }
            if began.elapsed() >= PATIENCE {
                let (said, log) = (asked?, self.log());
                let log: Vec<_> = log.lines().rev().take(10).collect();
                return Err(Error::Missing(format!(
                    "{name} is still {said}, not {value}; it said last, newest first: {log:#?}"
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until `CLUSTER INFO` has this line.
    pub async fn until_cluster(&self, line: &str) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let said = self.ask(&["CLUSTER", "INFO"]).await?.text();
            if said.lines().any(|said| said == line) {
                return Ok(());
            }
            if began.elapsed() >= PATIENCE {
                return Err(Error::Missing(format!("there is no `{line}` in {said}")));
            }
            sleep(LOOK).await;
        }
    }

    /// Adds settings, as in `redis.conf`. They count from the next start; `CONFIG SET` is for now.
    pub async fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let settings = Settings::from(settings);
        self.with(move |server| server.set(&settings.borrowed()))
            .await
    }

    /// Stops it as a service manager does, and waits for its end.
    pub async fn stop(&self) -> Result<(), Error> {
        self.with(local::Redis::stop).await
    }

    /// Ends it without a word, as `kill -9` does; only that the system still tells the clients, which
    /// a proxy can prevent.
    pub async fn crash(&self) -> Result<(), Error> {
        self.with(local::Redis::crash).await
    }

    /// Starts it again after [`Redis::stop`] or [`Redis::crash`], on the same port, and waits until
    /// it answers.
    pub async fn start_again(&self) -> Result<(), Error> {
        self.with(local::Redis::start_again).await
    }

    /// Ends it as `kill -9` does and starts it again: with all that it knew where `appendonly` is
    /// set, else with nothing.
    pub async fn restart(&self) -> Result<(), Error> {
        let restart = move |server: &mut local::Redis| {
            server.crash()?;
            server.start_again()
        };
        self.with(restart).await
    }

    /// Stops it where it is: connections stay, and nothing answers.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.with(local::Redis::freeze).await
    }

    /// Lets it go on after [`Redis::freeze`].
    pub async fn thaw(&self) -> Result<(), Error> {
        self.with(local::Redis::thaw).await
    }

    /// Makes a replica a primary, with what it has received.
    pub async fn promote(&self) -> Result<(), Error> {
        self.with(|server| server.promote()).await
    }

    /// Talks to it, without keeping others from suspending or ending it meanwhile.
    async fn talk<T: Send + 'static>(
        &self,
        talk: impl FnOnce(&mut Talk) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let url = self.url();
        blocking(move || talk(&mut Talk::to(&url)?)).await
    }

    /// Works on it on a thread that may wait. A caller that is dropped leaves the work to its end.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut local::Redis) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let server = Arc::clone(&self.server);
        let work = move || work(&mut server.lock().unwrap_or_else(PoisonError::into_inner));
        blocking(work).await
    }

    fn look<T>(&self, look: impl FnOnce(&local::Redis) -> T) -> T {
        look(&self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<local::Redis> for Redis {
    fn from(server: local::Redis) -> Self {
        let port = server.port();
        let server = Arc::new(Mutex::new(server));
        Self { server, port }
    }
}
