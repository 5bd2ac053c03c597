//! Watches the store from outside: who plans, and how shards are assigned; and tries the late
//! writes of members that were stopped.

use std::time::Duration;

use anyhow::Context;
use coordinator_node::core::{Document, Slot, StoredDocument};
use coordinator_node::{Backend, Group, Key, Keyspace, ShardId};
use tokio::time::sleep;

use crate::fleet::{GROUP, KEYSPACE};
use crate::ledger::Ledger;
use crate::state::{Tone, counted};
use crate::witness::Letter;
use crate::world::World;

/// How often it looks at what it is told of.
const POLL: Duration = Duration::from_secs(1);

/// What the fleet writes to.
pub(crate) trait Store: Send + Sync + 'static {
    /// A connection of the observer's own.
    fn backend(&self) -> &Backend;

    /// Writes as a stopped member may have, whose write the network delivers only now. Says whether
    /// that was accepted, which it must not be.
    fn write_late(&self, letter: &Letter) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// What is kept in the end, shard by shard. Nobody can write after it.
    fn ledgers(&self, shards: usize) -> impl Future<Output = anyhow::Result<Vec<Ledger>>> + Send;
}

/// An observer.
pub(crate) struct Watch<S> {
    world: World,
    store: S,
    /// How often it looks at what nobody tells it.
    look: Duration,
    group: Group,
    keyspace: Keyspace,
}

impl<S: Store> Watch<S> {
    pub(crate) fn new(world: World, store: S, look: Duration) -> Self {
        Self {
            world,
            store,
            look,
            group: GROUP.into(),
            keyspace: KEYSPACE.into(),
        }
    }

    /// Looks for ever.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        tokio::try_join!(self.follow_documents(), self.look_around()).map(drop)
    }

    async fn look_around(&self) -> anyhow::Result<()> {
        loop {
            self.see_planner().await?;
            self.send_letters().await?;
            sleep(self.look).await;
        }
    }

    /// Sees every document: the store tells of each change, and answers us at once.
    async fn follow_documents(&self) -> anyhow::Result<()> {
        let store = self.store.backend().assignments.as_ref();
        let store = store.context("the store keeps assignments")?;
        let mut known = None;
        loop {
            if let Some(stored) = store.load(&self.group, &self.keyspace).await?
                && known != Some(stored.epoch)
            {
                known = Some(stored.epoch);
                self.see_document(&stored)?;
            }
            tokio::select! {
                biased;
                changed = store.changed(&self.group, &self.keyspace, known) => changed?,
                () = sleep(POLL) => {}
            }
        }
    }

    fn see_document(&self, stored: &StoredDocument) -> anyhow::Result<()> {
        let document = Document::decode(stored.epoch, &stored.document)?;
        let mut record = self.world.record();
        let before = record.moves.moved();
        record.moves.see(&document);
        let moved = record.moves.moved() - before;
        let draining = |slot: &Slot| matches!(slot, Slot::Revoking { .. });
        record.draining = document.slots.iter().map(draining).collect();
        drop(record);
        if moved > 0 {
            let text = format!("new plan: {} to move", counted(moved, "shard"));
            self.world.tell(Tone::Plain, text);
        }
        Ok(())
    }

    async fn see_planner(&self) -> anyhow::Result<()> {
        let Some(locks) = &self.store.backend().locks else {
            return Ok(());
        };
        let key = Key::scoped(&self.group, "planner", KEYSPACE);
        let holder = locks.holder(&key).await?;
        let planner = holder.map(|holder| (holder.owner.to_string(), holder.token.get()));
        let mut record = self.world.record();
        if record.planner == planner {
            return Ok(());
        }
        record.planner.clone_from(&planner);
        let Some((name, _)) = planner else {
            return Ok(());
        };
        record.terms.push(name.clone());
        drop(record);
        self.world.tell(Tone::Plain, format!("{name} plans now"));
        Ok(())
    }

    /// A stopped member may have sent a write that the network delivers only now. It carries a
    /// token that was right once, and would wipe out what has been folded since.
    async fn send_letters(&self) -> anyhow::Result<()> {
        let letters = self.world.record().witness.letters();
        for letter in letters {
            let accepted = self.store.write_late(&letter).await?;
            let mut record = self.world.record();
            record.witness.letter_answered(&letter, !accepted);
        }
        Ok(())
    }

    /// What the store holds in the end, shard by shard.
    pub(crate) async fn ledgers(&self) -> anyhow::Result<Vec<Ledger>> {
        let shards = self.world.record().draining.len();
        self.store.ledgers(shards).await
    }
}

pub(crate) fn shard_id(shard: usize) -> anyhow::Result<ShardId> {
    Ok(ShardId::new(u16::try_from(shard)?))
}
