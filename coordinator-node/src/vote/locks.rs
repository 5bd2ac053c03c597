//! A lock backend of one key, made of votes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coordinator_core::async_trait;
use coordinator_core::machine::vote::Standing;
use coordinator_core::trust::Trust;
use coordinator_core::{
    Acquisition, Claim, ClaimId, FencingToken, Holder, Key, LockBackend, LockCapabilities,
    LockError, MemberId, Release, Renewal, StoreId,
};

use super::voter::{Stand, View, Voter};
use crate::context::Context;

/// The votes of one election as leases: the term is the token, the window is the ttl. It grants the
/// one key that it was made for, to this node alone.
///
/// Trust rests on heartbeats that leave after `acquire` or `renew` was called (V2), and so is
/// counted as for any store: from before the request.
pub(crate) struct Votes {
    context: Arc<Context>,
    key: Key,
    trust: Trust,
    voter: Voter,
    seat: Mutex<Seat>,
    store: StoreId,
}

/// Which claim has the term. A node may make several at once.
#[derive(Debug, Default)]
struct Seat {
    /// The claim that has the present term.
    taken: Option<(ClaimId, FencingToken)>,
    /// The last term that was given back. It is over, though the voter may not know it yet.
    left: Option<FencingToken>,
}

impl Seat {
    /// Whether another claim has the term of this token.
    fn is_anothers(&self, claim: ClaimId, token: FencingToken) -> bool {
        self.taken
            .is_some_and(|(id, taken)| taken == token && id != claim)
    }

    fn leave(&mut self, claim: ClaimId, token: FencingToken) -> bool {
        self.left = self.left.max(Some(token));
        self.taken
            .take_if(|taken| *taken == (claim, token))
            .is_some()
    }
}

impl Votes {
    pub(super) fn new(context: &Arc<Context>, key: &Key, trust: Trust, voter: Voter) -> Self {
        Self {
            context: context.clone(),
            key: key.clone(),
            trust,
            voter,
            seat: Mutex::default(),
            store: StoreId::new(format!("votes:{key}")),
        }
    }

    /// Campaigns while this lives.
    pub(crate) fn stand(&self, floor: Option<FencingToken>) -> Stand {
        self.voter.stand(floor)
    }

    /// The reign is over as far as this claim is concerned: so that another may be chosen to ask.
    pub(super) async fn yield_term(&self, claim: &Claim, token: FencingToken) {
        let sat = {
            let mut seat = self.seat();
            !seat.is_anothers(claim.id, token) && seat.leave(claim.id, token)
        };
        if sat {
            self.voter.resign(token.get(), None).await;
        }
    }

    /// The claim that has the present term, if the term lasts.
    fn sitting(&self, view: &View) -> Option<(ClaimId, FencingToken)> {
        let mut seat = self.seat();
        // A term that is over is nobody's: another claim may sit down.
        let over = |(_, token): &mut (_, FencingToken)| {
            view.standing != (Standing::Reigning { term: token.get() })
        };
        seat.taken.take_if(over);
        seat.taken
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, claim: &Claim) -> Result<(), LockError> {
        let reject = |error: String| Err(LockError::rejected("acquire", &claim.key, error));
        let Context { me, instance, .. } = &*self.context;
        if (&claim.key, &claim.owner, &claim.instance) != (&self.key, me, instance) {
            return reject(format!("these are the votes of `{me}` for `{}`", self.key));
        }
        if claim.ttl != self.trust.ttl() {
            let window = self.trust.ttl();
            return reject(format!(
                "a ttl of {:?} in an election of {window:?}",
                claim.ttl
            ));
        }
        Ok(())
    }

    /// Sits down, if a quorum confirms the reign from now on.
    async fn enter(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let unconfirmed = || LockError::unavailable("acquire", &claim.key, "no quorum confirms it");
        let term = self.voter.confirm().await.ok_or_else(unconfirmed)?;
        let token = FencingToken::new(term);
        let mut seat = self.seat();
        // Another claim of this node was faster; or it was, and has given the term back since.
        if seat.is_anothers(claim.id, token) {
            return Ok(Acquisition::HeldBy(self.own(token)));
        }
        if seat.left >= Some(token) {
            return Err(unconfirmed());
        }
        seat.taken = Some((claim.id, token));
        Ok(Acquisition::Granted(token))
    }

    fn own(&self, token: FencingToken) -> Holder {
        let Context { me, instance, .. } = &*self.context;
        Holder::new(me.clone(), *instance, token).free_in(self.trust.ttl())
    }

    fn leader(&self, view: &View) -> Option<Holder> {
        let now = self.context.now();
        let leader = view.leader.as_ref().filter(|leader| now < leader.until)?;
        let token = FencingToken::new(leader.reign.term);
        let holder = Holder::new(leader.member.clone(), leader.reign.instance, token);
        Some(holder.free_in(leader.until.since(now)))
    }
}

#[async_trait]
impl LockBackend for Votes {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        self.check(claim)?;
        let view = self.voter.view().borrow().clone();
        let unavailable =
            |error: &'static str| Err(LockError::unavailable("acquire", &claim.key, error));
        match (&view.standing, self.sitting(&view)) {
            (Standing::Observing, _) => {
                let error = format!("`{}` is none of its voters", self.context.me);
                Err(LockError::rejected("acquire", &claim.key, error))
            }
            (Standing::Abstaining { left }, _) => {
                // It may have promised to follow somebody, in the life before this one (V4).
                Err(LockError::quarantined("acquire", &claim.key, *left))
            }
            (Standing::Reigning { .. }, Some((id, token))) if id == claim.id => {
                Ok(Acquisition::Granted(token))
            }
            (Standing::Reigning { .. }, Some((_, token))) => {
                Ok(Acquisition::HeldBy(self.own(token)))
            }
            (Standing::Reigning { .. }, None) => self.enter(claim).await,
            (Standing::Following | Standing::Campaigning, _) => match self.leader(&view) {
                Some(holder) => Ok(Acquisition::HeldBy(holder)),
                None => unavailable("nobody has won the vote yet"),
            },
        }
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let sits = |votes: &Self| {
            let view = votes.voter.view().borrow().clone();
            votes.sitting(&view) == Some((claim.id, token))
        };
        if !sits(self) {
            return Ok(Renewal::Lost);
        }
        match self.voter.confirm().await {
            Some(term) if term == token.get() => Ok(Renewal::Renewed),
            _ if sits(self) => {
                let error = "no quorum confirms it";
                Err(LockError::indeterminate("renew", &claim.key, error))
            }
            _ => Ok(Renewal::Lost),
        }
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let held = {
            let mut seat = self.seat();
            if seat.is_anothers(claim.id, token) {
                return Ok(Release::NotHeld); // and not to be ended by this one
            }
            seat.leave(claim.id, token)
        };
        self.voter.resign(token.get(), next.cloned()).await;
        Ok(if held {
            Release::Released
        } else {
            Release::NotHeld
        })
    }

    async fn holder(&self, _key: &Key) -> Result<Option<Holder>, LockError> {
        Ok(self.leader(&self.voter.view().borrow()))
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let won = |view: &View| {
            matches!(view.standing, Standing::Reigning { .. }) && self.sitting(view).is_none()
        };
        let mut view = self.voter.view();
        let ended = |_| LockError::unavailable("wait for", &claim.key, "the node has ended");
        view.wait_for(won).await.map(drop).map_err(ended)
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let mut view = self.voter.view();
        let known = view.borrow().leader.as_ref().map(|leader| leader.reign);
        let other = |view: &View| view.leader.as_ref().map(|leader| leader.reign) != known;
        let ended = |_| LockError::unavailable("watch", key, "the node has ended");
        view.wait_for(other).await.map(drop).map_err(ended)
    }

    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new().wakes()
    }

    fn store(&self) -> StoreId {
        self.store.clone()
    }
}
