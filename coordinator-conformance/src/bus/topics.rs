//! What arrives where, and what does not.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use coordinator_core::{FeedEvent, Frame, MAX_NAME_BYTES};

use super::client::{Bus, Listener, Short};
use crate::probe::{odd_names, poll_times};
use crate::report::{Verdict, broken};

pub(super) async fn odd_topics_arrive(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let names = odd_names(MAX_NAME_BYTES);
    let mut feeds = Vec::new();
    for name in &names {
        feeds.push(bob.listen(&[name]).await?);
    }
    let mut sent = Vec::new();
    for name in &names {
        let batch = ann.frames(name, 2);
        ann.publish(&batch).await?;
        sent.push(batch);
    }
    // Whatever of another topic is on its way comes before a last one.
    for (name, feed) in names.iter().zip(&mut feeds) {
        let last = ann.frames(name, 1);
        ann.publish(&last).await?;
        let index = names.iter().position(|other| other == name).unwrap_or(0);
        feed.gets(&sent[index]).await?;
        feed.gets(&last).await?;
    }
    Ok(())
}

pub(super) async fn nothing_arrives_from_other_topics(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut both = bob.listen(&["news", "other"]).await?;
    let mut news = bob.listen(&["news"]).await?;
    let mut other = ann.listen(&["other"]).await?;
    for _ in 0..5 {
        let stray = ann.frames("stray", 2);
        let first = ann.frames("news", 2);
        let second = ann.frames("other", 2);
        let mixed: Vec<_> = [stray, first.clone(), second.clone()].concat();
        ann.publish(&mixed).await?;
        news.gets(&first).await?;
        other.gets(&second).await?;
        both.gets_in_some_order(&[first, second].concat()).await?;
    }
    Ok(())
}

pub(super) async fn a_dropped_subscription_hurts_nobody(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut stays = bob.listen(&["news"]).await?;
    for _ in 0..5 {
        let passing = bob.listen(&["news", "other"]).await?;
        let batch = ann.frames("news", 3);
        ann.publish(&batch).await?;
        // With frames in it that nobody has read.
        drop(passing);
        let more = ann.frames("other", 3);
        ann.publish(&more).await?;
        stays.gets(&batch).await?;
    }
    let mut again = bob.listen(&["news", "other"]).await?;
    let after = [ann.frame("news", "after"), ann.frame("other", "after")];
    ann.publish(&after).await?;
    stays.gets(&after[..1]).await?;
    again.gets_in_some_order(&after).await?;
    Ok(())
}

pub(super) async fn namespaces_do_not_hear_each_other(lab: &Bus) -> Verdict {
    let here = lab.peer("ann").await?;
    let there = lab.peer_on(lab.connect_elsewhere().await?, "ann");
    let (mut hears, mut elsewhere) = (
        here.listen(&["news"]).await?,
        there.listen(&["news"]).await?,
    );
    let first = here.frames("news", 3);
    here.publish(&first).await?;
    let second = there.frames("news", 3);
    there.publish(&second).await?;
    elsewhere.gets(&second).await?;
    hears.gets(&first).await?;
    let last = here.frames("news", 1);
    here.publish(&last).await?;
    hears.gets(&last).await
}

pub(super) async fn a_wait_for_a_frame_can_be_dropped(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut feed = bob.listen(&["news"]).await?;
    let sent = ann.frames("news", 40);
    let (first, second) = sent.split_at(20);
    ann.publish(first).await?;
    impatient(&mut feed, first).await?;
    // Some dropped waits before there is anything to come.
    for polls in [1, 2, 5] {
        poll_times(feed.feed.next(), polls).await;
    }
    ann.publish(second).await?;
    impatient(&mut feed, second).await
}

/// Reads these frames by waits that are dropped as soon as they have to wait.
async fn impatient(feed: &mut Listener<'_>, wanted: &[Frame]) -> Verdict {
    let lab = feed.lab;
    for frame in wanted {
        let mut seen = None;
        let what = format!("frame {}, by waits that are dropped", frame.sequence);
        lab.eventually(&what, Duration::ZERO, async || {
            let mut next = feed.feed.next();
            let polled = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
            if let Poll::Ready(event) = polled {
                seen = event;
            }
            Ok(seen.is_some())
        })
        .await?;
        match &seen {
            Some(FeedEvent::Frame { frame: seen, .. }) if seen == frame => {}
            _ => return Err(broken(format!("{:?}", Short(frame)), seen)),
        }
    }
    Ok(())
}
