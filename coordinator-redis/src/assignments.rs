//! One document for each keyspace, replaced by compare-and-swap in one script.

use std::sync::Arc;

use bytes::Bytes;
use coordinator_core::{
    AssignmentError, AssignmentStore, Document, Epoch, FencingToken, Group, Guarantees, Keyspace,
    Lead, Life, StoreId, StoredDocument, Swap, Swapped, async_trait, check_keyspace,
};

use crate::bells::Bell;
use crate::client::Value;
use crate::fields::Fields;
use crate::guarantees;
use crate::hub::Hub;
use crate::members::{life_of, member_keys};
use crate::names::Tag;
use crate::reply::{Read, numbers_ended, or_empty, part, quarantined, verdict};
use crate::script::Script;
use crate::trouble::Trouble;

static LOAD: Script = Script::plain(
    "assignment_load",
    include_str!("../lua/assignment_load.lua"),
);
static EPOCH: Script = Script::plain(
    "assignment_epoch",
    include_str!("../lua/assignment_epoch.lua"),
);
static LEAD: Script = Script::plain(
    "assignment_lead",
    include_str!("../lua/assignment_lead.lua"),
);
static SWAP: Script = Script::new(
    "assignment_swap",
    concat!(
        include_str!("../lua/fields.lua"),
        include_str!("../lua/member_common.lua"),
        include_str!("../lua/assignment_swap.lua")
    ),
);

/// The hash of a keyspace's document.
pub(crate) fn assignment_key(tag: &Tag, keyspace: &str) -> Bytes {
    tag.key("assignment", keyspace)
}

/// The documents of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Assignments {
    hub: Arc<Hub>,
}

impl Assignments {
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
        let keys = [
            assignment_key(&tag, keyspace.as_str()),
            tag.key("named", ""),
        ];
        self.hub.run(script, &tag, &keys, args).await
    }

    async fn try_load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, Trouble> {
        let answer = self.ask(&LOAD, group, keyspace, Vec::new()).await?;
        stored(answer.list()?)
    }

    async fn try_lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, Trouble> {
        let args = vec![
            token.to_string().into(),
            keyspace.as_str().to_owned().into(),
        ];
        let answer = self.ask(&LEAD, group, keyspace, args).await?;
        match verdict(&answer)? {
            ("led", parts) => Ok(Lead::Led(stored(parts)?)),
            ("fenced", parts) => Ok(Lead::Fenced {
                by: part(parts, 0)?.token()?,
            }),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_swap(&self, swap: &Swap) -> Result<Swapped, Trouble> {
        swap.check().map_err(Trouble::rejected)?;
        self.hub.may_grant()?;
        let tag = self.hub.names.tag(swap.group.as_str());
        let mut keys = member_keys(&tag);
        keys.push(assignment_key(&tag, swap.keyspace.as_str()));
        let args = vec![
            tag.channel(),
            swap.keyspace.as_str().to_owned().into(),
            swap.token.to_string().into(),
            or_empty(swap.expected).into(),
            or_empty(swap.floor).into(),
            swap.document.clone(),
            lives(&named(&swap.document)),
            lives(&swap.ended),
        ];
        let answer = self.hub.run(&SWAP, &tag, &keys, args).await?;
        match verdict(&answer)? {
            ("stored", parts) => Ok(Swapped::Stored(Epoch::new(part(parts, 0)?.number()?))),
            ("conflict", parts) => Ok(Swapped::Conflict {
                found: part(parts, 0)?.maybe_number()?.map(Epoch::new),
            }),
            ("fenced", parts) => Ok(Swapped::Fenced {
                by: part(parts, 0)?.token()?,
            }),
            ("living", parts) => Ok(Swapped::NotEnded(living(part(parts, 0)?, swap)?)),
            ("quarantined", parts) => Err(quarantined(parts)),
            ("numbers", _) => Err(numbers_ended()),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    /// The bell is listened for first, so that no change falls between the look and the wait.
    async fn try_changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), Trouble> {
        check_keyspace(group, keyspace).map_err(Trouble::rejected)?;
        let bell = Bell::assignment(&self.hub.names.tag(group.as_str()), keyspace);
        let mut hearing = self.hub.bells.listen(bell).await?;
        let answer = self.ask(&EPOCH, group, keyspace, Vec::new()).await?;
        if answer.maybe_number()?.map(Epoch::new) == known {
            hearing.rung().await;
        }
        Ok(())
    }
}

/// The lives that a document names, so that their tombstones stay (G7). A document that is none of
/// ours names nobody, as far as is known.
fn named(document: &Bytes) -> Vec<Life> {
    let read = Document::decode(Epoch::new(0), document);
    read.map(|read| read.members).unwrap_or_default()
}

fn lives(lives: &[Life]) -> Bytes {
    let mut fields = Fields::new();
    for life in lives {
        fields.push(life_of(life));
    }
    fields.done()
}

/// Epoch and document.
fn stored(parts: &[Value]) -> Result<Option<StoredDocument>, Trouble> {
    let Some(epoch) = part(parts, 0)?.maybe_number()? else {
        return Ok(None);
    };
    Ok(Some(StoredDocument {
        epoch: Epoch::new(epoch),
        document: part(parts, 1)?.bytes()?.clone(),
    }))
}

/// Those at the places that the store names, counted from 1.
fn living(places: &Value, swap: &Swap) -> Result<Vec<Life>, Trouble> {
    let mut living = Vec::new();
    for place in places.list()? {
        let place = usize::try_from(place.number()?).unwrap_or_default();
        let life = place.checked_sub(1).and_then(|index| swap.ended.get(index));
        living.extend(life.cloned());
    }
    Ok(living)
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
