//! Shards that are handed on.

use coordinator_tests::servers::{Direction, Mode, Proxy};

use super::{SERVE, TTL};
use crate::kit::{
    CLIENTS, Member, Place, SHARDS, Tested, all_served, ms, one_owner_each, owned, reigns,
};

/// H8: the old owner finishes before the new one starts, however long it takes within its time; and
/// when it overruns that, it is cancelled first.
#[tokio::test]
async fn h8_the_drain_ends_before_the_next_owner_starts_also_when_it_overruns() -> Tested {
    for client in CLIENTS {
        for (linger, drain, took) in [(500, 5_000, ms(500)), (60_000, 700, ms(700))] {
            let Some(place) = Place::shared(client) else {
                return Ok(());
            };
            let serve = format!("{SERVE} linger={linger} drain={drain}");
            let mut members = vec![Member::start("a", &place.url(), TTL, &[serve.as_str()])?];
            all_served(&mut members).await?;
            members.push(Member::start("b", &place.url(), TTL, &[SERVE])?);
            let joined = members[1].until("ready").await?;
            while owned(&mut members[1]).await < SHARDS / 2 {
                let first = members[1].until("elected k/").await?;
                assert!(
                    first.at.saturating_sub(joined.at) >= took,
                    "it did not wait"
                );
            }
            members[0].listen(ms(100)).await;
            assert_eq!(owned(&mut members[0]).await, SHARDS / 2);
            one_owner_each(&mut members).await;
        }
    }
    Ok(())
}

/// H12: what an owner says of its release is lost on the way: it says it again, and no shard rests.
#[tokio::test]
async fn h12_a_release_that_is_lost_on_the_way_is_told_again() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let serve = format!("{SERVE} linger=200");
        let ttl = TTL * 3;
        let mut members = vec![Member::start(
            "a",
            &place.through(&proxy),
            ttl,
            &[serve.as_str()],
        )?];
        all_served(&mut members).await?;
        members.push(Member::start("b", &place.url(), ttl, &[SERVE])?);
        // It has been told, and finishes; its word of it is lost, and the connection with it.
        members[0].until("stopped k/").await?;
        proxy.set(Direction::ToServer, Mode::Lose);
        members[0].listen(ms(600)).await;
        proxy.reset_all().await;
        proxy.set(Direction::ToServer, Mode::Pass);
        while owned(&mut members[1]).await < SHARDS / 2 {
            members[1].until("elected k/").await?;
        }
        all_served(&mut members).await?;
        one_owner_each(&mut members).await;
        for shard in 0..SHARDS {
            let all = reigns(&mut members, &format!("k/{shard}")).await;
            assert!(
                all.iter().all(|reign| reign.lost.is_none()),
                "nobody lost trust: {all:#?}"
            );
        }
    }
    Ok(())
}
