//! Elections by vote.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy};

use super::TTL;
use super::cuts::of_each;
use crate::kit::{CLIENTS, Member, Place, Tested, first_of, ms, one_at_a_time, reigns};

/// E16, V9, by vote: heartbeats of a leader that the network has held back arrive when another leads,
/// and nobody follows them.
#[tokio::test]
async fn e16_heartbeats_that_arrive_late_revive_no_claim() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let (mut members, mut proxies) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let proxy = Proxy::before(place.server()).await?;
            let orders = ["lead x ttl=1000 voters=a,b,c"];
            members.push(Member::start(name, &place.through(&proxy), TTL, &orders)?);
            proxies.push(proxy);
        }
        let (leader, _) = first_of(&mut members, "elected x").await?;
        members.swap(0, leader);
        let proxy = &proxies[leader];
        let cut = now();
        proxy.set(Direction::ToServer, Mode::Hold);
        let (_, elected) = first_of(&mut members[1..], "elected x").await?;
        let took = elected.at.saturating_sub(cut);
        println!("E16 silent leader to next, by vote, {client}: {took:?}");
        let before = proxy.passed(Direction::ToServer);
        proxy.set(Direction::ToServer, Mode::Pass);
        for member in &mut members {
            member.listen(TTL).await;
        }
        assert!(
            proxy.passed(Direction::ToServer) > before,
            "nothing was late"
        );
        let all = reigns(&mut members, "x").await;
        one_at_a_time(&all, 2);
        let last = all.last().expect("somebody leads");
        assert!(last.lost.is_none() && last.to > now(), "{all:#?}");
    }
    Ok(())
}

/// E4, by vote of those who are seen, with a lease: no later than by lease alone.
#[tokio::test]
async fn e4_by_vote_with_a_lease_a_killed_leader_has_a_successor() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let order = "lead x ttl=1000 voters=live";
        let start = |name: &str| Member::start(name, &place.url(), TTL, &[order]);
        let mut members = vec![start("m0")?, start("m1")?, start("m2")?];
        let mut dead = Vec::new();
        let (mut leader, _) = first_of(&mut members, "elected x").await?;
        for number in 3..8 {
            let mut killed = members.swap_remove(leader);
            let at = killed.kill()?;
            dead.push(killed);
            let (next, elected) = first_of(&mut members, "elected x").await?;
            let took = elected.at.saturating_sub(at);
            println!("E4 by vote with a lease, kill -9 to next, {client}: {took:?}");
            // The promises, then a timeout, and one split vote.
            assert!(took < TTL * 5 + ms(500), "{took:?}");
            leader = next;
            members.push(start(&format!("m{number}"))?);
            members[2].until("ready").await?;
            members[leader].listen(TTL).await;
        }
        let all = reigns(members.iter_mut().chain(&mut dead), "x").await;
        one_at_a_time(&all, 6);
    }
    Ok(())
}

/// E8: by a vote of named voters.
#[tokio::test]
async fn e8_by_vote_cuts_never_make_two_leaders_and_leave_one() -> Tested {
    of_each("lead x ttl=1000 voters=a,b,c").await
}

/// E8: by a vote of those who are seen, with a lease.
#[tokio::test]
async fn e8_by_vote_of_the_living_cuts_never_make_two_leaders_and_leave_one() -> Tested {
    of_each("lead x ttl=1000 voters=live").await
}
