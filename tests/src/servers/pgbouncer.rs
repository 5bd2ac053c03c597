//! A private PgBouncer in front of a server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coordinator_servers::{
    Account, Error, Folder, PGBOUNCER_PLACES, accepts, detach, find_program, free_port,
};
use tokio::task;
use tokio::time::sleep;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::blocking::blocking;
use super::skip;

/// How long it may take until clients are taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(10);

/// What a client keeps its server connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Until it leaves.
    Session,
    /// Until its transaction ends.
    Transaction,
}

/// A private PgBouncer. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    server: Server,
    port: u16,
    folder: Folder,
}

/// The server behind it, and who enters.
#[derive(Debug)]
struct Server {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
}

impl PgBouncer {
    /// Starts one in front of the server of that URL, with settings as in `pgbouncer.ini`. `None`
    /// where the machine has no PgBouncer.
    ///
    /// # Errors
    /// When there is one and it does not start.
    ///
    /// # Panics
    /// Where it is required and there is none.
    pub async fn start(
        url: &str,
        pooling: Pooling,
        settings: &[(&str, &str)],
    ) -> Result<Option<Self>, Error> {
        let missing = Error::Missing("this machine has no `pgbouncer`".to_owned());
        let program = find_program("pgbouncer", PGBOUNCER_PLACES).ok_or(&missing);
        let Some(program) = skip::found("pgbouncer", program) else {
            return Ok(None);
        };
        let server = Server::of(url)?;
        let settings = lines(settings);
        let spawn = move || Self::spawn(program, server, pooling, &settings);
        let mut pooler = blocking(spawn).await?;
        pooler.await_ready().await?;
        Ok(Some(pooler))
    }

    fn spawn(
        program: PathBuf,
        server: Server,
        pooling: Pooling,
        settings: &str,
    ) -> Result<Self, Error> {
        let account = Account::for_servers()?;
        let account = account.as_ref();
        let (folder, port) = (Folder::new(account)?, free_port()?);
        let users = folder.write("users.txt", &server.users(), account)?;
        let place = |name: &str| folder.path().join(name).display().to_string();
        let files = lines(&[
            ("auth_file", &users.display().to_string()),
            ("pidfile", &place("pgbouncer.pid")),
            ("logfile", &place("log")),
        ]);
        let text = [&server.settings(port, pooling), files.as_str(), settings].concat();
        let mut command = Command::new(program);
        command
            .arg("-q")
            .arg(folder.write("pgbouncer.ini", &text, account)?);
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Account::run(account, &mut command);
        detach(&mut command);
        let process = command.spawn().map_err(Error::io("start PgBouncer"))?;
        Ok(Self {
            process,
            server,
            port,
            folder,
        })
    }

    /// The URL of the same user and database through it.
    pub fn url(&self) -> String {
        let Server {
            user,
            password,
            database,
            ..
        } = &self.server;
        let port = self.port;
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn await_ready(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let address = self.address();
            if task::spawn_blocking(move || accepts(address))
                .await
                .is_ok_and(|accepts| accepts)
            {
                return Ok(());
            }
            let ended = self
                .process
                .try_wait()
                .map_err(Error::io("look at PgBouncer"))?;
            if ended.is_some() || began.elapsed() >= PATIENCE {
                let doing = "start PgBouncer".to_owned();
                return Err(Error::Failed {
                    doing,
                    said: self.log(),
                });
            }
            sleep(LOOK).await;
        }
    }
}

impl Server {
    /// What a URL says, as far as PgBouncer must know it.
    fn of(url: &str) -> Result<Self, Error> {
        let unusable = |what: &str| Error::Missing(format!("{what}, for PgBouncer"));
        let config: Config = url
            .parse()
            .map_err(|_| unusable("this is no URL of a server"))?;
        let user = config.get_user().unwrap_or("postgres");
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            #[cfg(unix)]
            Some(Host::Unix(folder)) => folder.display().to_string(),
            None => return Err(unusable("the URL names no host")),
        };
        let password = config.get_password().unwrap_or_default();
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: user.to_owned(),
            password: String::from_utf8_lossy(password).into_owned(),
            database: config.get_dbname().unwrap_or(user).to_owned(),
        })
    }

    /// The file of those who may enter.
    fn users(&self) -> String {
        let quoted = |text: &str| text.replace('"', "\"\"");
        format!(
            "\"{}\" \"{}\"\n",
            quoted(&self.user),
            quoted(&self.password)
        )
    }

    /// What every pooler is started with; what a test asks for comes after, and wins.
    fn settings(&self, port: u16, pooling: Pooling) -> String {
        let pooling = match pooling {
            Pooling::Session => "session",
            Pooling::Transaction => "transaction",
        };
        let databases = format!("[databases]\n* = host={} port={}\n", self.host, self.port);
        let settings = lines(&[
            ("listen_addr", "127.0.0.1"),
            ("listen_port", &port.to_string()),
            ("unix_socket_dir", ""),
            ("auth_type", "md5"),
            ("pool_mode", pooling),
            ("max_client_conn", "500"),
            // Clients of sqlx set it.
            ("ignore_startup_parameters", "extra_float_digits"),
        ]);
        format!("{databases}[pgbouncer]\n{settings}")
    }
}

/// Settings as lines of `pgbouncer.ini`.
fn lines(settings: &[(&str, &str)]) -> String {
    let line = |(name, value): &(&str, &str)| format!("{name} = {value}\n");
    settings.iter().map(line).collect::<Vec<_>>().concat()
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It has nothing to write.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_for_those_who_connect_and_for_those_who_enter() {
        let server = Server::of("postgres://me:pa%22ss@h:7/d").unwrap();
        assert_eq!(server.users(), "\"me\" \"pa\"\"ss\"\n");
        let settings = server.settings(9, Pooling::Transaction);
        assert!(settings.starts_with("[databases]\n* = host=h port=7\n[pgbouncer]\n"));
        assert!(settings.contains("\npool_mode = transaction\n"));
        assert!(settings.contains("\nlisten_port = 9\n"));
        assert!(Server::of("nonsense").is_err());
    }
}
