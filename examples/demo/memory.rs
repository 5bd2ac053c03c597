//! A run in this process: nodes that are tasks, on one store of the memory backend.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use coordinator_memory::{Link, MemoryStore};
use coordinator_node::core::{Checkpoint, Load, NUMBER_LIMIT, Save};
use coordinator_node::{
    Backend, FencingToken, Group, Keyspace, Node, Position, RunError, ShardConfig, ShardId,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::faults::Fault;
use crate::fleet::{Fleet, GROUP, KEYSPACE};
use crate::ledger::Ledger;
use crate::state::{Phase, Tone};
use crate::watch::{Store, shard_id};
use crate::witness::Letter;
use crate::work;
use crate::world::World;

/// How long a member lives without a heartbeat.
pub(crate) const TTL: Duration = Duration::from_secs(6);

/// How long a message between a node and the store takes: so that writes can be under way.
const LATENCY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(5);

/// How long a node may take to leave.
const DRAIN: Duration = Duration::from_secs(5);

/// How long all nodes together may take to leave in the end.
const LEAVING: Duration = Duration::from_mins(1);

/// The nodes of a run, each a task.
pub(crate) struct Tasks {
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

impl Tasks {
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

    /// The line between a node and the store, and the node's processor.
    fn link(&self, name: &str) -> Link {
        self.store.link(name)
    }

    /// Tells a node to finish and leave. It does so in its own time.
    fn leave(&mut self, name: &str) {
        if let Some(running) = self.running.remove(name) {
            running.leave.notify_one();
            self.leaving.push(running.task);
        }
    }

    /// From now on the node serves nobody; what it has sent may arrive late.
    fn stop(&self, name: &str) {
        let now = self.world.now();
        let mut record = self.world.record();
        record.witness.may_write_late(name);
        record.witness.stopped(now, name);
    }
}

impl Fleet for Tasks {
    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("node-{}", self.named)
    }

    fn start(&mut self, name: &str) {
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

    fn suffer(&mut self, name: &str, fault: Fault) {
        match fault {
            Fault::Join => {}
            Fault::Leave => self.leave(name),
            Fault::Crash => {
                self.stop(name);
                self.link(name).crash();
                if let Some(running) = self.running.remove(name) {
                    running.task.abort();
                }
            }
            Fault::Pause => {
                self.stop(name);
                self.link(name).pause();
            }
            Fault::Cut => {
                self.world.record().witness.may_write_late(name);
                self.link(name).cut();
            }
        }
    }

    fn mend(&mut self, name: &str, fault: Fault) {
        match fault {
            Fault::Join | Fault::Leave => {}
            Fault::Crash => self.start(name),
            Fault::Pause => self.link(name).resume(),
            Fault::Cut => self.link(name).heal(),
        }
    }

    async fn end(mut self) {
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

/// What the store keeps, over a line on which nothing ever goes wrong.
pub(crate) struct Checkpoints {
    backend: Backend,
    group: Group,
    keyspace: Keyspace,
}

impl Checkpoints {
    pub(crate) fn of(store: &MemoryStore) -> Self {
        Self {
            backend: store.connect("observer"),
            group: GROUP.into(),
            keyspace: KEYSPACE.into(),
        }
    }

    async fn ledger(&self, shard: ShardId) -> anyhow::Result<Ledger> {
        let store = self.backend.checkpoints.as_ref();
        let store = store.context("the store keeps checkpoints")?;
        // The last claim of all: nobody can write after it.
        let token = FencingToken::new(NUMBER_LIMIT - 1);
        match store
            .load(&self.group, &self.keyspace, shard, token)
            .await?
        {
            Load::Loaded(None) => Ok(Ledger::new()),
            Load::Loaded(Some(position)) => Ok(position.as_str().parse()?),
            Load::Fenced { by } => anyhow::bail!("shard {shard} is fenced by {by}"),
        }
    }
}

impl Store for Checkpoints {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    async fn write_late(&self, letter: &Letter) -> anyhow::Result<bool> {
        let store = self.backend.checkpoints.as_ref();
        let store = store.context("the store keeps checkpoints")?;
        let late = Checkpoint::new(
            self.group.clone(),
            self.keyspace.clone(),
            shard_id(letter.shard)?,
            letter.token,
            Position::new(Ledger::new().to_string()),
        );
        // Numbered higher than any save: so that it is the token that stops it.
        let answer = store.save(&late.number(NUMBER_LIMIT - 1)).await?;
        Ok(!matches!(answer, Save::Fenced { by: Some(by) } if by > letter.token))
    }

    async fn ledgers(&self, shards: usize) -> anyhow::Result<Vec<Ledger>> {
        let mut ledgers = Vec::with_capacity(shards);
        for shard in 0..shards {
            ledgers.push(self.ledger(shard_id(shard)?).await?);
        }
        Ok(ledgers)
    }
}
