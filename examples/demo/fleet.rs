//! The nodes: each a member of its own, on one store, in this process.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use coordinator_memory::{Link, MemoryStore};
use coordinator_node::{Node, RunError, ShardConfig};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::state::{Phase, Tone};
use crate::work;
use crate::world::World;

pub(crate) const GROUP: &str = "demo";
pub(crate) const KEYSPACE: &str = "commits";

/// How long a member lives without a heartbeat.
pub(crate) const TTL: Duration = Duration::from_secs(6);

/// How long a message between a node and the store takes: so that writes can be under way.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(5);

/// How long a node may take to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// How long all nodes together may take to leave in the end.
const LEAVING: Duration = Duration::from_mins(1);

/// The nodes of this run.
pub(crate) struct Fleet {
    world: World,
    store: MemoryStore,
    shards: NonZeroU16,
    running: BTreeMap<String, Running>,
    leaving: Vec<JoinHandle<()>>,
    /// How many names have been given.
    named: usize,
}

/// One node that runs.
struct Running {
    /// Tells it to leave.
    leave: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Fleet {
    pub(crate) fn new(world: World, store: MemoryStore, shards: NonZeroU16) -> Self {
        Self {
            world,
            store,
            shards,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            named: 0,
        }
    }

    /// Starts a node under a new name, and returns it.
    pub(crate) fn start_new(&mut self) -> String {
        self.named += 1;
        let name = format!("node-{}", self.named);
        self.start(&name);
        name
    }

    /// Starts a node, again or for the first time.
    pub(crate) fn start(&mut self, name: &str) {
        self.world.enters(name, Phase::Joining);
        self.link(name).delay(LATENCY);
        let leave = Arc::new(Notify::new());
        let serve = Serve {
            world: self.world.clone(),
            store: self.store.clone(),
            shards: self.shards,
            name: name.into(),
        };
        let task = tokio::spawn(serve.run(leave.clone()));
        self.running
            .insert(name.to_owned(), Running { leave, task });
    }

    /// Tells a node to finish and leave. It does so in its own time.
    pub(crate) fn leave(&mut self, name: &str) {
        if let Some(running) = self.running.remove(name) {
            running.leave.notify_one();
            self.leaving.push(running.task);
        }
    }

    /// Ends a node's process, as `kill -9` would.
    pub(crate) fn crash(&mut self, name: &str) {
        self.link(name).crash();
        if let Some(running) = self.running.remove(name) {
            running.task.abort();
        }
    }

    /// The line between a node and the store, and the node's processor.
    pub(crate) fn link(&self, name: &str) -> Link {
        self.store.link(name)
    }

    /// Lets all nodes finish and leave, and waits until they have; not for ever.
    pub(crate) async fn end(mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in &names {
            self.leave(name);
        }
        let deadline = Instant::now() + LEAVING;
        for task in self.leaving {
            match timeout_at(deadline, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.world.violated(format!("a node panicked: {error}")),
                Err(_) => self
                    .world
                    .violated(format!("a node did not end in {LEAVING:?}")),
            }
        }
    }
}

/// What one node needs to run.
struct Serve {
    world: World,
    store: MemoryStore,
    shards: NonZeroU16,
    name: Arc<str>,
}

impl Serve {
    async fn run(self, leave: Arc<Notify>) {
        let Self { world, name, .. } = &self;
        match self.serve(leave).await {
            Ok(()) => {
                world.enters(name, Phase::Left);
                world.tell(Tone::Plain, format!("{name} has left"));
            }
            Err(error) => world.violated(format!("{name} ended: {error:#}")),
        }
    }

    async fn serve(&self, leave: Arc<Notify>) -> anyhow::Result<()> {
        let node = Node::builder(GROUP)
            .member(&*self.name)
            .backend(self.store.connect(&*self.name))
            .ttl(TTL)
            .drain_timeout(DRAIN)
            .shutdown_on(async move { leave.notified().await })
            .start()
            .await?;
        self.world.enters(&self.name, Phase::Live);
        self.world.tell(Tone::Good, format!("{} joins", self.name));
        self.run_shards(&node).await?;
        self.world.enters(&self.name, Phase::Leaving);
        Ok(node.shutdown().await?)
    }

    /// Works on whatever shards are this node's, until the node is to leave.
    async fn run_shards(&self, node: &Node) -> Result<(), RunError> {
        let (world, name) = (self.world.clone(), self.name.clone());
        let config = ShardConfig::new(KEYSPACE, self.shards.get()).drain_timeout(DRAIN);
        node.run_shards(config, move |shard| {
            work::fold(shard, world.clone(), name.clone())
        })
        .await
    }
}
