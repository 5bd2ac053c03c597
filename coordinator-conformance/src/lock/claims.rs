//! Claims: what is one attempt, and what is another.

use coordinator_core::{Acquisition, Key, Renewal};
use tokio::time::Instant;

use super::client::Locks;
use super::tokens::rises;
use crate::lab::{Look, SHORT, told_within, until};
use crate::probe::poll_times;
use crate::report::{Verdict, require, require_eq};

pub(super) async fn asking_again_is_the_same_grant(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, lab.long()).await?;
    for _ in 0..3 {
        let again = ann.acquire(&claim).await?;
        require_eq("the same claim again", &again, &Acquisition::Granted(token))?;
    }
    // Over another connection, as after a reconnect.
    let elsewhere = lab.answer("acquire", bob.backend.acquire(&claim)).await?;
    let wanted = Acquisition::Granted(token);
    require_eq(
        "the same claim over another connection",
        &elsewhere,
        &wanted,
    )?;
    bob.sees(&key, &ann, token).await?;
    ann.renew_is(&claim, token, Renewal::Renewed, "the grant lasts")
        .await
}

pub(super) async fn asking_again_prolongs_nothing(lab: &Locks) -> Verdict {
    let (ann, bob) = (&lab.client("ann").await?, &lab.client("bob").await?);
    lab.timed(|ttl, key| {
        Box::pin(async move {
            let key = Key::new(key);
            let asked = Instant::now();
            let (claim, token) = ann.take(&key, ttl).await?;
            until(asked, ttl * 8 / 10).await;
            let again = Instant::now();
            let answer = ann.acquire(&claim).await?;
            if told_within(asked, ttl) == Look::TooLate {
                return Ok(Look::TooLate);
            }
            require_eq(
                "the same claim again",
                &answer,
                &Acquisition::Granted(token),
            )?;
            until(asked, ttl).await;
            // Had the second asking prolonged the grant, it would last until a TTL after it.
            while told_within(again, ttl) == Look::Told {
                let rival = bob.claim(&key, ttl);
                if let Acquisition::Granted(_) = bob.acquire(&rival).await? {
                    return Ok(told_within(again, ttl));
                }
                until(Instant::now(), ttl / 50).await;
            }
            Ok(Look::TooLate)
        })
    })
    .await
}

pub(super) async fn a_released_claim_is_never_granted_again(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, lab.long()).await?;
    ann.let_go(&claim, token).await?;
    ann.is_rejected(&claim, "the claim was released").await?;
    bob.sees_nobody(&key, "after a rejected claim").await?;
    let (_, second) = ann.take(&key, lab.long()).await?;
    rises("a release", token, second)
}

pub(super) async fn a_new_process_under_an_old_name_claims_anew(lab: &Locks) -> Verdict {
    let (first, second) = (lab.client("ann").await?, lab.client("ann").await?);
    let key = Key::new("k");
    let (claim, token) = first.take(&key, lab.long()).await?;
    let twin = second.claim(&key, lab.long());
    require(
        twin.id == claim.id,
        "two claims of one number",
        (twin.id, claim.id),
    )?;
    let answer = second.acquire(&twin).await?;
    require(
        matches!(&answer, Acquisition::HeldBy(holder) if holder.instance == first.instance),
        "`HeldBy` the instance before the restart",
        answer,
    )?;
    second
        .renew_is(
            &twin,
            token,
            Renewal::Lost,
            "another instance of the owner was granted",
        )
        .await?;
    first.let_go(&claim, token).await?;
    // Not `Rejected`: it was the other instance's claim of this number that was released.
    let after = second.granted(&twin).await?;
    rises("a release", token, after)
}

pub(super) async fn a_dropped_acquire_can_be_withdrawn(lab: &Locks) -> Verdict {
    let (ann, bob) = (lab.client("ann").await?, lab.client("bob").await?);
    for polls in 0..6 {
        let key = Key::new(format!("dropped-after-{polls}"));
        let claim = ann.claim(&key, lab.long());
        poll_times(ann.backend.acquire(&claim), polls).await;
        let token = ann.granted(&claim).await?;
        ann.let_go(&claim, token).await?;
        bob.eventually_granted(&key, SHORT, SHORT, "the attempt was withdrawn")
            .await?;
    }
    Ok(())
}
