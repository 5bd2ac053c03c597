//! Handing an election over: the leader is asked, drains, and keeps the lease for its successor.

use std::time::Duration;

use coordinator_core::MemberId;

use super::control::{CANDIDATE_BEAT, Control};
use super::{Election, Observer};
use crate::errors::TransferError;

/// Without an answer the leader is asked again: messages may be lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Election {
    /// Asks the leader, from any member, to hand over to `successor`, and waits until that one
    /// leads. The leader's work is asked to finish, and the lease is then kept for the successor
    /// for up to a second: it must be campaigning.
    ///
    /// Waits at most a drain timeout and a ttl. Goes on in the background if dropped: a leader that
    /// was asked hands over.
    ///
    /// # Errors
    /// Nobody leads; the successor is no live member; the leader could not be asked; or the
    /// successor does not lead in time.
    pub async fn transfer_to(&self, successor: &MemberId) -> Result<(), TransferError> {
        let mut observer = self.observe();
        let context = &self.shared.context;
        let patience = self.ttl();
        let known = tokio::time::timeout(patience, observer.leader())
            .await
            .ok()
            .flatten();
        let Some(term) = known else {
            return Err(TransferError::NoLeader { name: self.name() });
        };
        if term.leader == *successor {
            return Ok(());
        }
        self.check_successor(successor)?;
        let waited = self.drain_timeout().saturating_add(patience);
        let handed_over = tokio::time::timeout(waited, async {
            tokio::select! {
                biased;
                () = leads(&mut observer, successor) => Ok(()),
                error = self.ask_to_hand_over(successor, term.leader == context.me) => Err(error),
            }
        });
        let timed_out = |_| TransferError::TimedOut {
            name: self.name(),
            successor: successor.clone(),
            waited,
        };
        handed_over.await.map_err(timed_out)?
    }

    fn check_successor(&self, successor: &MemberId) -> Result<(), TransferError> {
        if self.shared.context.backend.members.is_none() {
            return Ok(());
        }
        let members = crate::members::Members::new(&self.shared.membership).current();
        if members.iter().any(|member| member.id == *successor) {
            return Ok(());
        }
        Err(TransferError::UnknownSuccessor {
            name: self.name(),
            successor: successor.clone(),
        })
    }

    /// Asks again and again; ends only with an error.
    async fn ask_to_hand_over(&self, successor: &MemberId, leading: bool) -> TransferError {
        let elections = &self.shared.elections;
        if !leading && !elections.has_bus() {
            return TransferError::MissingPart {
                name: self.name(),
                part: "bus",
            };
        }
        let mut failures = 0;
        loop {
            let message = Control::HandOver {
                key: self.inner.key.clone(),
                to: successor.clone(),
            };
            // Our own term, if it is ours, without a detour.
            elections.obey(message.clone());
            match elections.ask(message).await {
                Ok(()) => failures = 0,
                Err(_) if leading || failures < 3 => failures += 1,
                Err(error) => {
                    return TransferError::Unavailable {
                        name: self.name(),
                        source: error.into(),
                    };
                }
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Says again and again that this member would lead, and how it ranks (W7). Never ends.
    pub(super) async fn stand_as_candidate(&self) {
        let priority = self.inner.config.priority;
        if priority == 0 {
            // No leader has less: nobody would hand over.
            return std::future::pending().await;
        }
        let (key, who) = (self.inner.key.clone(), self.shared.context.me.clone());
        let message = Control::Candidate { key, who, priority };
        loop {
            if self.can_reach_the_store() {
                // Lost or refused, the next beat says it again.
                drop(self.shared.elections.ask(message.clone()).await);
            }
            tokio::time::sleep(CANDIDATE_BEAT).await;
        }
    }
}

impl Election {
    /// Whether the lease could be taken if it were handed over, as far as the membership tells: a
    /// candidate that hears the bus alone would make a leader step down for nothing.
    fn can_reach_the_store(&self) -> bool {
        let members = self.shared.context.backend.members.is_some();
        !members || self.shared.membership.trusted().is_some()
    }
}

/// Waits until this member leads; never ends if the node shuts down before.
async fn leads(observer: &mut Observer, successor: &MemberId) {
    loop {
        if observer
            .current()
            .is_some_and(|term| term.leader == *successor)
        {
            return;
        }
        if !observer.changed().await {
            return std::future::pending().await;
        }
    }
}
