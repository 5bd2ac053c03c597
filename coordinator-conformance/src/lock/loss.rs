//! A store that lost its memory, its last writes, or a client.

use std::time::Duration;

use coordinator_core::{
    Acquisition, Claim, ErrorKind, FencingToken, Key, LockError, Release, Renewal,
};
use tokio::time::{sleep, timeout};

use super::client::{Client, Locks};
use super::tokens::rises;
use crate::report::{Stop, Verdict, broken, require};

/// Claims what the store may not grant yet; says how long the quarantine still lasts.
async fn quarantined(client: &Client<'_>, claim: &Claim) -> Result<Duration, Stop> {
    let (lab, asked) = (client.lab, client.backend.acquire(claim));
    let ends_within = lab.quarantined("acquire", asked, LockError::kind).await?;
    let longest = lab.settings().max_ttl * 2;
    require(
        ends_within <= longest,
        format!("a quarantine of at most {longest:?}"),
        ends_within,
    )?;
    Ok(ends_within)
}

/// Waits until the quarantine has passed, and takes the key.
async fn granted_after(
    client: &Client<'_>,
    claim: &Claim,
    quarantine: Duration,
) -> Result<FencingToken, Stop> {
    let mut grant = None;
    let what = "a grant after the quarantine";
    client
        .lab
        .eventually(what, quarantine, async || {
            let asked = client.backend.acquire(claim);
            match client.lab.within("acquire", asked).await? {
                Ok(Acquisition::Granted(token)) => grant = Some(token),
                Ok(held @ Acquisition::HeldBy(_)) => return Err(broken(what, held)),
                Err(LockError::Quarantined { ends_within, .. }) => {
                    sleep(ends_within.min(quarantine)).await;
                }
                Err(error) => return Err(broken(what, error)),
            }
            Ok(grant.is_some())
        })
        .await?;
    grant.ok_or_else(|| broken(what, "none"))
}

pub(super) async fn a_store_that_forgot_grants_nothing_at_first(lab: &Locks) -> Verdict {
    let (ann, bob) = (lab.client("ann").await?, lab.client("bob").await?);
    let (held, fresh) = (Key::new("held"), Key::new("fresh"));
    ann.take(&held, lab.long()).await?;
    lab.forget().await?;
    let claim = bob.claim(&held, lab.long());
    quarantined(&bob, &claim).await?;
    // A key that nobody had, too: the store cannot know that.
    quarantined(&bob, &bob.claim(&fresh, lab.long())).await?;
    let left = quarantined(&bob, &claim).await?;
    granted_after(&bob, &claim, left).await?;
    Ok(())
}

pub(super) async fn tokens_rise_over_a_loss_of_memory(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, before) = ann.take(&key, lab.long()).await?;
    ann.let_go(&claim, before).await?;
    lab.forget().await?;
    let claim = bob.claim(&key, lab.long());
    let after = granted_after(&bob, &claim, lab.settings().max_ttl * 2).await?;
    rises("a loss of memory", before, after)
}

pub(super) async fn a_holder_registers_again_after_a_loss_of_memory(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let ttl = lab.settings().max_ttl;
    let (claim, token) = ann.take(&key, ttl).await?;
    lab.forget().await?;
    ann.renew_is(
        &claim,
        token,
        Renewal::Renewed,
        "the store forgot, and knows no higher token",
    )
    .await?;
    bob.sees(&key, &ann, token).await?;
    let rival = bob.claim(&key, ttl);
    let refused = lab.within("acquire", bob.backend.acquire(&rival)).await?;
    require(
        matches!(
            refused.as_ref().map_err(LockError::kind),
            Ok(Acquisition::HeldBy(_)) | Err(ErrorKind::Quarantined { .. })
        ),
        "a refusal: the old holder is registered again",
        refused,
    )?;
    ann.let_go(&claim, token).await?;
    let after = granted_after(&bob, &rival, ttl * 2).await?;
    rises("a registered lease", token, after)
}

pub(super) async fn an_older_holder_does_not_register_over_a_newer(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let ttl = lab.long();
    let (old, old_token) = ann.take(&key, ttl).await?;
    ann.let_go(&old, old_token).await?;
    let (new, new_token) = bob.take(&key, ttl).await?;
    lab.forget().await?;
    bob.renew_is(
        &new,
        new_token,
        Renewal::Renewed,
        "the store forgot, and knows no higher token",
    )
    .await?;
    ann.renew_is(
        &old,
        old_token,
        Renewal::Lost,
        "a higher token is registered",
    )
    .await?;
    bob.sees(&key, &bob, new_token).await?;
    bob.release_is(&new, new_token, Release::Released, "it is registered")
        .await
}

pub(super) async fn tokens_rise_over_lost_writes(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, lab.long()).await?;
    ann.let_go(&claim, token).await?;
    lab.mark().await?;
    let (_, lost) = ann.take(&key, lab.long()).await?;
    lab.roll_back().await?;
    let claim = bob.claim(&key, lab.long());
    let left = quarantined(&bob, &claim).await?;
    let after = granted_after(&bob, &claim, left).await?;
    rises("a fail-over that lost the last grant", lost, after)
}

pub(super) async fn a_cut_client_is_not_answered(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    lab.cut(0).await?;
    let claim = ann.claim(&key, lab.long());
    // Silence is no answer, too: whoever asks has deadlines of its own.
    let asked = timeout(lab.patience() / 5, ann.backend.acquire(&claim)).await;
    match asked
        .as_ref()
        .map(|answer| answer.as_ref().map_err(LockError::kind))
    {
        Ok(Err(ErrorKind::Unavailable)) => {
            bob.sees_nobody(&key, "where nothing changed: the backend was `Unavailable`")
                .await?;
        }
        Err(_) | Ok(Err(ErrorKind::Indeterminate)) => {}
        Ok(Ok(_) | Err(ErrorKind::Quarantined { .. } | ErrorKind::Rejected)) => {
            return Err(broken("no answer through a cut", asked));
        }
    }
    lab.heal(0).await?;
    let mut token = None;
    lab.eventually("a grant after the cut", lab.patience(), async || {
        let answer = lab.within("acquire", ann.backend.acquire(&claim)).await?;
        if let Ok(Acquisition::Granted(granted)) = answer {
            token = Some(granted);
        }
        Ok(token.is_some())
    })
    .await?;
    let token = token.ok_or_else(|| broken("a grant after the cut", "none"))?;
    bob.sees(&key, &ann, token).await
}
