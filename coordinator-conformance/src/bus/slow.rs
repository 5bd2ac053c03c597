//! Feeds that nobody reads.

use std::time::Duration;

use coordinator_core::{FeedEvent, Frame};
use tokio::time::timeout;

use super::client::{Bus, Listener, Short};
use crate::report::{Stop, Verdict, broken, require};

/// After so much silence a feed is read up.
const QUIET: Duration = Duration::from_millis(500);
const FLOOD: usize = 3_000;
const BATCH: usize = 20;

pub(super) async fn a_slow_feed_holds_up_nobody(lab: &Bus) -> Verdict {
    let (ann, bob, cid) = (
        lab.peer("ann").await?,
        lab.peer("bob").await?,
        lab.peer("cid").await?,
    );
    // Of another connection, of the reader's own, and of the publisher's.
    let _unread = [
        cid.listen(&["news"]).await?,
        bob.listen(&["news"]).await?,
        ann.listen(&["news"]).await?,
    ];
    let mut read = bob.listen(&["news"]).await?;
    for _ in 0..FLOOD / BATCH {
        let batch = ann.frames("news", BATCH);
        ann.publish(&batch).await?;
        read.gets(&batch).await?;
    }
    Ok(())
}

pub(super) async fn what_a_slow_feed_misses_is_seen(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut slow = bob.listen(&["news"]).await?;
    let large = vec![
        b'x';
        ann.bus
            .capabilities()
            .payload_limit
            .unwrap_or(4_000)
            .min(4_000)
    ];
    for _ in 0..FLOOD / BATCH {
        let batch: Vec<_> = (0..BATCH)
            .map(|_| ann.frame("news", large.clone()))
            .collect();
        ann.publish(&batch).await?;
    }
    let mut last = 0;
    for _ in 0..5 {
        let marker = ann.frame("news", "marker");
        ann.publish(std::slice::from_ref(&marker)).await?;
        if reads_up_to(&mut slow, &mut last, &marker).await? {
            return Ok(());
        }
    }
    Err(broken("what is sent to a feed that was read up", "nothing"))
}

/// Reads until this frame comes, or nothing more does: then it was dropped, as the queue was full.
async fn reads_up_to(
    slow: &mut Listener<'_>,
    last: &mut u64,
    marker: &Frame,
) -> Result<bool, Stop> {
    while let Ok(event) = timeout(QUIET, slow.feed.next()).await {
        match event {
            Some(FeedEvent::Frame { frame, .. }) => {
                // Rising sequences make every hole visible: the marker's own is the highest.
                let wanted = format!("a frame after {last}, once and in order");
                require(frame.sequence > *last, wanted, Short(&frame))?;
                *last = frame.sequence;
                if frame == *marker {
                    return Ok(true);
                }
            }
            Some(FeedEvent::Gap(_)) => {}
            Some(FeedEvent::Malformed(_) | FeedEvent::Disconnected | FeedEvent::Connected)
            | None => return Err(broken("frames, or a gap", event)),
        }
    }
    Ok(false)
}
