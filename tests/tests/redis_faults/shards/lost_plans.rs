//! Plans that are lost in a fail-over.

use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};

use super::{SERVE, TTL};
use crate::kit::{
    CLIENTS, Member, Place, SHARDS, Tested, all_served, ms, one_owner_each, owned, reigns,
};

/// S12, I2: a replica without the last plans is promoted. Who owns a shard by a plan that is lost stops
/// it before it renews, and joins anew; no shard ever has two owners.
#[tokio::test]
async fn s12_owners_by_plans_that_a_promoted_replica_lacks_stop_and_join_anew() -> Tested {
    for client in CLIENTS {
        let Some(primary) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let stream = Proxy::to(primary.address())?;
        let replica = Redis::replica_of(&primary, stream.port(), &[]).await?;
        let front = Proxy::to(primary.address())?;
        let place = Place::on(client, &primary).with("max_ttl_seconds", "2");
        let url = place.through(&front);
        let start = |name: &str| Member::start(name, &url, TTL, &[SERVE]);
        let mut members = vec![start("a")?];
        all_served(&mut members).await?;
        primary.ask(&["WAIT", "1", "0"]).await?;
        // Of what is planned from here on the replica hears nothing.
        stream.set(Direction::Both, Mode::Hold);
        members.push(start("b")?);
        while owned(&mut members[1]).await < SHARDS / 2 {
            members[1].until("elected k/").await?;
        }
        primary.crash().await?;
        replica.promote().await?;
        front.lead_to(replica.address());
        // What `b` owned, nobody who is asked knows of.
        members[1].until("stopped k/").await?;
        while owned(&mut members[1]).await > 0 {
            members[1].until("stopped k/").await?;
        }
        for member in &mut members {
            member.skip().await;
        }
        let served = all_served(&mut members).await?;
        while owned(&mut members[1]).await < SHARDS / 2 {
            members[1].until("elected k/").await?;
        }
        members[0].listen(ms(300)).await;
        one_owner_each(&mut members).await;
        let first = reigns(&mut members, "k/0").await[0].from;
        println!(
            "S12 promoted without the last plans, {client}: all served again {:?} after the first grant",
            served.saturating_sub(first)
        );
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// S12, G4, I6: the server comes back empty: members join again, and no shard has two owners.
#[tokio::test]
async fn s12_after_a_flush_every_shard_has_one_owner_again() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server).with("max_ttl_seconds", "2");
        let start = |name: &str| Member::start(name, &place.url(), TTL, &[SERVE]);
        let mut members = vec![start("a")?, start("b")?, start("c")?];
        all_served(&mut members).await?;
        for round in 0..2 {
            if round == 0 {
                server.restart().await?;
            } else {
                server.ask(&["FLUSHALL"]).await?;
            }
            for member in &mut members {
                member.listen(TTL).await;
            }
            all_served(&mut members).await?;
            members[0].listen(TTL * 2).await;
            all_served(&mut members).await?;
            one_owner_each(&mut members).await;
        }
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}
