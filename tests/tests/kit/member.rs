//! Members as processes.

use std::io;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_tests::servers::Program;
use coordinator_tests::servers::process::{Event, now};
use futures_util::future::select_all;
use tokio::time::{timeout, timeout_at};

use super::{LONG, Tested};

/// A process that runs one node, and all it has said.
pub(crate) struct Member {
    pub(crate) name: String,
    program: Program,
    said: Vec<Event>,
    /// So many of these were asked for, or passed over.
    read: usize,
    pub(crate) killed: Option<Duration>,
}

impl Member {
    /// Starts one, and lets it do these things.
    pub(crate) fn start(name: &str, url: &str, ttl: Duration, orders: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pg_node"));
        command
            .args(["--url", &super::url_of(name, url)])
            .args(["--member", name])
            .args(["--ttl", &ttl.as_millis().to_string()])
            .args(orders);
        Ok(Self {
            name: name.to_owned(),
            program: Program::start(&mut command)?,
            said: Vec::new(),
            read: 0,
            killed: None,
        })
    }

    pub(crate) fn tell(&mut self, order: &str) -> io::Result<()> {
        self.program.tell(order)
    }

    /// The next event that begins so, behind those that were asked for before.
    pub(crate) async fn until(&mut self, beginning: &str) -> Tested<Event> {
        self.until_within(beginning, LONG).await
    }

    /// The same, with a limit of its own. Cancel safe.
    pub(crate) async fn until_within(&mut self, beginning: &str, limit: Duration) -> Tested<Event> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            while let Some(event) = self.said.get(self.read) {
                self.read += 1;
                if event.text.starts_with(beginning) {
                    return Ok(event.clone());
                }
            }
            match timeout_at(deadline, self.program.next()).await {
                Ok(Some(event)) => self.said.push(event),
                Ok(None) => bail!(
                    "{} has ended before `{beginning}`: {}",
                    self.name,
                    self.words()
                ),
                Err(_) => bail!("{} did not say `{beginning}`: {}", self.name, self.words()),
            }
        }
    }

    /// What it says until that long from now.
    pub(crate) async fn listen(&mut self, span: Duration) {
        let deadline = tokio::time::Instant::now() + span;
        while let Ok(Some(event)) = timeout_at(deadline, self.program.next()).await {
            self.said.push(event);
        }
    }

    /// Passes over all it has said so far.
    pub(crate) async fn skip(&mut self) {
        self.read = self.said().await.len();
    }

    /// All it has said so far.
    pub(crate) async fn said(&mut self) -> &[Event] {
        while let Ok(Some(event)) = timeout(Duration::ZERO, self.program.next()).await {
            self.said.push(event);
        }
        &self.said
    }

    /// How many events have begun so, so far.
    pub(crate) async fn count(&mut self, beginning: &str) -> usize {
        let said = self.said().await;
        said.iter()
            .filter(|event| event.text.starts_with(beginning))
            .count()
    }

    pub(crate) fn kill(&mut self) -> io::Result<Duration> {
        let at = self.program.kill()?;
        self.killed = Some(at);
        Ok(at)
    }

    pub(crate) fn suspend(&mut self) -> io::Result<Duration> {
        self.program.suspend()
    }

    pub(crate) fn resume(&mut self) -> io::Result<Duration> {
        self.program.resume()
    }

    /// Asks it to shut down, and waits until it has.
    pub(crate) async fn quit(&mut self) -> Tested {
        self.tell("quit")?;
        self.until("down").await?;
        let ended = timeout(LONG, self.program.end())
            .await
            .context("it stays")??;
        anyhow::ensure!(ended.success(), "{} ended with {ended}", self.name);
        Ok(())
    }

    /// What it has said beside that it acts, for an error.
    fn words(&self) -> String {
        let words = self
            .said
            .iter()
            .filter(|event| !event.text.starts_with("acts"));
        let began = self.said.first().map_or_else(now, |event| event.at);
        let shown: Vec<_> = words
            .map(|event| format!("{:?} {}", event.at.saturating_sub(began), event.text))
            .collect();
        shown.join("; ")
    }
}

/// The first of these members that says something that begins so: its place, and what it said.
pub(crate) async fn first_of(members: &mut [Member], beginning: &str) -> Tested<(usize, Event)> {
    let waits = members
        .iter_mut()
        .map(|member| Box::pin(member.until(beginning)));
    let (event, place, _) = select_all(waits).await;
    Ok((place, event?))
}
