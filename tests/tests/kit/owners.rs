//! Who owns the shards of the keyspace `k`, and since when.

use std::time::Duration;

use anyhow::bail;
use coordinator_tests::servers::process::now;

use super::{LONG, Member, Tested, longest_overlap, ms, reigns};

/// Each keyspace `k` of these tests has so many.
pub(crate) const SHARDS: usize = 6;

/// Waits until each shard has an owner that trusts, and gives the moment.
pub(crate) async fn all_served(members: &mut [Member]) -> Tested<Duration> {
    let deadline = now() + LONG;
    loop {
        let mut idle = Vec::new();
        for shard in 0..SHARDS {
            let all = reigns(members.iter_mut(), &format!("k/{shard}")).await;
            let present = now();
            if !all.iter().any(|reign| reign.to > present) {
                idle.push(shard);
            }
        }
        if idle.is_empty() {
            return Ok(now());
        }
        if now() > deadline {
            bail!("shards without an owner: {idle:?}");
        }
        for member in members.iter_mut().filter(|member| member.killed.is_none()) {
            member.listen(ms(5)).await;
        }
    }
}

/// Asserts that no shard ever had two owners, and that tokens rise with each grant.
pub(crate) async fn one_owner_each(members: &mut [Member]) -> usize {
    let mut grants = 0;
    for shard in 0..SHARDS {
        let all = reigns(members.iter_mut(), &format!("k/{shard}")).await;
        let overlap = longest_overlap(&all);
        assert!(overlap.is_zero(), "shard {shard}, {overlap:?}: {all:#?}");
        let rise = all.windows(2).all(|pair| pair[0].token < pair[1].token);
        assert!(rise, "shard {shard}: {all:#?}");
        grants += all.len();
    }
    grants
}

/// How many shards this member owns now.
pub(crate) async fn owned(member: &mut Member) -> usize {
    let mut count = 0;
    for shard in 0..SHARDS {
        let all = reigns([&mut *member], &format!("k/{shard}")).await;
        count += usize::from(all.iter().any(|reign| reign.to > now()));
    }
    count
}
