//! Watches the store from outside: who plans, and how shards are assigned; and tries the late
//! writes of members that were stopped.

use std::time::Duration;

use anyhow::Context;
use coordinator_node::core::{
    Checkpoint, Document, Load, NUMBER_LIMIT, Save, Slot, StoredDocument,
};

use coordinator_node::{Backend, FencingToken, Group, Key, Keyspace, Position, ShardId};
use tokio::time::sleep;

use crate::fleet::{GROUP, KEYSPACE};
use crate::ledger::Ledger;
use crate::state::{Tone, counted};
use crate::witness::Letter;
use crate::world::World;

/// How often it looks at what nobody tells it.
const LOOK: Duration = Duration::from_millis(10);

/// How often it looks at what it is told of.
const POLL: Duration = Duration::from_secs(1);

/// An observer with a line of its own to the store, on which nothing ever goes wrong.
pub(crate) struct Watch {
    world: World,
    backend: Backend,
    group: Group,
    keyspace: Keyspace,
}

impl Watch {
    pub(crate) fn new(world: World, backend: Backend) -> Self {
        Self {
            world,
            backend,
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
            sleep(LOOK).await;
        }
    }

    /// Sees every document: the store tells of each change, and answers us at once.
    async fn follow_documents(&self) -> anyhow::Result<()> {
        let store = self.backend.assignments.as_ref();
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
        let Some(locks) = &self.backend.locks else {
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
            let refused = self.send(&letter).await?;
            self.world
                .record()
                .witness
                .letter_answered(&letter, refused);
        }
        Ok(())
    }

    async fn send(&self, letter: &Letter) -> anyhow::Result<bool> {
        let Some(store) = &self.backend.checkpoints else {
            return Ok(false);
        };
        let late = Checkpoint::new(
            self.group.clone(),
            self.keyspace.clone(),
            shard_id(letter.shard)?,
            letter.token,
            Position::new(Ledger::new().to_string()),
        );
        // Numbered higher than any save: so that it is the token that stops it.
        let answer = store.save(&late.number(NUMBER_LIMIT - 1)).await?;
        Ok(matches!(answer, Save::Fenced { by: Some(by) } if by > letter.token))
    }

    /// What the store holds in the end, shard by shard.
    pub(crate) async fn ledgers(&self, shards: usize) -> anyhow::Result<Vec<Ledger>> {
        let mut ledgers = Vec::with_capacity(shards);
        for shard in 0..shards {
            ledgers.push(self.ledger(shard_id(shard)?).await?);
        }
        Ok(ledgers)
    }

    async fn ledger(&self, shard: ShardId) -> anyhow::Result<Ledger> {
        let Some(store) = &self.backend.checkpoints else {
            return Ok(Ledger::new());
        };
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

fn shard_id(shard: usize) -> anyhow::Result<ShardId> {
    Ok(ShardId::new(u16::try_from(shard)?))
}
