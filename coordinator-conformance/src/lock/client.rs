//! One client of a lock backend, which takes no error for an answer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Claim, ClaimId, FencingToken, Holder, Instance, Key, LockBackend, LockError,
    MemberId, Release, Renewal,
};

use crate::lab::Lab;
use crate::report::{Stop, Verdict, broken, require_eq};

pub(crate) type Locks = Lab<dyn LockBackend>;

/// A process that claims leases.
pub(crate) struct Client<'a> {
    pub(crate) lab: &'a Locks,
    pub(crate) backend: Arc<dyn LockBackend>,
    pub(crate) owner: MemberId,
    pub(crate) instance: Instance,
    claims: Cell<u64>,
}

impl Locks {
    /// A client with a connection of its own.
    pub(crate) async fn client(&self, owner: &str) -> Result<Client<'_>, Stop> {
        let backend = self.connect().await?;
        Ok(self.client_on(backend, owner))
    }

    /// A client on a connection that is there.
    pub(crate) fn client_on(&self, backend: Arc<dyn LockBackend>, owner: &str) -> Client<'_> {
        Client {
            lab: self,
            backend,
            owner: owner.into(),
            instance: self.instance(),
            claims: Cell::new(0),
        }
    }
}

impl Client<'_> {
    /// A new claim.
    pub(crate) fn claim(&self, key: &Key, ttl: Duration) -> Claim {
        self.claims.set(self.claims.get() + 1);
        let id = ClaimId::new(self.claims.get());
        Claim::new(key.clone(), self.owner.clone(), self.instance, id, ttl)
    }

    pub(crate) async fn acquire(&self, claim: &Claim) -> Result<Acquisition, Stop> {
        let asked = self.backend.acquire(claim);
        self.lab.answer("acquire", asked).await
    }

    /// Acquires what must be free.
    pub(crate) async fn granted(&self, claim: &Claim) -> Result<FencingToken, Stop> {
        match self.acquire(claim).await? {
            Acquisition::Granted(token) => Ok(token),
            held @ Acquisition::HeldBy(_) => Err(broken(
                format!("{} to be granted: it is free", claim.key),
                held,
            )),
        }
    }

    /// Claims what must be free, for so long.
    pub(crate) async fn take(
        &self,
        key: &Key,
        ttl: Duration,
    ) -> Result<(Claim, FencingToken), Stop> {
        let claim = self.claim(key, ttl);
        let token = self.granted(&claim).await?;
        Ok((claim, token))
    }

    /// Claims what must be held.
    pub(crate) async fn refused(&self, key: &Key, why: &str) -> Result<Holder, Stop> {
        let claim = self.claim(key, self.lab.long());
        match self.acquire(&claim).await? {
            Acquisition::HeldBy(holder) => Ok(holder),
            granted @ Acquisition::Granted(_) => Err(broken(format!("`HeldBy`: {why}"), granted)),
        }
    }

    /// Claims it until it is free: at the latest after `limit`, and a little more.
    pub(crate) async fn eventually_granted(
        &self,
        key: &Key,
        ttl: Duration,
        limit: Duration,
        why: &str,
    ) -> Result<(Claim, FencingToken), Stop> {
        let claim = self.claim(key, ttl);
        let mut grant = None;
        let what = format!("{key} to be granted, for {why}");
        self.lab
            .eventually(&what, limit, async || {
                if let Acquisition::Granted(token) = self.acquire(&claim).await? {
                    grant = Some(token);
                }
                Ok(grant.is_some())
            })
            .await?;
        grant
            .map(|token| (claim, token))
            .ok_or_else(|| broken(what, "no grant"))
    }

    pub(crate) async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, Stop> {
        let asked = self.backend.renew(claim, token);
        self.lab.answer("renew", asked).await
    }

    /// Renews, and demands this answer.
    pub(crate) async fn renew_is(
        &self,
        claim: &Claim,
        token: FencingToken,
        wanted: Renewal,
        why: &str,
    ) -> Verdict {
        let renewed = self.renew(claim, token).await?;
        require_eq(&format!("`renew`, where {why}"), &renewed, &wanted)
    }

    /// Releases, and demands this answer.
    pub(crate) async fn release_is(
        &self,
        claim: &Claim,
        token: FencingToken,
        wanted: Release,
        why: &str,
    ) -> Verdict {
        let asked = self.backend.release(claim, token, None);
        let released = self.lab.answer("release", asked).await?;
        require_eq(&format!("`release`, where {why}"), &released, &wanted)
    }

    /// Releases what is held.
    pub(crate) async fn let_go(&self, claim: &Claim, token: FencingToken) -> Verdict {
        self.release_is(claim, token, Release::Released, "the grant lasts")
            .await
    }

    /// Releases for a successor.
    pub(crate) async fn hand_over(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: &MemberId,
    ) -> Verdict {
        let asked = self.backend.release(claim, token, Some(next));
        let released = self.lab.answer("release", asked).await?;
        require_eq("`release` for a successor", &released, &Release::Released)
    }

    pub(crate) async fn holder(&self, key: &Key) -> Result<Option<Holder>, Stop> {
        self.lab.answer("holder", self.backend.holder(key)).await
    }

    /// Asks who holds the key, and demands that it be this grant.
    pub(crate) async fn sees(&self, key: &Key, owner: &Client<'_>, token: FencingToken) -> Verdict {
        let seen = self.holder(key).await?;
        let facts = seen
            .as_ref()
            .map(|holder| (&holder.owner, holder.instance, holder.token));
        let wanted = Some((&owner.owner, owner.instance, token));
        require_eq(&format!("the holder of {key}"), &facts, &wanted)
    }

    /// Asks who holds the key, and demands that nobody do.
    pub(crate) async fn sees_nobody(&self, key: &Key, why: &str) -> Verdict {
        let seen = self.holder(key).await?;
        require_eq(&format!("the holder of {key}, {why}"), &seen, &None)
    }

    pub(crate) async fn is_rejected(&self, claim: &Claim, why: &str) -> Verdict {
        let what = format!("acquire, where {why}, ");
        let asked = self.backend.acquire(claim);
        self.lab.rejected(&what, asked, LockError::kind).await
    }
}
