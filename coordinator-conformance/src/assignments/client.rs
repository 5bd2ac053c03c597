//! A planner's connection to a store of members and assignments, which takes no error for an
//! answer.

use std::sync::Arc;

use coordinator_core::{
    AssignmentError, AssignmentStore, Bytes, Epoch, FencingToken, Incarnation, Keyspace, Lead,
    MemberId, StoredDocument, Swap, Swapped,
};

use crate::fixture::Planning;
use crate::lab::Lab;
use crate::members::client::{Fleet, Life};
use crate::report::{Stop, Verdict, broken, require_eq};

pub(crate) type Plans = Lab<Planning>;

/// A connection that plans, and sees the members.
pub(crate) struct Planner<'a> {
    pub(crate) lab: &'a Plans,
    pub(crate) store: Arc<dyn AssignmentStore>,
    pub(crate) fleet: Fleet<'a, Planning>,
    pub(crate) keyspace: Keyspace,
    pub(crate) token: FencingToken,
}

impl Plans {
    /// A planner with a connection of its own, and the first token.
    pub(crate) async fn planner(&self) -> Result<Planner<'_>, Stop> {
        Ok(self.planner_on(&*self.connect().await?))
    }

    pub(crate) fn planner_on(&self, parts: &Planning) -> Planner<'_> {
        Planner {
            lab: self,
            store: Arc::clone(&parts.assignments),
            fleet: Fleet {
                lab: self,
                store: Arc::clone(&parts.members),
                group: "fleet".into(),
            },
            keyspace: "orders".into(),
            token: FencingToken::new(10),
        }
    }
}

impl Planner<'_> {
    /// A swap of the document that was stored under `expected`, by this planner.
    pub(crate) fn request(&self, expected: Option<Epoch>, document: &str) -> Swap {
        let document = Bytes::copy_from_slice(document.as_bytes());
        let group = self.fleet.group.clone();
        let mut swap = Swap::new(group, self.keyspace.clone(), self.token, document);
        swap.expected = expected;
        swap
    }

    /// The same, which counts these lives as ended.
    pub(crate) fn request_ending(&self, expected: Option<Epoch>, lives: &[&Life]) -> Swap {
        let mut swap = self.request(expected, "after an end");
        swap.ended = names(lives);
        swap
    }

    pub(crate) async fn ask(&self, swap: &Swap) -> Result<Swapped, Stop> {
        self.lab.answer("swap", self.store.swap(swap)).await
    }

    /// Swaps what must be stored.
    pub(crate) async fn stored(&self, swap: &Swap, why: &str) -> Result<Epoch, Stop> {
        match self.ask(swap).await? {
            Swapped::Stored(epoch) => Ok(epoch),
            refused
            @ (Swapped::Conflict { .. } | Swapped::Fenced { .. } | Swapped::NotEnded(_)) => {
                Err(broken(format!("`Stored`, where {why}"), refused))
            }
        }
    }

    /// Stores a document over the one under `expected`.
    pub(crate) async fn put(&self, expected: Option<Epoch>, text: &str) -> Result<Epoch, Stop> {
        let swap = self.request(expected, text);
        self.stored(&swap, "the expected epoch is the stored one")
            .await
    }

    /// Swaps what must be refused so, and demands that the document be as before.
    pub(crate) async fn refused(&self, swap: &Swap, wanted: Swapped, why: &str) -> Verdict {
        let before = self.load().await?;
        let answer = self.ask(swap).await?;
        require_eq(&format!("`swap`, where {why}"), &answer, &wanted)?;
        let after = self.load().await?;
        require_eq("the document after a refused swap", &after, &before)
    }

    pub(crate) async fn load(&self) -> Result<Option<StoredDocument>, Stop> {
        let asked = self.store.load(&self.fleet.group, &self.keyspace);
        self.lab.answer("load", asked).await
    }

    pub(crate) async fn lead(&self, token: u64) -> Result<Lead, Stop> {
        let token = FencingToken::new(token);
        let asked = self.store.lead(&self.fleet.group, &self.keyspace, token);
        self.lab.answer("lead", asked).await
    }

    pub(crate) async fn is_rejected(&self, swap: &Swap, what: &str) -> Verdict {
        let asked = self.store.swap(swap);
        self.lab.rejected(what, asked, AssignmentError::kind).await
    }
}

/// The lives as a swap names them.
pub(crate) fn names(lives: &[&Life]) -> Vec<(MemberId, Incarnation)> {
    lives
        .iter()
        .map(|life| (life.id.clone(), life.incarnation))
        .collect()
}
