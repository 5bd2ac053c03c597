//! What may replace what.

use coordinator_core::{Epoch, FencingToken, Lead, Swapped};

use super::client::Plans;
use crate::join::join_all;
use crate::report::{Verdict, broken, require, require_eq};

pub(super) async fn a_swap_replaces_only_what_is_expected(lab: &Plans) -> Verdict {
    let (planner, other) = (lab.planner().await?, lab.planner().await?);
    require_eq(
        "the document of a new keyspace",
        &planner.load().await?,
        &None,
    )?;
    let early = planner.request(Some(Epoch::new(1)), "too early");
    let none = Swapped::Conflict { found: None };
    planner
        .refused(&early, none, "there is no document yet")
        .await?;
    let first = planner.put(None, "first").await?;
    let found = Swapped::Conflict { found: Some(first) };
    let near = [
        None,
        Some(Epoch::new(first.get() - 1)),
        Some(Epoch::new(first.get() + 1)),
    ];
    for expected in near {
        let swap = other.request(expected, "over another");
        let why = format!("{expected:?} is expected, and {first} stored");
        other.refused(&swap, found.clone(), &why).await?;
    }
    let second = other.put(Some(first), "second").await?;
    let found = Swapped::Conflict {
        found: Some(second),
    };
    let late = planner.request(Some(first), "late");
    planner
        .refused(&late, found, "the expected document was replaced")
        .await?;
    let text = planner
        .load()
        .await?
        .map(|stored| (stored.epoch, stored.document.to_vec()));
    require_eq(
        "the stored document",
        &text,
        &Some((second, b"second".to_vec())),
    )
}

pub(super) async fn of_many_swaps_at_once_one_is_stored(lab: &Plans) -> Verdict {
    let mut planners = Vec::new();
    for _ in 0..8 {
        planners.push(lab.planner().await?);
    }
    let mut expected = None;
    for _ in 0..5 {
        let asked = planners
            .iter()
            .map(|planner| async move { planner.ask(&planner.request(expected, "mine")).await });
        let answers = join_all(asked)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let stored: Vec<_> = answers
            .iter()
            .filter_map(|answer| match answer {
                Swapped::Stored(epoch) => Some(*epoch),
                Swapped::Conflict { .. } | Swapped::Fenced { .. } | Swapped::NotEnded(_) => None,
            })
            .collect();
        let &[epoch] = stored.as_slice() else {
            return Err(broken("one stored document among many at once", stored));
        };
        let conflicts = answers
            .iter()
            .filter(|answer| matches!(answer, Swapped::Conflict { .. }))
            .count();
        require(
            conflicts == planners.len() - 1,
            "`Conflict` for all others",
            answers,
        )?;
        expected = Some(epoch);
    }
    Ok(())
}

pub(super) async fn a_lower_planner_is_fenced(lab: &Plans) -> Verdict {
    let (mut old, mut new) = (lab.planner().await?, lab.planner().await?);
    (old.token, new.token) = (FencingToken::new(10), FencingToken::new(20));
    let first = old.put(None, "first").await?;
    new.lead(20).await?;
    let by = |token| Swapped::Fenced {
        by: FencingToken::new(token),
    };
    let late = old.request(Some(first), "of an old planner");
    old.refused(&late, by(20), "a planner with a higher token leads")
        .await?;
    let told = old.lead(19).await?;
    let wanted = Lead::Fenced {
        by: FencingToken::new(20),
    };
    require_eq("`lead` with a lower token", &told, &wanted)?;
    // The same token again is no lower one.
    let led = new.lead(20).await?;
    require(
        matches!(led, Lead::Led(_)),
        "`Led` again for the same token",
        led,
    )?;
    let second = new.put(Some(first), "second").await?;
    // A swap raises the token, too.
    new.token = FencingToken::new(30);
    let third = new.put(Some(second), "third").await?;
    old.token = FencingToken::new(29);
    let late = old.request(Some(third), "of an old planner");
    old.refused(&late, by(30), "a planner with a higher token has swapped")
        .await?;
    let told = old.lead(29).await?;
    let wanted = Lead::Fenced {
        by: FencingToken::new(30),
    };
    require_eq("`lead` with a lower token", &told, &wanted)
}
