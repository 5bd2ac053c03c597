//! Keys, namespaces, and what is no key.

use std::time::Duration;

use coordinator_core::{Key, MAX_SCOPED_BYTES};

use super::client::Locks;
use crate::probe::odd_names;
use crate::report::{Verdict, require};

pub(super) async fn keys_do_not_touch_each_other(lab: &Locks) -> Verdict {
    let (ann, bob) = (lab.client("ann").await?, lab.client("bob").await?);
    let mut grants = Vec::new();
    for name in odd_names(MAX_SCOPED_BYTES) {
        let key = Key::new(name);
        let (claim, token) = ann.take(&key, lab.long()).await?;
        grants.push((claim, token));
    }
    for (claim, token) in &grants {
        bob.sees(&claim.key, &ann, *token).await?;
        bob.refused(&claim.key, "another holds it").await?;
        ann.let_go(claim, *token).await?;
        bob.sees_nobody(&claim.key, "after its release").await?;
    }
    Ok(())
}

pub(super) async fn namespaces_do_not_touch_each_other(lab: &Locks) -> Verdict {
    let (here, key) = (lab.client("ann").await?, Key::new("k"));
    let there = lab.client_on(lab.connect_elsewhere().await?, "ann");
    let (claim, token) = here.take(&key, lab.long()).await?;
    there.sees_nobody(&key, "in another namespace").await?;
    let (_, other) = there.take(&key, lab.long()).await?;
    here.let_go(&claim, token).await?;
    there.sees(&key, &there, other).await?;
    here.sees_nobody(&key, "after its release").await
}

pub(super) async fn connections_name_their_store(lab: &Locks) -> Verdict {
    let ids = [
        lab.connect().await?.store(),
        lab.connect().await?.store(),
        lab.connect_elsewhere().await?.store(),
    ];
    require(
        ids[0] == ids[1] && ids[0] != ids[2],
        "one id for two connections to a namespace, and another for another namespace",
        ids,
    )
}

pub(super) async fn a_malformed_key_is_rejected(lab: &Locks) -> Verdict {
    let ann = lab.client("ann").await?;
    let too_long = "x".repeat(64 * 1024);
    for name in ["", too_long.as_str()] {
        let claim = ann.claim(&Key::new(name), lab.long());
        let why = format!("the key has {} bytes", name.len());
        ann.is_rejected(&claim, &why).await?;
    }
    ann.take(&Key::new("k"), lab.long()).await?;
    Ok(())
}

pub(super) async fn a_ttl_out_of_bounds_is_rejected(lab: &Locks) -> Verdict {
    let (ann, key) = (lab.client("ann").await?, Key::new("k"));
    let longest = lab.settings().max_ttl;
    for ttl in [
        Duration::ZERO,
        longest + Duration::from_millis(1),
        longest * 100,
    ] {
        let claim = ann.claim(&key, ttl);
        ann.is_rejected(&claim, &format!("the ttl is {ttl:?}, at most {longest:?}"))
            .await?;
        ann.sees_nobody(&key, "after a rejected claim").await?;
    }
    ann.take(&key, longest).await?;
    Ok(())
}
