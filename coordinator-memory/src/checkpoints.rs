//! Positions of shards, each guarded by the highest token that claimed it.

use std::collections::BTreeMap;

use coordinator_core::{
    Checkpoint, FencingToken, Group, Keyspace, Load, MAX_POSITION_BYTES, Position, Save, ShardId,
};

use crate::refusal::Refusal;

/// All positions. One a shard, for ever: clause 6 wants it so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checkpoints {
    rows: BTreeMap<(Group, Keyspace, ShardId), Row>,
}

#[derive(Debug, Clone)]
struct Row {
    /// The highest token that has claimed the shard (C2).
    fence: FencingToken,
    /// The number of the last save under that token.
    number: Option<u64>,
    position: Option<Position>,
}

impl Checkpoints {
    /// Claims the shard for a token, and reads (C1).
    pub(crate) fn load(
        &mut self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Load {
        let place = (group.clone(), keyspace.clone(), shard);
        let row = self.rows.entry(place).or_insert(Row {
            fence: token,
            number: None,
            position: None,
        });
        if token < row.fence {
            return Load::Fenced { by: row.fence };
        }
        row.claim(token);
        Load::Loaded(row.position.clone())
    }

    /// Stores a position, unless its token is no longer the highest.
    pub(crate) fn save(&mut self, checkpoint: &Checkpoint) -> Result<Save, Refusal> {
        check(checkpoint)?;
        let place = (
            checkpoint.group.clone(),
            checkpoint.keyspace.clone(),
            checkpoint.shard,
        );
        let Some(row) = self.rows.get_mut(&place) else {
            // Nobody has claimed it, as far as is known: after a loss of memory that may be
            // wrong, and the asker may be an old owner.
            return Ok(Save::Fenced { by: None });
        };
        if checkpoint.token < row.fence {
            let by = Some(row.fence);
            return Ok(Save::Fenced { by });
        }
        row.claim(checkpoint.token);
        Ok(row.save(checkpoint.number, &checkpoint.position))
    }
}

impl Row {
    fn claim(&mut self, token: FencingToken) {
        if token > self.fence {
            self.fence = token;
            self.number = None;
        }
    }

    fn save(&mut self, number: u64, position: &Position) -> Save {
        match self.number {
            Some(last) if number == last && self.position.as_ref() == Some(position) => Save::Saved,
            Some(last) if number <= last => Save::Superseded,
            Some(_) | None => {
                self.number = Some(number);
                self.position = Some(position.clone());
                Save::Saved
            }
        }
    }
}

fn check(checkpoint: &Checkpoint) -> Result<(), Refusal> {
    checkpoint.group.check().map_err(Refusal::rejected)?;
    checkpoint.keyspace.check().map_err(Refusal::rejected)?;
    let bytes = checkpoint.position.as_str().len();
    if bytes > MAX_POSITION_BYTES {
        return Err(Refusal::rejected(format!(
            "the position has {bytes} bytes, allowed are {MAX_POSITION_BYTES}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rows: &mut Checkpoints, token: u64) -> Load {
        let shard = ShardId::new(3);
        rows.load(
            &"g".into(),
            &"orders".into(),
            shard,
            FencingToken::new(token),
        )
    }

    fn save(rows: &mut Checkpoints, token: u64, number: u64, position: &str) -> Save {
        let token = FencingToken::new(token);
        let shard = ShardId::new(3);
        let position = Position::new(position);
        let checkpoint =
            Checkpoint::new("g".into(), "orders".into(), shard, token, position).number(number);
        rows.save(&checkpoint).unwrap()
    }

    /// C1, H14: the new owner's load shuts the old one out, before the new one saves anything.
    #[test]
    fn a_load_fences_the_older_owner_off() {
        let mut rows = Checkpoints::default();
        assert_eq!(load(&mut rows, 5), Load::Loaded(None));
        assert_eq!(save(&mut rows, 5, 1, "ten"), Save::Saved);
        let ten = Some(Position::new("ten"));
        assert_eq!(load(&mut rows, 6), Load::Loaded(ten.clone()));
        let by = FencingToken::new(6);
        assert_eq!(
            save(&mut rows, 5, 2, "eleven"),
            Save::Fenced { by: Some(by) }
        );
        assert_eq!(load(&mut rows, 5), Load::Fenced { by });
        assert_eq!(load(&mut rows, 6), Load::Loaded(ten));
    }

    /// Clause 3: a delayed duplicate moves nothing back.
    #[test]
    fn an_earlier_save_of_the_same_token_is_superseded() {
        let mut rows = Checkpoints::default();
        load(&mut rows, 5);
        assert_eq!(save(&mut rows, 5, 2, "b"), Save::Saved);
        assert_eq!(save(&mut rows, 5, 1, "a"), Save::Superseded);
        assert_eq!(save(&mut rows, 5, 2, "b"), Save::Saved);
        assert_eq!(save(&mut rows, 5, 2, "c"), Save::Superseded);
        assert_eq!(load(&mut rows, 5), Load::Loaded(Some(Position::new("b"))));
    }

    /// Clause 4: a save with a higher token claims; where nobody ever claimed it is refused.
    #[test]
    fn a_save_claims_as_a_load_does_but_not_an_unclaimed_shard() {
        let mut rows = Checkpoints::default();
        assert_eq!(save(&mut rows, 5, 1, "a"), Save::Fenced { by: None });
        load(&mut rows, 5);
        assert_eq!(save(&mut rows, 5, 9, "a"), Save::Saved);
        assert_eq!(save(&mut rows, 6, 1, "b"), Save::Saved);
        let by = Some(FencingToken::new(6));
        assert_eq!(save(&mut rows, 5, 10, "c"), Save::Fenced { by });
    }

    /// Clauses 5 and 7.
    #[test]
    fn shards_are_apart_and_positions_are_bounded() {
        let mut rows = Checkpoints::default();
        load(&mut rows, 5);
        save(&mut rows, 5, 1, "a");
        let token = FencingToken::new(1);
        let (group, keyspace) = ("g".into(), "orders".into());
        let other = rows.load(&group, &keyspace, ShardId::new(4), token);
        assert_eq!(other, Load::Loaded(None));
        let mut long = Checkpoint::new(
            group,
            keyspace,
            ShardId::new(4),
            token,
            Position::new("x".repeat(MAX_POSITION_BYTES + 1)),
        );
        assert!(matches!(rows.save(&long), Err(Refusal::Rejected(_))));
        long.position = Position::new("x".repeat(MAX_POSITION_BYTES));
        assert_eq!(rows.save(&long).unwrap(), Save::Saved);
    }
}
