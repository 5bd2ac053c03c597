//! Leases by row: one statement each, ended by the server's clock alone. Works behind a pooler that moves
//! statements between sessions.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Claim, FencingToken, Guarantees, Holder, Instance, Key, LockBackend,
    LockCapabilities, LockError, MemberId, Release, Renewal, StoreId, async_trait,
};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::claims::{check_claim, check_key};
use super::writers;
use crate::bells::{Bell, Hearing};
use crate::guarantees;
use crate::hub::Hub;
use crate::names::id_of;
use crate::trouble::{Trouble, microseconds, unsigned};
use crate::turns::Turns;

const ACQUIRE: &str = "select verdict, token, owner, instance, free_in, quarantine \
    from {schema}.row_acquire($1, $2, $3, $4, $5, $6, $7)";
const RAISE: &str = "select {schema}.row_raise($1, $2, $3, $4, $5, $6, $7)";
const RENEW: &str =
    "select renewed, registered from {schema}.row_renew($1, $2, $3, $4, $5, $6, $7)";
const RELEASE: &str = "select {schema}.row_release($1, $2, $3, $4)";
const HOLDER: &str = "select verdict, token, owner, instance, free_in, quarantine \
    from {schema}.row_holder($1, $2)";

/// R3: how often to look behind the doorbell, which is a hint.
const POLL: Duration = Duration::from_secs(5);

/// The leases of a schema, by row.
#[derive(Debug, Clone)]
pub(crate) struct RowLeases {
    hub: Arc<Hub>,
}

/// What a row says of a lease.
struct View {
    verdict: String,
    token: Option<i64>,
    owner: Option<String>,
    instance: Option<Uuid>,
    free_in: Option<i64>,
    quarantine: Option<i64>,
}

impl View {
    fn read(row: &Row) -> Result<Self, Trouble> {
        Ok(Self {
            verdict: row.try_get(0)?,
            token: row.try_get(1)?,
            owner: row.try_get(2)?,
            instance: row.try_get(3)?,
            free_in: row.try_get(4)?,
            quarantine: row.try_get(5)?,
        })
    }

    fn token(&self) -> FencingToken {
        FencingToken::new(unsigned(self.token.unwrap_or_default()))
    }

    fn free_in(&self) -> Duration {
        Duration::from_micros(unsigned(self.free_in.unwrap_or_default()))
    }

    fn holder(&self) -> Holder {
        let owner = MemberId::from(self.owner.as_deref().unwrap_or_default());
        let instance = Instance::from_bytes(self.instance.unwrap_or_default().into_bytes());
        Holder::new(owner, instance, self.token()).free_in(self.free_in())
    }
}

impl RowLeases {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Row, Trouble> {
        let rows = self.hub.call(&self.hub.sql(statement), parameters).await?;
        let row = rows.into_iter().next();
        row.ok_or_else(|| Trouble::unreadable("nothing"))
    }

    async fn try_acquire(&self, claim: &Claim) -> Result<Acquisition, Trouble> {
        check_claim(claim, self.hub.config.max_ttl)?;
        loop {
            let view = self.claim(claim).await?;
            match view.verdict.as_str() {
                "granted" => {
                    let token = view.token();
                    if self.raise(claim, token).await? {
                        return Ok(Acquisition::Granted(token));
                    }
                    // It has run out under the wait for the fence: claimed anew.
                }
                "held" | "kept" => return Ok(Acquisition::HeldBy(view.holder())),
                "was_released" => {
                    return Err(Trouble::rejected("this claim was released: make a new one"));
                }
                "quarantined" => return Err(Trouble::quarantined(view.quarantine)),
                "numbers" => return Err(Trouble::numbers_ended()),
                other => return Err(Trouble::unreadable(other)),
            }
        }
    }

    async fn claim(&self, claim: &Claim) -> Result<View, Trouble> {
        let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
            (&lease_id(&claim.key), Type::UUID),
            (&claim.key.as_str(), Type::TEXT),
            (&claim.owner.as_str(), Type::TEXT),
            (&Uuid::from_bytes(claim.instance.to_bytes()), Type::UUID),
            (&i64::from(claim.id), Type::INT8),
            (&microseconds(claim.ttl), Type::INT8),
            (&claim.floor.map(i64::from), Type::INT8),
        ];
        View::read(&self.ask(ACQUIRE, &parameters).await?)
    }

    /// Raises the fence, and renews the lease while a fenced transaction holds that up (R1), for as long as it is
    /// asked for; says which, and ends it where that is asked for (F3). False: the grant has ended.
    async fn raise(&self, claim: &Claim, token: FencingToken) -> Result<bool, Trouble> {
        tokio::select! {
            raised = self.raise_fence(claim, token) => raised,
            never = writers::look_by_row(&self.hub, &claim.key, lease_id(&claim.key), claim.ttl) => match never {},
        }
    }

    async fn raise_fence(&self, claim: &Claim, token: FencingToken) -> Result<bool, Trouble> {
        let mut turns = Turns::default();
        loop {
            let row = self.with_token(RAISE, claim, token).await?;
            match row.try_get(0)? {
                "raised" => return Ok(true),
                "lost" => return Ok(false),
                "busy" => turns.pass().await,
                other => return Err(Trouble::unreadable(other)),
            }
        }
    }

    async fn with_token(
        &self,
        statement: &str,
        claim: &Claim,
        token: FencingToken,
    ) -> Result<Row, Trouble> {
        let parameters: [(&(dyn ToSql + Sync), Type); 7] = [
            (&lease_id(&claim.key), Type::UUID),
            (&claim.key.as_str(), Type::TEXT),
            (&claim.owner.as_str(), Type::TEXT),
            (&Uuid::from_bytes(claim.instance.to_bytes()), Type::UUID),
            (&i64::from(claim.id), Type::INT8),
            (&i64::from(token), Type::INT8),
            (&microseconds(claim.ttl), Type::INT8),
        ];
        self.ask(statement, &parameters).await
    }

    async fn try_renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, Trouble> {
        check_claim(claim, self.hub.config.max_ttl)?;
        let row = self.with_token(RENEW, claim, token).await?;
        if !row.try_get(0)? {
            return Ok(Renewal::Lost);
        }
        // The fence row may be forgotten, too: fenced transactions would be refused.
        if row.try_get(1)? && !self.raise(claim, token).await? {
            return Ok(Renewal::Lost);
        }
        Ok(Renewal::Renewed)
    }

    async fn try_release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, Trouble> {
        check_key(&claim.key)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&lease_id(&claim.key), Type::UUID),
            (&Uuid::from_bytes(claim.instance.to_bytes()), Type::UUID),
            (&i64::from(token), Type::INT8),
            (&next.map(MemberId::as_str), Type::TEXT),
        ];
        let row = self.ask(RELEASE, &parameters).await?;
        Ok(if row.try_get(0)? {
            Release::Released
        } else {
            Release::NotHeld
        })
    }

    async fn look(&self, key: &Key) -> Result<View, Trouble> {
        check_key(key)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&lease_id(key), Type::UUID), (&key.as_str(), Type::TEXT)];
        View::read(&self.ask(HOLDER, &parameters).await?)
    }

    fn listen(&self, key: &Key) -> Hearing {
        let bell = lease_id(key).to_string();
        self.hub.bells.listen(Bell::Lease, &bell)
    }

    /// The bell is listened for first, so that no release falls between the look and the wait.
    async fn try_wait(&self, claim: &Claim) -> Result<(), Trouble> {
        let mut hearing = self.listen(&claim.key);
        loop {
            let view = self.look(&claim.key).await?;
            let kept_for_me =
                view.verdict == "kept" && view.owner.as_deref() == Some(claim.owner.as_str());
            if view.verdict == "free" || kept_for_me {
                return Ok(());
            }
            // Nothing but the clock marks the end of a lease.
            drop(timeout(view.free_in().min(POLL), hearing.rung()).await);
        }
    }

    async fn try_changed(&self, key: &Key) -> Result<(), Trouble> {
        let mut hearing = self.listen(key);
        let view = self.look(key).await?;
        let ends = match view.verdict.as_str() {
            "held" => view.free_in(),
            // Without a doorbell somebody may have come unheard.
            _ if self.hub.witness().is_none() => POLL,
            _ => {
                hearing.rung().await;
                return Ok(());
            }
        };
        drop(timeout(ends, hearing.rung()).await);
        Ok(())
    }
}

fn lease_id(key: &Key) -> Uuid {
    id_of("lock", key.as_str())
}

#[async_trait]
impl LockBackend for RowLeases {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let acquired = self.try_acquire(claim).await;
        acquired.map_err(|trouble| trouble.of_lock("acquire", &claim.key))
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let renewal = self.try_renew(claim, token).await;
        renewal.map_err(|trouble| trouble.of_lock("renew", &claim.key))
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let release = self.try_release(claim, token, next).await;
        release.map_err(|trouble| trouble.of_lock("release", &claim.key))
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        let view = self.look(key).await;
        let view = view.map_err(|trouble| trouble.of_lock("read holder of", key))?;
        Ok((view.verdict == "held").then(|| view.holder()))
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let waited = self.try_wait(claim).await;
        waited.map_err(|trouble| trouble.of_lock("wait for", &claim.key))
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let changed = self.try_changed(key).await;
        changed.map_err(|trouble| trouble.of_lock("watch", key))
    }

    fn capabilities(&self) -> LockCapabilities {
        match self.hub.witness() {
            Some(_) => LockCapabilities::new().wakes(),
            None => LockCapabilities::new(),
        }
    }

    fn store(&self) -> StoreId {
        self.hub.store.clone()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.hub)
    }
}
