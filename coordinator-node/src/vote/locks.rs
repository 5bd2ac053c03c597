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
    /// The claim that has the present term.
    seat: Mutex<Option<(ClaimId, FencingToken)>>,
    store: StoreId,
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
        if *self.seat() == Some((claim.id, token)) {
            self.voter.resign(token.get(), None).await;
            self.leave_seat(claim, token);
        }
    }

    /// The claim that has the present term, if the term lasts.
    fn sitting(&self, view: &View) -> Option<(ClaimId, FencingToken)> {
        let mut seat = self.seat();
        // A term that is over is nobody's: another claim may sit down.
        seat.take_if(|(_, token)| view.standing != (Standing::Reigning { term: token.get() }));
        *seat
    }

    /// Once the voter has resigned, and not before: what is confirmed until then must seat nobody
    /// else in a reign whose promises are about to be void (V7).
    fn leave_seat(&self, claim: &Claim, token: FencingToken) {
        self.seat().take_if(|seat| *seat == (claim.id, token));
    }

    fn seat(&self) -> MutexGuard<'_, Option<(ClaimId, FencingToken)>> {
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
        // Always the view before the seat, as in `wait_turn`.
        let view = self.voter.view();
        let view = view.borrow();
        let mut seat = self.seat();
        // The claim that sat here may have resigned since: then the promises are void (V7).
        if view.standing != (Standing::Reigning { term }) {
            return Err(unconfirmed());
        }
        match *seat {
            // Another claim of this node was faster.
            Some((id, taken)) if taken == token && id != claim.id => {
                Ok(Acquisition::HeldBy(self.own(token)))
            }
            _ => {
                *seat = Some((claim.id, token));
                Ok(Acquisition::Granted(token))
            }
        }
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
        let seat = *self.seat();
        match seat {
            // Another claim of this node has the very term: it is not this one's to end.
            Some((id, taken)) if taken == token && id != claim.id => Ok(Release::NotHeld),
            Some((_, taken)) if taken == token => {
                self.voter.resign(token.get(), next.cloned()).await;
                self.leave_seat(claim, token);
                Ok(Release::Released)
            }
            // The term is over, and its promises may last: they are needed no more.
            _ => {
                self.voter.resign(token.get(), next.cloned()).await;
                Ok(Release::NotHeld)
            }
        }
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
