//! How long a member lives.

use coordinator_core::{Beat, MemberState};
use tokio::time::Instant;

use super::client::{Fleet, Life, Members};
use crate::lab::{Look, SHORT, told_within, until};
use crate::report::{Stop, Verdict, broken, require, require_eq};

pub(super) async fn a_member_is_listed_from_its_join(lab: &Members) -> Verdict {
    let (fleet, other) = (lab.fleet().await?, lab.fleet().await?);
    let mut join = fleet.request("ann", lab.long());
    join.fixed = true;
    join.profile
        .metadata
        .insert("address".into(), "10.0.0.1:80 \u{1F980}".into());
    join.profile.metadata.insert(String::new(), String::new());
    join.profile.zone = Some("north".into());
    join.profile.weight = 7;
    join.profile.keyspaces = ["orders".into(), "users".into()].into();
    join.profile.format = 3;
    let (life, first) = fleet.enter(&join).await?;
    let snapshots = [first, fleet.snapshot().await?, other.snapshot().await?];
    for snapshot in &snapshots {
        let Some(record) = snapshot.get(&life.id, life.incarnation) else {
            return Err(broken("the new member in each snapshot", snapshot));
        };
        require_eq("its profile", &record.profile, &join.profile)?;
        let told = (record.instance, record.fixed, record.ttl);
        require_eq("its facts", &told, &(life.instance, true, life.ttl))?;
        let alive = match record.state {
            MemberState::Live {
                expires_in,
                evicted,
            } => !evicted && !expires_in.is_zero() && expires_in <= life.ttl,
            MemberState::Due | MemberState::Ended { .. } => false,
        };
        let wanted = format!("a live member with at most {:?} left", life.ttl);
        require(alive, wanted, record.state)?;
        require_eq("the number of live members", &snapshot.live().count(), &1)?;
    }
    Ok(())
}

pub(super) async fn a_member_lives_for_its_whole_ttl(lab: &Members) -> Verdict {
    let fleet = &lab.fleet().await?;
    lab.timed(|ttl, id| {
        Box::pin(async move {
            let asked = Instant::now();
            let life = fleet.join(&id, ttl).await?;
            still_live(fleet, &life, asked).await
        })
    })
    .await
}

/// Looks at a life late in a TTL that began at `from` or after it.
async fn still_live<P: ?Sized + 'static>(
    fleet: &Fleet<'_, P>,
    life: &Life,
    from: Instant,
) -> Result<Look, Stop> {
    until(from, life.ttl * 8 / 10).await;
    let state = fleet.state(life).await?;
    if told_within(from, life.ttl) == Look::TooLate {
        return Ok(Look::TooLate);
    }
    let live = matches!(state, MemberState::Live { evicted: false, .. });
    let wanted = format!("a live member within its ttl of {:?}", life.ttl);
    require(live, wanted, state)?;
    Ok(Look::Told)
}

pub(super) async fn a_heartbeat_prolongs_to_a_whole_ttl(lab: &Members) -> Verdict {
    let fleet = &lab.fleet().await?;
    lab.timed(|ttl, id| {
        Box::pin(async move {
            let mut asked = Instant::now();
            let life = fleet.join(&id, ttl).await?;
            for _ in 0..2 {
                until(asked, ttl / 2).await;
                let again = Instant::now();
                let answer = fleet.ask_beat(&fleet.next_beat(&life)).await?;
                if told_within(asked, ttl) == Look::TooLate {
                    return Ok(Look::TooLate);
                }
                let alive = matches!(answer, Beat::Alive { .. });
                require(alive, "`Alive` within the ttl", answer)?;
                asked = again;
            }
            still_live(fleet, &life, asked).await
        })
    })
    .await
}

pub(super) async fn a_silent_member_is_live_no_longer(lab: &Members) -> Verdict {
    let (fleet, other) = (lab.fleet().await?, lab.fleet().await?);
    let (silent, lively) = (
        fleet.join("ann", SHORT).await?,
        fleet.join("bob", lab.long()).await?,
    );
    other.gone(&silent).await?;
    let state = other.state(&silent).await?;
    require_eq("the state of a silent member", &state, &MemberState::Due)?;
    other.sees_live(&lively, "for its ttl has not passed").await
}

pub(super) async fn an_expired_member_is_never_revived(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", SHORT).await?;
    fleet.beat(&life).await?;
    fleet.gone(&life).await?;
    for _ in 0..2 {
        fleet
            .beat_is(&life, Beat::Expired, "its ttl has passed")
            .await?;
        fleet.sees_no_life(&life, "after a late heartbeat").await?;
    }
    let next = fleet.join("ann", lab.long()).await?;
    fleet
        .beat_is(&life, Beat::Expired, "a new life of its name has begun")
        .await?;
    fleet
        .sees_no_life(&life, "for a new life has begun")
        .await?;
    fleet.sees_live(&next, "whatever the old life sent").await
}
