//! Postgres servers: the one that all tests share, and private ones to break.

use std::env;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coordinator_servers as local;
use coordinator_servers::{Binaries, Error, POSTGRES_URL, Stop, Template};
use tokio::task;

use super::blocking::{blocking, unpanicked};
use super::settings::Settings;
use super::skip;

/// What the server has that this process starts for its tests: as `cargo xtask test` has it.
const SETTINGS: &[(&str, &str)] = &[("max_connections", "500")];

/// The URL of the server that the tests of this run share: the one that `cargo xtask test` or the
/// user has named, or one that this process starts at the first call, and that ends with it.
///
/// Blocks for about a second where it starts one.
///
/// # Panics
/// Where a server is required and there is none.
pub fn shared() -> Option<String> {
    static STARTED: OnceLock<Result<local::Postgres, Error>> = OnceLock::new();
    if let Ok(url) = env::var(POSTGRES_URL) {
        return Some(url);
    }
    let started = STARTED.get_or_init(|| {
        let template = template().map_err(again)?;
        let mut settings = SETTINGS.to_vec();
        if template.binaries().has_library("pg_stat_statements") {
            settings.push(("shared_preload_libraries", "pg_stat_statements"));
        }
        local::Postgres::start(template, &settings)
    });
    skip::found("postgres", started.as_ref()).map(local::Postgres::url)
}

/// The cluster that private servers are copied from.
fn template() -> Result<&'static Template, &'static Error> {
    static MADE: OnceLock<Result<Template, Error>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let binaries = Binaries::find()?;
        match Template::of_this_run(&binaries)? {
            Some(template) => Ok(template),
            None => Template::make(binaries),
        }
    });
    made.as_ref()
}

/// An error that is kept, for one that is given away.
fn again(error: &Error) -> Error {
    Error::Missing(error.to_string())
}

/// A private server that a test may stop, crash, suspend and promote. It does not sync to disk unless
/// asked to by `fsync`, which a crash of its processes does not show: the system keeps what they
/// wrote. The last clone that is dropped ends it, and removes all it had.
#[derive(Debug, Clone)]
pub struct Postgres {
    server: Arc<Mutex<local::Postgres>>,
    port: u16,
}

impl Postgres {
    /// Starts one, with settings as in `postgresql.conf`. `None` where the machine has no programs
    /// for it.
    ///
    /// Servers started in one run have the same system identifier; see [`Postgres::unrelated`].
    ///
    /// # Errors
    /// When there are programs and the server does not start.
    ///
    /// # Panics
    /// Where the programs are required and there are none.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Option<Self>, Error> {
        let Some(template) = programs().await else {
            return Ok(None);
        };
        let settings = Settings::from(settings);
        let start = move || local::Postgres::start(template, &settings.borrowed());
        blocking(start).await.map(|server| Some(server.into()))
    }

    /// The same, of a cluster with a system identifier of its own, as if made anew. A second slower.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub async fn unrelated(settings: &[(&str, &str)]) -> Result<Option<Self>, Error> {
        let Some(template) = programs().await else {
            return Ok(None);
        };
        let settings = Settings::from(settings);
        let start = move || {
            let template = Template::make(template.binaries().clone())?;
            local::Postgres::start(&template, &settings.borrowed())
        };
        blocking(start).await.map(|server| Some(server.into()))
    }

    /// Starts a standby that streams from that port of 127.0.0.1: the primary's own, or that of a
    /// proxy in front of it. Its `application_name` is `standby`, for `synchronous_standby_names`.
    pub async fn standby_of(
        primary: &Self,
        port: u16,
        settings: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let settings = Settings::from(settings);
        let start = move |primary: &mut local::Postgres| {
            local::Postgres::standby_of(primary, port, &settings.borrowed())
        };
        primary.with(start).await.map(Self::from)
    }

    /// Whether servers here can preload a library, such as `pg_stat_statements`.
    pub fn has_library(name: &str) -> bool {
        template().is_ok_and(|template| template.binaries().has_library(name))
    }

    /// The URL of the superuser `postgres`, for the database `postgres`, over TCP.
    pub fn url(&self) -> String {
        self.look(local::Postgres::url)
    }

    /// The same, at another port of 127.0.0.1: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        self.look(|server| server.url_at(port))
    }

    /// The same, over the Unix socket.
    pub fn socket_url(&self) -> String {
        self.look(local::Postgres::socket_url)
    }

    /// Its port on 127.0.0.1, the same for as long as it lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.look(local::Postgres::address)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.look(local::Postgres::log)
    }

    /// Adds settings, as in `postgresql.conf`, and makes it read them. Some count from the next start
    /// only.
    pub async fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let settings = Settings::from(settings);
        let set = move |server: &mut local::Postgres| {
            server.set(&settings.borrowed())?;
            server.reload()
        };
        self.with(set).await
    }

    /// Writes a file into the folder of its data: a certificate, a key, or who may enter
    /// (`pg_hba.conf`). It is read at the next [`Postgres::set`] or start.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        self.look(|server| server.write(name, text))
    }

    /// Stops it, and waits for its end.
    pub async fn stop(&self, how: Stop) -> Result<(), Error> {
        self.with(move |server| server.stop(how)).await
    }

    /// Ends all its processes at one moment, as a crash of its machine would; only that the system
    /// still tells the clients, which a proxy can prevent.
    pub async fn crash(&self) -> Result<(), Error> {
        self.with(local::Postgres::crash).await
    }

    /// Starts it again after [`Postgres::stop`] or [`Postgres::crash`], on the same port, and waits
    /// until it takes clients.
    pub async fn start_again(&self) -> Result<(), Error> {
        self.with(local::Postgres::start_again).await
    }

    /// Stops it and starts it again.
    pub async fn restart(&self, how: Stop) -> Result<(), Error> {
        let restart = move |server: &mut local::Postgres| {
            server.stop(how)?;
            server.start_again()
        };
        self.with(restart).await
    }

    /// Ends one session's process without a word, as the system does when memory runs out. The server
    /// then cuts off all others and recovers.
    pub async fn kill_session(&self, process: u32) -> Result<(), Error> {
        self.with(move |server| server.kill_session(process)).await
    }

    /// Stops all its processes where they are: connections stay, and nothing answers.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.with(local::Postgres::freeze).await
    }

    /// Lets it go on after [`Postgres::freeze`].
    pub async fn thaw(&self) -> Result<(), Error> {
        self.with(local::Postgres::thaw).await
    }

    /// Makes a standby a primary, and waits until it is.
    pub async fn promote(&self) -> Result<(), Error> {
        self.with(|server| server.promote()).await
    }

    /// Works on it on a thread that may wait. A caller that is dropped leaves the work to its end.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut local::Postgres) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let server = Arc::clone(&self.server);
        let work = move || work(&mut server.lock().unwrap_or_else(PoisonError::into_inner));
        blocking(work).await
    }

    fn look<T>(&self, look: impl FnOnce(&local::Postgres) -> T) -> T {
        look(&self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<local::Postgres> for Postgres {
    fn from(server: local::Postgres) -> Self {
        let port = server.port();
        let server = Arc::new(Mutex::new(server));
        Self { server, port }
    }
}

/// The cluster that private servers are copied from, or the test is skipped: on the thread that has
/// its name.
async fn programs() -> Option<&'static Template> {
    let made = task::spawn_blocking(template).await;
    skip::found("postgres-bin", unpanicked(made))
}
