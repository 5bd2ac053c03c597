//! Primaries that Sentinels replace.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::redis::{SENTINEL_NAME, Sentinels};
use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};

use super::{LEAD, TTL};
use crate::kit::{CLIENTS, Member, Place, Tested, first_of, ms, one_at_a_time, reigns};

/// How long a primary must be silent until Sentinels hold it for gone.
const SILENT: u64 = 500;

/// E20, E7: Sentinels promote the replica of a primary that is gone, and members that know the
/// Sentinels alone follow; the old primary comes back as a replica, and nobody takes it for the primary.
#[tokio::test]
async fn e20_members_follow_sentinels_to_the_promoted_replica() -> Tested {
    for client in CLIENTS {
        let Some(primary) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let replica = Redis::replica_of(&primary, primary.port(), &[]).await?;
        let sentinels = Sentinels::of(&primary, 3, ms(SILENT)).await?;
        let place = Place::on(client, &primary)
            .with("max_ttl_seconds", "2")
            .with("trust_empty_store", "true");
        let url = place.at(&sentinels.url(&primary));
        let start = |name: &str| Member::start(name, &url, TTL, &[LEAD]);
        let mut members = vec![start("a")?];
        members[0].until("elected x").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        place.until_waiting(1).await?;
        // Else an empty replica is trusted to be new.
        primary.ask(&["WAIT", "1", "0"]).await?;

        let down = now();
        primary.crash().await?;
        sentinels.until_primary(replica.port()).await?;
        let promoted = now();
        // Sentinels take longer than a lease lasts: the term has ended.
        members[0].until("lost x").await?;
        let (_, elected) = first_of(&mut members, "elected x").await?;
        println!(
            "E20 by Sentinel, {client}: promoted after {:?}, next leader after {:?}",
            promoted.saturating_sub(down),
            elected.at.saturating_sub(down)
        );
        // From the first look at the new primary nothing is granted for the longest ttl.
        let took = elected.at.saturating_sub(promoted);
        assert!(took >= ms(1_500) && took < ms(2_000 + 2_500), "{took:?}");
        primary.start_again().await?;
        primary.until_info("replication", "role", "slave").await?;
        for member in &mut members {
            member.listen(ms(700)).await;
        }
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// E20, I2, I6, I7, K1: the replica that Sentinels promote does not know of the last term. Whoever
/// was granted it has no one beside him until his trust has ended, and the tokens rise.
#[tokio::test]
async fn e20_sentinels_promote_a_replica_that_lacks_the_last_writes() -> Tested {
    for client in CLIENTS {
        for survivor in [true, false] {
            let Some(primary) = Redis::start(&[]).await? else {
                return Ok(());
            };
            let stream = Proxy::to(primary.address())?;
            let replica = Redis::replica_of(&primary, stream.port(), &[]).await?;
            let place = Place::on(client, &primary)
                .with("max_ttl_seconds", "2")
                .with("trust_empty_store", "true");
            let sentinels = Sentinels::of(&primary, 3, ms(SILENT)).await?;
            let url = place.at(&sentinels.url(&primary));
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
            if !survivor {
                members[1].kill()?;
            }
            let down = now();
            primary.crash().await?;
            sentinels.until_primary(replica.port()).await?;
            let promoted = now();
            let left = if survivor { 1 } else { 2 };
            let (_, elected) = first_of(&mut members[left..], "elected x").await?;
            let took = elected.at.saturating_sub(promoted);
            println!(
                "E20 by Sentinel, last writes lost, {client}, holder survives {survivor}: promoted after {:?}, next \
                 leader {took:?} later",
                promoted.saturating_sub(down)
            );
            assert!(took >= ms(1_500) && took < ms(2_000 + 2_500), "{took:?}");
            for member in &mut members[left..] {
                member.listen(ms(300)).await;
            }
            one_at_a_time(&reigns(&mut members, "x").await, 3);
        }
    }
    Ok(())
}

/// I8: the primary that Sentinels have replaced still runs, and its clients still reach it. They leave it as soon as they
/// hear of the promotion, and nobody leads on two servers.
#[tokio::test]
async fn i8_members_leave_a_primary_that_sentinels_have_replaced_while_it_runs() -> Tested {
    for client in CLIENTS {
        let Some(primary) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let replica = Redis::replica_of(&primary, primary.port(), &[]).await?;
        let place = Place::on(client, &primary)
            .with("max_ttl_seconds", "2")
            .with("trust_empty_store", "true");
        let sentinels = Sentinels::of(&primary, 3, ms(SILENT)).await?;
        let url = place.at(&sentinels.url(&primary));
        let mut members = vec![Member::start("a", &url, TTL, &[LEAD])?];
        members[0].until("elected x").await?;
        members.push(Member::start("b", &url, TTL, &[LEAD])?);
        members[1].until("ready").await?;
        place.until_waiting(1).await?;
        primary.ask(&["WAIT", "1", "0"]).await?;
        // Sentinels replace it, as an operator asks: it is not gone.
        let command = ["SENTINEL", "FAILOVER", SENTINEL_NAME];
        sentinels.all()[0].ask(&command).await?;
        sentinels.until_primary(replica.port()).await?;
        // It renews on the new one, which lets it go on (I6), or its term ends; in either case one leads.
        for member in &mut members {
            member.listen(ms(4_000)).await;
            assert_eq!(member.count("error").await, 0);
        }
        replica.until_info("replication", "role", "master").await?;
        one_at_a_time(&reigns(&mut members, "x").await, 1);
        let terms = members[0].count("elected x").await + members[1].count("elected x").await;
        println!("I8 by Sentinel, {client}: {terms} terms around a fail-over on demand");
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}
