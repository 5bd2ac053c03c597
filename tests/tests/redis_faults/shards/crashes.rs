//! Owners that die, and owners that are cut off.

use coordinator_tests::servers::{Direction, Mode, Proxy};

use super::{SERVE, TTL};
use crate::kit::{
    CLIENTS, Member, Place, SHARDS, Tested, all_served, ms, one_owner_each, owned, reigns,
};

/// H4: each member in turn is killed, the planner among them: the others own all within the bound, and
/// no shard ever has two owners.
#[tokio::test]
async fn h4_each_member_in_turn_dies_and_its_shards_are_owned_again() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let start = |name: &str| Member::start(name, &place.url(), TTL, &[SERVE]);
        let mut members = vec![start("m0")?, start("m1")?, start("m2")?];
        all_served(&mut members).await?;
        for turn in 0..3 {
            let killed = members[turn].kill()?;
            let served = all_served(&mut members).await?;
            println!(
                "H4 kill -9 of {turn} to all owned, {client}: {:?}",
                served.saturating_sub(killed)
            );
            assert!(served.saturating_sub(killed) < TTL * 5);
            members.push(start(&format!("m{}", turn + 3))?);
            all_served(&mut members).await?;
            let place = members.len() - 1;
            while owned(&mut members[place]).await < SHARDS / 3 {
                members[place].until("elected k/").await?;
            }
        }
        one_owner_each(&mut members).await;
    }
    Ok(())
}

/// H5: an owner that is cut off stops by its own clock before its shards go to others, and has none
/// when it comes back, until they are granted anew.
#[tokio::test]
async fn h5_an_isolated_owner_stops_in_time_and_comes_back_with_nothing() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let mut members = vec![
            Member::start("a", &place.through(&proxy), TTL, &[SERVE])?,
            Member::start("b", &place.url(), TTL, &[SERVE])?,
        ];
        all_served(&mut members).await?;
        while owned(&mut members[0]).await < SHARDS / 2 {
            members[0].until("elected k/").await?;
        }
        proxy.set(Direction::Both, Mode::Hold);
        while owned(&mut members[1]).await < SHARDS {
            members[1].until("elected k/").await?;
        }
        assert_eq!(owned(&mut members[0]).await, 0);
        proxy.close_client_side().await;
        proxy.set(Direction::Both, Mode::Pass);
        while owned(&mut members[0]).await < SHARDS / 2 {
            members[0].until("elected k/").await?;
        }
        members[1].listen(ms(100)).await;
        one_owner_each(&mut members).await;
        // Granted anew, each under a number of its own: none goes on where it was.
        for shard in 0..SHARDS {
            let all = reigns(&mut members, &format!("k/{shard}")).await;
            let owners: Vec<_> = all.iter().map(|reign| reign.member.as_str()).collect();
            assert!(owners.contains(&"b"), "shard {shard}: {owners:?}");
        }
    }
    Ok(())
}
