//! One private Redis or Valkey server: alone, a replica, a Sentinel, or a node of a cluster.

mod cluster;
mod program;
mod reply;
mod sentinel;
mod talk;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub use cluster::{in_a_cluster, replica_in_a_cluster, slots};
pub use program::{OLDEST, RedisProgram};
pub use reply::Reply;
pub use sentinel::{SENTINEL_NAME, sentinel};
pub use talk::Talk;

use crate::error::Error;
use crate::folder::Folder;
use crate::os;
use crate::port::free_port;
use crate::programs::{await_end, children, signal};
use crate::random;

/// How long a server may take to start, to stop, or to follow another.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that starts is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Another program may have taken the port in the meantime: so often another one is tried.
const PORTS: usize = 5;

/// What every server is started with; what a test asks for comes after, and wins. Nothing is
/// remembered unless asked for.
const SETTINGS: &[(&str, &str)] = &[
    ("bind", "127.0.0.1"),
    ("daemonize", "no"),
    // Its command line names its folder, by which its cleaner knows it.
    ("set-proc-title", "no"),
];

/// What those are started with that keep data.
const OF_STORES: &[(&str, &str)] = &[
    ("save", ""),
    ("appendonly", "no"),
    ("repl-diskless-sync", "yes"),
    ("repl-diskless-sync-delay", "0"),
];

/// What a process is started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It keeps data.
    Store,
    /// It keeps data, as a node of a cluster.
    Node,
    /// It watches over those that do.
    Sentinel,
}

/// A private server, on a port of 127.0.0.1. Dropping it stops it and removes all it had.
#[derive(Debug)]
pub struct Redis {
    process: Option<Child>,
    frozen: bool,
    kind: Kind,
    port: u16,
    program: RedisProgram,
    password: String,
    folder: Folder,
}

impl Redis {
    /// Starts one, with settings as in `redis.conf`. It forgets all when it ends, unless `appendonly`
    /// is set.
    pub fn start(program: &RedisProgram, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let mut server = Self::prepare(program, Kind::Store, random::password())?;
        server.first_start(settings)?;
        Ok(server)
    }

    /// Starts one that follows a primary at that port of 127.0.0.1, the primary's own or a proxy's,
    /// and waits until it has all.
    pub fn replica_of(primary: &Self, port: u16, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let password = primary.password.clone();
        let mut server = Self::prepare(&primary.program, Kind::Store, password)?;
        let of = format!("127.0.0.1 {port}");
        server.first_start(&[&[("replicaof", of.as_str())], settings].concat())?;
        server.until("follow its primary", |talk| {
            Ok(talk.info("replication", "master_link_status")?.as_deref() == Some("up"))
        })?;
        Ok(server)
    }

    /// One that has nothing yet but a folder.
    fn prepare(program: &RedisProgram, kind: Kind, password: String) -> Result<Self, Error> {
        let folder = Folder::new(None)?;
        let data = folder.path().join("data");
        os::create_private(&data).map_err(Error::at("create", &data))?;
        Ok(Self {
            process: None,
            frozen: false,
            kind,
            port: 0,
            program: program.clone(),
            password,
            folder,
        })
    }

    /// The URL of the user who may do all, over TCP.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same, at another port of 127.0.0.1: that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        match self.kind {
            Kind::Store | Kind::Node => format!("redis://:{}@127.0.0.1:{port}", self.password),
            Kind::Sentinel => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// Its port on 127.0.0.1, the same for as long as it lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The password of the user who may do all.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What it was started by.
    pub fn program(&self) -> &RedisProgram {
        &self.program
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        let read = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    }

    /// The number of its process, if it runs.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Adds settings, as in `redis.conf`. They count from the next start.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let file = self.settings_file();
        let appended = OpenOptions::new().append(true).create(true).open(&file);
        let appended = appended.and_then(|mut file| file.write_all(lines(settings).as_bytes()));
        appended.map_err(Error::at("write", &file))
    }

    /// A connection of one who may do all.
    pub fn talk(&self) -> Result<Talk, Error> {
        Talk::to(&self.url())
    }

    /// Runs one command, which must succeed.
    pub fn ask(&self, command: &[&str]) -> Result<Reply, Error> {
        self.talk()?.ask(command)
    }

    /// Stops it as a service manager does, and waits for its end. Nothing happens to one that does
    /// not run.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.thaw()?;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        signal("TERM", &[process.id()])?;
        if !await_end(process, PATIENCE)? {
            let said = self.last_words();
            self.crash()?;
            return Err(Error::failed("stop the server", said));
        }
        self.process = None;
        Ok(())
    }

    /// Ends it without a word, as `kill -9` does; only that the system still tells the clients.
    pub fn crash(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let first = process.id();
        let mut all = children(first)?;
        all.push(first);
        signal("KILL", &all)?;
        self.frozen = false;
        process.wait().map_err(Error::io("wait for the server"))?;
        Ok(())
    }

    /// Stops it where it is, as a virtual machine that is suspended: connections stay, and nothing
    /// answers.
    pub fn freeze(&mut self) -> Result<(), Error> {
        let Some(process) = self.process() else {
            return Ok(());
        };
        self.frozen = true;
        signal("STOP", &[process])
    }

    /// Lets it go on after [`Redis::freeze`].
    pub fn thaw(&mut self) -> Result<(), Error> {
        let frozen = std::mem::take(&mut self.frozen);
        match self.process() {
            Some(process) if frozen => signal("CONT", &[process]),
            _ => Ok(()),
        }
    }

    /// Starts it again, on the same port, and waits until it answers.
    pub fn start_again(&mut self) -> Result<(), Error> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut process = self.spawn()?;
        match self.await_ready(&mut process) {
            Ok(()) => {
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                drop(process.kill());
                drop(process.wait());
                Err(error)
            }
        }
    }

    /// Makes a replica a primary, with what it has received.
    pub fn promote(&self) -> Result<(), Error> {
        self.ask(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Waits until something is so.
    pub fn until(
        &self,
        what: &str,
        mut is_so: impl FnMut(&mut Talk) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut talk = self.talk()?;
        while !is_so(&mut talk)? {
            if began.elapsed() >= PATIENCE {
                return Err(Error::failed(what, self.last_words()));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Chooses a port and starts for the first time.
    fn first_start(&mut self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.set(SETTINGS)?;
        let folder = self.folder.path().display().to_string();
        let pid_file = format!("{folder}/redis.pid");
        self.set(&[("pidfile", &pid_file), ("dir", &format!("{folder}/data"))])?;
        if self.kind != Kind::Sentinel {
            self.set(OF_STORES)?;
            let password = self.password.as_str();
            self.set(&[("requirepass", password), ("masterauth", password)])?;
            self.set(self.program.own_settings())?;
        }
        self.set(settings)?;
        for _ in 1..PORTS {
            self.choose_port()?;
            match self.start_again() {
                Err(Error::Failed { said, .. }) if port_was_taken(&said) => (),
                result => return result,
            }
        }
        self.choose_port()?;
        self.start_again()
    }

    fn choose_port(&mut self) -> Result<(), Error> {
        self.port = match self.kind {
            Kind::Store | Kind::Sentinel => free_port()?,
            Kind::Node => cluster::free_ports()?,
        };
        self.set(&[("port", &self.port.to_string())])
    }

    fn spawn(&self) -> Result<Child, Error> {
        let log = self.log_file();
        let log = OpenOptions::new().create(true).append(true).open(&log);
        let log = log.map_err(Error::io("open the server's log"))?;
        let errors = log
            .try_clone()
            .map_err(Error::io("open the server's log"))?;
        let mut command = Command::new(self.program.path());
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command.arg(self.settings_file());
        if self.kind == Kind::Sentinel {
            command.arg("--sentinel");
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        os::detach(&mut command);
        command.spawn().map_err(Error::io("start the server"))
    }

    /// Waits until it answers as who serves.
    fn await_ready(&self, process: &mut Child) -> Result<(), Error> {
        let began = Instant::now();
        let doing = "start a server that takes clients";
        loop {
            let ended = process
                .try_wait()
                .map_err(Error::io("look at the server"))?;
            if ended.is_some() || began.elapsed() >= PATIENCE {
                return Err(Error::failed(doing, self.last_words()));
            }
            // Another's server at this port has another password.
            if self.ask(&["PING"]).is_ok() && self.is_of(process.id()) {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether who answers at our port is that process.
    fn is_of(&self, process: u32) -> bool {
        let said = self
            .talk()
            .and_then(|mut talk| talk.info("server", "process_id"));
        said.is_ok_and(|said| said == Some(process.to_string()))
    }

    fn settings_file(&self) -> PathBuf {
        self.folder.path().join("server.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The folder goes with it: there is nothing to write. One that cannot be ended now is left to
        // the folder's cleaner.
        drop(self.crash());
    }
}

fn port_was_taken(said: &str) -> bool {
    said.contains("Address already in use") || said.contains("Failed listening on port")
}

/// Whether nothing listens at a port of 127.0.0.1.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Settings as lines of `redis.conf`. A value of several words is several arguments, and an empty one
/// is an empty argument.
fn lines(settings: &[(&str, &str)]) -> String {
    let line = |(name, value): &(&str, &str)| match *value {
        "" => format!("{name} \"\"\n"),
        value => format!("{name} {value}\n"),
    };
    settings.iter().map(line).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_the_server_reads_them() {
        let written = lines(&[("save", ""), ("replicaof", "127.0.0.1 17")]);
        assert_eq!(written, "save \"\"\nreplicaof 127.0.0.1 17\n");
    }

    #[test]
    fn another_port_is_tried_only_where_the_port_was_taken() {
        assert!(port_was_taken(
            "Warning: Could not create server TCP listening socket 127.0.0.1:1: bind: Address already in use"
        ));
        assert!(!port_was_taken("FATAL CONFIG FILE ERROR"));
    }
}
