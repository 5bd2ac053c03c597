//! Epochs, which only rise.

use coordinator_core::{Epoch, Lead, NUMBER_LIMIT};

use super::client::Plans;
use crate::report::{Verdict, require, require_eq};

/// That the second epoch is higher, and both are exact in every reader.
pub(super) fn rises(over: &str, before: Epoch, after: Epoch) -> Verdict {
    require(
        after > before && after.get() < NUMBER_LIMIT,
        format!("an epoch above {before} and below {NUMBER_LIMIT}, over {over}"),
        after,
    )
}

pub(super) async fn epochs_rise(lab: &Plans) -> Verdict {
    let (planner, other) = (lab.planner().await?, lab.planner().await?);
    let mut last = None;
    for turn in 0..10 {
        let planner = if turn % 2 == 0 { &planner } else { &other };
        let epoch = planner.put(last, "next").await?;
        rises("a swap", last.unwrap_or_default(), epoch)?;
        last = Some(epoch);
    }
    Ok(())
}

pub(super) async fn epochs_exceed_the_floor(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let first = planner.put(None, "first").await?;
    let floor = Epoch::new(first.get() + 60 * 60 * 1000);
    let mut swap = planner.request(Some(first), "second");
    swap.floor = Some(floor);
    let second = planner.stored(&swap, "a floor is given").await?;
    rises("the floor that the planner gave", floor, second)?;
    let mut swap = planner.request(Some(second), "third");
    swap.floor = Some(Epoch::new(NUMBER_LIMIT - 2));
    let third = planner
        .stored(&swap, "a floor from far ahead is given")
        .await?;
    rises("a swap", second, third)?;
    let ignored = third.get() < NUMBER_LIMIT / 2;
    require(ignored, "a floor from far ahead to be ignored", third)
}

pub(super) async fn epochs_rise_over_a_restart(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let first = planner.put(None, "first").await?;
    let before = planner.load().await?;
    lab.restart().await?;
    lab.eventually(
        "the store to answer after its restart",
        lab.patience(),
        async || {
            let asked = planner.store.load(&planner.fleet.group, &planner.keyspace);
            Ok(lab.within("load", asked).await?.is_ok())
        },
    )
    .await?;
    require_eq(
        "the document after a restart",
        &planner.load().await?,
        &before,
    )?;
    let second = planner.put(Some(first), "second").await?;
    rises("a restart", first, second)
}

pub(super) async fn leading_reads_and_makes_no_epoch(lab: &Plans) -> Verdict {
    let (planner, other) = (lab.planner().await?, lab.planner().await?);
    let led = planner.lead(1).await?;
    require_eq("`lead` of a new keyspace", &led, &Lead::Led(None))?;
    let mut last = None;
    for turn in 0..3 {
        let epoch = planner.put(last, "next").await?;
        let stored = planner.load().await?;
        require_eq(
            "the loaded epoch",
            &stored.as_ref().map(|stored| stored.epoch),
            &Some(epoch),
        )?;
        let led = other.lead(planner.token.get()).await?;
        require_eq("what `lead` reads", &led, &Lead::Led(stored.clone()))?;
        let after = planner.load().await?;
        require_eq(&format!("the document after lead {turn}"), &after, &stored)?;
        last = Some(epoch);
    }
    Ok(())
}
