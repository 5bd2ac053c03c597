//! Leaders that are cut off from the server.

use std::time::Duration;

use coordinator_tests::servers::{Direction, Mode, Proxy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{CUT_OFF, TRUST, TTL};
use crate::kit::{
    Member, Place, Sessions, Tested, first_of, longest_overlap, ms, one_at_a_time, reigns,
};

/// A leader `a` behind a proxy, and `b`, who waits, on a direct path.
struct Pair {
    place: Place,
    proxy: Proxy,
    members: Vec<Member>,
}

impl Pair {
    async fn start(parameters: &[(&str, &str)]) -> Tested<Option<Self>> {
        let Some(mut place) = Place::shared() else {
            return Ok(None);
        };
        for (name, value) in parameters {
            place = place.with(name, value);
        }
        let proxy = Proxy::before(place.server()).await?;
        let orders = ["lead x ttl=1000"];
        let mut a = Member::start("a", &place.through(&proxy), TTL, &orders)?;
        a.until("elected x").await?;
        let mut b = Member::start("b", &place.url(), TTL, &orders)?;
        b.until("ready").await?;
        if !parameters.contains(&("leases", "row")) {
            Sessions::of(&place).await?.until_waiting(1).await?;
        }
        let members = vec![a, b];
        Ok(Some(Self {
            place,
            proxy,
            members,
        }))
    }

    /// Waits for `b`, and gives how long that took since.
    async fn taken_over(&mut self, since: Duration) -> Tested<Duration> {
        let elected = self.members[1].until("elected x").await?;
        Ok(elected.at.saturating_sub(since))
    }

    /// Lets everything pass again: `a` comes back, and `b` leads on.
    async fn healed(&mut self) -> Tested {
        self.proxy.close_client_side().await;
        self.proxy.set(Direction::Both, Mode::Pass);
        self.members[0].listen(TTL * 2).await;
        self.members[1].listen(ms(1)).await;
        assert_eq!(self.members[1].count("lost").await, 0);
        assert_eq!(self.members[0].count("lost x").await, 1);
        Ok(())
    }
}

fn now() -> Duration {
    coordinator_tests::servers::process::now()
}

/// E5, R4: nothing passes between the leader and the server, and both think that the connection is there.
#[tokio::test]
async fn e5_a_leader_behind_a_silent_network_steps_down_before_the_next_starts() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(mut pair) = Pair::start(&[("leases", leases)]).await? else {
            return Ok(());
        };
        let cut = now();
        pair.proxy.set(Direction::Both, Mode::Hold);
        let took = pair.taken_over(cut).await?;
        println!("E5 silent network to next, {leases}: {took:?}");
        assert!(took < CUT_OFF, "{took:?}");
        pair.healed().await?;
        let reigns = reigns(&mut pair.members, "x").await;
        one_at_a_time(&reigns, 2);
        assert_eq!(reigns[0].lost.as_deref(), Some("expired"));
    }
    Ok(())
}

/// E5: the server's half of all sessions is closed, and the leader lives and hears nothing of it.
#[tokio::test]
async fn e5_a_leader_whose_sessions_end_at_the_server_alone_is_waited_for() -> Tested {
    let Some(mut pair) = Pair::start(&[]).await? else {
        return Ok(());
    };
    let cut = now();
    pair.proxy.close_server_side().await;
    let took = pair.taken_over(cut).await?;
    println!("E5 server's half closed to next: {took:?}");
    pair.healed().await?;
    one_at_a_time(&reigns(&mut pair.members, "x").await, 2);
    Ok(())
}

/// P5, and what section 4 says of it: the residual of the default policy. A path is declared direct
/// that is not, so the end of all sessions is taken for a death. The overlap is what was left of the
/// window; under `WaitOut` there is none.
#[tokio::test]
async fn p5_the_residual_of_evidence_is_the_rest_of_a_window_and_of_waiting_out_nothing() -> Tested
{
    for policy in ["evidence", "wait-out"] {
        let parameters = [("direct", "true"), ("takeover", policy)];
        let Some(mut pair) = Pair::start(&parameters).await? else {
            return Ok(());
        };
        let cut = now();
        pair.proxy.close_server_side().await;
        let took = pair.taken_over(cut).await?;
        pair.members[0].until("lost x").await?;
        let reigns = reigns(&mut pair.members, "x").await;
        let overlap = longest_overlap(&reigns);
        println!(
            "P5 all sessions closed at the server alone, {policy}: next after {took:?}, overlap {overlap:?}"
        );
        assert!(overlap <= TRUST, "{overlap:?}");
        if policy == "wait-out" {
            one_at_a_time(&reigns, 2);
        } else {
            // Else the fault did not happen, and the figure says nothing.
            assert!(overlap > Duration::ZERO);
        }
    }
    Ok(())
}

/// E8: the network fails for short whiles, again and again, in every way it can.
#[tokio::test]
async fn e8_short_cuts_never_make_two_leaders_and_leave_one() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let mut draw = StdRng::seed_from_u64(8);
    let mut ways = Vec::new();
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let proxy = Proxy::before(place.server()).await?;
        let url = place.through(&proxy);
        members.push(Member::start(name, &url, TTL, &["lead x ttl=1000"])?);
        ways.push(proxy);
    }
    let (leader, _) = first_of(&mut members, "elected x").await?;
    for cut in 0..12 {
        // The first silences whoever leads for longer than anybody trusts: somebody must follow.
        let (whose, fault, least) = match cut {
            0 => (leader, 4, 1_500),
            _ => (
                draw.random_range(0..ways.len()),
                draw.random_range(0..5),
                500,
            ),
        };
        let way = &ways[whose];
        match fault {
            0 => way.reset_all().await,
            1 => way.close_server_side().await,
            2 => way.set(Direction::ToServer, Mode::Hold),
            3 => way.set(Direction::ToClient, Mode::Lose),
            _ => way.set(Direction::Both, Mode::Hold),
        }
        // The scenario's own span, from half a second on; most are longer than trust.
        tokio::time::sleep(ms(draw.random_range(least..2_000))).await;
        way.set(Direction::Both, Mode::Pass);
        way.close_client_side().await;
        tokio::time::sleep(ms(draw.random_range(0..400))).await;
    }
    let healed = now();
    let all = settled(&mut members, healed + TTL * 4).await?;
    one_at_a_time(&all, 2);
    println!("E8 reigns in twelve cuts: {}", all.len());
    Ok(())
}

/// Waits until that moment, and asserts that one of them leads then.
async fn settled(members: &mut [Member], at: Duration) -> Tested<Vec<crate::kit::Reign>> {
    for member in members.iter_mut() {
        member.listen((at + ms(100)).saturating_sub(now())).await;
    }
    let all = reigns(members, "x").await;
    let leading = all.iter().filter(|reign| reign.from <= at && reign.to > at);
    assert_eq!(leading.count(), 1, "at {at:?}: {all:#?}");
    Ok(all)
}

/// E16: what the leader sent while it was cut off arrives when another leads.
#[tokio::test]
async fn e16_renewals_that_arrive_late_renew_nothing() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(mut pair) = Pair::start(&[("leases", leases)]).await? else {
            return Ok(());
        };
        // Its renewals wait in the network; it hears the server still.
        pair.proxy.set(Direction::ToServer, Mode::Hold);
        pair.taken_over(now()).await?;
        let before = pair.proxy.passed(Direction::ToServer);
        pair.proxy.set(Direction::ToServer, Mode::Pass);
        pair.members[1].listen(TTL * 2).await;
        assert!(
            pair.proxy.passed(Direction::ToServer) > before,
            "nothing was late"
        );
        pair.healed().await?;
        let all = reigns(&mut pair.members, "x").await;
        one_at_a_time(&all, 2);
        assert_eq!((all.len(), all[1].lost.as_ref()), (2, None), "{all:#?}");
        let still = pair
            .place
            .sql("select owner from {schema}.fence where not released");
        let client = crate::kit::connect(pair.place.server()).await?;
        assert_eq!(
            client.query_one(&still, &[]).await?.get::<_, String>(0),
            "b"
        );
    }
    Ok(())
}

/// E16, V9, by vote: heartbeats of a leader that the network has held back arrive when another leads,
/// and nobody follows them.
#[tokio::test]
async fn e16_heartbeats_that_arrive_late_revive_no_claim() -> Tested {
    let Some(place) = Place::shared() else {
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
    println!(
        "E16 silent leader to next, by vote: {:?}",
        elected.at.saturating_sub(cut)
    );
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
    Ok(())
}
