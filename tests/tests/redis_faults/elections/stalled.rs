//! Processes and servers that stand still, and work that does.

use coordinator_tests::servers::Redis;
use coordinator_tests::servers::process::now;

use super::{CUT_OFF, LEAD, TTL, campaigning};
use crate::kit::{CLIENTS, Member, Place, Tested, first_of, ms, one_at_a_time, reigns};

/// E12: a follower that was suspended for longer than a ttl usurps nothing when it goes on.
#[tokio::test]
async fn e12_a_follower_that_stood_still_does_not_usurp() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut members = campaigning(&place, &["a", "b"]).await?;
        members[1].suspend()?;
        members[0].listen(TTL * 2).await;
        members[1].resume()?;
        members[0].listen(TTL * 2).await;
        assert_eq!(members[0].count("lost x").await, 0);
        assert_eq!(members[1].count("elected x").await, 0);
    }
    Ok(())
}

/// E12: a leader that was suspended for longer than its ttl has a successor, and acts no more when it
/// goes on.
#[tokio::test]
async fn e12_a_leader_that_stood_still_acts_no_more() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut members = campaigning(&place, &["a", "b"]).await?;
        let stopped = members[0].suspend()?;
        let elected = members[1].until("elected x").await?;
        let took = elected.at.saturating_sub(stopped);
        println!("E12 suspended to next, {client}: {took:?}");
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

/// E12, D2: the first in line stands still when the leader dies: the next in line leads within a poll,
/// and the first usurps nothing when it goes on.
#[tokio::test]
async fn d2_a_waiter_that_stands_still_holds_nobody_up_for_long() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut members = campaigning(&place, &["a", "b", "c"]).await?;
        members[1].suspend()?;
        let killed = members[0].kill()?;
        let elected = members[2].until("elected x").await?;
        let took = elected.at.saturating_sub(killed);
        println!("D2 kill -9 to next behind a waiter that stands still, {client}: {took:?}");
        assert!(took < CUT_OFF + TTL * 2, "{took:?}");
        members[1].resume()?;
        members[1].listen(TTL * 2).await;
        assert_eq!(members[1].count("elected x").await, 0);
        one_at_a_time(&reigns(&mut members, "x").await, 2);
    }
    Ok(())
}

/// E5, E8: the server stands still for shorter and for longer than a ttl: connections stay, nothing
/// answers, and its clock goes on. Nobody leads beside another, and one leads afterwards.
#[tokio::test]
async fn e8_a_server_that_stands_still_never_makes_two_leaders() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let mut members = campaigning(&place, &["a", "b", "c"]).await?;
        for span in [300, 700, 1_500, 4_000] {
            server.freeze().await?;
            for member in &mut members[..1] {
                member.listen(ms(span)).await;
            }
            server.thaw().await?;
            let back = now();
            let deadline = back + TTL * 5;
            loop {
                let all = reigns(&mut members, "x").await;
                if all.iter().any(|reign| reign.to > now()) {
                    break;
                }
                assert!(now() < deadline, "nobody leads after {span} ms: {all:#?}");
                members[0].listen(ms(20)).await;
            }
            let took = now().saturating_sub(back);
            println!("E8 server still for {span} ms, then a leader after {took:?}, {client}");
            members[0].listen(ms(500)).await;
        }
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// E21, W3: renewals would succeed, but the work makes no progress: the term ends at its limit.
#[tokio::test]
async fn e21_a_leader_whose_work_is_stuck_is_relieved() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let stuck = format!("{LEAD} stall=600 cool=3000 stuck=1");
        let mut members = vec![Member::start("a", &place.url(), TTL, &[stuck.as_str()])?];
        let began = members[0].until("elected x").await?;
        let sound = format!("{LEAD} stall=600");
        members.push(Member::start("b", &place.url(), TTL, &[sound.as_str()])?);
        let lost = members[0].until("lost x").await?;
        assert!(lost.text.ends_with("stalled"), "{}", lost.text);
        let took = lost.at.saturating_sub(began.at);
        println!("E21 stuck work, with a limit of 600 ms, led for {took:?}, {client}");
        assert!(took >= ms(600) && took < ms(600 + 1_000 + 300), "{took:?}");
        first_of(&mut members[1..], "elected x").await?;
        members[1].listen(TTL * 2).await;
        assert_eq!(members[1].count("lost x").await, 0, "it makes progress");
        one_at_a_time(&reigns(&mut members, "x").await, 2);
    }
    Ok(())
}
