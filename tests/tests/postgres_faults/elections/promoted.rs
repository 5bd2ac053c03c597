//! A standby without the last writes is promoted.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Postgres, Proxy};

use super::TTL;
use crate::kit::{Member, Place, Tested, connect, first_of, ms, one_at_a_time, reigns};

/// E20, I2, I6: the standby does not know of the last term when it is promoted: nobody leads until the
/// longest ttl has passed, and the tokens rise.
#[tokio::test]
async fn e20_a_standby_that_knows_too_little_grants_nothing_until_all_trust_has_ended() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(primary) = Postgres::start(&[]).await? else {
            return Ok(());
        };
        let stream = Proxy::to(primary.address())?;
        let standby = Postgres::standby_of(&primary, stream.port(), &[]).await?;
        let place = Place::on(&primary)
            .with("leases", leases)
            .with("max_ttl_seconds", "2");
        let both = format!(
            "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
            primary.port(),
            standby.port()
        );
        let both = with_password(&primary.url(), &both);
        let start = |name: &str| Member::start(name, &place.at(&both), TTL, &["lead x ttl=1000"]);
        let mut members = vec![start("a")?];
        members[0].until("elected x").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        caught_up(&primary, &standby).await?;
        // From here on the standby hears nothing: of the next term it will not know.
        stream.set(Direction::Both, Mode::Hold);
        members[0].kill()?;
        members[1].until("elected x").await?;
        members.push(start("c")?);
        members[2].until("ready").await?;

        let down = now();
        primary.crash().await?;
        standby.promote().await?;
        let (mut since, mut heirs) = (now(), 1);
        if leases == "row" {
            // It trusts still, and the store knows of nobody later: it leads on (I6).
            members[1].listen(ms(3_000)).await;
            assert_eq!(members[1].count("lost x").await, 0);
            (since, heirs) = (members[1].kill()?, 2);
        }
        let (_, elected) = first_of(&mut members[heirs..], "elected x").await?;
        println!(
            "E20 promoted to next, {leases}: {:?}",
            elected.at.saturating_sub(since)
        );
        assert!(
            elected.at.saturating_sub(down) >= ms(2_000),
            "no quarantine"
        );
        assert!(elected.at.saturating_sub(since) < ms(2_000 + 2_500));
        for member in &mut members[1..] {
            member.listen(ms(300)).await;
        }
        one_at_a_time(&reigns(&mut members, "x").await, 3);
        let known = place.sql("select token from {schema}.fence");
        let token: i64 = connect(&standby.url())
            .await?
            .query_one(&known, &[])
            .await?
            .get(0);
        assert!(
            elected.text.contains(&format!(" {token} ")),
            "{token}: {}",
            elected.text
        );
    }
    Ok(())
}

/// I8: a primary that waits for a standby, and is cut off from it, renews nothing: its leader is gone before the
/// standby, promoted, makes another.
#[tokio::test]
async fn i8_a_primary_that_is_cut_off_from_its_standby_renews_nothing() -> Tested {
    for leases in ["advisory", "row"] {
        let Some(primary) = Postgres::start(&[]).await? else {
            return Ok(());
        };
        let stream = Proxy::to(primary.address())?;
        let standby = Postgres::standby_of(&primary, stream.port(), &[]).await?;
        primary
            .set(&[("synchronous_standby_names", "standby")])
            .await?;
        let place = Place::on(&primary)
            .with("leases", leases)
            .with("max_ttl_seconds", "2");
        let mut a = Member::start("a", &place.url(), TTL, &["lead x ttl=1000"])?;
        a.until("elected x").await?;
        a.listen(ms(2_500)).await;
        assert_eq!(a.count("lost x").await, 0, "the standby hears, and answers");

        let cut = now();
        stream.set(Direction::Both, Mode::Hold);
        let lost = a.until("lost x").await?;
        println!(
            "I8 cut off to lost, {leases}: {:?}",
            lost.at.saturating_sub(cut)
        );
        assert!(lost.at.saturating_sub(cut) < ms(1_000 + 500));
        standby.promote().await?;
        // A static name is let in after it.
        let client = connect(&standby.url()).await?;
        let quarantine = place.sql("select {schema}.quarantine()");
        while client.query_one(&quarantine, &[]).await?.get::<_, i64>(0) > 0 {
            tokio::time::sleep(ms(20)).await;
        }
        let mut b = Member::start("b", &place.at(&standby.url()), TTL, &["lead x ttl=1000"])?;
        b.until("elected x").await?;
        a.listen(ms(1_500)).await;
        assert_eq!(
            a.count("elected x").await,
            1,
            "the old primary grants nothing"
        );
        one_at_a_time(&reigns([&mut a, &mut b], "x").await, 2);
    }
    Ok(())
}

/// The password of one URL in another.
fn with_password(from: &str, to: &str) -> String {
    let credentials = from
        .strip_prefix("postgres://")
        .and_then(|rest| rest.split_once('@'));
    let credentials = credentials.map_or("postgres", |(credentials, _)| credentials);
    to.replacen("postgres@", &format!("{credentials}@"), 1)
}

/// Waits until the standby has all that the primary has.
async fn caught_up(primary: &Postgres, standby: &Postgres) -> Tested {
    let (from, to) = (
        connect(&primary.url()).await?,
        connect(&standby.url()).await?,
    );
    let written: String = from
        .query_one("select pg_current_wal_lsn()::text", &[])
        .await?
        .get(0);
    let there = format!("select pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
    let began = std::time::Instant::now();
    while to.query_one(&there, &[]).await?.get::<_, Option<bool>>(0) != Some(true) {
        anyhow::ensure!(began.elapsed() < crate::kit::LONG, "it does not catch up");
        tokio::time::sleep(ms(10)).await;
    }
    Ok(())
}
