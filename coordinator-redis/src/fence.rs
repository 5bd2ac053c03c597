//! Writes of the application to the same Redis, applied only while no other holds the lease.

use std::fmt;

use bytes::Bytes;
use coordinator_core::{FencingToken, Held, HeldShard, Key, Lease, LockError, Lost, StoreId};

use crate::RedisBackend;
use crate::assignments::assignment_key;
use crate::checkpoints::{check_fits, checkpoints_key};
use crate::fields::Fields;
use crate::hub::Hub;
use crate::locks::{group_of, lease_key};
use crate::reply::{Read, part, verdict};
use crate::script::Script;
use crate::trouble::Trouble;

static WRITE: Script = Script::plain(
    "fence_write",
    concat!(
        include_str!("../lua/fields.lua"),
        include_str!("../lua/checkpoint_common.lua"),
        include_str!("../lua/fence_write.lua")
    ),
);

/// The most texts that one command may have: Lua passes no more at once.
const MAX_COMMAND: usize = 7_000;

/// Why writes were not applied, or may not have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The lease is no longer held: stop the work.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The lease was granted by another store than the one that is written to: a token says nothing there.
    #[error("the lease is of store `{lease}`, which `{here}` is not")]
    OtherStore {
        /// Which store granted it.
        lease: StoreId,
        /// Which store this is.
        here: StoreId,
    },
    /// Another has taken over: stop the work. Nothing was written.
    #[error("token {token} of `{key}` is no longer the highest: {higher} is; stop the work")]
    Refused {
        /// What was leased.
        key: Key,
        /// The lease's token.
        token: FencingToken,
        /// The token of who took over.
        higher: FencingToken,
    },
    /// The store knows nothing of the lease: it has lost its memory, or was cleaned by hand. Nothing was written.
    #[error("the store knows nothing of `{key}`: it may have lost its memory; stop the work")]
    NoRow {
        /// What was leased.
        key: Key,
    },
    /// A key that is written to holds something else than the command needs. Nothing was written.
    #[error("`{written}` holds a {found}, which the command cannot write to")]
    WrongType {
        /// The key that is written to.
        written: String,
        /// What it holds.
        found: String,
    },
    /// The store gave no answer. After `Indeterminate` the writes may have been applied.
    #[error(transparent)]
    Store(#[from] LockError),
}

/// Writes that are applied all at once, and only if no higher token of the lease is known to the store: see
/// [`RedisBackend::fenced`].
#[must_use = "nothing is written before `apply`"]
#[derive(Debug)]
pub struct FencedWrites<'a> {
    hub: &'a Hub,
    lease: Result<Lease, Lost>,
    position: Option<String>,
    keys: Vec<Bytes>,
    /// For each key its command, the type that it needs, and the rest.
    commands: Vec<[Bytes; 3]>,
    longest: usize,
}

impl RedisBackend {
    /// Begins writes that are applied only while no other was granted the lease, judged in the store itself, in the moment of the
    /// writing: a holder that was paused and superseded changes nothing any more.
    ///
    /// In a cluster every key that is written must carry the lease's hash tag: see [`RedisBackend::hash_tag`].
    ///
    /// This protects what lies in the same server. After a fail-over that lost the last writes, the writes of a holder that
    /// only the lost ones had superseded pass.
    pub fn fenced(&self, held: &(impl Held + ?Sized)) -> FencedWrites<'_> {
        self.fenced_by(held.lease().cloned())
    }

    /// The same for a shard, whose position can be saved together with the writes: then what the work writes, how far it has
    /// come, and that the shard is still owned, are one step.
    pub fn fenced_with_position(
        &self,
        held: &(impl HeldShard + ?Sized),
        position: impl fmt::Display,
    ) -> FencedWrites<'_> {
        let mut writes = self.fenced_by(held.lease().cloned());
        writes.position = Some(position.to_string());
        writes
    }

    /// The hash tag of a lease, braces included: a key that holds it lies on the lease's node of a cluster.
    pub fn hash_tag(&self, key: &Key) -> String {
        self.hub.names.tag(&group_of(key)).to_string()
    }

    fn fenced_by(&self, lease: Result<Lease, Lost>) -> FencedWrites<'_> {
        FencedWrites {
            hub: &self.hub,
            lease,
            position: None,
            keys: Vec::new(),
            commands: Vec::new(),
            longest: 0,
        }
    }
}

impl FencedWrites<'_> {
    /// `SET key value`.
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.command("SET", "", key.as_ref(), &[value.as_ref()])
    }

    /// `HSET key field value [field value …]`.
    pub fn hset<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Self {
        let fields: Vec<(F, V)> = fields.into_iter().collect();
        let rest: Vec<&[u8]> = flat(&fields).collect();
        self.command("HSET", "hash", key.as_ref(), &rest)
    }

    /// `XADD key * field value [field value …]`.
    pub fn xadd<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        key: impl AsRef<[u8]>,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Self {
        let fields: Vec<(F, V)> = fields.into_iter().collect();
        let id: &[u8] = b"*";
        let rest: Vec<&[u8]> = std::iter::once(id).chain(flat(&fields)).collect();
        self.command("XADD", "stream", key.as_ref(), &rest)
    }

    fn command(
        mut self,
        name: &'static str,
        kind: &'static str,
        key: &[u8],
        rest: &[&[u8]],
    ) -> Self {
        let mut fields = Fields::new();
        for text in rest {
            fields.push(text);
        }
        self.longest = self.longest.max(rest.len());
        self.keys.push(Bytes::copy_from_slice(key));
        self.commands
            .push([name.into(), kind.into(), fields.done()]);
        self
    }

    /// Applies the writes: all of them, or none. Gives the ids of the stream entries, in order.
    ///
    /// # Errors
    /// See [`FenceError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped, the writes may have been applied, all or none.
    pub async fn apply(self) -> Result<Vec<String>, FenceError> {
        let lease = self.lease.clone()?;
        if lease.store != self.hub.store {
            return Err(FenceError::OtherStore {
                lease: lease.store,
                here: self.hub.store.clone(),
            });
        }
        let answer = match self.ask(&lease).await {
            Ok(answer) => answer,
            Err(trouble) => return Err(trouble.of_lock("write under", &lease.key).into()),
        };
        read(&lease, &answer)
    }

    async fn ask(&self, lease: &Lease) -> Result<crate::client::Value, Trouble> {
        if self.longest > MAX_COMMAND {
            return Err(Trouble::rejected(format!(
                "a command has {} fields and values, allowed are {MAX_COMMAND}",
                self.longest
            )));
        }
        if let Some(position) = &self.position {
            check_fits(position)?;
        }
        let tag = self.hub.names.tag(&group_of(&lease.key));
        let shard = shard_of(&lease.key);
        let (guard, document) = match shard {
            Some((keyspace, _)) => (
                checkpoints_key(&tag, keyspace),
                assignment_key(&tag, keyspace),
            ),
            None => (lease_key(&tag, &lease.key), lease_key(&tag, &lease.key)),
        };
        let keys: Vec<Bytes> = [guard, document]
            .into_iter()
            .chain(self.keys.iter().cloned())
            .collect();
        let position = self
            .position
            .as_ref()
            .map(|position| format!("+{position}"));
        let mut args: Vec<Bytes> = vec![
            lease.token.to_string().into(),
            shard.map_or("", |(_, shard)| shard).to_owned().into(),
            position.unwrap_or_default().into(),
        ];
        args.extend(self.commands.iter().flatten().cloned());
        self.hub.run(&WRITE, &tag, &keys, args).await
    }
}

fn flat<F: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(F, V)]) -> impl Iterator<Item = &[u8]> {
    fields
        .iter()
        .flat_map(|(field, value)| [field.as_ref(), value.as_ref()])
}

/// Keyspace and number of the shard that a key names: `group/shard/keyspace/number`.
fn shard_of(key: &Key) -> Option<(&str, &str)> {
    let (_, rest) = key.as_str().split_once('/')?;
    rest.strip_prefix("shard/")?.rsplit_once('/')
}

fn read(lease: &Lease, answer: &crate::client::Value) -> Result<Vec<String>, FenceError> {
    let unreadable =
        |trouble: Trouble| FenceError::from(trouble.of_lock("write under", &lease.key));
    let key = lease.key.clone();
    let (said, parts) = verdict(answer).map_err(unreadable)?;
    match said {
        "written" => ids(parts).map_err(unreadable),
        "refused" => Err(FenceError::Refused {
            key,
            token: lease.token,
            higher: part(parts, 0).and_then(Read::token).map_err(unreadable)?,
        }),
        "no_row" => Err(FenceError::NoRow { key }),
        "wrong_type" => {
            let shown = |place| {
                let text = part(parts, place)
                    .and_then(Read::bytes)
                    .map_err(unreadable)?;
                Ok::<_, FenceError>(String::from_utf8_lossy(text).into_owned())
            };
            Err(FenceError::WrongType {
                written: shown(0)?,
                found: shown(1)?,
            })
        }
        other => Err(unreadable(Trouble::unreadable(other))),
    }
}

/// What a stream said of its new entries. Other commands say nothing that is worth telling.
fn ids(parts: &[crate::client::Value]) -> Result<Vec<String>, Trouble> {
    let answers = part(parts, 0)?.list()?.iter();
    let texts = answers.map(|answer| answer.text().map(str::to_owned));
    let texts: Result<Vec<String>, Trouble> = texts.collect();
    Ok(texts?.into_iter().filter(|id| !id.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use coordinator_core::Group;

    use super::*;

    #[test]
    fn a_key_of_a_shard_names_keyspace_and_number() {
        let key = Key::scoped(&Group::from("a/b"), "shard", "orders/eu/7");
        assert_eq!(shard_of(&key), Some(("orders/eu", "7")));
        let key = Key::scoped(&Group::from("g"), "lock", "shard/7");
        assert_eq!(shard_of(&key), None);
    }
}
