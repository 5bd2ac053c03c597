//! What is told, and what is only hinted at.

use std::cell::RefCell;
use std::time::Duration;

use coordinator_core::{Acquisition, Key};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, Locks};
use crate::join::join_all;
use crate::lab::SHORT;
use crate::probe::poll_times;
use crate::report::{Stop, Verdict, broken, require, require_eq, skip};

/// How long a wake-up may take.
const SOON: Duration = Duration::from_secs(2);
/// How long a waiter takes at most to be known to the store as one.
const BEGUN: Duration = Duration::from_millis(60);

pub(super) async fn the_holder_is_told_truly(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    bob.sees_nobody(&key, "before any grant").await?;
    let (claim, token) = ann.take(&key, lab.long()).await?;
    bob.sees(&key, &ann, token).await?;
    ann.sees(&key, &ann, token).await?;
    ann.let_go(&claim, token).await?;
    bob.sees_nobody(&key, "after the release").await?;
    ann.take(&key, SHORT).await?;
    lab.eventually("`holder` to tell of nobody", SHORT, async || {
        Ok(bob.holder(&key).await?.is_none())
    })
    .await
}

pub(super) async fn a_lease_is_said_to_last_no_longer_than_its_ttl(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    let ttl = lab.long();
    ann.take(&key, ttl).await?;
    let told = [
        Some(bob.refused(&key, "another holds it").await?),
        bob.holder(&key).await?,
    ];
    let spans: Vec<_> = told
        .into_iter()
        .filter_map(|holder| holder?.free_in)
        .collect();
    if spans.is_empty() {
        return Err(skip("the backend does not say how long a lease lasts"));
    }
    require(
        spans.iter().all(|span| !span.is_zero() && *span <= ttl),
        format!("more than nothing, and at most {ttl:?}"),
        spans,
    )
}

pub(super) async fn a_waiter_is_woken_by_a_release(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    if !bob.backend.capabilities().wakes {
        return Err(skip("the backend does not say that it wakes waiters"));
    }
    for _ in 0..3 {
        let (claim, token) = ann.take(&key, lab.long()).await?;
        let next = bob.claim(&key, lab.long());
        let released = async {
            sleep(BEGUN).await;
            ann.let_go(&claim, token).await?;
            Ok::<_, Stop>(Instant::now())
        };
        let waiter = async { take_turn(&bob, &next).await };
        let (released, taken) = tokio::join!(released, waiter);
        let (token, at) = taken?;
        let took = at.saturating_duration_since(released?);
        require(
            took < SOON,
            format!("a wake-up within {SOON:?} of the release"),
            took,
        )?;
        bob.let_go(&next, token).await?;
    }
    Ok(())
}

/// Waits for a turn and takes it, as often as it takes; only hints, no polling.
async fn take_turn(
    client: &Client<'_>,
    claim: &coordinator_core::Claim,
) -> Result<(coordinator_core::FencingToken, Instant), Stop> {
    let began = Instant::now();
    let limit = SOON + BEGUN + client.lab.patience();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let Ok(hint) = timeout(left, client.backend.wait_turn(claim)).await else {
            return Err(broken(
                "`wait_turn` to return after a release",
                "it did not",
            ));
        };
        hint.map_err(|error| broken("a hint from `wait_turn`", error))?;
        if let Acquisition::Granted(token) = client.acquire(claim).await? {
            return Ok((token, Instant::now()));
        }
        // A hint for no reason is allowed; do not spin on it.
        sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn waiters_are_served_in_order(lab: &Locks) -> Verdict {
    let (ann, key) = (lab.client("ann").await?, Key::new("k"));
    let capabilities = ann.backend.capabilities();
    if !(capabilities.fair && capabilities.wakes) {
        return Err(skip(
            "the backend does not say that it serves waiters in order",
        ));
    }
    let waiters = [
        lab.client("w-0").await?,
        lab.client("w-1").await?,
        lab.client("w-2").await?,
    ];
    let (claim, token) = ann.take(&key, lab.long()).await?;
    let served = RefCell::new(Vec::new());
    let (served_to, key) = (&served, &key);
    let waiting = (0_u32..).zip(&waiters).map(|(number, waiter)| async move {
        sleep(BEGUN * number).await;
        let claim = waiter.claim(key, lab.long());
        let (token, _) = take_turn(waiter, &claim).await?;
        served_to.borrow_mut().push(number);
        waiter.let_go(&claim, token).await
    });
    let release = async {
        sleep(BEGUN * 4).await;
        ann.let_go(&claim, token).await
    };
    let (released, waited) = tokio::join!(release, join_all(waiting));
    released?;
    waited.into_iter().collect::<Verdict>()?;
    require_eq("the order of service", &served.take(), &vec![0, 1, 2])
}

pub(super) async fn hints_grant_nothing(lab: &Locks) -> Verdict {
    let (ann, bob, key) = (
        lab.client("ann").await?,
        lab.client("bob").await?,
        Key::new("k"),
    );
    for polls in [1, 2, 5] {
        let (claim, token) = ann.take(&key, lab.long()).await?;
        let waiting = bob.claim(&key, lab.long());
        poll_times(bob.backend.wait_turn(&waiting), polls).await;
        poll_times(bob.backend.changed(&key), polls).await;
        poll_times(ann.backend.alarm(&claim, token), polls).await;
        poll_times(bob.backend.alarm(&claim, token), polls).await;
        bob.sees(&key, &ann, token).await?;
        ann.let_go(&claim, token).await?;
        // A dropped wait may hold the turn for a moment, but not for its claim's TTL.
        let (claim, token) = ann
            .eventually_granted(&key, lab.long(), SHORT, "a hint grants nothing")
            .await?;
        ann.let_go(&claim, token).await?;
    }
    Ok(())
}
