//! A worker's connection to a checkpoint store, which takes no error for an answer.

use std::sync::Arc;

use coordinator_core::{
    Checkpoint, CheckpointStore, FencingToken, Group, Keyspace, Load, Position, Save, ShardId,
};

use crate::lab::Lab;
use crate::report::{Stop, Verdict, require_eq};

pub(crate) type Checkpoints = Lab<dyn CheckpointStore>;

/// A connection that works on one shard.
pub(crate) struct Worker<'a> {
    pub(crate) lab: &'a Checkpoints,
    pub(crate) store: Arc<dyn CheckpointStore>,
    pub(crate) group: Group,
    pub(crate) keyspace: Keyspace,
    pub(crate) shard: ShardId,
}

impl Checkpoints {
    pub(crate) async fn worker(&self) -> Result<Worker<'_>, Stop> {
        Ok(self.worker_on(self.connect().await?))
    }

    pub(crate) fn worker_on(&self, store: Arc<dyn CheckpointStore>) -> Worker<'_> {
        Worker {
            lab: self,
            store,
            group: "fleet".into(),
            keyspace: "orders".into(),
            shard: ShardId::new(7),
        }
    }
}

/// An answer of `load` that says there is this position.
pub(crate) fn loaded(position: Option<&str>) -> Load {
    Load::Loaded(position.map(Position::new))
}

/// An answer of `load` that says a higher token has claimed the shard.
pub(crate) fn load_fenced(by: u64) -> Load {
    Load::Fenced {
        by: FencingToken::new(by),
    }
}

/// An answer of `save` that says who has claimed the shard.
pub(crate) fn save_fenced(by: Option<u64>) -> Save {
    Save::Fenced {
        by: by.map(FencingToken::new),
    }
}

impl Worker<'_> {
    pub(crate) fn checkpoint(&self, token: u64, number: u64, position: &str) -> Checkpoint {
        Checkpoint::new(
            self.group.clone(),
            self.keyspace.clone(),
            self.shard,
            FencingToken::new(token),
            Position::new(position),
        )
        .number(number)
    }

    pub(crate) async fn load(&self, token: u64) -> Result<Load, Stop> {
        let token = FencingToken::new(token);
        let asked = self
            .store
            .load(&self.group, &self.keyspace, self.shard, token);
        self.lab.answer("load", asked).await
    }

    /// Loads, and demands this answer.
    pub(crate) async fn load_is(&self, token: u64, wanted: Load, why: &str) -> Verdict {
        let answer = self.load(token).await?;
        require_eq(
            &format!("`load` with token {token}, where {why}"),
            &answer,
            &wanted,
        )
    }

    pub(crate) async fn save(&self, token: u64, number: u64, position: &str) -> Result<Save, Stop> {
        let checkpoint = self.checkpoint(token, number, position);
        self.lab.answer("save", self.store.save(&checkpoint)).await
    }

    /// Saves `position` as the `number`th under `token`, and demands this answer.
    pub(crate) async fn save_is(
        &self,
        (token, number, position): (u64, u64, &str),
        wanted: Save,
        why: &str,
    ) -> Verdict {
        let answer = self.save(token, number, position).await?;
        let what = format!("`save` {number} with token {token}, where {why}");
        require_eq(&what, &answer, &wanted)
    }

    /// Saves what must be stored.
    pub(crate) async fn saved(&self, token: u64, number: u64, position: &str) -> Verdict {
        let save = (token, number, position);
        self.save_is(save, Save::Saved, "the shard is claimed for it")
            .await
    }
}
