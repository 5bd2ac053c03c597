//! M: members.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coordinator_node::core::{Clock, Moment};
use coordinator_node::{Backend, ElectionConfig, Node, Standing};
use coordinator_postgres::PostgresBackend;
use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Postgres, Stop};
use tokio::time::{sleep, timeout};

use crate::kit::{LONG, Member, Place, Tested, connect, ms, reigns};

const TTL: Duration = Duration::from_secs(1);

/// M3: the record of a member is deleted underneath: it joins anew, and none of its shards had two
/// owners meanwhile.
#[tokio::test]
async fn m3_a_member_whose_record_is_deleted_joins_anew() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let place = place.with("max_ttl_seconds", "2");
    let mut members = Vec::new();
    for name in ["a", "b"] {
        members.push(Member::start(
            name,
            &place.url(),
            TTL,
            &["shards k 4", "members"],
        )?);
    }
    members[0].until("members a,b").await?;
    members[0].until("elected k/").await?;
    members[1].until("elected k/").await?;
    let owner = connect(place.server()).await?;
    let deleted = place.sql("delete from {schema}.member where name = 'a'");
    assert_eq!(owner.execute(&deleted, &[]).await?, 1);
    let lost = members[0].until("stopped k/").await?;
    let back = members[0].until("elected k/").await?;
    println!(
        "M3 record deleted, to shards again: {:?}",
        back.at.saturating_sub(lost.at)
    );
    for member in &mut members {
        member.listen(ms(300)).await;
    }
    for shard in 0..4 {
        let all = reigns(&mut members, &format!("k/{shard}")).await;
        let overlap = crate::kit::longest_overlap(&all);
        assert!(overlap.is_zero(), "shard {shard}: {all:#?}");
    }
    Ok(())
}

/// A clock whose wall is wrong, and whose readings began at another time.
struct Wrong {
    ahead: bool,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Clock for Wrong {
    fn now(&self) -> Moment {
        self.steady()
    }

    fn steady(&self) -> Moment {
        let shift = if self.ahead { HOUR } else { Duration::ZERO };
        Moment::since_origin(now() + shift)
    }

    fn wall_millis(&self) -> u64 {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let wall = if self.ahead {
            wall + HOUR
        } else {
            wall.saturating_sub(HOUR)
        };
        u64::try_from(wall.as_millis()).unwrap_or(0)
    }
}

/// M4: members whose clocks are an hour off, either way, live and lead as others do: none expires, and
/// none asks more often.
#[tokio::test]
async fn m4_a_clock_an_hour_off_makes_no_hot_loop_and_no_false_end() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let mut nodes = Vec::new();
    for (name, clock) in [
        ("right", None),
        ("ahead", Some(true)),
        ("behind", Some(false)),
    ] {
        let mut backend = Backend::from(PostgresBackend::connect(place.config()).await?);
        if let Some(ahead) = clock {
            backend.clock = Some(Arc::new(Wrong { ahead }));
        }
        let node = Node::builder("g")
            .backend(backend)
            .member(name)
            .ttl(TTL)
            .start()
            .await?;
        nodes.push(node);
    }
    let owner = connect(place.server()).await?;
    let beats = place.sql("select name, incarnation, beat from {schema}.member order by name");
    let read = async || -> Tested<Vec<(String, i64, i64)>> {
        let rows = owner.query(&beats, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect())
    };
    let before = read().await?;
    // Each leads in turn, past a ttl.
    for node in &nodes {
        let election = node.election(ElectionConfig::new("x").ttl(TTL));
        let leadership = timeout(LONG, election.campaign()).await??;
        sleep(TTL + ms(200)).await;
        assert!(leadership.token().is_ok(), "{} lost it", node.id());
        leadership.resign().await?;
    }
    let after = read().await?;
    assert_eq!(before.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.0, before.1), (&after.0, after.1), "the same life");
        let made = after.2 - before.2;
        println!("M4 heartbeats of `{}` in 3.6 s: {made}", after.0);
        assert!((5..=25).contains(&made), "{}: {made} heartbeats", after.0);
    }
    for node in &nodes {
        assert!(matches!(node.health().membership, Standing::Member { .. }));
        node.shutdown().await?;
    }
    Ok(())
}

/// M7: the whole store is out for longer than a ttl. When it is back all are members again, each shard
/// has one owner, and the server is not stormed.
#[tokio::test]
async fn m7_after_a_long_outage_all_come_back_without_a_storm() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let place = Place::on(&server);
    let mut members = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        members.push(Member::start(
            name,
            &place.url(),
            TTL,
            &["shards k 10", "members"],
        )?);
    }
    // The first may own shards before it sees the others, and keep them.
    members[0].until("members a,b,c,d,e").await?;
    for member in &mut members[1..] {
        member.until("elected k/").await?;
    }
    server.stop(Stop::Immediate).await?;
    // The scenario's own span: nobody is a member any more by its own clock, nor by the store's.
    members[0].listen(TTL * 2).await;
    for member in &mut members {
        member.skip().await;
    }
    server.start_again().await?;
    let up = now();
    for member in &mut members {
        member.until("elected k/").await?;
    }
    println!(
        "M7 store back, to shards for all: {:?}",
        now().saturating_sub(up)
    );
    let counts =
        "select xact_commit + xact_rollback from pg_stat_database where datname = 'postgres'";
    let owner = connect(&server.url()).await?;
    let before: i64 = owner.query_one(counts, &[]).await?.get(0);
    for member in &mut members {
        member.listen(ms(400)).await;
    }
    let after: i64 = owner.query_one(counts, &[]).await?.get(0);
    println!(
        "M7 transactions from the start to 2 s after all are back: {after} ({before} until then)"
    );
    assert!(after < 3_000, "{after}");
    for shard in 0..10 {
        let all = reigns(&mut members, &format!("k/{shard}")).await;
        let overlap = crate::kit::longest_overlap(&all);
        assert!(overlap.is_zero(), "shard {shard}: {all:#?}");
        // One before, and a few after: those that return first are not given all.
        assert!(all.len() <= 12, "shard {shard}: {} grants", all.len());
    }
    for member in &mut members {
        member.quit().await?;
    }
    Ok(())
}
