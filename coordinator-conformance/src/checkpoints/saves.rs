//! What a save changes.

use coordinator_core::Save;

use super::client::{Checkpoints, load_fenced, loaded, save_fenced};
use crate::report::Verdict;

pub(super) async fn a_refused_save_changes_nothing(lab: &Checkpoints) -> Verdict {
    let (old, new) = (lab.worker().await?, lab.worker().await?);
    old.load(5).await?;
    new.load(6).await?;
    new.saved(6, 3, "page 3").await?;
    for number in [1, 3, 4, 1_000] {
        let late = (5, number, "page 9");
        old.save_is(late, save_fenced(Some(6)), "a higher token has saved")
            .await?;
        new.load_is(6, loaded(Some("page 3")), "a refused save changes nothing")
            .await?;
    }
    new.saved(6, 4, "page 4").await
}

pub(super) async fn a_late_duplicate_moves_nothing_back(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 1, "page 1").await?;
    worker.saved(5, 3, "page 3").await?;
    worker.saved(5, 3, "page 3").await?;
    for late in [(5, 1, "page 1"), (5, 2, "page 2"), (5, 3, "page 1")] {
        worker
            .save_is(late, Save::Superseded, "a later save is stored")
            .await?;
    }
    worker.saved(5, 3, "page 3").await?;
    worker
        .load_is(6, loaded(Some("page 3")), "late duplicates change nothing")
        .await
}

pub(super) async fn each_token_counts_anew(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 40, "page 40").await?;
    worker.load(6).await?;
    worker.saved(6, 1, "page 41").await?;
    worker
        .save_is((6, 1, "page 40"), Save::Superseded, "another is stored so")
        .await?;
    worker.saved(6, 2, "page 42").await?;
    worker
        .load_is(7, loaded(Some("page 42")), "it is saved")
        .await
}

pub(super) async fn loading_again_does_not_count_anew(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker.load(5).await?;
    worker.saved(5, 2, "page 2").await?;
    worker
        .load_is(5, loaded(Some("page 2")), "it is saved")
        .await?;
    let late = (5, 1, "page 1");
    worker
        .save_is(late, Save::Superseded, "a later save is stored")
        .await?;
    worker
        .load_is(
            5,
            loaded(Some("page 2")),
            "a late duplicate changes nothing",
        )
        .await
}

pub(super) async fn a_save_above_the_fence_claims(lab: &Checkpoints) -> Verdict {
    let (old, new) = (lab.worker().await?, lab.worker().await?);
    old.load(5).await?;
    old.saved(5, 7, "page 1").await?;
    new.saved(6, 1, "page 2").await?;
    old.save_is(
        (5, 8, "page 1"),
        save_fenced(Some(6)),
        "a higher token has saved",
    )
    .await?;
    old.load_is(5, load_fenced(6), "a higher token has saved")
        .await?;
    new.load_is(6, loaded(Some("page 2")), "it is saved").await
}

pub(super) async fn a_save_without_any_claim_is_refused(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    for token in [9, 5] {
        let blind = (token, 1, "page 1");
        worker
            .save_is(
                blind,
                save_fenced(None),
                "nobody has ever claimed the shard",
            )
            .await?;
    }
    // Refused, it has not claimed: a lower token may.
    worker
        .load_is(5, loaded(None), "nothing was ever saved")
        .await?;
    worker.saved(5, 1, "page 1").await
}
