//! What renews, what releases, and what comes after.

use std::time::Duration;

use coordinator_core::{Acquisition, FencingToken, Key, MemberId, Release, Renewal};
use tokio::time::Instant;

use super::client::{Client, Locks};
use super::tokens::rises;
use crate::lab::{SHORT, until};
use crate::report::{Stop, Verdict, broken, require, skip};

/// So long a lease is kept for a successor (clause 7).
const KEPT: Duration = Duration::from_secs(1);

pub(super) async fn only_the_grant_itself_is_renewed(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, lab.long()).await?;
    for wrong in [token.get() - 1, token.get() + 1] {
        let wrong = FencingToken::new(wrong);
        ann.renew_is(&claim, wrong, Renewal::Lost, "the token is another")
            .await?;
    }
    let stranger = bob.claim(&key, lab.long());
    bob.renew_is(&stranger, token, Renewal::Lost, "the instance is another")
        .await?;
    let other = ann.claim(&Key::new("other"), lab.long());
    ann.renew_is(&other, token, Renewal::Lost, "the key is another")
        .await?;
    ann.sees_nobody(&other.key, "which nobody took").await?;
    ann.renew_is(&claim, token, Renewal::Renewed, "the grant lasts")
        .await
}

pub(super) async fn an_expired_grant_is_not_renewed(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, SHORT).await?;
    gone(&bob, &key, SHORT).await?;
    ann.renew_is(&claim, token, Renewal::Lost, "the grant has expired")
        .await?;
    bob.sees_nobody(&key, "after a late renewal").await?;
    // Asked again, the claim is refused or is a new grant: never the old one.
    let again = lab.within("acquire", ann.backend.acquire(&claim)).await?;
    match again {
        Ok(Acquisition::Granted(new)) => rises("an expiry", token, new),
        Ok(held @ Acquisition::HeldBy(_)) => Err(broken("a grant, or a refusal for good", held)),
        Err(_) => bob.sees_nobody(&key, "after a refused claim").await,
    }
}

/// Waits until nobody holds the key.
async fn gone(client: &Client<'_>, key: &Key, limit: Duration) -> Verdict {
    let what = "`holder` to tell of nobody";
    client
        .lab
        .eventually(what, limit, async || {
            Ok(client.holder(key).await?.is_none())
        })
        .await
}

pub(super) async fn a_superseded_grant_is_not_renewed(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (old, old_token) = ann.take(&key, SHORT).await?;
    let (_, token) = bob
        .eventually_granted(&key, lab.long(), SHORT, "its TTL has passed")
        .await?;
    ann.renew_is(&old, old_token, Renewal::Lost, "another has the key")
        .await?;
    ann.renew_is(&old, token, Renewal::Lost, "the token is the successor's")
        .await?;
    ann.sees(&key, &bob, token).await
}

pub(super) async fn a_stale_token_releases_nothing(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (old, stale) = ann.take(&key, SHORT).await?;
    let (claim, token) = bob
        .eventually_granted(&key, lab.long(), SHORT, "its TTL has passed")
        .await?;
    ann.release_is(&old, stale, Release::NotHeld, "the grant was lost")
        .await?;
    ann.sees(&key, &bob, token).await?;
    let wrong = bob.claim(&key, lab.long());
    bob.release_is(&wrong, stale, Release::NotHeld, "the token is an older one")
        .await?;
    ann.release_is(
        &old,
        token,
        Release::NotHeld,
        "the token is the successor's",
    )
    .await?;
    ann.sees(&key, &bob, token).await?;
    bob.renew_is(
        &claim,
        token,
        Renewal::Renewed,
        "nobody has released the grant",
    )
    .await
}

pub(super) async fn acquire_waits_for_no_holder(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let ttl = lab.long();
    ann.take(&key, ttl).await?;
    let asked = Instant::now();
    bob.refused(&key, "another holds it").await?;
    let took = asked.elapsed();
    require(
        took < ttl / 4,
        "an answer without waiting for the holder",
        took,
    )
}

pub(super) async fn a_release_frees_at_once(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    for _ in 0..3 {
        let (claim, token) = ann.take(&key, lab.long()).await?;
        ann.let_go(&claim, token).await?;
        bob.sees_nobody(&key, "after a release").await?;
        ann.renew_is(&claim, token, Renewal::Lost, "the grant was released")
            .await?;
        let (claim, token) = bob.take(&key, lab.long()).await?;
        bob.let_go(&claim, token).await?;
    }
    Ok(())
}

pub(super) async fn a_release_after_a_loss_is_answered(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, SHORT).await?;
    gone(&bob, &key, SHORT).await?;
    ann.release_is(&claim, token, Release::NotHeld, "the grant has expired")
        .await?;
    let (claim, token) = bob.take(&key, lab.long()).await?;
    bob.let_go(&claim, token).await?;
    bob.release_is(&claim, token, Release::NotHeld, "it was released before")
        .await?;
    let (claim, token) = ann.take(&key, lab.long()).await?;
    ann.let_go(&claim, token).await
}

/// Releases for a successor; skips the check where the lease is not kept.
async fn kept_for(
    lab: &Locks,
    key: &Key,
    next: &MemberId,
) -> Result<(Instant, FencingToken), Stop> {
    let (ann, eve) = (lab.client("ann").await?, lab.client("eve").await?);
    let (claim, token) = ann.take(key, lab.long()).await?;
    let asked = Instant::now();
    ann.hand_over(&claim, token, next).await?;
    let rival = eve.claim(key, lab.long());
    match eve.acquire(&rival).await? {
        Acquisition::Granted(_) => Err(skip("the backend keeps no lease for a successor")),
        Acquisition::HeldBy(holder) => {
            let seen = holder.owner;
            require(
                seen == *next,
                format!("`HeldBy` {next}, for whom it is kept"),
                seen,
            )?;
            Ok((asked, token))
        }
    }
}

pub(super) async fn a_lease_kept_for_a_successor_is_its(lab: &Locks) -> Verdict {
    let (bob, key) = (lab.client("bob").await?, Key::new("k"));
    let (asked, token) = kept_for(lab, &key, &bob.owner).await?;
    let claim = bob.claim(&key, lab.long());
    match bob.acquire(&claim).await? {
        Acquisition::Granted(new) => rises("a hand-over", token, new),
        held @ Acquisition::HeldBy(_) if asked.elapsed() < KEPT => {
            Err(broken("a grant for the successor", held))
        }
        Acquisition::HeldBy(_) => Err(skip("the store was too slow to hand over in time")),
    }
}

pub(super) async fn a_lease_is_not_kept_for_long(lab: &Locks) -> Verdict {
    let (dan, key) = (lab.client("dan").await?, Key::new("k"));
    let (asked, token) = kept_for(lab, &key, &"nobody".into()).await?;
    until(asked, KEPT).await;
    let (_, new) = dan
        .eventually_granted(&key, lab.long(), SHORT, "it is kept for a second at most")
        .await?;
    rises("a hand-over that nobody took", token, new)
}
