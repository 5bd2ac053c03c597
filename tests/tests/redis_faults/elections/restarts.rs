//! Servers that restart, with and without their memory.

use coordinator_tests::servers::Redis;
use coordinator_tests::servers::process::now;

use super::{TTL, campaigning};
use crate::kit::{CLIENTS, Place, Tested, first_of, ms, one_at_a_time, reigns};

/// What a server is started with that keeps what it has acknowledged.
const MEMORY: &[(&str, &str)] = &[("appendonly", "yes"), ("appendfsync", "always")];

/// The namespace's longest ttl, and so its quarantine.
const LONGEST: &str = "2";

/// E7, I1, I2, I6: the server restarts, in an orderly way and after a crash, with all it knew. Nobody
/// ends; the leader that still trusts leads on.
#[tokio::test]
async fn e7_after_each_restart_of_a_server_that_remembers_one_leads_and_nobody_has_ended() -> Tested
{
    for client in CLIENTS {
        let Some(server) = Redis::start(MEMORY).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("max_ttl_seconds", LONGEST);
        let mut members = campaigning(&place, &["a", "b", "c"]).await?;
        for how in ["orderly", "crash"] {
            if how == "orderly" {
                server.stop().await?;
                server.start_again().await?;
            } else {
                server.restart().await?;
            }
            for member in &mut members {
                member.listen(ms(700)).await;
            }
        }
        members[0].listen(ms(2_500)).await;
        let all = reigns(&mut members, "x").await;
        println!(
            "E7 reigns in two restarts with memory, {client}: {}",
            all.len()
        );
        one_at_a_time(&all, 1);
        assert!(all.last().is_some_and(|reign| reign.to > now()), "{all:#?}");
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// E7, E20, I2, I6, K1: the server comes back empty. The leader registers itself again under its old
/// number and leads on; when it is killed, nobody leads before the quarantine has passed, and the
/// numbers rise.
#[tokio::test]
async fn e20_a_server_that_comes_back_empty_costs_no_term_and_grants_nothing_in_quarantine()
-> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("max_ttl_seconds", LONGEST);
        let mut members = campaigning(&place, &["a", "b", "c"]).await?;
        for _ in 0..2 {
            server.restart().await?;
            members[0].listen(TTL * 3).await;
            assert_eq!(members[0].count("lost x").await, 0, "it leads on");
        }
        let down = now();
        server.crash().await?;
        members[0].kill()?;
        server.start_again().await?;
        let (_, elected) = first_of(&mut members[1..], "elected x").await?;
        let took = elected.at.saturating_sub(down);
        println!("E20 empty server to next, with a longest ttl of 2 s, {client}: {took:?}");
        assert!(took >= ms(2_000), "no quarantine: {took:?}");
        assert!(took < ms(2_000 + 2_500), "{took:?}");
        for member in &mut members[1..] {
            member.listen(ms(300)).await;
        }
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        for member in &mut members[1..] {
            member.quit().await?;
        }
    }
    Ok(())
}

/// E20, I2: somebody flushes all. It is as if the server had come back empty.
#[tokio::test]
async fn e20_a_flush_costs_no_term_and_grants_nothing_in_quarantine() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("max_ttl_seconds", LONGEST);
        let mut members = campaigning(&place, &["a", "b"]).await?;
        server.ask(&["FLUSHALL"]).await?;
        members[0].listen(TTL * 3).await;
        assert_eq!(members[0].count("lost x").await, 0, "it leads on");
        members[0].kill()?;
        let down = now();
        server.ask(&["FLUSHALL"]).await?;
        let elected = members[1].until("elected x").await?;
        let took = elected.at.saturating_sub(down);
        println!("E20 flush to next, with a longest ttl of 2 s, {client}: {took:?}");
        assert!(took >= ms(2_000), "no quarantine: {took:?}");
        members[1].listen(ms(300)).await;
        one_at_a_time(&reigns(&mut members, "x").await, 2);
    }
    Ok(())
}

/// I5: who accepts the risk is granted at once on a server that is empty.
#[tokio::test]
async fn i5_an_empty_server_is_waited_for_unless_it_is_to_be_trusted() -> Tested {
    for client in CLIENTS {
        for trusted in [false, true] {
            let Some(server) = Redis::start(&[]).await? else {
                return Ok(());
            };
            let place = Place::on(client, &server).with("max_ttl_seconds", LONGEST);
            let place = if trusted {
                place.with("trust_empty_store", "true")
            } else {
                place
            };
            let began = now();
            let mut members = campaigning(&place, &["a"]).await?;
            let took = now().saturating_sub(began);
            println!("I5 new server to leader, {client}, trusted {trusted}: {took:?}");
            assert_eq!(took < ms(2_000), trusted, "{took:?}");
            members[0].quit().await?;
        }
    }
    Ok(())
}

/// I6: a server that restarts empty again and again grants nothing, and nobody ends for it.
#[tokio::test]
async fn i6_a_server_that_restarts_faster_than_its_quarantine_grants_nothing() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("max_ttl_seconds", LONGEST);
        let mut members = campaigning(&place, &["a", "b"]).await?;
        members[0].kill()?;
        for _ in 0..5 {
            server.restart().await?;
            members[1].listen(ms(1_200)).await;
        }
        assert_eq!(members[1].count("elected x").await, 0);
        members[1].until("elected x").await?;
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        members[1].quit().await?;
    }
    Ok(())
}
