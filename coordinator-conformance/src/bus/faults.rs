//! A connection that is cut.

use coordinator_core::FeedEvent;

use super::client::{Bus, Listener, Short};
use crate::report::{Stop, Verdict, broken, require};

pub(super) async fn a_cut_feed_says_so_and_comes_back(lab: &Bus) -> Verdict {
    // The first connection is the one that is cut.
    let (bob, ann) = (lab.peer("bob").await?, lab.peer("ann").await?);
    let mut feed = bob.listen(&["news"]).await?;
    let mut spared = ann.listen(&["news"]).await?;
    let before = ann.frames("news", 3);
    ann.publish(&before).await?;
    feed.gets(&before).await?;
    spared.gets(&before).await?;
    lab.cut(0).await?;
    waits_for(&mut feed, &FeedEvent::Disconnected).await?;
    let lost = ann.frames("news", 3);
    ann.publish(&lost).await?;
    spared.gets(&lost).await?;
    lab.heal(0).await?;
    waits_for(&mut feed, &FeedEvent::Connected).await?;
    let after = ann.frames("news", 3);
    ann.publish(&after).await?;
    spared.gets(&after).await?;
    let mut last = before.len();
    // Of those sent during the cut some may have come through: in order, once, and none changed.
    loop {
        match feed.event().await? {
            FeedEvent::Frame { frame, .. } => {
                let place = usize::try_from(frame.sequence).unwrap_or(usize::MAX);
                require(
                    place > last,
                    format!("a frame after {last}, once"),
                    Short(&frame),
                )?;
                last = place;
                if Some(&frame) == after.last() {
                    break;
                }
            }
            FeedEvent::Gap(_) => {}
            other @ (FeedEvent::Malformed(_) | FeedEvent::Disconnected | FeedEvent::Connected) => {
                return Err(broken("frames, or a gap", other));
            }
        }
    }
    let fresh = ann.frames("news", 2);
    ann.publish(&fresh).await?;
    feed.gets(&fresh).await
}

/// Reads until the bus says this; frames that were on their way may come before.
async fn waits_for(feed: &mut Listener<'_>, wanted: &FeedEvent) -> Result<(), Stop> {
    loop {
        let event = feed.event().await?;
        if event == *wanted {
            return Ok(());
        }
        match event {
            FeedEvent::Frame { .. } | FeedEvent::Gap(_) => {}
            other @ (FeedEvent::Malformed(_) | FeedEvent::Disconnected | FeedEvent::Connected) => {
                return Err(broken(format!("{wanted:?}"), other));
            }
        }
    }
}
