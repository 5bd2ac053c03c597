//! Who gets a lease, and for how long.

use std::time::Duration;

use coordinator_core::{Acquisition, Key};
use tokio::time::Instant;

use super::client::{Client, Locks};
use crate::join::join_all;
use crate::lab::{Look, told_within, until};
use crate::report::{Stop, Verdict, broken, require, require_eq};

const CROWD: usize = 10;

pub(super) async fn of_many_claims_at_once_one_is_granted(lab: &Locks) -> Verdict {
    for round in 0..5 {
        let key = Key::new(format!("crowd-{round}"));
        let mut clients = Vec::new();
        for number in 0..CROWD {
            clients.push(lab.client(&format!("member-{number}")).await?);
        }
        let asked = clients.iter().map(|client| async {
            let claim = client.claim(&key, lab.long());
            client.acquire(&claim).await
        });
        check_crowd(&clients, join_all(asked).await)?;
    }
    Ok(())
}

fn check_crowd(clients: &[Client<'_>], answers: Vec<Result<Acquisition, Stop>>) -> Verdict {
    let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let grants: Vec<_> = clients
        .iter()
        .zip(&answers)
        .filter_map(|(client, answer)| match answer {
            Acquisition::Granted(token) => Some((client, *token)),
            Acquisition::HeldBy(_) => None,
        })
        .collect();
    let &[(winner, token)] = grants.as_slice() else {
        let grants: Vec<_> = grants
            .iter()
            .map(|(client, token)| (&client.owner, token))
            .collect();
        return Err(broken("one grant among many claims at once", grants));
    };
    for answer in &answers {
        if let Acquisition::HeldBy(holder) = answer {
            let told = (&holder.owner, holder.instance, holder.token);
            require_eq(
                "the holder",
                &told,
                &(&winner.owner, winner.instance, token),
            )?;
        }
    }
    Ok(())
}

pub(super) async fn a_rival_is_refused_and_told_who_holds(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let (claim, token) = ann.take(&key, lab.long()).await?;
    for _ in 0..3 {
        let told = bob.refused(&key, "another holds it").await?;
        let told = (told.owner, told.instance, told.token);
        let holder = (ann.owner.clone(), ann.instance, token);
        require_eq("the holder as a rival is told", &told, &holder)?;
    }
    let told = ann.refused(&key, "its own older claim holds it").await?;
    require_eq("the token of the own older claim", &told.token, &token)?;
    ann.let_go(&claim, token).await
}

pub(super) async fn a_grant_lasts_its_whole_ttl(lab: &Locks) -> Verdict {
    let (ann, bob) = (&lab.client("ann").await?, &lab.client("bob").await?);
    lab.timed(|ttl, key| {
        Box::pin(async move {
            let key = Key::new(key);
            let asked = Instant::now();
            let (_claim, token) = ann.take(&key, ttl).await?;
            still_held(bob, &key, asked, ttl, (ann, token)).await
        })
    })
    .await
}

/// Looks at the key late in a TTL that began at `from` or after it: nobody else may have it.
async fn still_held(
    rival: &Client<'_>,
    key: &Key,
    from: Instant,
    ttl: Duration,
    (holder, token): (&Client<'_>, coordinator_core::FencingToken),
) -> Result<Look, Stop> {
    let mut last = Look::TooLate;
    for tenth in [4, 8] {
        until(from, ttl * tenth / 10).await;
        let claim = rival.claim(key, ttl);
        let answer = rival.acquire(&claim).await?;
        let seen = rival.holder(key).await?;
        last = told_within(from, ttl);
        if last == Look::TooLate {
            return Ok(last);
        }
        let passed = from.elapsed();
        require(
            matches!(&answer, Acquisition::HeldBy(told) if told.token == token),
            format!("{} to hold {key} for {ttl:?}", holder.owner),
            format!("{answer:?} after {passed:?}"),
        )?;
        require(
            seen.as_ref().is_some_and(|seen| seen.token == token),
            format!("`holder` to tell of {} for {ttl:?}", holder.owner),
            format!("{seen:?} after {passed:?}"),
        )?;
    }
    Ok(last)
}

pub(super) async fn a_renewal_lasts_a_whole_ttl(lab: &Locks) -> Verdict {
    let (ann, bob) = (&lab.client("ann").await?, &lab.client("bob").await?);
    lab.timed(|ttl, key| {
        Box::pin(async move {
            let key = Key::new(key);
            let mut asked = Instant::now();
            let (claim, token) = ann.take(&key, ttl).await?;
            for _ in 0..2 {
                until(asked, ttl / 2).await;
                let again = Instant::now();
                let renewal = ann.renew(&claim, token).await?;
                if told_within(asked, ttl) == Look::TooLate {
                    return Ok(Look::TooLate);
                }
                let wanted = coordinator_core::Renewal::Renewed;
                require_eq("`renew` of a grant that lasts", &renewal, &wanted)?;
                asked = again;
            }
            still_held(bob, &key, asked, ttl, (ann, token)).await
        })
    })
    .await
}

pub(super) async fn a_silent_holder_loses_its_lease(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let ttl = crate::lab::SHORT;
    ann.take(&key, ttl).await?;
    lab.eventually("`holder` to tell of nobody", ttl, async || {
        Ok(bob.holder(&key).await?.is_none())
    })
    .await?;
    let claim = bob.claim(&key, lab.long());
    bob.granted(&claim).await?;
    Ok(())
}
