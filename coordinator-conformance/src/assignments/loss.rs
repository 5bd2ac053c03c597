//! A store that lost its memory.

use std::time::Duration;

use coordinator_core::{AssignmentError, Epoch, Swap, Swapped};
use tokio::time::sleep;

use super::client::{Planner, Plans};
use super::epochs::rises;
use crate::report::{Stop, Verdict, broken, require, require_eq};

/// Waits until the quarantine has passed, and swaps.
async fn stored_after(
    planner: &Planner<'_>,
    swap: &Swap,
    quarantine: Duration,
) -> Result<Epoch, Stop> {
    let mut stored = None;
    let what = "a stored document after the quarantine";
    planner
        .lab
        .eventually(what, quarantine, async || {
            match planner.lab.within("swap", planner.store.swap(swap)).await? {
                Ok(Swapped::Stored(epoch)) => stored = Some(epoch),
                Err(AssignmentError::Quarantined { ends_within, .. }) => {
                    sleep(ends_within.min(quarantine)).await;
                }
                other => return Err(broken(what, other)),
            }
            Ok(stored.is_some())
        })
        .await?;
    stored.ok_or_else(|| broken(what, "none"))
}

pub(super) async fn a_store_that_forgot_refuses_swaps_at_first(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    planner.put(None, "first").await?;
    lab.forget().await?;
    let swap = planner.request(None, "first again");
    let asked = planner.store.swap(&swap);
    let left = lab
        .quarantined("swap", asked, AssignmentError::kind)
        .await?;
    let longest = lab.settings().max_ttl * 2;
    require(
        left <= longest,
        format!("a quarantine of at most {longest:?}"),
        left,
    )?;
    require_eq(
        "the document of a store that forgot",
        &planner.load().await?,
        &None,
    )?;
    stored_after(&planner, &swap, left).await?;
    Ok(())
}

pub(super) async fn epochs_rise_over_a_loss_of_memory(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let before = planner.put(None, "first").await?;
    lab.forget().await?;
    let swap = planner.request(None, "first again");
    let after = stored_after(&planner, &swap, lab.settings().max_ttl * 2).await?;
    rises("a loss of memory", before, after)
}
