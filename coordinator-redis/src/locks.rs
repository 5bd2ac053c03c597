//! The leases of a namespace: one script each, ended by the server's clock alone (D1, D2).

mod line;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::{
    Acquisition, Claim, FencingToken, Guarantees, Holder, Key, LockBackend, LockCapabilities,
    LockError, MemberId, Release, Renewal, StoreId, async_trait,
};
use tokio::time::timeout;

use crate::bells::Bell;
use crate::client::Value;
use crate::guarantees;
use crate::hub::Hub;
use crate::names::Tag;
use crate::reply::{Read, hex, microseconds, numbers_ended, or_empty, part, quarantined, verdict};
use crate::script::Script;
use crate::trouble::Trouble;
use line::Line;

/// A script on the lease of one key: what comes before what all of these share, and what comes behind.
macro_rules! lock_script {
    ($name:ident = $new:ident, $first:expr, $file:literal) => {
        static $name: Script = Script::$new(
            concat!("lock_", $file),
            concat!(
                $first,
                include_str!("../lua/lock_common.lua"),
                include_str!(concat!("../lua/lock_", $file, ".lua"))
            ),
        );
    };
}

lock_script!(
    ACQUIRE = new,
    include_str!("../lua/lock_acquire_fast.lua"),
    "acquire"
);
lock_script!(
    RELEASE = plain,
    include_str!("../lua/lock_release_fast.lua"),
    "release"
);
lock_script!(HOLDER = plain, "", "holder");
lock_script!(WAIT = new, "", "wait");
lock_script!(LEAVE = plain, "", "leave");
lock_script!(SWEEP = new, "", "sweep");
static RENEW: Script = Script::new("lock_renew", include_str!("../lua/lock_renew.lua"));

/// How often to look behind the bells, which are hints.
const POLL: Duration = Duration::from_secs(5);

/// The leases of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    hub: Arc<Hub>,
}

/// Where the scripts find a key's lease.
struct Place {
    tag: Tag,
    keys: Vec<Bytes>,
}

impl Place {
    fn of(hub: &Hub, key: &Key) -> Self {
        let tag = hub.names.tag(&group_of(key));
        let keys = vec![
            lease_key(&tag, key),
            tag.key("line", key.as_str()),
            tag.key("waiters", key.as_str()),
            index_key(&tag),
        ];
        Self { tag, keys }
    }
}

/// The hash of a key's lease.
pub(crate) fn lease_key(tag: &Tag, key: &Key) -> Bytes {
    tag.key("lock", key.as_str())
}

/// The sorted set of all keys of a tag that have leases.
pub(crate) fn index_key(tag: &Tag) -> Bytes {
    tag.key("leases", "")
}

/// Forgets the lease of a key, if nobody can need it any more (K3).
pub(crate) async fn sweep(hub: &Hub, key: &Key) -> Result<(), Trouble> {
    let place = Place::of(hub, key);
    let args = vec![key.as_str().to_owned().into()];
    hub.run(&SWEEP, &place.tag, &place.keys, args).await?;
    Ok(())
}

/// The group whose hash tag a key has: what is before its first `/`, as [`Key::scoped`] writes it. Keys of another kind share
/// one.
pub(crate) fn group_of(key: &Key) -> String {
    let (group, _) = key.as_str().split_once('/').unwrap_or_default();
    group.replace("%2F", "/").replace("%25", "%")
}

impl Locks {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn ask(
        &self,
        script: &'static Script,
        place: &Place,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        self.hub.run(script, &place.tag, &place.keys, args).await
    }

    async fn try_acquire(&self, claim: &Claim) -> Result<Acquisition, Trouble> {
        self.check_claim(claim)?;
        self.hub.may_grant()?;
        let place = Place::of(&self.hub, &claim.key);
        let mut args = grant_args(claim, &place);
        args.push(or_empty(claim.floor).into());
        let answer = self.ask(&ACQUIRE, &place, args).await?;
        match verdict(&answer)? {
            ("granted", parts) => Ok(Acquisition::Granted(part(parts, 0)?.token()?)),
            ("held" | "kept", parts) => Ok(Acquisition::HeldBy(holder(parts)?)),
            ("was_released", _) => {
                Err(Trouble::rejected("this claim was released: make a new one"))
            }
            ("quarantined", parts) => Err(quarantined(parts)),
            ("numbers", _) => Err(numbers_ended()),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, Trouble> {
        self.check_claim(claim)?;
        let place = Place::of(&self.hub, &claim.key);
        let mut args = grant_args(claim, &place);
        args.push(token.to_string().into());
        let answer = self.ask(&RENEW, &place, args).await?;
        match verdict(&answer)? {
            ("renewed", _) => Ok(Renewal::Renewed),
            ("lost", _) => Ok(Renewal::Lost),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, Trouble> {
        check_key(&claim.key)?;
        let place = Place::of(&self.hub, &claim.key);
        let args = vec![
            place.tag.channel(),
            claim.key.as_str().to_owned().into(),
            hex(claim.instance).into(),
            token.to_string().into(),
            next.map_or("", MemberId::as_str).to_owned().into(),
        ];
        let answer = self.ask(&RELEASE, &place, args).await?;
        match verdict(&answer)? {
            ("released", _) => Ok(Release::Released),
            ("not_held", _) => Ok(Release::NotHeld),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    /// Who holds it; who it is kept for does not.
    async fn try_holder(&self, key: &Key) -> Result<Option<Holder>, Trouble> {
        check_key(key)?;
        let answer = self
            .ask(&HOLDER, &Place::of(&self.hub, key), Vec::new())
            .await?;
        match verdict(&answer)? {
            ("held", parts) => holder(parts).map(Some),
            ("kept" | "free", _) => Ok(None),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    /// The bell is listened for first, so that no change falls between the look and the wait.
    async fn try_changed(&self, key: &Key) -> Result<(), Trouble> {
        check_key(key)?;
        let tag = self.hub.names.tag(&group_of(key));
        let mut hearing = self.hub.bells.listen(Bell::lock(&tag, key)).await?;
        let held = self.try_holder(key).await?;
        // Nothing but the clock marks the end of a lease.
        let ends = held.and_then(|holder| holder.free_in).unwrap_or(POLL);
        drop(timeout(ends.min(POLL), hearing.rung()).await);
        Ok(())
    }

    /// Whenever another grant is heard of, or something may not have been heard.
    async fn try_alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), Trouble> {
        check_key(&claim.key)?;
        let tag = self.hub.names.tag(&group_of(&claim.key));
        let mut hearing = self.hub.bells.listen(Bell::lock(&tag, &claim.key)).await?;
        while hearing.rung().await == Some(token.get()) {}
        Ok(())
    }

    fn check_claim(&self, claim: &Claim) -> Result<(), Trouble> {
        let checked = claim.check(self.hub.config.max_ttl);
        checked.map_err(Trouble::rejected)
    }
}

/// What acquire and renew are told of a claim.
fn grant_args(claim: &Claim, place: &Place) -> Vec<Bytes> {
    vec![
        place.tag.channel(),
        claim.key.as_str().to_owned().into(),
        claim.owner.as_str().to_owned().into(),
        hex(claim.instance).into(),
        claim.id.to_string().into(),
        microseconds(claim.ttl).into(),
    ]
}

fn holder(parts: &[Value]) -> Result<Holder, Trouble> {
    let token = part(parts, 0)?.token()?;
    let owner = MemberId::from(part(parts, 1)?.text()?);
    let instance = part(parts, 2)?.instance()?;
    Ok(Holder::new(owner, instance, token).free_in(part(parts, 3)?.span()?))
}

fn check_key(key: &Key) -> Result<(), Trouble> {
    coordinator_core::check_key(key).map_err(Trouble::rejected)
}

#[async_trait]
impl LockBackend for Locks {
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
        let holder = self.try_holder(key).await;
        holder.map_err(|trouble| trouble.of_lock("read holder of", key))
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let waited = match self.check_claim(claim) {
            Ok(()) => Line::wait(&self.hub, claim).await,
            Err(trouble) => Err(trouble),
        };
        waited.map_err(|trouble| trouble.of_lock("wait for", &claim.key))
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        let changed = self.try_changed(key).await;
        changed.map_err(|trouble| trouble.of_lock("watch", key))
    }

    async fn alarm(&self, claim: &Claim, token: FencingToken) -> Result<(), LockError> {
        let alarm = self.try_alarm(claim, token).await;
        alarm.map_err(|trouble| trouble.of_lock("watch", &claim.key))
    }

    fn capabilities(&self) -> LockCapabilities {
        LockCapabilities::new().wakes().fair()
    }

    fn store(&self) -> StoreId {
        self.hub.store.clone()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.hub)
    }
}

#[cfg(test)]
mod tests {
    use coordinator_core::Group;

    use super::*;

    #[test]
    fn a_key_has_the_hash_tag_of_its_group() {
        for group in ["g", "a/b", "50%", "%2F"] {
            let key = Key::scoped(&Group::from(group), "lock", "x/y");
            assert_eq!(group_of(&key), group);
        }
        assert_eq!(group_of(&Key::from("bare")), "");
    }
}
