//! Leases by session lock: a dead holder's lease passes on as soon as the server has seen its
//! sessions end (PROTOCOLS section 4).

mod desk;
mod line;
mod seen;
mod start;
mod term;
mod turn;

use std::sync::Arc;

use async_trait::async_trait;
use coordinator_core::{
    Acquisition, Claim, FencingToken, Guarantees, Holder, Key, LockBackend, LockCapabilities,
    LockError, MemberId, Release, Renewal, StoreId,
};
use tokio_postgres::types::{ToSql, Type};
use tracing::debug;
use uuid::Uuid;

use self::desk::{Desk, Grant, Outcome, attempt};
use self::line::Terms;
use self::seen::Known;
use super::claims::{check_claim, check_key};
use super::name::Name;
use super::refusal::Refusal;
use crate::bells::Bell;
use crate::guarantees;
use crate::hub::Hub;
use crate::session::lock;
use crate::takeover::judge;

/// Leases by session lock.
#[derive(Debug)]
pub(crate) struct AdvisoryLocks {
    desk: Arc<Desk>,
}

impl AdvisoryLocks {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            desk: Desk::new(hub),
        }
    }

    fn name(&self, key: &Key) -> Name {
        Name::new(&self.desk.hub.schema, key)
    }

    fn check(&self, claim: &Claim) -> Result<Name, Refusal> {
        check_claim(claim, self.desk.hub.config.max_ttl)?;
        Ok(self.name(&claim.key))
    }

    async fn ask(&self, claim: &Claim) -> Result<Outcome, Refusal> {
        let name = self.check(claim)?;
        let attempt = attempt(&name, claim);
        if let Some(start) = self.desk.start_under_way(&attempt) {
            return Ok(start::decided(start).await);
        }
        if let Some(turn) = self.desk.take_turn(&attempt) {
            return Ok(start::start(&self.desk, claim, &name, Some(turn)).await);
        }
        if let Some(holder) = self.desk.waits_for(&attempt) {
            return Ok(Outcome::HeldBy(holder));
        }
        let seen = line::read(&self.desk.hub, &name).await?;
        seen.check(claim)?;
        match seen.answer(claim) {
            None if !seen.view.quarantine.is_zero() => {
                Err(Refusal::Quarantined(seen.view.quarantine))
            }
            None => Ok(start::start(&self.desk, claim, &name, None).await),
            Some(Known::Released) => {
                Err(Refusal::rejected("this claim was released: make a new one"))
            }
            Some(Known::Granted(token)) => Ok(self.again(&attempt, &seen, token)),
            Some(Known::HeldBy(holder)) => {
                self.desk.note(&attempt, &holder);
                Ok(Outcome::HeldBy(holder))
            }
        }
    }

    /// The same claim again: the same grant, unless its session is known to have ended.
    fn again(&self, attempt: &desk::Attempt, seen: &seen::Seen, token: FencingToken) -> Outcome {
        let lost = self
            .desk
            .grant_of(attempt)
            .is_some_and(|grant| grant.line.is_ended());
        match seen.holder().filter(|_| lost) {
            Some(holder) => Outcome::HeldBy(holder),
            None => Outcome::Granted(token),
        }
    }

    async fn ping(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, Refusal> {
        let name = self.check(claim)?;
        // Over another connection than the one that holds the lock nothing can be renewed.
        let Some(grant) = self.desk.grant(&name, claim, token) else {
            return Ok(Renewal::Lost);
        };
        if grant.line.is_ended() {
            return Ok(Renewal::Lost);
        }
        let witness = grant
            .term
            .hold(start::patience_with_witness(claim.ttl))
            .await;
        let present = grant.term.witness();
        *lock(&grant.told) = present.map(|w| Arc::downgrade(&w)).unwrap_or_default();
        let pong = match grant.line.beat(&name, token, witness).await {
            Ok(pong) => pong,
            Err(_) if grant.line.is_ended() => {
                grant.line.close();
                return Ok(Renewal::Lost);
            }
            Err(refusal) => return Err(refusal),
        };
        let verdict = judge(pong, grant.line.due());
        if verdict.is_ok() {
            if !witness {
                grant.term.let_go_of_former();
            }
            return Ok(Renewal::Renewed);
        }
        if pong.is_none() && self.register(&grant, witness).await? {
            return Ok(Renewal::Renewed);
        }
        debug!(key = %claim.key, %token, ?verdict, "the lease has ended");
        grant.line.close();
        Ok(Renewal::Lost)
    }

    /// I6: the store has lost its rows, and the session lock is held still.
    async fn register(&self, grant: &Grant, witness: bool) -> Result<bool, Refusal> {
        let Grant {
            name, claim, token, ..
        } = grant;
        let token = *token;
        grant
            .line
            .register(&Terms {
                name,
                claim,
                token,
                witness,
            })
            .await
    }

    /// P9; after a loss of the session the mark goes over C: it names the token, so it can mark no
    /// other term, however late it arrives.
    async fn give_back(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, Refusal> {
        check_key(&claim.key)?;
        let name = self.name(&claim.key);
        let grant = self.desk.grant(&name, claim, token);
        let Some(grant) = grant else {
            return self.mark(&name, claim, token, next).await;
        };
        if !grant.line.is_ended() {
            match grant.line.release(&name, token, claim, next).await {
                Ok(marked) => {
                    self.desk.remove(&grant);
                    grant.term.free().await;
                    grant.line.close();
                    return Ok(marked);
                }
                Err(refusal) if !grant.line.is_ended() => return Err(refusal),
                // L has ended at this very moment, perhaps by its lease: then C is asked.
                Err(_) => {}
            }
        }
        grant.term.free().await;
        self.desk.note_end(&name, claim.instance, token);
        let marked = self.mark(&name, claim, token, next).await?;
        self.desk.remove(&grant);
        Ok(marked)
    }

    async fn mark(
        &self,
        name: &Name,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, Refusal> {
        let (token, next) = (i64::from(token), next.map(MemberId::as_str));
        let instance = Uuid::from_bytes(claim.instance.to_bytes());
        let statement = self.desk.hub.sql(line::RELEASE);
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&name.id, Type::UUID),
            (&token, Type::INT8),
            (&instance, Type::UUID),
            (&next, Type::TEXT),
        ];
        let rows = self.desk.hub.call(&statement, &parameters).await?;
        Ok(line::released(&rows))
    }
}

#[async_trait]
impl LockBackend for AdvisoryLocks {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let outcome = self.ask(claim).await.unwrap_or_else(Outcome::Refused);
        match outcome {
            Outcome::Granted(token) => Ok(Acquisition::Granted(token)),
            Outcome::HeldBy(holder) => Ok(Acquisition::HeldBy(holder)),
            Outcome::Refused(refusal) => Err(refusal.of("acquire", &claim.key)),
        }
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let renewed = self.ping(claim, token).await;
        renewed.map_err(|refusal| refusal.of("renew", &claim.key))
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let released = self.give_back(claim, token, next).await;
        released.map_err(|refusal| refusal.of("release", &claim.key))
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        let looked = async {
            check_key(key)?;
            line::read(&self.desk.hub, &self.name(key)).await
        };
        let seen = looked.await.map_err(|refusal| refusal.of("look at", key))?;
        Ok(seen.holder())
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let waited = async {
            let name = self.check(claim)?;
            turn::wait(&self.desk, claim, &name).await
        };
        waited
            .await
            .map_err(|refusal| refusal.of("wait for", &claim.key))
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let bell = self.name(key).bell();
        self.desk.hub.bells.listen(Bell::Lease, &bell).rung().await;
        Ok(())
    }

    /// L's end, or another W: the one ends the term, and of the other the store is to be told before
    /// anyone takes the end of L for the end of the process (P6, P8).
    async fn alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError> {
        match self.desk.grant(&self.name(&claim.key), claim, token) {
            Some(grant) => start::alarm(&grant).await,
            None => std::future::pending().await,
        }
        Ok(())
    }

    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new().wakes().fair()
    }

    fn store(&self) -> StoreId {
        self.desk.hub.store.clone()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.desk.hub)
    }
}
