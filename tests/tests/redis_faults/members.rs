//! M: members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use coordinator_node::core::{Clock, Moment};
use coordinator_node::{ElectionConfig, Node, Standing, connect};
use coordinator_servers::Talk;
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::process::now;
use tokio::time::{sleep, timeout};

use crate::kit::{CLIENTS, LONG, Member, Place, Tested, ms, reigns};

const TTL: Duration = Duration::from_secs(1);

/// What the store knows of each life, `INCARNATION:NAME`.
fn lives(place: &Place) -> Tested<BTreeMap<String, String>> {
    let mut talk = Talk::to(place.server())?;
    let mut lives = BTreeMap::new();
    for key in place.keys("lives")? {
        let found = talk.ask(&["HGETALL", &key])?;
        let pairs = found.list().chunks_exact(2);
        lives.extend(pairs.map(|pair| (pair[0].text(), pair[1].text())));
    }
    Ok(lives)
}

/// How many heartbeats it has made: instance, fixed, evicted, and that.
fn beats(life: &str) -> Tested<i64> {
    let beats = life.split(' ').nth(3).context("no count of heartbeats")?;
    Ok(beats.parse()?)
}

/// How many commands a server has run since it was started.
async fn commands(server: &Redis) -> Tested<u64> {
    let count = server.info("stats", "total_commands_processed").await?;
    Ok(count.parse()?)
}

/// M3: the record of a member is deleted underneath: it joins anew, and none of its shards had two
/// owners meanwhile.
#[tokio::test]
async fn m3_a_member_whose_record_is_deleted_joins_anew() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
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
        let mut talk = Talk::to(place.server())?;
        let of_a = |life: &String| life.ends_with(":a");
        let deleted: Vec<String> = lives(&place)?.into_keys().filter(of_a).collect();
        for life in &deleted {
            for (kind, command) in [("lives", "HDEL"), ("expiry", "ZREM")] {
                for key in place.keys(kind)? {
                    talk.ask(&[command, &key, life])?;
                }
            }
        }
        // By now it may be there anew.
        let living = lives(&place)?;
        assert!(deleted.iter().all(|life| !living.contains_key(life)));
        let lost = members[0].until("stopped k/").await?;
        let back = members[0].until("elected k/").await?;
        println!(
            "M3 record deleted, to shards again, {client}: {:?}",
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
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut nodes = Vec::new();
        for (name, clock) in [
            ("right", None),
            ("ahead", Some(true)),
            ("behind", Some(false)),
        ] {
            let mut backend = connect(&place.url()).await?;
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
        let before = lives(&place)?;
        // Each leads in turn, past a ttl.
        for node in &nodes {
            let election = node.election(ElectionConfig::new("x").ttl(TTL));
            let leadership = timeout(LONG, election.campaign()).await??;
            sleep(TTL + ms(200)).await;
            assert!(leadership.token().is_ok(), "{} lost it", node.id());
            leadership.resign().await?;
        }
        let after = lives(&place)?;
        assert_eq!(before.len(), 3);
        for (life, before) in &before {
            // The same life.
            let after = after.get(life).context("it has ended")?;
            let made = beats(after)? - beats(before)?;
            println!("M4 heartbeats of `{life}` in 3.6 s, {client}: {made}");
            assert!((5..=25).contains(&made), "{life}: {made} heartbeats");
        }
        for node in &nodes {
            assert!(matches!(node.health().membership, Standing::Member { .. }));
            node.shutdown().await?;
        }
    }
    Ok(())
}

/// M7: the whole store is out for longer than a ttl. When it is back all are members again, each shard
/// has one owner, and the server is not stormed.
#[tokio::test]
async fn m7_after_a_long_outage_all_come_back_without_a_storm() -> Tested {
    for client in CLIENTS {
        let memory = [("appendonly", "yes"), ("appendfsync", "always")];
        let Some(server) = Redis::start(&memory).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server)
            .with("trust_empty_store", "true")
            .with("max_ttl_seconds", "2");
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
        server.stop().await?;
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
            "M7 store back, to shards for all, {client}: {:?}",
            now().saturating_sub(up)
        );
        let before = commands(&server).await?;
        for member in &mut members {
            member.listen(ms(400)).await;
        }
        let after = commands(&server).await?;
        println!(
            "M7 commands from the start to 2 s after all are back, {client}: {after} ({before} until then)"
        );
        assert!(after < 6_000, "{after}");
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
    }
    Ok(())
}
