//! Positions of shards, each guarded by the highest token that claimed it: one statement each.

use std::sync::Arc;

use coordinator_core::{
    Checkpoint, CheckpointError, CheckpointStore, FencingToken, Group, Keyspace, Load,
    MAX_POSITION_BYTES, Position, Save, ShardId, StoreId, async_trait,
};
use tokio_postgres::types::{ToSql, Type};

use crate::assignments::keyspace_id;
use crate::hub::Hub;
use crate::trouble::{Trouble, check_group_and_keyspace, unsigned};

const LOAD: &str = "select fenced_by, saved from {schema}.load_checkpoint($1, $2, $3, $4, $5)";
const SAVE: &str =
    "select verdict, fenced_by from {schema}.save_checkpoint($1, $2, $3, $4, $5, $6, $7)";

/// The positions of a schema.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    hub: Arc<Hub>,
}

impl Checkpoints {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn try_load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, Trouble> {
        check_group_and_keyspace(group, keyspace)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&keyspace_id(group, keyspace), Type::UUID),
            (&i32::from(shard.get()), Type::INT4),
            (&group.as_str(), Type::TEXT),
            (&keyspace.as_str(), Type::TEXT),
            (&i64::from(token), Type::INT8),
        ];
        let rows = self.hub.call(&self.hub.sql(LOAD), &parameters).await?;
        let row = rows.first().ok_or_else(|| Trouble::unreadable("nothing"))?;
        if let Some(by) = row.try_get::<_, Option<i64>>(0)? {
            let by = FencingToken::new(unsigned(by));
            return Ok(Load::Fenced { by });
        }
        let saved: Option<&str> = row.try_get(1)?;
        Ok(Load::Loaded(saved.map(Position::new)))
    }

    async fn try_save(&self, checkpoint: &Checkpoint) -> Result<Save, Trouble> {
        check_group_and_keyspace(&checkpoint.group, &checkpoint.keyspace)?;
        check_size(&checkpoint.position)?;
        let number = i64::try_from(checkpoint.number).unwrap_or(i64::MAX);
        let id = keyspace_id(&checkpoint.group, &checkpoint.keyspace);
        let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
            (&id, Type::UUID),
            (&i32::from(checkpoint.shard.get()), Type::INT4),
            (&checkpoint.group.as_str(), Type::TEXT),
            (&checkpoint.keyspace.as_str(), Type::TEXT),
            (&i64::from(checkpoint.token), Type::INT8),
            (&number, Type::INT8),
            (&checkpoint.position.as_str(), Type::TEXT),
        ];
        let rows = self.hub.call(&self.hub.sql(SAVE), &parameters).await?;
        let row = rows.first().ok_or_else(|| Trouble::unreadable("nothing"))?;
        let by: Option<i64> = row.try_get(1)?;
        Ok(match row.try_get(0)? {
            "saved" => Save::Saved,
            "superseded" => Save::Superseded,
            "fenced" => Save::Fenced {
                by: by.map(|by| FencingToken::new(unsigned(by))),
            },
            other => return Err(Trouble::unreadable(other)),
        })
    }
}

pub(crate) fn check_size(position: &Position) -> Result<(), Trouble> {
    let bytes = position.as_str().len();
    if bytes > MAX_POSITION_BYTES {
        return Err(Trouble::rejected(format!(
            "the position has {bytes} bytes, allowed are {MAX_POSITION_BYTES}"
        )));
    }
    Ok(())
}

#[async_trait]
impl CheckpointStore for Checkpoints {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, CheckpointError> {
        let load = self.try_load(group, keyspace, shard, token).await;
        load.map_err(|trouble| trouble.of_checkpoint("load", keyspace))
    }

    async fn save(&self, checkpoint: &Checkpoint) -> Result<Save, CheckpointError> {
        let save = self.try_save(checkpoint).await;
        save.map_err(|trouble| trouble.of_checkpoint("save", &checkpoint.keyspace))
    }

    fn store(&self) -> StoreId {
        self.hub.store.clone()
    }
}
