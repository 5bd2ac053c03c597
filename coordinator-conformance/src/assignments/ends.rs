//! Which lives a swap may count as ended.

use std::time::Duration;

use coordinator_core::{
    Beat, EndReason, Epoch, Eviction, FencingToken, Incarnation, MemberId, MemberState, Swapped,
};
use tokio::time::{Instant, sleep};

use super::client::{Plans, names};
use crate::lab::{Look, SHORT, told_within, until};
use crate::members::is_tombstone;
use crate::report::{Verdict, require_eq};

pub(super) async fn a_life_that_lasts_is_not_ended(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let (ann, bob) = (
        planner.fleet.join("ann", lab.long()).await?,
        planner.fleet.join("bob", lab.long()).await?,
    );
    let epoch = planner.put(None, "first").await?;
    for lives in [vec![&ann], vec![&bob, &ann]] {
        let swap = planner.request_ending(Some(epoch), &lives);
        let answer = planner.ask(&swap).await?;
        let told = match answer {
            Swapped::NotEnded(mut told) => {
                told.sort();
                Some(told)
            }
            Swapped::Stored(_) | Swapped::Conflict { .. } | Swapped::Fenced { .. } => None,
        };
        let mut wanted = names(&lives);
        wanted.sort();
        require_eq("the lives that have not ended", &told, &Some(wanted))?;
    }
    let stored = planner.load().await?.map(|stored| stored.epoch);
    require_eq("the epoch after refused swaps", &stored, &Some(epoch))?;
    for life in [&ann, &bob] {
        planner.fleet.beat(life).await?;
    }
    Ok(())
}

pub(super) async fn a_due_life_becomes_a_tombstone(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let (ann, bob) = (
        planner.fleet.join("ann", SHORT).await?,
        planner.fleet.join("bob", lab.long()).await?,
    );
    planner.fleet.gone(&ann).await?;
    let before = planner.fleet.versions().await?;
    let swap = planner.request_ending(None, &[&ann]);
    let epoch = planner.stored(&swap, "the ended life is due").await?;
    let snapshot = planner.fleet.snapshot().await?;
    is_tombstone(&snapshot, &ann, EndReason::Expired)?;
    let grew = snapshot.versions.members > before.members;
    require_eq("a new version of the members, by a tombstone", &grew, &true)?;
    planner
        .fleet
        .beat_is(&ann, Beat::Expired, "a swap has ended it")
        .await?;
    planner.fleet.beat(&bob).await?;
    // A tombstone counts as ended as long as it is kept.
    let again = planner.request_ending(Some(epoch), &[&ann]);
    planner
        .stored(&again, "the ended life is a tombstone")
        .await?;
    let next = planner.fleet.join("ann", lab.long()).await?;
    planner.fleet.beat(&next).await
}

pub(super) async fn a_life_that_left_has_ended(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let ann = planner.fleet.join("ann", lab.long()).await?;
    planner.fleet.leave(&ann).await?;
    let swap = planner.request_ending(None, &[&ann]);
    let epoch = planner.stored(&swap, "the ended life has left").await?;
    let next = planner.fleet.join("ann", lab.long()).await?;
    let again = planner.request_ending(Some(epoch), &[&ann]);
    let epoch = planner
        .stored(&again, "an older life of the name has left")
        .await?;
    let newer = planner.request_ending(Some(epoch), &[&next]);
    let wanted = Swapped::NotEnded(names(&[&next]));
    planner
        .refused(&newer, wanted, "only an older life of the name has ended")
        .await
}

pub(super) async fn an_evicted_life_ends_with_its_ttl(lab: &Plans) -> Verdict {
    let planner = &lab.planner().await?;
    lab.timed(|ttl, id| {
        Box::pin(async move {
            let asked = Instant::now();
            let life = planner.fleet.join(&id, ttl).await?;
            let put_out =
                planner
                    .fleet
                    .evict_is(&life.id, life.incarnation, Eviction::Marked, "it lives");
            put_out.await?;
            until(asked, ttl * 8 / 10).await;
            let known = planner.load().await?.map(|stored| stored.epoch);
            let swap = planner.request_ending(known, &[&life]);
            let answer = planner.ask(&swap).await?;
            if told_within(asked, ttl) == Look::TooLate {
                return Ok(Look::TooLate);
            }
            let wanted = Swapped::NotEnded(names(&[&life]));
            require_eq("`swap`, where the last ttl runs", &answer, &wanted)?;
            planner.fleet.gone(&life).await?;
            planner.stored(&swap, "the last ttl has passed").await?;
            is_tombstone(&planner.fleet.snapshot().await?, &life, EndReason::Evicted)?;
            Ok(Look::Told)
        })
    })
    .await
}

pub(super) async fn a_swap_is_all_or_nothing(lab: &Plans) -> Verdict {
    let mut planner = lab.planner().await?;
    let (due, live) = (
        planner.fleet.join("ann", SHORT).await?,
        planner.fleet.join("bob", lab.long()).await?,
    );
    planner.fleet.gone(&due).await?;
    let epoch = planner.put(None, "first").await?;
    planner.lead(planner.token.get() + 5).await?;
    let fenced = Swapped::Fenced {
        by: FencingToken::new(planner.token.get() + 5),
    };
    let low = planner.request_ending(Some(epoch), &[&due]);
    planner
        .refused(&low, fenced, "a planner with a higher token leads")
        .await?;
    planner.token = FencingToken::new(planner.token.get() + 5);
    let mixed = planner.request_ending(Some(epoch), &[&due, &live]);
    let wanted = Swapped::NotEnded(names(&[&live]));
    planner
        .refused(&mixed, wanted, "one of two lives has not ended")
        .await?;
    let other = Some(Epoch::new(epoch.get() + 1));
    let conflict = planner.request_ending(other, &[&due]);
    let found = Swapped::Conflict { found: Some(epoch) };
    planner
        .refused(&conflict, found, "another epoch is stored")
        .await?;
    let state = planner.fleet.state(&due).await?;
    require_eq(
        "the due life after refused swaps",
        &state,
        &MemberState::Due,
    )?;
    planner.fleet.beat(&live).await?;
    let swap = planner.request_ending(Some(epoch), &[&due]);
    planner.stored(&swap, "all is as the planner says").await?;
    Ok(())
}

pub(super) async fn a_life_without_a_record_is_not_ended(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let epoch = planner.put(None, "first").await?;
    let unknown = vec![(MemberId::from("ann"), Incarnation::new(7))];
    let mut swap = planner.request(Some(epoch), "after an end");
    swap.ended.clone_from(&unknown);
    let refused = Swapped::NotEnded(unknown.clone());
    planner
        .refused(
            &swap,
            refused.clone(),
            "the store has no record of the life",
        )
        .await?;
    let (id, incarnation) = &unknown[0];
    planner
        .fleet
        .evict_is(id, *incarnation, Eviction::Entered, "there is no record")
        .await?;
    planner
        .refused(&swap, refused, "the life was entered just now")
        .await?;
    if lab.settings().virtual_time {
        sleep(lab.settings().max_ttl + Duration::from_millis(1)).await;
        planner
            .stored(&swap, "the longest ttl has passed since")
            .await?;
    }
    let known = planner.fleet.join("bob", lab.long()).await?;
    let lower = Incarnation::new(known.incarnation.get() - 1);
    let stored = planner.load().await?.map(|stored| stored.epoch);
    let mut swap = planner.request(stored, "after an end");
    swap.ended = vec![(known.id.clone(), lower)];
    let wanted = Swapped::NotEnded(swap.ended.clone());
    planner
        .refused(&swap, wanted, "only another life of the name is known")
        .await
}
