//! Leases on named keys: the trait of a lock backend, and what it speaks of.

use std::future::pending;
use std::time::Duration;

use async_trait::async_trait;

use crate::errors::LockError;
use crate::guarantees::Guarantees;
use crate::names::{Key, MemberId, StoreId};
use crate::numbers::{ClaimId, FencingToken, Instance};

/// One attempt at a lease, named by (instance, id).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// What is claimed.
    pub key: Key,
    /// Who claims it, for people and for hand-overs.
    pub owner: MemberId,
    /// Which start of that owner's process claims it, so that a new process under an old name is not
    /// taken for the old one that asks again.
    pub instance: Instance,
    /// Which attempt of that instance this is. Rises with each new attempt.
    pub id: ClaimId,
    /// How long the grant lasts, by the store's clock, from the grant or the last renewal.
    pub ttl: Duration,
    /// The highest token of this key that the asker has seen: the grant's will be higher (K1).
    pub floor: Option<FencingToken>,
}

impl Claim {
    /// A claim with no floor.
    pub fn new(key: Key, owner: MemberId, instance: Instance, id: ClaimId, ttl: Duration) -> Self {
        Self {
            key,
            owner,
            instance,
            id,
            ttl,
            floor: None,
        }
    }

    /// The same claim, with the highest token seen.
    pub fn floor(mut self, floor: Option<FencingToken>) -> Self {
        self.floor = floor;
        self
    }
}

/// The answer to [`LockBackend::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquisition {
    /// The lease is the claim's, with this token.
    Granted(FencingToken),
    /// It is not free, or is kept for another.
    HeldBy(Holder),
}

/// Who has a lease, by the store's account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The holder, or the member for whom a released lease is kept for a moment.
    pub owner: MemberId,
    /// Its instance.
    pub instance: Instance,
    /// The token of its grant.
    pub token: FencingToken,
    /// How long the lease lasts unless renewed, by the store's clock at the answer. `None`: unknown.
    pub free_in: Option<Duration>,
}

impl Holder {
    /// A holder whose lease ends at an unknown time.
    pub fn new(owner: MemberId, instance: Instance, token: FencingToken) -> Self {
        Self {
            owner,
            instance,
            token,
            free_in: None,
        }
    }

    /// The same holder, with the time its lease lasts unless renewed.
    pub fn free_in(mut self, span: Duration) -> Self {
        self.free_in = Some(span);
        self
    }
}

/// The answer to [`LockBackend::renew`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts another TTL, by the store's clock, from when it handled the request.
    Renewed,
    /// The grant has ended. It never comes back.
    Lost,
}

/// The answer to [`LockBackend::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The lease was the claim's, and is free now.
    Released,
    /// It had ended already. Nothing changed.
    NotHeld,
}

/// What a lock backend can do, beyond what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LockCapabilities {
    /// [`LockBackend::wait_turn`] returns soon after a release; without it waiters poll.
    pub wakes: bool,
    /// Waiters get the lease in the order in which they began to wait.
    pub fair: bool,
}

impl LockCapabilities {
    /// Promises nothing.
    pub const fn new() -> Self {
        Self {
            wakes: false,
            fair: false,
        }
    }

    /// The same, and waiters are woken.
    pub const fn wakes(mut self) -> Self {
        self.wakes = true;
        self
    }

    /// The same, and waiters are served in order.
    pub const fn fair(mut self) -> Self {
        self.fair = true;
        self
    }
}

/// Gives out leases on keys; the grants of a key are numbered by fencing tokens.
///
/// # Contract
/// 1. At every instant of the backend's own clock, a key has at most one lease that has not expired.
/// 2. A grant lasts `claim.ttl` from the grant or its last renewal, never less.
/// 3. A key's tokens strictly increase over all grants ever made, through release, expiry and
///    restart; they exceed `claim.floor`, unless that is more than a day ahead of the store.
/// 4. A claim asked for twice, by (instance, id), while its grant lasts is one grant with one
///    token, and the second asking prolongs nothing. A claim that was released is `Rejected`, as
///    long as the store remembers it: at least until the key's next grant.
/// 5. `renew` and `release` touch only the grant named by key, instance and token. An expired
///    grant is `Lost` or `NotHeld`; nothing revives it.
/// 6. `acquire` waits for no holder: it answers at once.
/// 7. `release` says that the work has stopped; it is valid after a loss too. With `next`, the
///    lease is kept for that member for up to a second, if the backend can.
/// 8. `holder` tells of an unexpired lease, and of nothing else.
/// 9. `wait_turn`, `changed` and `alarm` are hints. They may return at any time, for no reason; they
///    grant nothing and end nothing. A backend that says `wakes` returns from `wait_turn` soon after
///    each release.
/// 10. A backend that lost its memory grants nothing until every lease it may have forgotten has
///     ended ([`LockError::Quarantined`], rule I2). A holder may then re-register its lease by
///     `renew` with its old token, if the store knows none higher (I6).
/// 11. A malformed key or a TTL that the namespace does not allow is `Rejected`.
///
/// # Fencing
/// What a lease guards knows nothing of the lease. Only the token that comes with each write tells
/// it that the writer is not a past holder.
///
/// # Ordering
/// Each key is linearizable by itself. Between keys no order is promised.
///
/// # Cancel safety
/// `acquire`, `renew`, `release` and `holder` are not cancel safe: a dropped call may still take
/// effect, as after [`LockError::Indeterminate`]. `wait_turn`, `changed` and `alarm` are.
///
/// # Errors
/// Only where there is no answer. That another holds the key is one, and so is `Ok`.
#[async_trait]
pub trait LockBackend: Send + Sync + 'static {
    /// `async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError>`
    ///
    /// Asks for `claim.key`. Waits for no holder.
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError>;

    /// `async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError>`
    ///
    /// Prolongs the grant to a full TTL from now.
    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError>;

    /// `async fn release(&self, claim, token, next: Option<&MemberId>) -> Result<Release, LockError>`
    ///
    /// Says that the work under this grant has stopped, and frees the lease if it is still held.
    /// Sent after a loss too; never while work may run.
    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError>;

    /// `async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError>`
    ///
    /// Who holds the lease now.
    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError>;

    /// `async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError>`
    ///
    /// A hint: returns when it may be worth acquiring now. Cancel safe. The default never returns,
    /// and the caller polls.
    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let _ = claim;
        pending().await
    }

    /// `async fn changed(&self, key: &Key) -> Result<(), LockError>`
    ///
    /// A hint: returns when the holder may have changed. Cancel safe. The default never returns.
    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let _ = key;
        pending().await
    }

    /// `async fn alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError>`
    ///
    /// A hint: returns when this grant may have ended, or may be about to, and renewing it now would
    /// tell. Cancel safe. The default never returns, and the holder learns by its next renewal.
    async fn alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError> {
        let _ = (claim, token);
        pending().await
    }

    /// What the backend can do beyond the contract.
    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new()
    }

    /// Which store and namespace this is. Two backends with one id grant from one set of leases.
    fn store(&self) -> StoreId;

    /// What the store was found to guarantee.
    fn guarantees(&self) -> Guarantees {
        Guarantees::unknown()
    }
}
