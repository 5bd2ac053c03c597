//! A leader feeds a job queue, and one that loses its term stops: what it still sends is refused by the
//! server, in one step with the writing, for its token is no longer the highest.
//!
//! `cargo run --example redis_jobs redis://user:password@host:port`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use coordinator_examples::Space;
use coordinator_node::{Leadership, Node};
use coordinator_redis::{FenceError, RedisBackend};
use redis::AsyncCommands;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

const TTL: Duration = Duration::from_millis(500);
const JOBS: u64 = 60;
/// Before this job the first feeder's machine is suspended, after its last look at its term.
const PAUSE: u64 = 20;

/// A stream of jobs, and the number of the last one.
struct Feeder {
    name: &'static str,
    redis: RedisBackend,
    client: redis::Client,
    queue: String,
    last: String,
}

impl Feeder {
    async fn connect(space: &Space, name: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            redis: RedisBackend::connect(space.config()?).await?,
            client: space.client().clone(),
            queue: format!("{}:jobs", space.name()),
            last: format!("{}:last", space.name()),
        })
    }

    /// Leads, term after term, until all jobs are in the queue.
    async fn run(&self) -> anyhow::Result<()> {
        let node = Node::builder("billing").member(self.name);
        let node = node.backend(self.redis.clone()).ttl(TTL).start().await?;
        let election = node.election("feeder");
        while !self.feed(&election.campaign().await?).await? {}
        Ok(node.shutdown().await?)
    }

    /// Feeds the queue; false: the term was lost.
    async fn feed(&self, term: &Leadership) -> anyhow::Result<bool> {
        println!("{} leads", self.name);
        let mut connection = self.client.get_multiplexed_async_connection().await?;
        // Nobody who led before can write any more: this is where they have come to.
        let last: Option<u64> = connection.get(&self.last).await?;
        for job in last.unwrap_or(0) + 1..=JOBS {
            sleep(Duration::from_millis(10)).await; // it works for its jobs
            let Ok(token) = term.token() else {
                return Ok(false);
            };
            let fields = [("job", job.to_string()), ("token", token.to_string())];
            let writes = self.redis.fenced(term).xadd(&self.queue, fields);
            let writes = writes.set(&self.last, job.to_string());
            if self.name == "a" && job == PAUSE {
                thread::sleep(4 * TTL); // as a suspended machine does
            }
            match writes.apply().await {
                Ok(_) => {}
                Err(stop @ (FenceError::Refused { .. } | FenceError::Lost(_))) => {
                    println!("{} stops feeding at job {job}: {stop}", self.name);
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// A feeder on a thread of its own, as it would be a process of its own.
fn start(space: &Space, name: &'static str) -> JoinHandle<anyhow::Result<()>> {
    let space = space.clone();
    thread::spawn(move || {
        let work = async { Feeder::connect(&space, name).await?.run().await };
        runtime()?.block_on(work)
    })
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The jobs in the queue, and under which token each came there.
async fn queue(space: &Space) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut connection = space.client().get_multiplexed_async_connection().await?;
    let mut range = redis::cmd("XRANGE");
    range
        .arg(format!("{}:jobs", space.name()))
        .arg("-")
        .arg("+");
    let entries: Vec<(String, [String; 4])> = range.query_async(&mut connection).await?;
    let jobs = entries
        .iter()
        .map(|(_, [_, job, _, token])| Ok((job.parse()?, token.parse()?)));
    jobs.collect()
}

/// Two feeders, the first of which is suspended; then a look at the queue.
pub(crate) fn demonstrate(space: &Space) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let first = start(space, "a");
    runtime.block_on(async {
        while queue(space).await?.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    })?;
    for feeder in [first, start(space, "b")] {
        feeder
            .join()
            .map_err(|_| anyhow::anyhow!("a feeder panicked"))??;
    }
    let fed = runtime.block_on(queue(space))?;
    let jobs = fed.iter().map(|(job, _)| *job);
    ensure!(jobs.eq(1..=JOBS), "not each job once, in order: {fed:?}");
    let tokens = fed.iter().map(|(_, token)| token);
    ensure!(tokens.is_sorted(), "a job of a superseded leader: {fed:?}");
    println!("{JOBS} jobs, each once, by one leader after the other");
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let space = Space::of_example()?;
    demonstrate(&space)?;
    runtime()?.block_on(space.remove())
}
