//! Processes that stand still, and work that does.

use super::{CUT_OFF, TTL, campaigning};
use crate::kit::{Member, Place, Sessions, Tested, ms, one_at_a_time, reigns};

/// E12: a follower that was suspended for longer than a ttl usurps nothing when it goes on.
#[tokio::test]
async fn e12_a_follower_that_stood_still_does_not_usurp() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(place) = Place::shared() else {
            return Ok(());
        };
        let place = place.with("leases", leases);
        let mut members = campaigning(&place, &["a", "b"]).await?;
        if leases == "advisory" {
            Sessions::of(&place).await?.until_waiting(1).await?;
        }
        members[1].suspend()?;
        members[0].listen(TTL * 2).await;
        members[1].resume()?;
        members[0].listen(TTL * 2).await;
        assert_eq!(members[0].count("lost x").await, 0, "{leases}");
        assert_eq!(members[1].count("elected x").await, 0, "{leases}");
    }
    Ok(())
}

/// E12: a leader that was suspended for longer than its ttl has a successor, and acts no more when it
/// goes on.
#[tokio::test]
async fn e12_a_leader_that_stood_still_acts_no_more() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(place) = Place::shared() else {
            return Ok(());
        };
        let place = place.with("leases", leases);
        let mut members = campaigning(&place, &["a", "b"]).await?;
        if leases == "advisory" {
            Sessions::of(&place).await?.until_waiting(1).await?;
        }
        let stopped = members[0].suspend()?;
        let elected = members[1].until("elected x").await?;
        let took = elected.at.saturating_sub(stopped);
        println!("E12 suspended to next, {leases}: {took:?}");
        assert!(took < CUT_OFF, "{took:?}");
        members[1].listen(TTL).await;
        members[0].resume()?;
        members[0].until("lost x").await?;
        members[1].listen(TTL).await;
        let all = reigns(&mut members, "x").await;
        one_at_a_time(&all, 2);
        assert_eq!((all.len(), all[1].lost.as_ref()), (2, None), "{all:#?}");
    }
    Ok(())
}

/// E12: dead waiters in the server's queue, each granted in turn, cost a moment each and not a ttl.
#[tokio::test]
async fn p2_waiters_that_stand_still_cost_a_moment_each() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let mut members = campaigning(&place, &["a", "b", "c"]).await?;
    let sessions = Sessions::of(&place).await?;
    sessions.until_waiting(2).await?;
    for waiter in &mut members[1..] {
        waiter.suspend()?;
    }
    members.push(Member::start("d", &place.url(), TTL, &["lead x ttl=1000"])?);
    members[3].until("ready").await?;
    sessions.until_waiting(3).await?;
    let killed = members[0].kill()?;
    let elected = members[3].until("elected x").await?;
    let took = elected.at.saturating_sub(killed);
    println!("P2 kill -9 to next behind two waiters that stand still: {took:?}");
    // Two times max(250 ms, ttl / 4) in the queue, and at worst the leader's window beside it.
    assert!(took < ms(1_000 + 2 * 250 + 500), "{took:?}");
    for waiter in &mut members[1..3] {
        waiter.resume()?;
        waiter.listen(TTL).await;
    }
    one_at_a_time(&reigns(&mut members, "x").await, 2);
    Ok(())
}

/// E21: renewals would succeed, but the work makes no progress: the term ends at its limit.
#[tokio::test]
async fn e21_a_leader_whose_work_is_stuck_is_relieved() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let orders = ["lead x ttl=1000 stall=600 cool=3000 stuck=1"];
    let mut members = vec![Member::start("a", &place.url(), TTL, &orders)?];
    let began = members[0].until("elected x").await?;
    members.push(Member::start(
        "b",
        &place.url(),
        TTL,
        &["lead x ttl=1000 stall=600"],
    )?);
    let lost = members[0].until("lost x").await?;
    assert!(lost.text.ends_with("stalled"), "{}", lost.text);
    let took = lost.at.saturating_sub(began.at);
    println!("E21 stuck work, with a limit of 600 ms, led for {took:?}");
    assert!(took >= ms(600) && took < ms(600 + 1_000 + 300), "{took:?}");
    members[1].until("elected x").await?;
    members[1].listen(TTL * 2).await;
    assert_eq!(members[1].count("lost x").await, 0, "it makes progress");
    one_at_a_time(&reigns(&mut members, "x").await, 2);
    Ok(())
}
