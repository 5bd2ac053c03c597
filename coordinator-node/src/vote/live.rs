//! The vote chooses who asks, and the store decides.

use std::sync::{Arc, Mutex, PoisonError};

use coordinator_core::async_trait;
use coordinator_core::{
    Acquisition, Claim, ClaimId, ErrorKind, FencingToken, Guarantees, Holder, Key, LockBackend,
    LockCapabilities, LockError, MemberId, Moment, Release, Renewal, StoreId,
};

use super::Votes;
use crate::context::Context;
use crate::tasks::sleep_until;

/// Leases of a store, for whoever has a majority of the members seen: [`Quorum::Live`](super::Quorum).
///
/// The token is the store's. Trust ends when either the votes or the lease are not renewed, for both
/// are asked at once, and one without the other renews nothing.
pub(crate) struct LiveLocks {
    context: Arc<Context>,
    votes: Arc<Votes>,
    store: Arc<dyn LockBackend>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The term that the present claim has by vote.
    term: Option<(ClaimId, FencingToken)>,
    /// A grant of the store that may last, and was told to be lost, for its votes were.
    disowned: Option<(ClaimId, FencingToken)>,
    /// The store's lease is another's until then, unless it is given back.
    held_until: Option<Moment>,
}

impl LiveLocks {
    pub(crate) fn new(
        context: &Arc<Context>,
        votes: Arc<Votes>,
        store: Arc<dyn LockBackend>,
    ) -> Self {
        Self {
            context: context.clone(),
            votes,
            store,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term that this claim has by vote.
    fn term_of(&self, claim: &Claim) -> Option<FencingToken> {
        let term = self.state().term.filter(|(id, _)| *id == claim.id);
        term.map(|(_, token)| token)
    }

    /// What was told to be lost and is asked for again is counted from the new asking, and asking
    /// prolongs nothing: only a renewal makes it last as long as it is then trusted.
    async fn take_up(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError> {
        if self.state().disowned != Some((claim.id, token)) {
            return Ok(());
        }
        if self.store.renew(claim, token).await? == Renewal::Lost {
            let error = "the lease ended in the meantime";
            return Err(LockError::unavailable("acquire", &claim.key, error));
        }
        self.state().disowned = None;
        Ok(())
    }

    /// Lets another be chosen to ask.
    async fn yield_term(&self, claim: &Claim, term: FencingToken) {
        self.state().term.take_if(|(id, _)| *id == claim.id);
        self.votes.yield_term(claim, term).await;
    }
}

#[async_trait]
impl LockBackend for LiveLocks {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let term = match self.votes.acquire(claim).await? {
            Acquisition::Granted(term) => term,
            Acquisition::HeldBy(holder) => return Ok(Acquisition::HeldBy(holder)),
        };
        self.state().term = Some((claim.id, term));
        match self.store.acquire(claim).await {
            Ok(Acquisition::Granted(token)) => {
                self.take_up(claim, token).await?;
                Ok(Acquisition::Granted(token))
            }
            Ok(Acquisition::HeldBy(holder)) => {
                // The other side of a cut, or a leader that is no more.
                let span = holder.free_in.unwrap_or(claim.ttl);
                self.state().held_until = Some(self.context.now() + span);
                self.yield_term(claim, term).await;
                Ok(Acquisition::HeldBy(holder))
            }
            Err(error) => {
                // Perhaps only we cannot reach the store. A grant that we may have without
                // knowing it is asked for again, and so is kept for us.
                if error.kind() != ErrorKind::Indeterminate {
                    self.yield_term(claim, term).await;
                }
                Err(error)
            }
        }
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let Some(term) = self.term_of(claim) else {
            self.state().disowned = Some((claim.id, token));
            return Ok(Renewal::Lost);
        };
        let votes = self.votes.renew(claim, term);
        let (votes, lease) = tokio::join!(votes, self.store.renew(claim, token));
        match (votes, lease) {
            (_, Ok(Renewal::Lost)) => Ok(Renewal::Lost),
            (Ok(Renewal::Lost), _) => {
                self.state().disowned = Some((claim.id, token));
                Ok(Renewal::Lost)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Renewal::Renewed), Ok(Renewal::Renewed)) => Ok(Renewal::Renewed),
        }
    }

    /// First the store, so that the next one who is chosen finds the lease free.
    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let released = self.store.release(claim, token, next).await;
        if let Some(term) = self.term_of(claim) {
            self.votes.release(claim, term, next).await?;
            self.state().term.take_if(|(id, _)| *id == claim.id);
        }
        released
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        self.store.holder(key).await
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let held_until = self.state().held_until;
        if let Some(until) = held_until.filter(|until| self.context.now() < *until) {
            // Winning a vote helps nobody before that.
            let look_every = self.context.trust.look_every();
            tokio::select! {
                biased;
                () = sleep_until(&*self.context.clock, Some(until), look_every) => {}
                changed = self.store.changed(&claim.key) => changed?,
            }
        }
        self.state().held_until = None;
        self.votes.wait_turn(claim).await
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        self.store.changed(key).await
    }

    async fn alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError> {
        self.store.alarm(claim, token).await
    }

    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new().wakes()
    }

    fn store(&self) -> StoreId {
        self.store.store()
    }

    fn guarantees(&self) -> Guarantees {
        self.store.guarantees()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coordinator_memory::MemoryStore;

    use super::*;
    use crate::vote::{Place, Quorum};
    use crate::{ElectionConfig, Node};

    /// W4, T1: the votes were lost, and the lease was not. Told to be lost, it is asked for again,
    /// and must last from then on for as long as it will be trusted.
    #[tokio::test(start_paused = true)]
    async fn a_lease_that_outlived_its_votes_is_renewed_before_it_counts_again() {
        let store = MemoryStore::new();
        let backend = store.connect("a");
        let locks = backend.locks.clone().expect("it has locks");
        let node = Node::builder("g").member("a").backend(backend);
        let node = node.start().await.expect("the store is well");
        let key = Key::from("g/election/e");
        let trust = ElectionConfig::new("e")
            .by_vote(Quorum::Live)
            .check(Duration::from_secs(10))
            .expect("it is allowed");
        let place = Place {
            key: key.clone(),
            name: "e".into(),
            quorum: Quorum::fixed(["a"]),
            trust,
        };
        let (context, membership) = (&node.shared.context, &node.shared.membership);
        let votes = node.shared.voters.votes(context, membership, &place);
        let votes = votes.expect("it has a bus");
        let _standing = votes.stand(None);
        let live = LiveLocks::new(context, votes.clone(), locks.clone());
        let id = context.next_claim();
        let claim = Claim::new(key.clone(), "a".into(), context.instance, id, trust.ttl());
        let granted = async || {
            loop {
                live.votes.wait_turn(&claim).await.expect("it votes");
                if let Ok(Acquisition::Granted(token)) = live.acquire(&claim).await {
                    return token;
                }
            }
        };
        let token = granted().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The reign ends, and no word of it reaches the store.
        let term = live.term_of(&claim).expect("it has the votes");
        votes.yield_term(&claim, term).await;
        assert_eq!(live.renew(&claim, token).await.ok(), Some(Renewal::Lost));
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.link("a").clock_jump(Duration::from_secs(8));
        let again = granted().await;
        let holder = locks.holder(&key).await.expect("the store is well");
        let holder = holder.expect("it is held");
        assert_eq!(holder.token, again);
        let left = holder.free_in.expect("the store tells");
        assert!(left >= trust.window(), "it ends in {left:?}");
        assert_eq!(again, token, "the same grant, or this shows nothing");
    }
}
