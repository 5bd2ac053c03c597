//! What arrives, and that it does.

use std::time::Duration;

use coordinator_core::{BusError, Bytes, FrameKind};

use super::client::Bus;
use crate::probe::bytes_of_all_kinds;
use crate::report::{Verdict, skip};

/// The largest payload that a bus is tried with, whatever it promises.
const LARGE: usize = 200_000;

pub(super) async fn a_frame_arrives_as_it_was_sent(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob \u{1F980}").await?);
    let mut feed = bob.listen(&["news"]).await?;
    let most = ann.bus.capabilities().payload_limit.unwrap_or(LARGE);
    for payload in bytes_of_all_kinds() {
        if payload.len() > most {
            continue;
        }
        let frame = ann.frame("news", payload);
        ann.publish(std::slice::from_ref(&frame)).await?;
        feed.gets(&[frame]).await?;
    }
    let mut odd = bob.frame("news", "the rest");
    (odd.stream, odd.sequence) = (3, 1 << 40);
    odd.age = Duration::from_millis(86_400_123);
    let mut beacon = bob.frame("news", Bytes::new());
    beacon.kind = FrameKind::Beacon;
    let batch = [odd, beacon];
    bob.publish(&batch).await?;
    feed.gets(&batch).await
}

pub(super) async fn sizes_around_every_limit_arrive(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let capabilities = ann.bus.capabilities();
    let most = capabilities.payload_limit.unwrap_or(LARGE);
    let mut around = vec![1_024, 4_096, 8_000, 16_384, 65_536, LARGE];
    around.extend(capabilities.inline_limit);
    around.extend(capabilities.payload_limit);
    let mut sizes: Vec<usize> = around
        .into_iter()
        .flat_map(|limit| limit.saturating_sub(3)..=limit + 2)
        .chain([0, 1])
        .filter(|size| *size <= most)
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut feed = bob.listen(&["news"]).await?;
    for size in sizes {
        let plain = ann.frame("news", vec![b'x'; size]);
        // As many bytes, of half as many characters: limits count bytes.
        let wide = "é".repeat(size / 2) + if size % 2 == 1 { "x" } else { "" };
        let batch = [plain, ann.frame("news", wide)];
        // Queues are bounded by bytes as well: several of the largest may be too many for one.
        let at_once = if size > LARGE { 1 } else { batch.len() };
        for part in batch.chunks(at_once) {
            ann.publish(part).await?;
            feed.gets(part).await?;
        }
    }
    Ok(())
}

pub(super) async fn every_subscriber_gets_each_frame_once(lab: &Bus) -> Verdict {
    let ann = lab.peer("ann").await?;
    let mut feeds = Vec::new();
    for number in 0..4 {
        let peer = lab.peer(&format!("member-{number}")).await?;
        // Two of one connection, and one of them with another topic.
        feeds.push(peer.listen(&["news"]).await?);
        feeds.push(peer.listen(&["news", "other"]).await?);
    }
    let batch = ann.frames("news", 20);
    ann.publish(&batch).await?;
    // What comes once more comes before what is sent last.
    let last = ann.frames("news", 1);
    ann.publish(&last).await?;
    for feed in &mut feeds {
        feed.gets(&batch).await?;
        feed.gets(&last).await?;
    }
    Ok(())
}

pub(super) async fn the_publisher_gets_its_own_frames(lab: &Bus) -> Verdict {
    let ann = lab.peer("ann").await?;
    let mut feed = ann.listen(&["news"]).await?;
    for _ in 0..3 {
        let batch = ann.frames("news", 3);
        ann.publish(&batch).await?;
        feed.gets(&batch).await?;
    }
    Ok(())
}

pub(super) async fn a_subscription_is_live_when_it_returns(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    for round in 0..20 {
        // A new topic, and one that others listen to already.
        let fresh = format!("news-{round}");
        let mut feed = bob.listen(&[&fresh, "shared"]).await?;
        let batch = [ann.frame(&fresh, "first"), ann.frame("shared", "first")];
        ann.publish(&batch).await?;
        feed.gets_in_some_order(&batch).await?;
    }
    Ok(())
}

pub(super) async fn too_large_a_payload_is_rejected(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let Some(limit) = ann.bus.capabilities().payload_limit else {
        return Err(skip("the bus states no limit for payloads"));
    };
    let mut feed = bob.listen(&["news", "other"]).await?;
    let before = ann.frames("news", 2);
    ann.publish(&before).await?;
    let mut huge = bob.frame("other", vec![b'x'; limit + 1]);
    for topic in ["other", "news"] {
        huge.topic = coordinator_core::Topic::named(topic);
        let batch = [huge.clone()];
        let asked = ann.bus.publish(&batch);
        let what = format!("a payload of {} bytes", limit + 1);
        lab.rejected(&what, asked, BusError::kind).await?;
    }
    let after = [
        ann.frame("news", "after"),
        ann.frame("news", vec![b'x'; limit]),
    ];
    ann.publish(&after).await?;
    feed.gets(&before).await?;
    feed.gets(&after).await
}
