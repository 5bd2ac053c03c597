//! A store that stopped, or lost its memory.

use coordinator_core::{Beat, ErrorKind, Joined, MemberState, MembershipError};

use super::client::{Fleet, Life, Members};
use super::joins::rises;
use crate::lab::SHORT;
use crate::report::{Stop, Verdict, broken, require, require_eq};

pub(super) async fn incarnations_rise_over_a_restart(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let (ann, bob) = (
        fleet.join("ann", lab.long()).await?,
        fleet.join("bob", lab.long()).await?,
    );
    fleet.leave(&bob).await?;
    lab.restart().await?;
    lab.eventually(
        "the store to answer after its restart",
        lab.patience(),
        async || {
            let asked = fleet.store.snapshot(&fleet.group);
            Ok(lab.within("snapshot", asked).await?.is_ok())
        },
    )
    .await?;
    fleet.sees_live(&ann, "over a restart").await?;
    fleet.beat(&ann).await?;
    let again = fleet.join("bob", lab.long()).await?;
    rises("a restart", bob.incarnation, again.incarnation)
}

pub(super) async fn incarnations_rise_over_a_loss_of_memory(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let before = fleet.join("ann", lab.long()).await?;
    lab.forget().await?;
    let after = fleet.join("ann", lab.long()).await?;
    rises("a loss of memory", before.incarnation, after.incarnation)
}

pub(super) async fn a_store_that_forgot_says_so(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let before = fleet.join("ann", lab.long()).await?;
    lab.forget().await?;
    fleet
        .beat_is(&before, Beat::Expired, "the store forgot the member")
        .await?;
    // In quarantine, too, members may join and beat.
    let after = fleet.join("ann", lab.long()).await?;
    require(
        after.memory != before.memory,
        "another memory identity after a loss of memory",
        &after.memory,
    )?;
    match fleet.ask_beat(&fleet.next_beat(&after)).await? {
        Beat::Alive { memory, .. } => require_eq(
            "the memory identity in a heartbeat's answer",
            &memory,
            &after.memory,
        ),
        ended @ (Beat::Expired | Beat::Evicted) => {
            Err(broken("`Alive` during the quarantine", ended))
        }
    }
}

pub(super) async fn a_static_name_waits_for_the_end_of_the_quarantine(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let mut join = fleet.request("ann", lab.long());
    join.fixed = true;
    let (before, _) = fleet.enter(&join).await?;
    lab.forget().await?;
    let mut restarted = fleet.request("ann", lab.long());
    restarted.fixed = true;
    let asked = fleet.store.join(&restarted);
    lab.quarantined("join", asked, MembershipError::kind)
        .await?;
    join.floor = Some(before.incarnation);
    let (again, _) = fleet.enter(&join).await?;
    rises("a loss of memory", before.incarnation, again.incarnation)
}

pub(super) async fn a_store_that_forgot_ends_nobody_at_first(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    fleet.join("ann", lab.long()).await?;
    lab.forget().await?;
    let silent = fleet.join("bob", SHORT).await?;
    fleet.gone(&silent).await?;
    not_ended(&fleet, &silent).await?;
    // Whether another may join under the name meanwhile is the store's choice; the old life may
    // not become a tombstone by it.
    let rival = fleet.request("bob", SHORT);
    match lab.within("join", fleet.store.join(&rival)).await? {
        Ok(Joined::Taken(_) | Joined::Member { .. }) => {}
        Err(error) if matches!(MembershipError::kind(&error), ErrorKind::Quarantined { .. }) => {}
        Err(other) => return Err(broken("a join, or a refusal for now", other)),
    }
    not_ended(&fleet, &silent).await?;
    fleet
        .join_after("bob", SHORT, lab.settings().max_ttl * 2)
        .await?;
    Ok(())
}

async fn not_ended<P: ?Sized + 'static>(fleet: &Fleet<'_, P>, life: &Life) -> Result<(), Stop> {
    let state = fleet.state(life).await?;
    let ended = matches!(state, MemberState::Ended { .. });
    require(!ended, "no tombstone during the quarantine", state)
}
