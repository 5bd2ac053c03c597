//! One node: what each process of the fleet does.

use std::fmt;
use std::io::{self, BufRead};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use coordinator_node::{Backend, Lost, Node, OwnedShard, ShardConfig, WorkResult};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::reporter::{Reporter, Tenure};
use super::said::{What, machine_time};
use super::{DRAIN, SPAN, TTL};
use crate::fleet::{GROUP, KEYSPACE};
use crate::options::{Options, Place};
use crate::run::Run;
use crate::source::{Source, Timed};
use crate::{postgres, redis};

/// How long it takes to fold one event: so that crashes and revocations come in mid-work.
const EFFORT: Duration = Duration::from_millis(2);

/// Where the work on shards is done: what a user of the library has at hand.
pub(crate) trait Desk: Send + Sync + Sized + 'static {
    /// Connects a node of this name.
    fn open(
        setup: &Setup,
        name: &str,
        tools: Tools,
    ) -> impl Future<Output = anyhow::Result<(Self, Backend)>>;

    fn tools(&self) -> &Tools;

    /// Projects one shard's events, in order, for as long as the shard is this node's.
    fn project(&self, shard: OwnedShard) -> impl Future<Output = WorkResult> + Send;
}

/// What the demo adds to the work: where events come from, and who is told.
pub(crate) struct Tools {
    pub(crate) source: Source,
    reporter: Reporter,
}

impl Tools {
    /// The work on a shard begins, and whoever watches is told.
    pub(crate) fn begin(&self, shard: &OwnedShard) -> Result<Tenure, Lost> {
        Tenure::begin(shard, &self.reporter)
    }
}

/// Folds a batch, which takes its time.
pub(crate) async fn take_effort(batch: &[Timed], tenure: &Tenure) {
    for _ in batch {
        sleep(EFFORT).await;
        tenure.folded();
    }
}

/// What a node is told in the first line of its standard input: not in its arguments, which others
/// on this machine may read. When the input ends, the node is to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setup {
    /// When the world began, by the machine's clock.
    pub(super) began: Duration,
    /// What the run has for itself in the store.
    pub(crate) ground: String,
    pub(crate) url: String,
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.began.as_nanos(), self.ground, self.url)
    }
}

impl FromStr for Setup {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let mut words = line.trim_end().splitn(3, ' ');
        let mut word = || {
            words
                .next()
                .context("a node needs a time, a ground and a URL")
        };
        Ok(Self {
            began: Duration::from_nanos(word()?.parse()?),
            ground: word()?.to_owned(),
            url: word()?.to_owned(),
        })
    }
}

/// Is a node, until the standard input ends.
pub(crate) fn be_node(name: &str, options: &Options) -> ExitCode {
    let reporter = Reporter::default();
    let panicked = reporter.clone();
    std::panic::set_hook(Box::new(move |panic| {
        panicked.say(What::Failed(panic.to_string()));
    }));
    match live(name, options, &reporter) {
        Ok(()) => {
            reporter.say(What::Left);
            ExitCode::SUCCESS
        }
        Err(error) => {
            reporter.say(What::Failed(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn live(name: &str, options: &Options, reporter: &Reporter) -> anyhow::Result<()> {
    end_with_parent()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let setup: Setup = line.parse()?;
    let run = Run::prepare(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(reporter.clone().keep_telling());
        match Place::at(&setup.url)? {
            Place::Redis(_) => serve::<redis::Desk>(name, run, setup, reporter).await,
            Place::Postgres(_) => serve::<postgres::Desk>(name, run, setup, reporter).await,
            Place::Memory => anyhow::bail!("a node of its own has no memory to share"),
        }
    })
}

/// A frozen process cannot see that its input has ended: so it is killed when its parent is gone.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn end_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};

    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn end_with_parent() -> io::Result<()> {
    Ok(())
}

async fn serve<D: Desk>(
    name: &str,
    run: Run,
    setup: Setup,
    reporter: &Reporter,
) -> anyhow::Result<()> {
    let tools = Tools {
        source: Source::new(instant(setup.began), SPAN, run.events),
        reporter: reporter.clone(),
    };
    let (desk, backend) = D::open(&setup, name, tools).await?;
    let node = Node::builder(GROUP)
        .member(name)
        .backend(backend)
        .ttl(TTL)
        .drain_timeout(DRAIN)
        .shutdown_on(end_of_input())
        .start()
        .await?;
    reporter.say(What::Live);
    let shards = ShardConfig::new(KEYSPACE, run.shards.get()).drain_timeout(DRAIN);
    let desk = Arc::new(desk);
    node.run_shards(shards, move |shard| project_and_tell(shard, desk.clone()))
        .await?;
    Ok(node.shutdown().await?)
}

/// Projects, and tells of a failure that is not that the shard is lost: it is tried again.
async fn project_and_tell<D: Desk>(shard: OwnedShard, desk: Arc<D>) -> WorkResult {
    let (view, index) = (shard.view(), usize::from(shard.id().get()));
    let done = desk.project(shard).await;
    if let Err(error) = &done
        && view.token().is_ok()
    {
        let why = error.to_string();
        let stumbled = What::Stumbled { shard: index, why };
        desk.tools().reporter.say(stumbled);
    }
    done
}

/// The moment at which the machine's clock showed this.
fn instant(shown: Duration) -> Instant {
    let now = Instant::now();
    let passed = machine_time().saturating_sub(shown);
    now.checked_sub(passed).unwrap_or(now)
}

/// Ends when the standard input does: on request, or because the parent is gone.
async fn end_of_input() {
    let (ended, seen) = oneshot::channel::<()>();
    thread::spawn(move || {
        let read = io::copy(&mut io::stdin(), &mut io::sink());
        // An input that cannot be read says no more than one that has ended.
        drop((read, ended));
    });
    // An error: the other half was dropped, as it is meant to be.
    seen.await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_what_to_reach_in_one_line() {
        let setup = Setup {
            began: Duration::new(5, 7),
            ground: "demo".into(),
            url: "postgres://u:p w@h/d".into(),
        };
        assert_eq!(format!("{setup}\n").parse::<Setup>().unwrap(), setup);
        assert!("5".parse::<Setup>().is_err());
    }
}
