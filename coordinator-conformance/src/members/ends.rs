//! How a life ends: left, put out, expired.

use std::time::Duration;

use coordinator_core::{Beat, EndReason, Eviction, Incarnation, Leave, MemberId, MemberState};
use coordinator_core::{Snapshot, TOMBSTONE_RETENTION};
use tokio::time::{Instant, sleep};

use super::client::Members;
use super::joins::is_tombstone;
use crate::lab::{Look, SHORT, told_within, until};
use crate::report::{Verdict, broken, require, require_eq};

pub(super) async fn leaving_ends_a_life_at_once(lab: &Members) -> Verdict {
    let (fleet, other) = (lab.fleet().await?, lab.fleet().await?);
    let (life, stays) = (
        fleet.join("ann", lab.long()).await?,
        fleet.join("bob", lab.long()).await?,
    );
    fleet.leave(&life).await?;
    is_tombstone(&other.snapshot().await?, &life, EndReason::Left)?;
    fleet.beat_is(&life, Beat::Expired, "it has left").await?;
    is_tombstone(&other.snapshot().await?, &life, EndReason::Left)?;
    other
        .sees_live(&stays, "for it was another that left")
        .await?;
    let next = other.join("ann", lab.long()).await?;
    other.sees_live(&next, "for the name was free").await
}

pub(super) async fn leaving_touches_only_its_own_life(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let old = fleet.join("ann", lab.long()).await?;
    fleet.leave(&old).await?;
    fleet
        .leave_is(&old, Leave::NotLive, "it has left before")
        .await?;
    let new = fleet.join("ann", lab.long()).await?;
    fleet
        .leave_is(&old, Leave::NotLive, "a newer life has begun")
        .await?;
    fleet.sees_live(&new, "for an older life left").await?;
    let silent = fleet.join("bob", SHORT).await?;
    fleet.gone(&silent).await?;
    fleet
        .leave_is(&silent, Leave::NotLive, "its ttl has passed")
        .await?;
    let nobody = MemberId::from("nobody");
    let asked = fleet
        .store
        .leave(&fleet.group, &nobody, Incarnation::new(1));
    let answer = lab.answer("leave", asked).await?;
    require_eq("`leave` of a life that never was", &answer, &Leave::NotLive)
}

pub(super) async fn an_evicted_member_is_refused_and_lives_out_its_ttl(lab: &Members) -> Verdict {
    let fleet = &lab.fleet().await?;
    lab.timed(|ttl, id| {
        Box::pin(async move {
            let mut life = fleet.join(&id, lab.long()).await?;
            life.ttl = ttl;
            let asked = Instant::now();
            fleet.beat(&life).await?;
            let marked = fleet.evict_is(&life.id, life.incarnation, Eviction::Marked, "it lives");
            marked.await?;
            until(asked, ttl * 8 / 10).await;
            fleet
                .beat_is(&life, Beat::Evicted, "it was put out")
                .await?;
            let state = fleet.state(&life).await?;
            if told_within(asked, ttl) == Look::TooLate {
                return Ok(Look::TooLate);
            }
            let lives = matches!(state, MemberState::Live { evicted: true, .. });
            require(lives, "a last ttl for who was put out, marked so", state)?;
            // Its refused heartbeats have prolonged nothing.
            fleet.gone(&life).await?;
            fleet
                .beat_is(&life, Beat::Evicted, "it was put out")
                .await?;
            let state = fleet.state(&life).await?;
            require_eq("the state after the last ttl", &state, &MemberState::Due)?;
            fleet.join(&id, lab.long()).await?;
            is_tombstone(&fleet.snapshot().await?, &life, EndReason::Evicted)?;
            Ok(Look::Told)
        })
    })
    .await
}

pub(super) async fn a_missing_record_is_entered_as_evicted(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let known = fleet.join("bob", lab.long()).await?;
    let (id, incarnation) = (MemberId::from("ann"), known.incarnation);
    let max_ttl = lab.settings().max_ttl;
    let asked = Instant::now();
    fleet
        .evict_is(&id, incarnation, Eviction::Entered, "there is no record")
        .await?;
    let state = |snapshot: &Snapshot| snapshot.get(&id, incarnation).map(|record| record.state);
    let entered = state(&fleet.snapshot().await?);
    let lives = match entered {
        Some(MemberState::Live {
            expires_in,
            evicted,
        }) => evicted && expires_in <= max_ttl && expires_in + asked.elapsed() >= max_ttl,
        Some(MemberState::Due | MemberState::Ended { .. }) | None => false,
    };
    require(
        lives,
        format!("a life put out, with {max_ttl:?} left"),
        entered,
    )?;
    let beat = coordinator_core::Heartbeat::new(
        fleet.group.clone(),
        id.clone(),
        incarnation,
        1,
        lab.long(),
    );
    let answer = fleet.ask_beat(&beat).await?;
    require_eq("the heartbeat of an entered life", &answer, &Beat::Evicted)?;
    fleet
        .evict_is(&id, incarnation, Eviction::Marked, "it is entered already")
        .await?;
    if lab.settings().virtual_time {
        until(asked, max_ttl + Duration::from_millis(1)).await;
        let due = state(&fleet.snapshot().await?);
        require_eq(
            "the state after the longest ttl",
            &due,
            &Some(MemberState::Due),
        )?;
    }
    Ok(())
}

pub(super) async fn evicting_the_ended_changes_nothing(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    fleet.leave(&life).await?;
    let before = fleet.versions().await?;
    fleet
        .evict_is(&life.id, life.incarnation, Eviction::Ended, "it has left")
        .await?;
    is_tombstone(&fleet.snapshot().await?, &life, EndReason::Left)?;
    require_eq("the versions", &fleet.versions().await?, &before)?;
    let next = fleet.join("ann", lab.long()).await?;
    fleet
        .evict_is(&life.id, life.incarnation, Eviction::Ended, "it has left")
        .await?;
    fleet.beat(&next).await
}

pub(super) async fn tombstones_are_kept(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    let asked = Instant::now();
    fleet.leave(&life).await?;
    let left = Instant::now();
    let waits = if lab.settings().virtual_time {
        [
            Duration::from_secs(1),
            TOMBSTONE_RETENTION / 2,
            TOMBSTONE_RETENTION * 99 / 100,
        ]
    } else {
        // An hour is too long to wait for: what can be seen is that it ages.
        [
            Duration::from_millis(1),
            Duration::from_millis(50),
            Duration::from_millis(200),
        ]
    };
    for wait in waits {
        until(left, wait).await;
        // Whoever comes and goes must not push it out.
        let passer = fleet.join("bob", lab.long()).await?;
        fleet.leave(&passer).await?;
        let told = left.elapsed();
        let state = fleet.state(&life).await?;
        let MemberState::Ended { ago, .. } = state else {
            return Err(broken("a tombstone", state));
        };
        // A hundredth is left to the difference of two clocks.
        let slack = told / 100 + Duration::from_millis(1);
        let (least, most) = (told.saturating_sub(slack), asked.elapsed() + slack);
        require(
            (least..=most).contains(&ago),
            format!("a life that ended between {least:?} and {most:?} ago"),
            ago,
        )?;
    }
    Ok(())
}

pub(super) async fn expiries_are_counted(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let left = fleet.join("ann", lab.long()).await?;
    fleet.leave(&left).await?;
    let mut old = fleet.join("ann", SHORT).await?;
    for count in 1..=3 {
        fleet.gone(&old).await?;
        let next = fleet.join("ann", SHORT).await?;
        counts(&fleet.state(&old).await?, count)?;
        old = next;
    }
    if lab.settings().virtual_time {
        // Ten minutes later they count no longer.
        sleep(Duration::from_secs(601)).await;
        let alone = fleet.join("ann", SHORT).await?;
        sleep(Duration::from_secs(601)).await;
        fleet.join("ann", SHORT).await?;
        counts(&fleet.state(&alone).await?, 1)?;
    }
    Ok(())
}

fn counts(state: &MemberState, wanted: u32) -> Verdict {
    let counted = matches!(
        state,
        MemberState::Ended { reason: EndReason::Expired, flaps, .. } if *flaps == wanted
    );
    require(
        counted,
        format!("a tombstone that counts {wanted} expiries"),
        state,
    )
}
