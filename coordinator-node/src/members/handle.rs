//! The members of a group, as users see them.

use std::collections::BTreeMap;

use coordinator_core::{MAX_METADATA_BYTES, Member};

use super::roster::Roster;
use super::{Membership, Wish};
use crate::watch;

/// More metadata than a store takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata has {given} bytes, allowed are at most {most}")]
#[non_exhaustive]
pub struct BadMetadata {
    /// The bytes of all keys and values together.
    pub given: usize,
    /// [`MAX_METADATA_BYTES`].
    pub most: usize,
}

/// Whether a store takes this metadata.
pub(crate) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), BadMetadata> {
    let entries = metadata.iter();
    let given = entries.map(|(key, value)| key.len() + value.len()).sum();
    let most = MAX_METADATA_BYTES;
    if given <= most {
        Ok(())
    } else {
        Err(BadMetadata { given, most })
    }
}

/// The live members of the group, this node included. Cheap to clone.
///
/// It shows the newest news. A member that dies without a word is shown until its TTL has passed.
/// After shutdown it goes on showing what it showed last.
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

    /// Who lives, by id. Empty if the node's backend knows no members.
    pub fn current(&self) -> Vec<Member> {
        self.roster.borrow().members().to_vec()
    }

    /// Waits for a change since the last call on this handle: who lives, or what they announce.
    /// The first call returns at once. `false` after shutdown. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        let stopping = self.membership.shared.context.stopping.clone();
        if stopping.is_cancelled() || self.membership.shared.context.backend.members.is_none() {
            // Without a members part nothing ever changes.
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
    /// [`BadMetadata`]: more than 16 KiB of keys and values.
    pub fn announce<K: Into<String>, V: Into<String>>(
        &self,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), BadMetadata> {
        let entries = metadata.into_iter();
        let metadata = entries
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        check_metadata(&metadata)?;
        self.membership.announce(metadata);
        Ok(())
    }
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members")
            .field("current", &self.roster.borrow().members().len())
            .finish_non_exhaustive()
    }
}
