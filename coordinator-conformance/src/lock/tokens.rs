//! Tokens, which only rise.

use coordinator_core::{FencingToken, Key, NUMBER_LIMIT};

use super::client::{Client, Locks};
use crate::lab::SHORT;
use crate::report::{Verdict, require};

/// That the second token is higher, and both are exact in every reader.
pub(super) fn rises(over: &str, before: FencingToken, after: FencingToken) -> Verdict {
    require(
        after > before && after.get() < NUMBER_LIMIT,
        format!("a token above {before} and below {NUMBER_LIMIT}, over {over}"),
        after,
    )
}

pub(super) async fn tokens_rise_over_releases(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let mut last = FencingToken::new(0);
    for turn in 0..10 {
        let client = if turn % 3 == 0 { &ann } else { &bob };
        let (claim, token) = client.take(&key, lab.long()).await?;
        rises("a release", last, token)?;
        client.let_go(&claim, token).await?;
        last = token;
    }
    Ok(())
}

pub(super) async fn tokens_rise_over_expiry(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (_, mut last) = ann.take(&key, SHORT).await?;
    for client in [&bob, &bob, &ann] {
        let (_, token) = client
            .eventually_granted(&key, SHORT, SHORT, "its TTL has passed")
            .await?;
        rises("an expiry", last, token)?;
        last = token;
    }
    Ok(())
}

pub(super) async fn tokens_exceed_the_floor(lab: &Locks) -> Verdict {
    let (ann, key) = (lab.client("ann").await?, Key::new("k"));
    let (claim, first) = ann.take(&key, lab.long()).await?;
    ann.let_go(&claim, first).await?;
    // An hour ahead, of a number that is at least the store's clock in milliseconds, or counts.
    let floor = FencingToken::new(first.get() + 60 * 60 * 1000);
    let claim = ann.claim(&key, lab.long()).floor(Some(floor));
    let second = ann.granted(&claim).await?;
    rises("the floor that the asker gave", floor, second)?;
    ann.let_go(&claim, second).await?;
    let (_, third) = ann.take(&key, lab.long()).await?;
    rises("a grant above a floor", second, third)
}

pub(super) async fn a_floor_from_far_ahead_is_ignored(lab: &Locks) -> Verdict {
    let (ann, key) = (lab.client("ann").await?, Key::new("k"));
    let mut last = FencingToken::new(0);
    for far in [NUMBER_LIMIT - 3, NUMBER_LIMIT - 2, u64::MAX] {
        let claim = ann
            .claim(&key, lab.long())
            .floor(Some(FencingToken::new(far)));
        let token = ann.granted(&claim).await?;
        rises("a release", last, token)?;
        require(
            token.get() < NUMBER_LIMIT / 2,
            format!("a floor of {far} to be ignored"),
            token,
        )?;
        ann.let_go(&claim, token).await?;
        last = token;
    }
    Ok(())
}

pub(super) async fn tokens_rise_over_a_restart(lab: &Locks) -> Verdict {
    let (ann, bob) = (lab.client("ann").await?, lab.client("bob").await?);
    let (held, free) = (Key::new("held"), Key::new("free"));
    let (_, kept) = ann.take(&held, lab.long()).await?;
    let (claim, first) = ann.take(&free, lab.long()).await?;
    ann.let_go(&claim, first).await?;
    lab.restart().await?;
    back_up(&bob, &held).await?;
    bob.refused(&held, "the lease outlives a restart").await?;
    bob.sees(&held, &ann, kept).await?;
    let (_, second) = bob.take(&free, lab.long()).await?;
    rises("a restart", first, second)
}

/// Waits until the store answers again.
pub(super) async fn back_up(client: &Client<'_>, key: &Key) -> Verdict {
    let what = "the store to answer after its restart";
    let limit = client.lab.patience();
    client
        .lab
        .eventually(what, limit, async || {
            let answered = client
                .lab
                .within("holder", client.backend.holder(key))
                .await?;
            Ok(answered.is_ok())
        })
        .await
}
