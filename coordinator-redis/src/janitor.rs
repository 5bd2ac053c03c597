//! Forgets what nobody can need any more of leases, members, groups and keyspaces (K3), by the rules in the scripts.
//!
//! Every process has one; each hash tag is cleaned once in a while by whichever comes first. A number may be forgotten once it lies more
//! than seven days behind the store's clock: the next one is higher, whether the last is remembered or not (K1). Checkpoints are
//! the user's data, and stay.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use tokio::time::sleep;

use crate::assignments::assignment_key;
use crate::checkpoints::checkpoints_key;
use crate::hub::Hub;
use crate::locks;
use crate::members::member_keys;
use crate::names::Tag;
use crate::reply::{Read, part, verdict};
use crate::script::Script;
use crate::trouble::Trouble;

/// The bounds of the rhythm.
const OFTEN: Duration = Duration::from_millis(100);
const RARELY: Duration = Duration::from_hours(30 * 24);
/// How many leases are looked at by one call.
const BATCH: usize = 100;

static TAGS_DUE: Script = Script::plain("tags_due", include_str!("../lua/tags_due.lua"));
static TAG_SWEEP: Script = Script::new("tag_sweep", include_str!("../lua/tag_sweep.lua"));
static CANDIDATES: Script = Script::plain(
    "lock_candidates",
    include_str!("../lua/lock_candidates.lua"),
);
static MEMBER_SWEEP: Script = Script::new(
    "member_sweep",
    concat!(
        include_str!("../lua/fields.lua"),
        include_str!("../lua/member_common.lua"),
        include_str!("../lua/member_sweep.lua")
    ),
);
static ASSIGNMENT_SWEEP: Script = Script::new(
    "assignment_sweep",
    concat!(
        include_str!("../lua/fields.lua"),
        include_str!("../lua/member_common.lua"),
        include_str!("../lua/assignment_sweep.lua")
    ),
);

/// Cleans until the backend is dropped.
pub(crate) async fn run(hub: Weak<Hub>) {
    let Some(every) = hub.upgrade().map(|hub| hub.config.clean_every) else {
        return;
    };
    let every = every.clamp(OFTEN, RARELY);
    loop {
        // Spread over the processes; and where no process lives for that long, some get there.
        let pause = every.mul_f64(rand::rng().random::<f64>());
        sleep(pause).await;
        let Some(hub) = hub.upgrade() else {
            return;
        };
        if let Err(trouble) = round(&hub, every).await {
            tracing::debug!(?trouble, "cannot clean up");
        }
    }
}

/// Cleans all tags that nobody has cleaned for so long.
async fn round(hub: &Hub, every: Duration) -> Result<(), Trouble> {
    let (own, index) = (hub.names.own_tag(), hub.names.tags_key());
    loop {
        let args = vec![every.as_millis().to_string().into()];
        let due = hub
            .run(&TAGS_DUE, &own, std::slice::from_ref(&index), args)
            .await?;
        let due = due.list()?;
        if due.is_empty() {
            return Ok(());
        }
        for tag in due {
            let tag = Tag::read(tag.text()?);
            if clean(hub, &tag).await? {
                hub.forget_tag(&tag).await?;
            }
        }
    }
}

/// Cleans one tag. Says whether nothing is left of it.
async fn clean(hub: &Hub, tag: &Tag) -> Result<bool, Trouble> {
    let keys = member_keys(tag);
    let answer = hub
        .run(&MEMBER_SWEEP, tag, &keys, vec![tag.channel()])
        .await?;
    let (said, parts) = verdict(&answer)?;
    if said == "idle" {
        for keyspace in part(parts, 0)?.list()? {
            clean_keyspace(hub, tag, keyspace.text()?).await?;
        }
    }
    clean_leases(hub, tag).await?;
    let must_be_gone: Vec<Bytes> = keys.into_iter().chain([locks::index_key(tag)]).collect();
    // That of no group names the store.
    let is_own = hub.has_identities() && *tag != hub.names.own_tag();
    let args = vec![if is_own { "1" } else { "0" }.into()];
    let answer = hub.run(&TAG_SWEEP, tag, &must_be_gone, args).await?;
    Ok(answer.text()? == "forgotten")
}

async fn clean_keyspace(hub: &Hub, tag: &Tag, keyspace: &str) -> Result<(), Trouble> {
    let own = [
        assignment_key(tag, keyspace),
        checkpoints_key(tag, keyspace),
    ];
    let keys: Vec<Bytes> = member_keys(tag).into_iter().chain(own).collect();
    let args = vec![keyspace.to_owned().into()];
    hub.run(&ASSIGNMENT_SWEEP, tag, &keys, args).await?;
    Ok(())
}

async fn clean_leases(hub: &Hub, tag: &Tag) -> Result<(), Trouble> {
    let index = [locks::index_key(tag)];
    let mut after = Bytes::from_static(b"-1");
    loop {
        let found = hub
            .run(&CANDIDATES, tag, &index, vec![after.clone()])
            .await?;
        let found = found.list()?;
        for pair in found.chunks_exact(2) {
            if let [key, token] = pair {
                locks::sweep(hub, &key.text()?.into()).await?;
                after = token.bytes()?.clone();
            }
        }
        if found.len() < BATCH * 2 {
            return Ok(());
        }
    }
}
