//! In which order frames arrive.

use super::client::Bus;
use crate::report::Verdict;

pub(super) async fn a_batch_arrives_in_order(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut feed = bob.listen(&["news", "other"]).await?;
    let mut sent = Vec::new();
    for round in 0..20 {
        let mut batch = ann.frames("news", 1 + round % 7);
        batch.extend(ann.frames("other", round % 3));
        ann.publish(&batch).await?;
        sent.extend(batch);
    }
    feed.gets_in_some_order(&sent).await
}

pub(super) async fn order_holds_across_sizes(lab: &Bus) -> Verdict {
    let (ann, bob) = (lab.peer("ann").await?, lab.peer("bob").await?);
    let mut feed = bob.listen(&["news"]).await?;
    let most = ann
        .bus
        .capabilities()
        .payload_limit
        .unwrap_or(60_000)
        .min(60_000);
    let mut sent = Vec::new();
    for round in 0..30 {
        let size = [3, most, 10, 9_000.min(most), 0][round % 5];
        let frame = ann.frame("news", vec![b'x'; size]);
        if round % 4 == 0 {
            ann.publish(std::slice::from_ref(&frame)).await?;
            sent.push(frame);
        } else {
            let batch = [frame, ann.frame("news", "small")];
            ann.publish(&batch).await?;
            sent.extend(batch);
        }
    }
    feed.gets(&sent).await
}

pub(super) async fn rapid_messages_all_arrive(lab: &Bus) -> Verdict {
    let (ann, bob, cid) = (
        lab.peer("ann").await?,
        lab.peer("bob").await?,
        lab.peer("cid").await?,
    );
    let (mut first, mut second) = (bob.listen(&["news"]).await?, cid.listen(&["news"]).await?);
    let batches: Vec<_> = (0..100).map(|_| ann.frames("news", 20)).collect();
    let publishing = async {
        for batch in &batches {
            ann.publish(batch).await?;
        }
        Ok(())
    };
    let sent = batches.concat();
    let (published, one, other) = tokio::join!(publishing, first.gets(&sent), second.gets(&sent));
    published.and(one).and(other)
}
