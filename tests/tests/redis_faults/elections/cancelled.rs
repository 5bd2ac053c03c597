//! Acquires that are given up.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use coordinator_node::{LockConfig, Node};
use tokio::time::timeout;

use super::AT_ONCE;
use crate::kit::{CLIENTS, LONG, Place, Tested};

/// Polls a future so many times, and drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn node(place: &Place, name: &str) -> Tested<Node> {
    let node = Node::builder("g").url(place.url()).member(name);
    Ok(node.ttl(Duration::from_secs(20)).start().await?)
}

/// E19: an acquire of a free lock is dropped at any moment; another has the lock at once, each time.
#[tokio::test]
async fn e19_an_acquire_that_is_dropped_leaves_no_lock_that_nobody_holds() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let (a, b) = (node(&place, "a").await?, node(&place, "b").await?);
        let lock = LockConfig::new("l").ttl(Duration::from_secs(20));
        for round in 0..24_u64 {
            let wanted = a.lock(lock.clone());
            if round % 2 == 0 {
                drop(polled(wanted.acquire(), usize::try_from(round / 2)?).await);
            } else {
                // From before the first statement until after the answer.
                drop(timeout(Duration::from_micros(400 * round), wanted.acquire()).await);
            }
            let free = b.lock(lock.clone());
            let held = timeout(LONG, free.acquire());
            let began = std::time::Instant::now();
            held.await??.release().await?;
            assert!(
                began.elapsed() < AT_ONCE * 2,
                "{client}, round {round}: {:?}",
                began.elapsed()
            );
        }
        a.shutdown().await?;
        b.shutdown().await?;
    }
    Ok(())
}

/// E19, D2: an acquire that waits in line is dropped: nobody stands there any more, and the lock goes to
/// whoever comes next.
#[tokio::test]
async fn e19_a_wait_that_is_dropped_leaves_the_line() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let (a, b) = (node(&place, "a").await?, node(&place, "b").await?);
        let lock = LockConfig::new("l").ttl(Duration::from_secs(20));
        let held = a.lock(lock.clone()).acquire().await?;
        for round in 0..5 {
            let wanted = b.lock(lock.clone());
            let mut wait = Box::pin(wanted.acquire());
            let waits = place.until_waiting(1);
            tokio::select! {
                biased;
                held = &mut wait => anyhow::bail!("round {round}: it has the lock: {held:?}"),
                waits = waits => waits?,
            }
            drop(wait);
            let began = std::time::Instant::now();
            place.until_waiting(0).await?;
            assert!(
                began.elapsed() < AT_ONCE * 2,
                "round {round}: it waited still"
            );
        }
        held.release().await?;
        timeout(AT_ONCE * 2, b.lock(lock).acquire())
            .await??
            .release()
            .await?;
        a.shutdown().await?;
        b.shutdown().await?;
    }
    Ok(())
}
