//! Sessions that an administrator ends.

use super::{AT_ONCE, TRUST, TTL, campaigning};
use crate::kit::{Place, Sessions, Tested, longest_overlap, one_at_a_time, reigns};

/// E6: the session that holds the lease is ended. One loss, and a new contest.
#[tokio::test]
async fn e6_a_leader_whose_session_is_ended_loses_once_and_another_is_elected() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let mut members = campaigning(&place, &["a", "b"]).await?;
    let sessions = Sessions::of(&place).await?;
    for round in 1..=6 {
        // It goes back and forth.
        let (leader, other) = if round % 2 == 1 { (0, 1) } else { (1, 0) };
        sessions.until_waiting(1).await?;
        let holder = sessions.holder(&members[leader].name).await?;
        sessions.terminate(&[holder]).await?;
        let lost = members[leader].until("lost x").await?;
        let elected = members[other].until("elected x").await?;
        println!("E6 loss to next: {:?}", elected.at.saturating_sub(lost.at));
        assert!(elected.at.saturating_sub(lost.at) < AT_ONCE);
    }
    for member in &mut members {
        assert_eq!(member.count("lost x").await, 3, "one for each term");
    }
    one_at_a_time(&reigns(&mut members, "x").await, 7);
    Ok(())
}

/// P6: the end of the witness ends no term, and the witness is had again.
#[tokio::test]
async fn p6_a_leader_whose_witness_is_ended_leads_on() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let mut members = campaigning(&place, &["a", "b"]).await?;
    let sessions = Sessions::of(&place).await?;
    for _ in 0..3 {
        let witness = sessions.witness("a").await?;
        sessions.terminate(&[witness]).await?;
        members[0].listen(TTL).await;
        assert_ne!(sessions.witness("a").await?, witness);
    }
    assert_eq!(members[0].count("lost x").await, 0);
    // What it says of its witness is true again, so its death is still seen at once.
    members[0].listen(TTL).await;
    let killed = members[0].kill()?;
    let elected = members[1].until("elected x").await?;
    let took = elected.at.saturating_sub(killed);
    println!("P6 kill -9 to next, with a new witness: {took:?}");
    one_at_a_time(&reigns(&mut members, "x").await, 2);
    Ok(())
}

/// E6, with every session of the leader ended at one moment while it is awake: under `WaitOut` nobody
/// starts in its window, under the default policy the overlap is what it took to hear of it.
#[tokio::test]
async fn e6_all_sessions_of_an_awake_leader_are_ended_at_once() -> Tested {
    for policy in ["wait-out", "evidence"] {
        let Some(place) = Place::shared() else {
            return Ok(());
        };
        let place = place.with("takeover", policy);
        let mut members = campaigning(&place, &["a", "b"]).await?;
        let sessions = Sessions::of(&place).await?;
        sessions.until_waiting(1).await?;
        let all = sessions.all("a").await?;
        assert!(all.len() >= 3, "{all:?}");
        sessions.terminate(&all).await?;
        members[0].until("lost x").await?;
        members[1].until("elected x").await?;
        let reigns = reigns(&mut members, "x").await;
        let overlap = longest_overlap(&reigns);
        println!("E6 all sessions of an awake leader ended, {policy}: overlap {overlap:?}");
        if policy == "wait-out" {
            one_at_a_time(&reigns, 2);
        }
        assert!(overlap <= TRUST, "{overlap:?}");
    }
    Ok(())
}
