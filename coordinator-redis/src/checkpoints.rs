//! Positions of shards, each guarded by the highest token that claimed it.

use std::sync::Arc;

use bytes::Bytes;
use coordinator_core::{
    Checkpoint, CheckpointError, CheckpointStore, FencingToken, Group, Guarantees, Keyspace, Load,
    MAX_POSITION_BYTES, Position, Save, ShardId, StoreId, async_trait, check_keyspace,
};

use crate::client::Value;
use crate::guarantees;
use crate::hub::Hub;
use crate::names::Tag;
use crate::reply::{Read, part, verdict};
use crate::script::Script;
use crate::trouble::Trouble;

static LOAD: Script = Script::plain(
    "checkpoint_load",
    concat!(
        include_str!("../lua/checkpoint_common.lua"),
        include_str!("../lua/checkpoint_load.lua")
    ),
);
static SAVE: Script = Script::plain(
    "checkpoint_save",
    concat!(
        include_str!("../lua/checkpoint_common.lua"),
        include_str!("../lua/checkpoint_save.lua")
    ),
);

/// The hash of a keyspace's positions.
pub(crate) fn checkpoints_key(tag: &Tag, keyspace: &str) -> Bytes {
    tag.key("checkpoints", keyspace)
}

/// The positions of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    hub: Arc<Hub>,
}

impl Checkpoints {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn ask(
        &self,
        script: &'static Script,
        group: &Group,
        keyspace: &Keyspace,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let tag = self.hub.names.tag(group.as_str());
        let keys = [checkpoints_key(&tag, keyspace.as_str())];
        self.hub.run(script, &tag, &keys, args).await
    }

    async fn try_load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, Trouble> {
        let args = vec![shard.to_string().into(), token.to_string().into()];
        let answer = self.ask(&LOAD, group, keyspace, args).await?;
        match verdict(&answer)? {
            ("loaded", parts) => {
                let position = parts.first().map(Read::text).transpose()?;
                Ok(Load::Loaded(position.map(Position::new)))
            }
            ("fenced", parts) => Ok(Load::Fenced {
                by: part(parts, 0)?.token()?,
            }),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_save(&self, checkpoint: &Checkpoint) -> Result<Save, Trouble> {
        check_fits(checkpoint.position.as_str())?;
        let args = vec![
            checkpoint.shard.to_string().into(),
            checkpoint.token.to_string().into(),
            checkpoint.number.to_string().into(),
            checkpoint.position.as_str().to_owned().into(),
        ];
        let (group, keyspace) = (&checkpoint.group, &checkpoint.keyspace);
        let answer = self.ask(&SAVE, group, keyspace, args).await?;
        match verdict(&answer)? {
            ("saved", _) => Ok(Save::Saved),
            ("superseded", _) => Ok(Save::Superseded),
            ("fenced", parts) => Ok(Save::Fenced {
                by: parts.first().map(Read::token).transpose()?,
            }),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }
}

/// Whether a position is short enough to be stored.
pub(crate) fn check_fits(position: &str) -> Result<(), Trouble> {
    match position.len() {
        0..=MAX_POSITION_BYTES => Ok(()),
        bytes => Err(Trouble::rejected(format!(
            "the position has {bytes} bytes, allowed are {MAX_POSITION_BYTES}"
        ))),
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
