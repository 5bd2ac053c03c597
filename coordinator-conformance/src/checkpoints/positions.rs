//! What is kept, where, and for how long.

use std::time::Duration;

use coordinator_core::{CheckpointError, MAX_NAME_BYTES, MAX_POSITION_BYTES, ShardId};
use tokio::time::sleep;

use super::client::{Checkpoints, load_fenced, loaded, save_fenced};
use crate::lab::SHORT;
use crate::probe::odd_names;
use crate::report::{Verdict, require};

pub(super) async fn shards_do_not_touch_each_other(lab: &Checkpoints) -> Verdict {
    let mut worker = lab.worker().await?;
    let names = odd_names(MAX_NAME_BYTES);
    let as_keyspaces = names.iter().map(|name| ("fleet", name.as_str(), 7));
    let as_groups = names.iter().map(|name| (name.as_str(), "orders", 7));
    let shards = [0, 1, 10, 255, 256, 32_768, u16::MAX].map(|shard| ("fleet", "orders", shard));
    let split = [
        ("x/y", "z", 1),
        ("x", "y/z", 1),
        ("k", "1", 11),
        ("k", "11", 1),
    ];
    let all: Vec<_> = as_keyspaces
        .chain(as_groups)
        .chain(shards)
        .chain(split)
        .collect();
    // Each has lower tokens than those before it.
    for ((group, keyspace, shard), token) in all.iter().zip((1..10_000).rev()) {
        (worker.group, worker.keyspace) = ((*group).into(), (*keyspace).into());
        worker.shard = ShardId::new(*shard);
        let position = format!("of {group} {keyspace} {shard}");
        worker
            .save_is((token, 1, &position), save_fenced(None), "the shard is new")
            .await?;
        worker
            .load_is(token, loaded(None), "nothing was ever saved")
            .await?;
        worker.saved(token, 1, &position).await?;
    }
    for ((group, keyspace, shard), token) in all.iter().zip((1..10_000).rev()) {
        (worker.group, worker.keyspace) = ((*group).into(), (*keyspace).into());
        worker.shard = ShardId::new(*shard);
        let position = format!("of {group} {keyspace} {shard}");
        worker
            .load_is(token, loaded(Some(&position)), "it is saved")
            .await?;
    }
    Ok(())
}

pub(super) async fn namespaces_do_not_touch_each_other(lab: &Checkpoints) -> Verdict {
    let here = lab.worker().await?;
    let there = lab.worker_on(lab.connect_elsewhere().await?);
    here.load(9).await?;
    here.saved(9, 1, "here").await?;
    there
        .save_is((9, 2, "there"), save_fenced(None), "the namespace is new")
        .await?;
    there
        .load_is(5, loaded(None), "the namespace is new")
        .await?;
    there.saved(5, 1, "there").await?;
    here.load_is(
        9,
        loaded(Some("here")),
        "it was another namespace that changed",
    )
    .await
}

pub(super) async fn positions_outlast_leases(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 2, "page 2").await?;
    // A year is nothing in virtual time. In real time: as long as the shortest leases.
    sleep(if lab.settings().virtual_time {
        Duration::from_hours(24 * 365)
    } else {
        SHORT
    })
    .await;
    worker
        .load_is(4, load_fenced(5), "a higher token has loaded")
        .await?;
    worker
        .load_is(5, loaded(Some("page 2")), "it is saved")
        .await?;
    worker.saved(5, 3, "page 3").await
}

pub(super) async fn positions_survive_a_restart(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 2, "page 2").await?;
    lab.restart().await?;
    let blind = worker.checkpoint(4, 9, "page 9");
    lab.eventually(
        "the store to answer after its restart",
        lab.patience(),
        async || Ok(lab.within("save", worker.store.save(&blind)).await?.is_ok()),
    )
    .await?;
    let late = (4, 9, "page 9");
    worker
        .save_is(late, save_fenced(Some(5)), "a higher token has loaded")
        .await?;
    worker
        .load_is(5, loaded(Some("page 2")), "it is saved")
        .await
}

pub(super) async fn too_long_a_position_is_rejected(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 1, "page 1").await?;
    let half = MAX_POSITION_BYTES / 2;
    // Counted in bytes, not in characters.
    for text in ["x".repeat(MAX_POSITION_BYTES + 1), "é".repeat(half + 1)] {
        let checkpoint = worker.checkpoint(5, 2, &text);
        let asked = worker.store.save(&checkpoint);
        let what = format!("a position of {} bytes", text.len());
        lab.rejected(&what, asked, CheckpointError::kind).await?;
        worker
            .load_is(5, loaded(Some("page 1")), "a rejected save changes nothing")
            .await?;
    }
    for (number, text) in [(2, "x".repeat(MAX_POSITION_BYTES)), (3, "é".repeat(half))] {
        worker.saved(5, number, &text).await?;
        worker
            .load_is(5, loaded(Some(&text)), "it is saved")
            .await?;
    }
    Ok(())
}

pub(super) async fn a_position_is_kept_as_it_is(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    let empty = [String::new()].into_iter();
    for (text, number) in empty.chain(odd_names(9_000)).zip(1..) {
        worker.saved(5, number, &text).await?;
        worker
            .load_is(5, loaded(Some(&text)), "it is saved")
            .await?;
    }
    Ok(())
}

pub(super) async fn connections_name_their_store(lab: &Checkpoints) -> Verdict {
    let ids = [
        lab.connect().await?.store(),
        lab.connect().await?.store(),
        lab.connect_elsewhere().await?.store(),
    ];
    require(
        ids[0] == ids[1] && ids[0] != ids[2],
        "one id for two connections to a namespace, and another for another namespace",
        ids,
    )
}
