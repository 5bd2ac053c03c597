//! Leaders that are cut off from the server.

use std::time::Duration;

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};

use super::{CUT_OFF, LEAD, TTL};
use crate::kit::{CLIENTS, Member, Place, Tested, ms, one_at_a_time, reigns};

/// A leader `a` behind a proxy, and `b`, who waits, on a direct path.
struct Pair {
    place: Place,
    proxy: Proxy,
    members: Vec<Member>,
}

impl Pair {
    async fn start(client: &str) -> Tested<Option<Self>> {
        match Place::shared(client) {
            Some(place) => Self::at(place).await.map(Some),
            None => Ok(None),
        }
    }

    async fn at(place: Place) -> Tested<Self> {
        let proxy = Proxy::before(place.server()).await?;
        let mut a = Member::start("a", &place.through(&proxy), TTL, &[LEAD])?;
        a.until("elected x").await?;
        let mut b = Member::start("b", &place.url(), TTL, &[LEAD])?;
        b.until("ready").await?;
        place.until_waiting(1).await?;
        let members = vec![a, b];
        Ok(Self {
            place,
            proxy,
            members,
        })
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
        self.place.until_waiting(1).await?;
        Ok(())
    }
}

/// E5, R4, D3: nothing passes between the leader and the server, and both think that the connection is
/// there.
#[tokio::test]
async fn e5_a_leader_behind_a_silent_network_steps_down_before_the_next_starts() -> Tested {
    for client in CLIENTS {
        let Some(mut pair) = Pair::start(client).await? else {
            return Ok(());
        };
        let cut = now();
        pair.proxy.set(Direction::Both, Mode::Hold);
        let took = pair.taken_over(cut).await?;
        println!("E5 silent network to next, {client}: {took:?}");
        assert!(took < CUT_OFF, "{took:?}");
        pair.healed().await?;
        let reigns = reigns(&mut pair.members, "x").await;
        one_at_a_time(&reigns, 2);
        assert_eq!(reigns[0].lost.as_deref(), Some("expired"));
    }
    Ok(())
}

/// E5: the server's half of all connections is closed, and the leader lives and hears nothing of it.
#[tokio::test]
async fn e5_a_leader_whose_connections_end_at_the_server_alone_is_waited_for() -> Tested {
    for client in CLIENTS {
        let Some(mut pair) = Pair::start(client).await? else {
            return Ok(());
        };
        let cut = now();
        pair.proxy.close_server_side().await;
        let took = pair.taken_over(cut).await?;
        println!("E5 server's half closed to next, {client}: {took:?}");
        pair.healed().await?;
        one_at_a_time(&reigns(&mut pair.members, "x").await, 2);
    }
    Ok(())
}

/// E6: an administrator ends the leader's connections, or the network resets them. A lease is no
/// connection: the leader is connected again before its trust has ended, and leads on.
#[tokio::test]
async fn e6_a_leader_whose_connections_are_ended_leads_on() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("trust_empty_store", "true");
        let mut pair = Pair::at(place).await?;
        for round in 0..6 {
            match round % 3 {
                0 => pair.proxy.reset_all().await,
                1 => pair.proxy.close_all().await,
                _ => {
                    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
                    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await?;
                }
            }
            pair.members[0].listen(TTL).await;
        }
        pair.members[1].listen(ms(1)).await;
        for member in &mut pair.members {
            assert_eq!(member.count("lost x").await, 0, "{}", member.name);
        }
        // And who waits still hears of the end.
        let resigned = now();
        pair.members[0].tell("resign x")?;
        let took = pair.taken_over(resigned).await?;
        println!("E6 resigned after six ends of its connections, to next, {client}: {took:?}");
        assert!(took < super::AT_ONCE, "{took:?}");
        one_at_a_time(&reigns(&mut pair.members, "x").await, 2);
    }
    Ok(())
}

/// E16, T2, D1: what the leader sent while it was cut off arrives when another leads.
#[tokio::test]
async fn e16_renewals_that_arrive_late_renew_nothing() -> Tested {
    for client in CLIENTS {
        let Some(mut pair) = Pair::start(client).await? else {
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
    }
    Ok(())
}
