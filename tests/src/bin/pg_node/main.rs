//! A node as a process of its own, for tests that kill, suspend and cut off processes, and for
//! measurements.
//!
//! It prints one line for each event, with its moment on a clock that all processes share, and takes
//! orders on its input, one a line; those on its command line come first.
//!
//! | order | what it does, and says |
//! |---|---|
//! | `lead NAME` | campaigns for the election, again and again: `elected`, `acts`, `lost`, `stopped` |
//! | `hold NAME` | the same for a lock, once, or in turns |
//! | `resign NAME` | ends either: `stopped`, then `resigned` |
//! | `shards KEYSPACE COUNT` | runs the shards that it owns, `KEYSPACE/ID`: as a leader does |
//! | `project KEYSPACE COUNT` | runs the shards, and in each a projection: see `projections` |
//! | `effects KEYSPACE COUNT` | runs the shards, and applies events in each: see `effects` |
//! | `publish TOPIC COUNT` | publishes numbers, counted from 0: `published`, `accepted` |
//! | `subscribe TOPIC` | `subscribed`, `got`, `gap`, `malformed`, `closed` |
//! | `members` | `members`, and all their names, at each change |
//! | `quit` | shuts the node down: `down` |
//!
//! Settings follow an order as `word=value`. Spans are milliseconds.
//!
//! `elected NAME TOKEN LEFT` and `acts NAME TOKEN LEFT` say that at that moment it trusted to hold
//! NAME under TOKEN, and to do so for LEFT more nanoseconds. `stopped NAME TOKEN` says that it acts no
//! more.

#![allow(
    clippy::print_stderr,
    reason = "a command line tells its user how to call it"
)]

mod effects;
mod leases;
mod messages;
mod order;
mod projections;
mod reign;
mod shards;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use coordinator_node::{BoxError, Node};
use coordinator_tests::servers::process::report;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use order::Order;

/// A node that a test starts and gives orders to.
#[derive(Debug, Parser)]
struct Options {
    /// The store, with our own parameters.
    #[arg(long)]
    url: String,
    #[arg(long, default_value = "g")]
    group: String,
    /// Its static name; random without.
    #[arg(long)]
    member: Option<String>,
    /// How long its membership lasts without a heartbeat, and its leases by default.
    #[arg(long, default_value_t = 2_000)]
    ttl: u64,
    /// How long work may take to finish.
    #[arg(long, default_value_t = 2_000)]
    drain: u64,
    /// What to do at first, each in quotes.
    orders: Vec<String>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = say(format_args!("failed {}", chain(&*error)));
            ExitCode::from(if told { 1 } else { 2 })
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let mut builder = Node::builder(options.group)
        .url(options.url)
        .ttl(Duration::from_millis(options.ttl))
        .drain_timeout(Duration::from_millis(options.drain));
    if let Some(member) = options.member {
        builder = builder.member(member);
    }
    let node = builder.start().await?;
    say(format_args!("ready {}", node.id()));
    let mut work = Work {
        node: node.clone(),
        ends: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let mut orders = orders(options.orders);
    while let Some(line) = orders.recv().await {
        if line == "quit" {
            break;
        }
        work.obey(&line)?;
    }
    let down = node.shutdown().await;
    work.tasks.join_all().await;
    match down {
        Ok(()) => say("down"),
        Err(error) => say(format_args!("down {error}")),
    };
    Ok(())
}

/// What is under way.
struct Work {
    node: Node,
    /// Ends what bears a name.
    ends: BTreeMap<String, oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Work {
    fn obey(&mut self, line: &str) -> Result<(), BoxError> {
        let order = Order::parse(line);
        let node = self.node.clone();
        match order.verb() {
            "lead" => {
                let end = self.end_of(order.subject()?);
                self.spawn(leases::lead(node, order, end));
            }
            "hold" => {
                let end = self.end_of(order.subject()?);
                self.spawn(leases::hold(node, order, end));
            }
            "resign" => drop(self.ends.remove(order.subject()?)),
            "shards" => self.spawn(shards::run(node, order)),
            "project" => self.spawn(projections::run(node, order)),
            "effects" => self.spawn(effects::run(node, order)),
            "publish" => self.spawn(messages::publish(node, order)),
            "subscribe" => self.spawn(messages::subscribe(node, order)),
            "members" => self.spawn(members(node)),
            other => return Err(format!("no order is called `{other}`").into()),
        }
        Ok(())
    }

    /// Ends when `resign` says so.
    fn end_of(&mut self, name: &str) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        self.ends.insert(name.to_owned(), end);
        ended
    }

    fn spawn(&mut self, work: impl Future<Output = Result<(), BoxError>> + Send + 'static) {
        self.tasks.spawn(async move {
            if let Err(error) = work.await {
                say(format_args!("error {}", chain(&*error)));
            }
        });
    }
}

/// The orders of the command line, and then those of the input. Its end is none: whoever has started
/// this may have closed it.
fn orders(first: Vec<String>) -> mpsc::UnboundedReceiver<String> {
    let (sender, orders) = mpsc::unbounded_channel();
    let send = move |line| sender.send(line).is_ok();
    std::thread::spawn(move || {
        let typed = io::stdin().lines().map_while(Result::ok);
        for line in first.into_iter().chain(typed) {
            if !send(line) {
                return;
            }
        }
    });
    orders
}

async fn members(node: Node) -> Result<(), BoxError> {
    let mut members = node.members();
    loop {
        let names: Vec<_> = members
            .current()
            .iter()
            .map(|one| one.id.to_string())
            .collect();
        say(format_args!("members {}", names.join(",")));
        if !members.changed().await {
            return Ok(());
        }
    }
}

/// Tells the test. It may be gone: then this process is about to be ended, too.
fn say(text: impl Display) -> bool {
    report(text).is_ok()
}

/// An error and its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}
