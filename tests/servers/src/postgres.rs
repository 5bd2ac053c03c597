//! One private Postgres server.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::binaries::Binaries;
use crate::error::Error;
use crate::folder::{self, Folder};
use crate::os;
use crate::port::free_port;
use crate::programs::{self, await_end, children, signal};
use crate::template::Template;

/// How long a server may take to start, to stop, or to be promoted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that starts is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Another program may have taken the port in the meantime: so often another one is tried.
const PORTS: usize = 5;

/// What every server is started with; what a test asks for comes after, and wins.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    // What is crashed here is processes, never the system, which keeps all that they wrote: syncing
    // would change nothing but the time that tests take.
    ("fsync", "off"),
    ("wal_level", "replica"),
    ("max_wal_senders", "10"),
    ("max_prepared_transactions", "10"),
    // In the folder, so that nothing is left in shared memory after a crash.
    ("dynamic_shared_memory_type", "mmap"),
    ("log_line_prefix", "%m [%p] %q%a "),
    ("timezone", "UTC"),
];

/// How to stop a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, and all is written.
    Fast,
    /// Sessions are cut off, and the next start recovers.
    Immediate,
}

/// A private server, on a port of 127.0.0.1 and on a Unix socket. Dropping it stops it and removes
/// all it had.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Child>,
    frozen: bool,
    port: u16,
    binaries: Binaries,
    account: Option<Account>,
    password: String,
    folder: Folder,
}

impl Postgres {
    /// Starts one on a copy of the template, with settings as in `postgresql.conf`.
    pub fn start(template: &Template, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let (binaries, account) = (&template.binaries, template.account.as_ref());
        let mut server = Self::prepare(binaries, account, &template.password)?;
        let data = server.data();
        folder::copy(&template.data(), &data, server.account.as_ref())?;
        server.first_start(settings)?;
        Ok(server)
    }

    /// Starts one that follows a primary: a backup of it, which streams from that port of
    /// 127.0.0.1, the primary's own or a proxy's. Its `application_name` is `standby`.
    pub fn standby_of(primary: &Self, port: u16, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let (binaries, account) = (&primary.binaries, primary.account.as_ref());
        let mut server = Self::prepare(binaries, account, &primary.password)?;
        let mut command = server.command("pg_basebackup");
        command.env("PGPASSWORD", &server.password);
        command.args(["--host=127.0.0.1", "--username=postgres"]);
        command.arg(format!("--port={}", primary.port));
        command.arg("--pgdata").arg(server.data());
        command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        programs::run(&mut command)?;
        let account = server.account.as_ref();
        server.folder.write("data/standby.signal", "", account)?;
        let stream = format!(
            "host=127.0.0.1 port={port} user=postgres password={} application_name=standby",
            server.password
        );
        let stream = [("primary_conninfo", stream.as_str()), ("hot_standby", "on")];
        server.first_start(&[&stream, settings].concat())?;
        Ok(server)
    }

    /// One that has nothing yet but a folder.
    fn prepare(
        binaries: &Binaries,
        account: Option<&Account>,
        password: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            process: None,
            frozen: false,
            port: 0,
            binaries: binaries.clone(),
            account: account.cloned(),
            password: password.to_owned(),
            folder: Folder::new(account)?,
        })
    }

    /// The URL of the superuser `postgres`, for the database `postgres`, over TCP.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same, at another port of 127.0.0.1: that of a proxy or a pooler.
    pub fn url_at(&self, port: u16) -> String {
        let password = &self.password;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres")
    }

    /// The same, over the Unix socket.
    pub fn socket_url(&self) -> String {
        let folder = self.folder.path().to_string_lossy().replace('/', "%2F");
        let (password, port) = (&self.password, self.port);
        format!("postgres://postgres:{password}@{folder}:{port}/postgres")
    }

    /// Its port on 127.0.0.1, the same for as long as it lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The password of `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The programs that it was started by.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        let read = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    }

    /// The number of its first process, if it runs.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Adds settings, as in `postgresql.conf`. They count from the next start or reload.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        let file = self.data().join("postgresql.conf");
        let appended = OpenOptions::new().append(true).open(&file);
        let appended = appended.and_then(|mut file| file.write_all(lines(settings).as_bytes()));
        appended.map_err(Error::at("write", &file))
    }

    /// Writes a file into the folder of its data, as it must be for the server to read it: a
    /// certificate, a key, or who may enter (`pg_hba.conf`).
    pub fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let name = format!("data/{name}");
        let account = self.account.as_ref();
        self.folder.write(&name, text, account).map(drop)
    }

    /// Makes it read its settings again.
    pub fn reload(&self) -> Result<(), Error> {
        self.send("HUP")
    }

    /// Stops it, and waits for its end. Nothing happens to one that does not run.
    pub fn stop(&mut self, how: Stop) -> Result<(), Error> {
        self.thaw()?;
        self.send(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        })?;
        let ended = match &mut self.process {
            None => return Ok(()),
            Some(process) => await_end(process, PATIENCE)?,
        };
        if !ended {
            let said = self.last_words();
            self.crash()?;
            return Err(Error::failed(format!("stop the server ({how:?})"), said));
        }
        self.process = None;
        Ok(())
    }

    /// Ends all its processes at one moment, as a crash of its machine would; only that the system
    /// still tells the clients. What was committed is there after the next start.
    pub fn crash(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        // Stopped first: it must not react to the end of its children.
        let first = process.id();
        signal("STOP", &[first])?;
        let mut all = children(first)?;
        all.push(first);
        signal("KILL", &all)?;
        process.wait().map_err(Error::io("wait for the server"))?;
        self.frozen = false;
        self.forget_memory()
    }

    /// Ends one session's process without a word, as the system does when memory runs out. The server
    /// then cuts off all others and recovers.
    pub fn kill_session(&self, process: u32) -> Result<(), Error> {
        let ours = self.process().map_or(Ok(Vec::new()), children)?;
        if !ours.contains(&process) {
            let text = format!("process {process} is none of this server's");
            return Err(Error::Missing(text));
        }
        signal("KILL", &[process])
    }

    /// Stops all its processes where they are, as a virtual machine that is suspended: connections
    /// stay, and nothing answers.
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.frozen = true;
        self.send("STOP")?;
        let first = self.process().map_or(Ok(Vec::new()), children);
        signal("STOP", &first?)
    }

    /// Lets it go on after [`Postgres::freeze`].
    pub fn thaw(&mut self) -> Result<(), Error> {
        if !self.frozen {
            return Ok(());
        }
        self.frozen = false;
        let first = self.process().map_or(Ok(Vec::new()), children);
        signal("CONT", &first?)?;
        self.send("CONT")
    }

    /// Starts it again, on the same port, and waits until it takes clients.
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

    /// Makes a standby a primary, and waits until it is.
    pub fn promote(&self) -> Result<(), Error> {
        let mut command = self.command("pg_ctl");
        command.args(["promote", "--wait", "--timeout", "60", "--pgdata"]);
        programs::run(command.arg(self.data())).map(drop)
    }

    /// Chooses a port and starts for the first time.
    fn first_start(&mut self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.set(SETTINGS)?;
        let folder = self.folder.path().display().to_string();
        self.set(&[("unix_socket_directories", &folder)])?;
        self.set(settings)?;
        for _ in 1..PORTS {
            self.port = free_port()?;
            self.set(&[("port", &self.port.to_string())])?;
            match self.start_again() {
                Err(Error::Failed { said, .. }) if port_was_taken(&said) => (),
                result => return result,
            }
        }
        self.start_again()
    }

    fn spawn(&self) -> Result<Child, Error> {
        let log = self.log_file();
        let log = OpenOptions::new().create(true).append(true).open(&log);
        let log = log.map_err(Error::io("open the server's log"))?;
        let errors = log
            .try_clone()
            .map_err(Error::io("open the server's log"))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        os::detach(&mut command);
        command.spawn().map_err(Error::io("start the server"))
    }

    /// Waits for the word that the server leaves beside its number when it takes clients.
    fn await_ready(&self, process: &mut Child) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            if is_ready(&self.pid_file(), process.id()) {
                return Ok(());
            }
            let ended = process
                .try_wait()
                .map_err(Error::io("look at the server"))?;
            if ended.is_some() || began.elapsed() >= PATIENCE {
                let doing = "start a server that takes clients";
                return Err(Error::failed(doing, self.last_words()));
            }
            thread::sleep(LOOK);
        }
    }

    /// Removes what only the end of its machine would remove: its number, and the segment of shared
    /// memory by which a server finds out whether another uses its data.
    fn forget_memory(&self) -> Result<(), Error> {
        let file = self.pid_file();
        let segment = fs::read_to_string(&file).ok();
        if let Some(id) = segment.as_deref().and_then(memory_segment) {
            // Gone already if the last process that used it has removed it.
            drop(programs::run(Command::new("ipcrm").args(["-m", id])));
        }
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::at("remove", &file)(error))
            }
            _ => Ok(()),
        }
    }

    fn send(&self, name: &str) -> Result<(), Error> {
        self.process()
            .map_or(Ok(()), |first| signal(name, &[first]))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.binaries.command(program);
        command.current_dir(self.folder.path());
        command.env("HOME", self.folder.path());
        Account::run(self.account.as_ref(), &mut command);
        command
    }

    fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
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

impl Drop for Postgres {
    fn drop(&mut self) {
        // The folder goes with it: what it had need not be written. One that cannot be stopped now is
        // left to the folder's cleaner.
        if self.stop(Stop::Immediate).is_err() {
            drop(self.crash());
        }
    }
}

fn is_ready(file: &Path, process: u32) -> bool {
    let Ok(text) = fs::read_to_string(file) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let ours = lines.first() == Some(&process.to_string().as_str());
    ours && matches!(lines.get(7), Some(&("ready" | "standby")))
}

/// The number of the shared memory, in what the server leaves beside its own.
fn memory_segment(text: &str) -> Option<&str> {
    text.lines().nth(6)?.split_whitespace().nth(1)
}

fn port_was_taken(said: &str) -> bool {
    said.contains("could not bind") || said.contains("could not create any TCP/IP sockets")
}

/// Settings as lines of `postgresql.conf`.
fn lines(settings: &[(&str, &str)]) -> String {
    let line = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        format!("{name} = '{value}'\n")
    };
    settings.iter().map(line).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_the_server_reads_them() {
        let quoted = lines(&[("a", r"it's \ here"), ("b", "1")]);
        assert_eq!(quoted, "a = 'it''s \\\\ here'\nb = '1'\n");
    }

    #[test]
    fn a_server_is_ready_when_its_own_number_stands_with_the_word() {
        let folder = Folder::new(None).unwrap();
        let text = "17\n/data\n1\n5432\n/tmp\nlocalhost\n  123   456\nready   \n";
        let file = folder.write("pid", text, None).unwrap();
        assert!(is_ready(&file, 17));
        assert!(!is_ready(&file, 18));
        let starting = text.replace("ready", "starting");
        let file = folder.write("pid", &starting, None).unwrap();
        assert!(!is_ready(&file, 17));
        assert_eq!(memory_segment(text), Some("456"));
        assert_eq!(memory_segment("17\n/data\n"), None);
    }
}
