//! Names, lives, and their numbers.

use coordinator_core::{EndReason, Incarnation, Joined, MemberState, NUMBER_LIMIT};

use super::client::{Life, Members};
use crate::join::join_all;
use crate::lab::SHORT;
use crate::report::{Verdict, broken, require, require_eq};

/// That the second incarnation is higher, and both are exact in every reader.
pub(super) fn rises(over: &str, before: Incarnation, after: Incarnation) -> Verdict {
    require(
        after > before && after.get() < NUMBER_LIMIT,
        format!("an incarnation above {before} and below {NUMBER_LIMIT}, over {over}"),
        after,
    )
}

pub(super) async fn incarnations_rise(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let mut last = Incarnation::new(0);
    for _ in 0..4 {
        let life = fleet.join("ann", lab.long()).await?;
        rises("a leave", last, life.incarnation)?;
        fleet.leave(&life).await?;
        last = life.incarnation;
    }
    for _ in 0..2 {
        let life = fleet.join_after("ann", SHORT, SHORT).await?;
        rises("an expiry", last, life.incarnation)?;
        last = life.incarnation;
    }
    Ok(())
}

pub(super) async fn incarnations_exceed_the_floor(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let first = fleet.join("ann", lab.long()).await?;
    fleet.leave(&first).await?;
    let floor = Incarnation::new(first.incarnation.get() + 60 * 60 * 1000);
    let mut join = fleet.request("ann", lab.long());
    join.floor = Some(floor);
    let (second, _) = fleet.enter(&join).await?;
    rises("the floor that the asker gave", floor, second.incarnation)?;
    fleet.leave(&second).await?;
    join = fleet.request("ann", lab.long());
    join.floor = Some(Incarnation::new(NUMBER_LIMIT - 2));
    let (third, _) = fleet.enter(&join).await?;
    rises("a leave", second.incarnation, third.incarnation)?;
    let ignored = third.incarnation.get() < NUMBER_LIMIT / 2;
    require(
        ignored,
        "a floor from far ahead to be ignored",
        third.incarnation,
    )
}

pub(super) async fn joining_twice_is_one_life(lab: &Members) -> Verdict {
    let (fleet, other) = (lab.fleet().await?, lab.fleet().await?);
    let join = fleet.request("ann", lab.long());
    let (first, _) = fleet.enter(&join).await?;
    let (again, snapshot) = other.enter(&join).await?;
    require_eq(
        "the incarnation of a repeated join",
        &again.incarnation,
        &first.incarnation,
    )?;
    require_eq("the number of records", &snapshot.members.len(), &1)?;
    fleet.beat(&first).await
}

pub(super) async fn of_many_that_join_under_one_name_one_does(lab: &Members) -> Verdict {
    for round in 0..5 {
        let mut fleets = Vec::new();
        for _ in 0..8 {
            fleets.push(lab.fleet().await?);
        }
        let name = format!("ann-{round}");
        let asked = fleets.iter().map(|fleet| async {
            let request = fleet.request(&name, lab.long());
            Ok((request.instance, fleet.ask_join(&request).await?))
        });
        let answers = join_all(asked)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let joined: Vec<_> = answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Joined::Member { .. }))
            .map(|(instance, _)| *instance)
            .collect();
        let &[winner] = joined.as_slice() else {
            return Err(broken(
                "one member among many that join under one name",
                joined,
            ));
        };
        for (_, answer) in answers {
            if let Joined::Taken(incumbent) = answer {
                require_eq("the incumbent", &incumbent.instance, &winner)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn a_live_name_is_taken(lab: &Members) -> Verdict {
    let (fleet, other) = (lab.fleet().await?, lab.fleet().await?);
    let life = fleet.join("ann", lab.long()).await?;
    fleet.beat(&life).await?;
    let before = fleet.versions().await?;
    for beat in [1, 2] {
        let rival = other.request("ann", lab.long());
        match other.ask_join(&rival).await? {
            Joined::Taken(incumbent) => {
                let told = (incumbent.instance, incumbent.incarnation, incumbent.beat);
                let wanted = (life.instance, life.incarnation, beat);
                require_eq(
                    "the incumbent, its incarnation and its beat",
                    &told,
                    &wanted,
                )?;
            }
            member @ Joined::Member { .. } => {
                return Err(broken("`Taken`: another instance is live", member));
            }
        }
        fleet.beat(&life).await?;
    }
    require_eq(
        "the versions after refused joins",
        &fleet.versions().await?,
        &before,
    )
}

pub(super) async fn a_due_name_is_free_and_leaves_a_tombstone(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let old = fleet.join("ann", SHORT).await?;
    fleet.gone(&old).await?;
    let request = fleet.request("ann", lab.long());
    let (new, snapshot) = fleet.enter(&request).await?;
    rises("an expiry", old.incarnation, new.incarnation)?;
    require_eq("the number of live members", &snapshot.live().count(), &1)?;
    is_tombstone(&snapshot, &old, EndReason::Expired)?;
    is_tombstone(&fleet.snapshot().await?, &old, EndReason::Expired)?;
    fleet.sees_live(&new, "for it has just joined").await
}

/// That a snapshot has a tombstone of this life, with this reason.
pub(crate) fn is_tombstone(
    snapshot: &coordinator_core::Snapshot,
    life: &Life,
    wanted: EndReason,
) -> Verdict {
    let state = snapshot
        .get(&life.id, life.incarnation)
        .map(|record| record.state);
    let ended = matches!(state, Some(MemberState::Ended { reason, .. }) if reason == wanted);
    require(
        ended,
        format!("a tombstone of {}: {wanted:?}", life.id),
        state,
    )
}
