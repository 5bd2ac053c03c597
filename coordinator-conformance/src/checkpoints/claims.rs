//! Who may work on a shard.

use super::client::{Checkpoints, load_fenced, loaded, save_fenced};
use crate::join::join_all;
use crate::report::Verdict;

pub(super) async fn a_saved_position_is_loaded(lab: &Checkpoints) -> Verdict {
    let (old, new) = (lab.worker().await?, lab.worker().await?);
    old.load_is(5, loaded(None), "nothing was ever saved")
        .await?;
    old.saved(5, 1, "page 1").await?;
    old.saved(5, 2, "page 2").await?;
    old.load_is(5, loaded(Some("page 2")), "it is saved")
        .await?;
    new.load_is(6, loaded(Some("page 2")), "an older owner saved it")
        .await?;
    new.saved(6, 1, "page 3").await?;
    old.load_is(9, loaded(Some("page 3")), "another saved it")
        .await
}

pub(super) async fn loading_shuts_out_older_owners(lab: &Checkpoints) -> Verdict {
    let (old, new) = (lab.worker().await?, lab.worker().await?);
    old.load_is(5, loaded(None), "nothing was ever saved")
        .await?;
    old.saved(5, 1, "page 1").await?;
    new.load_is(6, loaded(Some("page 1")), "an older owner saved it")
        .await?;
    // The newer owner has saved nothing yet: its claim alone shuts out.
    let late = (5, 2, "page 2");
    old.save_is(late, save_fenced(Some(6)), "a higher token has loaded")
        .await?;
    old.load_is(5, load_fenced(6), "a higher token has loaded")
        .await?;
    new.load_is(6, loaded(Some("page 1")), "nothing has changed since")
        .await?;
    new.saved(6, 1, "page 3").await?;
    old.save_is(late, save_fenced(Some(6)), "a higher token has saved")
        .await?;
    new.load_is(6, loaded(Some("page 3")), "it is saved").await
}

pub(super) async fn of_many_claims_the_highest_stays(lab: &Checkpoints) -> Verdict {
    let mut workers = Vec::new();
    for _ in 0..8 {
        workers.push(lab.worker().await?);
    }
    for round in 0..5 {
        let tokens = (0..).map(|number| round * 100 + (number * 5) % 8 + 1);
        let asked = workers
            .iter()
            .zip(tokens)
            .map(|(worker, token)| worker.load(token));
        join_all(asked)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let highest = round * 100 + 8;
        let late = (highest - 1, 1, "of a lower token");
        let fenced = save_fenced(Some(highest));
        workers[0]
            .save_is(late, fenced, "a higher token has loaded")
            .await?;
        workers[1].saved(highest, 1, "of the highest token").await?;
    }
    Ok(())
}

pub(super) async fn a_store_that_forgot_refuses_its_old_owners(lab: &Checkpoints) -> Verdict {
    let worker = lab.worker().await?;
    worker
        .load_is(5, loaded(None), "nothing was ever saved")
        .await?;
    worker.saved(5, 1, "page 1").await?;
    lab.forget().await?;
    let blind = (5, 2, "page 2");
    worker
        .save_is(blind, save_fenced(None), "the store knows of no claim")
        .await?;
    worker
        .load_is(5, loaded(None), "the store has forgotten it")
        .await?;
    worker.saved(5, 2, "page 2").await
}
