//! The members of a group, as users see them.

use std::collections::BTreeMap;

use coordinator_core::{MAX_METADATA_BYTES, Member};

use super::roster::Roster;
use super::{Membership, Wish};
use crate::watch;

/// More metadata than a store, or the bus, takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata has {given} bytes, allowed are at most {most}")]
#[non_exhaustive]
pub struct BadMetadata {
    /// The bytes of all keys and values together.
    pub given: usize,
    /// [`MAX_METADATA_BYTES`], or less where a bus must carry it.
    pub most: usize,
}

/// Whether a store takes this metadata.
pub(crate) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), BadMetadata> {
    let given = weight(metadata);
    let most = MAX_METADATA_BYTES;
    if given <= most {
        Ok(())
    } else {
        Err(BadMetadata { given, most })
    }
}

/// The bytes of all keys and values together.
pub(super) fn weight(metadata: &BTreeMap<String, String>) -> usize {
    let entries = metadata.iter();
    entries.map(|(key, value)| key.len() + value.len()).sum()
}

/// Where a node's view of the members comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberSource {
    /// From the backend's `members`: one store tells all, and judges by its own clock.
    Store,
    /// From the heartbeats that the backend's `bus` carries, for it has no `members`. Each member
    /// judges by its own clock, so **two members may see different fleets**: for a moment after each
    /// change, and for as long as a part of the bus is cut. Good for finding each other; never a
    /// ground to act alone (rule G6).
    Bus,
    /// The backend has neither: nobody is known, not even this node.
    Nothing,
}

/// The live members of the group, this node included. Cheap to clone.
///
/// It shows the newest news. A member that dies without a word is shown until its TTL has passed.
/// After shutdown it goes on showing what it showed last. Whose news they are, a store's or the
/// bus's, [`Members::source`] tells.
///
/// # From a bus alone
/// Views may differ. A node that hears nobody, not even itself, suspects itself first: it keeps
/// showing whom it knew, and [`Health`](crate::Health) says that it is isolated. The `incarnation`
/// of a member counts the lives that *this* node has seen, so it means nothing to others; its
/// `report` is empty. Every beat goes to everybody and carries the metadata: N² deliveries every
/// third of a ttl in a fleet of N.
#[derive(Clone)]
pub struct Members {
    membership: Membership,
    roster: watch::Receiver<Roster>,
}

impl Members {
    pub(crate) fn new(membership: &Membership) -> Self {
        membership.tell(|desk| desk.wish(Wish::Watch));
        let mut roster = membership.shared.roster.subscribe();
        // What is there when the handle is made counts as change: `changed` shows it at once.
        roster.mark_changed();
        Self {
            membership: membership.clone(),
            roster,
        }
    }

    /// Where the view comes from.
    pub fn source(&self) -> MemberSource {
        self.membership.source()
    }

    /// Who lives, by id. Empty if the node's backend has neither members nor a bus.
    pub fn current(&self) -> Vec<Member> {
        self.roster.borrow().members().to_vec()
    }

    /// Waits for a change since the last call on this handle: who lives, or what they announce.
    /// The first call returns at once. `false` after shutdown. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        let stopping = self.membership.shared.context.stopping.clone();
        if stopping.is_cancelled() || self.source() == MemberSource::Nothing {
            // Nothing ever changes.
            stopping.cancelled().await;
            return false;
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => false,
            changed = self.roster.changed() => changed.is_ok(),
        }
    }

    /// Replaces this node's metadata. The others hear of it within a heartbeat. It goes on in the
    /// background, and is repeated until the store has it.
    ///
    /// # Errors
    /// [`BadMetadata`]: more than 16 KiB of keys and values, or more than the bus can carry where
    /// there is nothing else.
    pub fn announce<K: Into<String>, V: Into<String>>(
        &self,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), BadMetadata> {
        let entries = metadata.into_iter();
        let metadata = entries
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        check_metadata(&metadata)?;
        self.membership.announce(metadata)
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members")
            .field("current", &self.roster.borrow().members().len())
            .finish_non_exhaustive()
    }
}
