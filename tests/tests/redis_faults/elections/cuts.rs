//! Networks that fail for a while, again and again.

use std::env;
use std::time::Duration;

use anyhow::Context;
use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy};
use futures_util::future::try_join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::TTL;
use crate::kit::{CLIENTS, Member, Place, Reign, Tested, first_of, ms, one_at_a_time, reigns};

/// So many cuts there are for each kind of election, unless `COORDINATOR_CUTS` says otherwise.
const CUTS: usize = 8;

/// So many fleets are cut at once.
const FLEETS: usize = 2;

/// E8, D3: members campaign by lease, and the network of one after the other fails for half a second
/// to eight, in every way it can.
#[tokio::test]
async fn e8_by_lease_cuts_never_make_two_leaders_and_leave_one() -> Tested {
    of_each("lead x ttl=1000").await
}

pub(super) async fn of_each(order: &str) -> Tested {
    let asked = env::var("COORDINATOR_CUTS");
    let cuts = match &asked {
        Ok(count) => count.parse().context("COORDINATOR_CUTS is a number")?,
        Err(_) => CUTS,
    };
    for client in CLIENTS {
        let fleets = (0..FLEETS).map(|fleet| cut_off(client, order, fleet, cuts.div_ceil(FLEETS)));
        let all = try_join_all(fleets).await?;
        let reigns: usize = all.iter().flatten().map(Vec::len).sum();
        println!("E8 `{order}`, {client}: {reigns} reigns in {cuts} cuts, no overlap");
    }
    Ok(())
}

/// Cuts a fleet of three so many times.
async fn cut_off(
    client: &str,
    order: &str,
    fleet: usize,
    cuts: usize,
) -> Tested<Option<Vec<Reign>>> {
    let Some(place) = Place::shared(client) else {
        return Ok(None);
    };
    let mut draw = StdRng::seed_from_u64(8 + u64::try_from(fleet)?);
    let (mut ways, mut members) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c"] {
        let proxy = Proxy::before(place.server()).await?;
        members.push(Member::start(name, &place.through(&proxy), TTL, &[order])?);
        ways.push(proxy);
    }
    let (leader, _) = first_of(&mut members, "elected x").await?;
    for cut in 0..cuts {
        // The first silences whoever leads for longer than anybody trusts: somebody must follow.
        let (whose, fault, least) = match cut {
            0 => (leader, 4, 4_000),
            _ => (
                draw.random_range(0..ways.len()),
                draw.random_range(0..5),
                500,
            ),
        };
        let way = &ways[whose];
        match fault {
            0 => {
                way.refuse().await?;
                way.reset_all().await;
            }
            1 => way.close_server_side().await,
            2 => way.set(Direction::ToServer, Mode::Hold),
            3 => way.set(Direction::ToClient, Mode::Lose),
            _ => way.set(Direction::Both, Mode::Hold),
        }
        // The scenario's own span; most are longer than trust.
        sleep(ms(draw.random_range(least..8_000))).await;
        way.set(Direction::Both, Mode::Pass);
        way.close_client_side().await;
        way.accept().await?;
        sleep(ms(draw.random_range(0..400))).await;
    }
    let all = settled(&mut members, now() + TTL * 6).await?;
    one_at_a_time(&all, 2);
    Ok(Some(all))
}

/// Waits until that moment, and asserts that one of them leads then.
async fn settled(members: &mut [Member], at: Duration) -> Tested<Vec<Reign>> {
    for member in members.iter_mut() {
        member.listen((at + ms(100)).saturating_sub(now())).await;
    }
    let all = reigns(members, "x").await;
    let leading = all.iter().filter(|reign| reign.from <= at && reign.to > at);
    assert_eq!(leading.count(), 1, "at {at:?}: {all:#?}");
    Ok(all)
}
