//! Buses that keep messages, and those that do not.

use coordinator_core::{BusError, Cursor, FeedEvent, Frame, Start, Topic};

use super::client::{Bus, Listener, Peer, Short};
use crate::report::{Stop, Verdict, broken, require_eq, skip};

async fn durable(lab: &Bus) -> Result<Peer<'_>, Stop> {
    let ann = lab.peer("ann").await?;
    if ann.bus.capabilities().durable {
        Ok(ann)
    } else {
        Err(skip("the bus is not durable"))
    }
}

/// The next frames are these, and each has a cursor.
async fn replays(feed: &mut Listener<'_>, wanted: &[Frame]) -> Result<Vec<Cursor>, Stop> {
    let mut cursors = Vec::new();
    for expected in wanted {
        let event = feed.event().await?;
        let FeedEvent::Frame {
            frame,
            cursor: Some(cursor),
        } = event
        else {
            return Err(broken("a frame with a cursor", event));
        };
        require_eq("the next frame", &Short(&frame), &Short(expected))?;
        cursors.push(cursor);
    }
    Ok(cursors)
}

pub(super) async fn a_durable_bus_replays_from_its_cursors(lab: &Bus) -> Verdict {
    let ann = durable(lab).await?;
    let bob = lab.peer("bob").await?;
    let mut feed = bob.listen(&["news"]).await?;
    let sent = ann.frames("news", 9);
    ann.publish(&sent[..5]).await?;
    let cursors = replays(&mut feed, &sent[..5]).await?;
    drop(feed);
    ann.publish(&sent[5..]).await?;
    for (index, cursor) in cursors.into_iter().enumerate() {
        let mut again = bob.listen_from(&["news"], Start::After(cursor)).await?;
        replays(&mut again, &sent[index + 1..]).await?;
        let live = ann.frames("other", 1);
        ann.publish(&live).await?;
    }
    Ok(())
}

pub(super) async fn a_durable_bus_keeps_what_was_published(lab: &Bus) -> Verdict {
    let ann = durable(lab).await?;
    let bob = lab.peer("bob").await?;
    let sent = ann.frames("news", 5);
    ann.publish(&sent).await?;
    let mut feed = bob.listen_from(&["news"], Start::Oldest).await?;
    replays(&mut feed, &sent).await?;
    let more = ann.frames("news", 2);
    ann.publish(&more).await?;
    replays(&mut feed, &more).await?;
    Ok(())
}

pub(super) async fn the_past_is_rejected_by_a_bus_that_keeps_nothing(lab: &Bus) -> Verdict {
    let ann = lab.peer("ann").await?;
    if ann.bus.capabilities().durable {
        return Err(skip("the bus is durable"));
    }
    let topics = [Topic::named("news")];
    for start in [Start::Oldest, Start::After(Cursor::new("1"))] {
        let what = format!("a subscription from {start:?}");
        let asked = async { ann.bus.subscribe(&topics, start).await.map(|_| "a feed") };
        lab.rejected(&what, asked, BusError::kind).await?;
    }
    let mut feed = ann.listen(&["news"]).await?;
    let batch = ann.frames("news", 1);
    ann.publish(&batch).await?;
    feed.gets(&batch).await
}
