//! Positions of shards, each guarded by the highest token that claimed it: one statement each.

use std::sync::Arc;

use coordinator_core::{
    Checkpoint, CheckpointError, CheckpointStore, FencingToken, Group, Guarantees, Keyspace, Load,
    MAX_POSITION_BYTES, Position, Save, ShardId, StoreId, async_trait, check_keyspace,
};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::assignments::keyspace_id;
use crate::guarantees;
use crate::hub::Hub;
use crate::trouble::{Trouble, unsigned};
use crate::turns::Turns;

const LOAD: &str =
    "select busy, fenced_by, saved from {schema}.load_checkpoint($1, $2, $3, $4, $5)";
const ANNOUNCE: &str = "select {schema}.announce_claim($1, $2, $3)";
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
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&keyspace_id(group, keyspace), Type::UUID),
            (&i32::from(shard.get()), Type::INT4),
            (&group.as_str(), Type::TEXT),
            (&keyspace.as_str(), Type::TEXT),
            (&i64::from(token), Type::INT8),
        ];
        let mut turns = Turns::default();
        loop {
            let row = self.ask(LOAD, &parameters).await?;
            if let Some(by) = row.try_get::<_, Option<i64>>(1)? {
                let by = FencingToken::new(unsigned(by));
                return Ok(Load::Fenced { by });
            }
            if !row.try_get::<_, bool>(0)? {
                let saved: Option<&str> = row.try_get(2)?;
                return Ok(Load::Loaded(saved.map(Position::new)));
            }
            if turns.is_first() {
                let announced = [
                    (parameters[0].0, Type::UUID),
                    (parameters[1].0, Type::INT4),
                    (parameters[4].0, Type::INT8),
                ];
                self.ask(ANNOUNCE, &announced).await?;
            }
            turns.pass().await;
        }
    }

    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Trouble> {
        let rows = self.hub.call(&self.hub.sql(statement), parameters).await?;
        let row = rows.into_iter().next();
        row.ok_or_else(|| Trouble::unreadable("nothing"))
    }

    async fn try_save(&self, checkpoint: &Checkpoint) -> Result<Save, Trouble> {
        check_keyspace(&checkpoint.group, &checkpoint.keyspace).map_err(Trouble::rejected)?;
        fits(&checkpoint.position).map_err(Trouble::rejected)?;
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
        let mut turns = Turns::default();
        loop {
            let row = self.ask(SAVE, &parameters).await?;
            let by: Option<i64> = row.try_get(1)?;
            match row.try_get(0)? {
                "saved" => return Ok(Save::Saved),
                "superseded" => return Ok(Save::Superseded),
                "fenced" => {
                    let by = by.map(|by| FencingToken::new(unsigned(by)));
                    return Ok(Save::Fenced { by });
                }
                "busy" => turns.pass().await,
                other => return Err(Trouble::unreadable(other)),
            }
        }
    }
}

/// Whether a position is short enough to be stored.
pub(crate) fn fits(position: &Position) -> Result<(), String> {
    match position.as_str().len() {
        0..=MAX_POSITION_BYTES => Ok(()),
        bytes => Err(format!(
            "the position has {bytes} bytes, allowed are {MAX_POSITION_BYTES}"
        )),
    }
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

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.hub)
    }
}
