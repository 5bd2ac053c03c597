//! A replica without the last writes is promoted.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};

use super::{LEAD, TTL};
use crate::kit::{CLIENTS, Member, Place, Tested, ms, one_at_a_time, reigns};

/// E20, I2, I6, I7, K1: the replica does not know of the last term when it is promoted, and takes the old
/// primary's place. Whoever still trusts leads on; nobody else does until the longest ttl has passed,
/// and the tokens rise.
#[tokio::test]
async fn e20_a_replica_that_knows_too_little_grants_nothing_until_all_trust_has_ended() -> Tested {
    for client in CLIENTS {
        for survivor in [true, false] {
            let Some(primary) = Redis::start(&[]).await? else {
                return Ok(());
            };
            let stream = Proxy::to(primary.address())?;
            let replica = Redis::replica_of(&primary, stream.port(), &[]).await?;
            // What members reach: first the one, then the other.
            let front = Proxy::to(primary.address())?;
            let place = Place::on(client, &primary).with("max_ttl_seconds", "2");
            let url = place.through(&front);
            let start = |name: &str| Member::start(name, &url, TTL, &[LEAD]);
            let mut members = vec![start("a")?];
            members[0].until("elected x").await?;
            members.push(start("b")?);
            members[1].until("ready").await?;
            place.until_waiting(1).await?;
            primary.ask(&["WAIT", "1", "0"]).await?;
            // From here on the replica hears nothing: of the next term it will not know.
            stream.set(Direction::Both, Mode::Hold);
            members[0].kill()?;
            members[1].until("elected x").await?;
            members.push(start("c")?);
            members[2].until("ready").await?;

            let down = now();
            primary.crash().await?;
            replica.promote().await?;
            front.lead_to(replica.address());
            let mut since = down;
            if survivor {
                // It trusts still, and the store knows of nobody later: it leads on (I6).
                members[1].listen(ms(3_000)).await;
                assert_eq!(members[1].count("lost x").await, 0);
                since = members[1].kill()?;
            } else {
                members[1].kill()?;
            }
            let elected = members[2].until("elected x").await?;
            let took = elected.at.saturating_sub(since);
            println!("E20 promoted to next, {client}, holder survives {survivor}: {took:?}");
            assert!(
                elected.at.saturating_sub(down) >= ms(2_000),
                "no quarantine"
            );
            assert!(took < ms(2_000 + 2_500), "{took:?}");
            members[2].listen(ms(300)).await;
            one_at_a_time(&reigns(&mut members, "x").await, 3);
        }
    }
    Ok(())
}

/// I8, D3: a primary that must have a replica is cut off from it, and goes on serving its clients: it
/// renews nothing, so its leader steps down before the replica, promoted meanwhile, lets another lead.
#[tokio::test]
async fn i8_a_primary_that_is_cut_off_from_the_replica_it_must_have_renews_nothing() -> Tested {
    for client in CLIENTS {
        let must = [
            ("min-replicas-to-write", "1"),
            ("min-replicas-max-lag", "1"),
        ];
        let Some(primary) = Redis::start(&must).await? else {
            return Ok(());
        };
        let stream = Proxy::to(primary.address())?;
        let replica = Redis::replica_of(&primary, stream.port(), &must).await?;
        // The new primary must have one, too.
        let _its_own = Redis::replica_of(&replica, replica.port(), &[]).await?;
        let place = Place::on(client, &primary)
            .with("trust_empty_store", "true")
            .with("max_ttl_seconds", "2");
        let mut a = Member::start("a", &place.url(), TTL, &[LEAD])?;
        a.until("elected x").await?;
        let cut = now();
        stream.set(Direction::Both, Mode::Hold);
        replica.promote().await?;
        let url = place.at(&replica.url());
        let mut b = Member::start("b", &url, TTL, &[LEAD])?;
        a.until("lost x").await?;
        let elected = b.until("elected x").await?;
        let took = elected.at.saturating_sub(cut);
        println!("I8 cut off from the replica to the next leader there, {client}: {took:?}");
        assert_eq!(a.count("elected x").await, 1);
        one_at_a_time(&reigns([&mut a, &mut b], "x").await, 2);
    }
    Ok(())
}
