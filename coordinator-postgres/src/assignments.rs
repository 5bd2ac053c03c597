//! One document for each keyspace, replaced by compare-and-swap in one statement.

use std::sync::Arc;

use coordinator_core::{
    AssignmentError, AssignmentStore, Bytes, Document, Epoch, FencingToken, Group, Guarantees,
    Keyspace, Lead, StoreId, StoredDocument, Swap, Swapped, async_trait, check_keyspace, scoped,
};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::bells::Bell;
use crate::guarantees;
use crate::hub::Hub;
use crate::members::{group_id, member_id};
use crate::names::id_of;
use crate::trouble::{Trouble, unsigned};

const LOAD: &str = "select epoch, document from {schema}.assignment \
    where id = $1 and group_name = $2 and keyspace = $3";
const EPOCH: &str = "select epoch from {schema}.assignment where id = $1";
const LEAD: &str = "select fenced_by, epoch, document from {schema}.lead($1, $2, $3, $4, $5)";
const SWAP: &str = "select verdict, number, living \
    from {schema}.swap($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// The id of a keyspace's rows, and of its bell.
pub(crate) fn keyspace_id(group: &Group, keyspace: &Keyspace) -> Uuid {
    id_of("keyspace", &scoped(group, "keyspace", keyspace.as_str()))
}

/// The documents of a schema.
#[derive(Debug, Clone)]
pub(crate) struct Assignments {
    hub: Arc<Hub>,
}

impl Assignments {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn call(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Trouble> {
        Ok(self.hub.call(&self.hub.sql(statement), parameters).await?)
    }

    async fn try_load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, Trouble> {
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&keyspace_id(group, keyspace), Type::UUID),
            (&group.as_str(), Type::TEXT),
            (&keyspace.as_str(), Type::TEXT),
        ];
        let rows = self.call(LOAD, &parameters).await?;
        rows.first().map_or(Ok(None), |row| stored(row, 0))
    }

    async fn try_lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, Trouble> {
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&keyspace_id(group, keyspace), Type::UUID),
            (&group_id(group), Type::UUID),
            (&group.as_str(), Type::TEXT),
            (&keyspace.as_str(), Type::TEXT),
            (&i64::from(token), Type::INT8),
        ];
        let rows = self.call(LEAD, &parameters).await?;
        let row = rows.first().ok_or_else(|| Trouble::unreadable("nothing"))?;
        Ok(match row.try_get::<_, Option<i64>>(0)? {
            Some(token) => Lead::Fenced {
                by: FencingToken::new(unsigned(token)),
            },
            None => Lead::Led(stored(row, 1)?),
        })
    }

    async fn try_swap(&self, swap: &Swap) -> Result<Swapped, Trouble> {
        swap.check().map_err(Trouble::rejected)?;
        let named = Named::of(&swap.document);
        let ended = swap.ended.iter();
        let ended: Vec<Uuid> = ended.map(|(member, _)| member_id(member)).collect();
        let lives = swap.ended.iter();
        let lives: Vec<i64> = lives.map(|(_, life)| i64::from(*life)).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 12] = [
            (&keyspace_id(&swap.group, &swap.keyspace), Type::UUID),
            (&group_id(&swap.group), Type::UUID),
            (&swap.group.as_str(), Type::TEXT),
            (&swap.keyspace.as_str(), Type::TEXT),
            (&i64::from(swap.token), Type::INT8),
            (&swap.expected.map(i64::from), Type::INT8),
            (&swap.floor.map(i64::from), Type::INT8),
            (&swap.document.as_ref(), Type::BYTEA),
            (&named.members, Type::TEXT_ARRAY),
            (&named.lives, Type::INT8_ARRAY),
            (&ended, Type::UUID_ARRAY),
            (&lives, Type::INT8_ARRAY),
        ];
        let rows = self.call(SWAP, &parameters).await?;
        let row = rows.first().ok_or_else(|| Trouble::unreadable("nothing"))?;
        swapped(row, swap)
    }

    /// The bell is listened for first, so that no change falls between the look and the wait.
    async fn try_changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), Trouble> {
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let id = keyspace_id(group, keyspace);
        let mut hearing = self.hub.bells.listen(Bell::Assignment, &id.to_string());
        while self.epoch(&id).await? == known {
            hearing.rung().await;
        }
        Ok(())
    }

    async fn epoch(&self, id: &Uuid) -> Result<Option<Epoch>, Trouble> {
        let rows = self.call(EPOCH, &[(id, Type::UUID)]).await?;
        let epoch: Option<i64> = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        Ok(epoch.map(|epoch| Epoch::new(unsigned(epoch))))
    }
}

/// The lives that a document names, so that their tombstones stay (G7). A document that is none of
/// ours names nobody, as far as is known.
#[derive(Debug, Default)]
struct Named {
    members: Vec<String>,
    lives: Vec<i64>,
}

impl Named {
    fn of(document: &Bytes) -> Self {
        let lives = Document::decode(Epoch::new(0), document).map(|read| read.members);
        let lives = lives.unwrap_or_default();
        Self {
            members: lives.iter().map(|(id, _)| id.as_str().to_owned()).collect(),
            lives: lives.iter().map(|(_, life)| i64::from(*life)).collect(),
        }
    }
}

/// The document in two columns, from this one on.
fn stored(row: &Row, column: usize) -> Result<Option<StoredDocument>, Trouble> {
    let Some(epoch) = row.try_get::<_, Option<i64>>(column)? else {
        return Ok(None);
    };
    let document: &[u8] = row.try_get(column + 1)?;
    Ok(Some(StoredDocument {
        epoch: Epoch::new(unsigned(epoch)),
        document: Bytes::copy_from_slice(document),
    }))
}

fn swapped(row: &Row, swap: &Swap) -> Result<Swapped, Trouble> {
    let verdict: &str = row.try_get(0)?;
    let number: Option<i64> = row.try_get(1)?;
    let value = unsigned(number.unwrap_or_default());
    Ok(match verdict {
        "stored" => Swapped::Stored(Epoch::new(value)),
        "conflict" => Swapped::Conflict {
            found: number.map(|_| Epoch::new(value)),
        },
        "fenced" => Swapped::Fenced {
            by: FencingToken::new(value),
        },
        "living" => Swapped::NotEnded(living(row, swap)?),
        "quarantined" => return Err(Trouble::quarantined(number)),
        "numbers" => return Err(Trouble::numbers_ended()),
        other => return Err(Trouble::unreadable(other)),
    })
}

/// Those at the places that the store names, counted from 1.
fn living(row: &Row, swap: &Swap) -> Result<Vec<coordinator_core::Life>, Trouble> {
    let places: Vec<i32> = row.try_get(2)?;
    let lives = places.into_iter().filter_map(|place| {
        let index = usize::try_from(place).ok()?.checked_sub(1)?;
        swap.ended.get(index).cloned()
    });
    Ok(lives.collect())
}

#[async_trait]
impl AssignmentStore for Assignments {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError> {
        let loaded = self.try_load(group, keyspace).await;
        loaded.map_err(|trouble| trouble.of_assignment("load", keyspace))
    }

    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError> {
        let lead = self.try_lead(group, keyspace, token).await;
        lead.map_err(|trouble| trouble.of_assignment("lead", keyspace))
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped, AssignmentError> {
        let swapped = self.try_swap(swap).await;
        swapped.map_err(|trouble| trouble.of_assignment("swap", &swap.keyspace))
    }

    async fn changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        let changed = self.try_changed(group, keyspace, known).await;
        changed.map_err(|trouble| trouble.of_assignment("watch", keyspace))
    }

    fn store(&self) -> StoreId {
        self.hub.store.clone()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.hub)
    }
}
