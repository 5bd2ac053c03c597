//! A leader and who wait for its place, each a process of its own. Every moment is read from the one
//! clock of the machine.

use std::time::Duration;

use anyhow::Context;
use coordinator_core::async_trait;
use coordinator_tests::servers::Program;
use tokio::time::{sleep, timeout};

use crate::figure::{Figure, Target, Unit, middle, worst};
use crate::nodes::{PATIENCE, after, first_of, process};

/// How often it is looked whether all candidates wait.
const LOOK: Duration = Duration::from_millis(5);

/// Sees who waits for the leader's place.
#[async_trait]
pub(crate) trait Queue: Send + Sync {
    /// How many wait, by the server's own account.
    async fn waiting(&self) -> anyhow::Result<usize>;
}

/// Some nodes, one of which leads.
pub(crate) struct Fleet {
    urls: Vec<String>,
    ttl: Duration,
    order: String,
    pub(crate) programs: Vec<Program>,
    pub(crate) leader: usize,
    queue: Box<dyn Queue>,
}

impl Fleet {
    /// One node for each URL.
    pub(crate) async fn start(
        queue: impl Queue + 'static,
        urls: Vec<String>,
        ttl: Duration,
    ) -> anyhow::Result<Self> {
        // Nothing is told but who leads: acting costs time that is measured.
        let order = format!("lead e every=600000 ttl={}", ttl.as_millis());
        let mut programs = Vec::new();
        for url in &urls {
            programs.push(process(url, ttl, &[&order])?);
        }
        let (leader, _) = first_of(&mut programs, None, "elected e ").await?;
        let fleet = Self {
            urls,
            ttl,
            order,
            programs,
            leader,
            queue: Box::new(queue),
        };
        fleet.all_wait().await?;
        Ok(fleet)
    }

    pub(crate) fn leader(&mut self) -> &mut Program {
        &mut self.programs[self.leader]
    }

    /// Until the server has every candidate in its queue.
    async fn all_wait(&self) -> anyhow::Result<()> {
        let waiting = async {
            while self.queue.waiting().await? < self.programs.len() - 1 {
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, waiting)
            .await
            .context("the candidates do not wait")?
    }

    /// Who leads next, in the leader's place, and how long after that moment.
    pub(crate) async fn next(&mut self, since: Duration) -> anyhow::Result<(usize, Duration)> {
        let old = Some(self.leader);
        let (leader, elected) = first_of(&mut self.programs, old, "elected e ").await?;
        Ok((leader, after(&elected, since)?))
    }

    /// Puts a new process in the place of one.
    pub(crate) async fn replace(&mut self, which: usize, leader: usize) -> anyhow::Result<()> {
        self.programs[which] = process(&self.urls[which], self.ttl, &[&self.order])?;
        self.leader = leader;
        self.all_wait().await
    }

    /// Kills the leader so often, as `kill -9` does: how long nobody led.
    pub(crate) async fn kill(&mut self, rounds: usize) -> anyhow::Result<Vec<Duration>> {
        let mut spans = Vec::new();
        for _ in 0..rounds {
            let (dead, at) = (self.leader, self.leader().kill()?);
            let (leader, span) = self.next(at).await?;
            spans.push(span);
            self.replace(dead, leader).await?;
        }
        Ok(spans)
    }

    /// Lets the leader resign so often: how long from the end of its work to its successor's beginning.
    pub(crate) async fn resign(&mut self, rounds: usize) -> anyhow::Result<Vec<Duration>> {
        let mut spans = Vec::new();
        for _ in 0..rounds {
            self.leader().tell("resign e")?;
            let stopped = self.leader().until("stopped e ", PATIENCE).await?;
            let old = self.leader;
            let (leader, span) = self.next(stopped.at).await?;
            spans.push(span);
            self.leader = leader;
            self.programs[old].until("resigned e", PATIENCE).await?;
            let order = self.order.clone();
            self.programs[old].tell(&order)?;
            self.all_wait().await?;
        }
        Ok(spans)
    }
}

/// The middle of some spans, and the worst.
pub(crate) fn middle_and_worst(
    what: &str,
    spans: &[Duration],
    targets: (Target, Target),
) -> Vec<Figure> {
    let count = spans.len();
    let p50 = Figure::alone(
        format!("{what}: p50"),
        Unit::Seconds,
        middle(spans),
        targets.0,
    );
    let last = format!("{what}: worst of {count}");
    vec![
        p50,
        Figure::alone(last, Unit::Seconds, worst(spans), targets.1),
    ]
}
