//! Clusters of which a primary fails, or a slot moves.

use std::collections::BTreeSet;

use coordinator_tests::servers::Redis;
use coordinator_tests::servers::process::now;
use coordinator_tests::servers::redis::Cluster;

use crate::kit::{
    CLIENTS, Member, Place, Tested, all_served, first_of, gaps, got, ms, one_at_a_time,
    one_owner_each, reigns, rise,
};

/// A ttl at which a test need not wait for long, and the longest.
const TTL: u64 = 1_000;
const MAX_TTL: u64 = 2_000;
/// A node of these clusters is held for gone after so long, and so long it may take writes that are lost.
const NODE_TIMEOUT: u64 = 2_000;
/// The keys of the group of all members.
const TAG: &str = "{ours:g}";
/// What members do that own shards.
const SERVE: &str = "shards k 6";

/// Three primaries, of which the one that has a key has a replica.
async fn cluster_of(key: &str) -> Tested<Option<(Cluster, Redis, Redis)>> {
    let Some(cluster) = Cluster::start(3, &[]).await? else {
        return Ok(None);
    };
    let primary = cluster.node_of(key).await?.clone();
    let replica = Cluster::replica_of(&primary, &[]).await?;
    Ok(Some((cluster, primary, replica)))
}

fn place_in(client: &str, cluster: &Cluster) -> (Place, String) {
    let place = Place::on(client, &cluster.nodes()[0])
        .with("max_ttl_seconds", "2")
        .with("trust_empty_store", "true");
    let url = place.at(&cluster.url());
    (place, url)
}

/// E20, I1, I2, I7: the primary of a group fails, and its replica takes its place. Its leader steps down, nobody leads until
/// the longest ttl and the cluster's timeout have passed, and the tokens rise. Shards have one owner each.
#[tokio::test]
async fn e20_a_primary_of_a_cluster_fails_over_without_two_leaders_or_owners() -> Tested {
    for client in CLIENTS {
        let Some((cluster, primary, replica)) = cluster_of(TAG).await? else {
            return Ok(());
        };
        let (_place, url) = place_in(client, &cluster);
        let lead = format!("lead x ttl={TTL}");
        let start = |name: &str| Member::start(name, &url, ms(TTL), &[&lead, SERVE]);
        let mut members = vec![start("a")?];
        members[0].until("elected x").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        all_served(&mut members).await?;
        primary.ask(&["WAIT", "1", "0"]).await?;
        let down = now();
        primary.crash().await?;
        replica.until_info("replication", "role", "master").await?;
        let promoted = now();
        let (_, elected) = first_of(&mut members, "elected x").await?;
        let took = elected.at.saturating_sub(promoted);
        println!(
            "E20 in a cluster, {client}: promoted after {:?}, next leader {took:?} later",
            promoted.saturating_sub(down)
        );
        assert!(took >= ms(MAX_TTL + NODE_TIMEOUT - 200), "{took:?}");
        assert!(took < ms(MAX_TTL + NODE_TIMEOUT + 5_000), "{took:?}");
        for member in &mut members {
            member.listen(ms(3_000)).await;
        }
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        one_owner_each(&mut members).await;
        primary.start_again().await?;
        primary.until_info("replication", "role", "slave").await?;
        for member in &mut members {
            member.quit().await?;
        }
    }
    Ok(())
}

/// B8, U15: the primary of a durable topic fails while messages are published. What was accepted is delivered, or its loss
/// is told.
#[tokio::test]
async fn b8_a_topic_of_a_cluster_loses_nothing_untold_in_a_fail_over() -> Tested {
    for client in CLIENTS {
        let Some((cluster, primary, replica)) = cluster_of("{ours:g/topic/t}").await? else {
            return Ok(());
        };
        let (place, _) = place_in(client, &cluster);
        let url = place.with("durable", "true").at(&cluster.url());
        let mut members = [
            Member::start("p", &url, ms(TTL), &[])?,
            Member::start("s", &url, ms(TTL), &["subscribe t"])?,
        ];
        members[0].until("ready").await?;
        members[1].until("subscribed").await?;
        members[0].tell("publish t 3000 every=2 each=1")?;
        members[0].listen(ms(1_000)).await;
        primary.crash().await?;
        replica.until_info("replication", "role", "master").await?;
        members[0].until("published t all").await?;
        members[0].tell("publish t 1 from=3000")?;
        members[1].until("got t p 3000 ").await?;
        let numbers: BTreeSet<u64> = got(&mut members[1], "t").await.into_iter().collect();
        let said = members[0].said().await;
        let accepted = said
            .iter()
            .filter_map(|event| event.text.strip_prefix("accepted t ")?.parse().ok());
        let accepted: BTreeSet<u64> = accepted.collect();
        let lost = accepted.difference(&numbers).count();
        let told = gaps(&mut members[1], "t").await;
        println!(
            "B8 in a cluster, {client}: {} accepted, {lost} lost, told {told:?}",
            accepted.len()
        );
        assert!(
            !told.is_empty(),
            "the log's memory is another's, and that is told"
        );
        assert!(accepted.len() > 500, "too few were published to tell");
    }
    Ok(())
}

/// B8, U18: the primary of a topic that is not kept fails while messages are published. The subscriber goes over to the replica, where its
/// channels are sharded as before, and what it has missed is told.
#[tokio::test]
async fn b8_a_live_topic_of_a_cluster_is_heard_from_the_next_primary() -> Tested {
    const COUNT: u64 = 3_000;
    let channel = "{ours:g/topic/t}:bus:";
    for client in CLIENTS {
        let Some((cluster, primary, replica)) = cluster_of(channel).await? else {
            return Ok(());
        };
        let (_place, url) = place_in(client, &cluster);
        let mut members = [
            Member::start("p", &url, ms(TTL), &[])?,
            Member::start("s", &url, ms(TTL), &["subscribe t"])?,
        ];
        members[0].until("ready").await?;
        members[1].until("subscribed").await?;
        let kind = if Redis::has_sharded_channels() {
            "SHARDCHANNELS"
        } else {
            "CHANNELS"
        };
        let heard_at = async |node: &Redis| -> Tested<bool> {
            let heard = node.ask(&["PUBSUB", kind]).await?;
            Ok(heard.list().iter().any(|heard| heard.text() == channel))
        };
        assert!(heard_at(&primary).await?);
        members[0].tell(&format!("publish t {COUNT} every=2"))?;
        members[0].listen(ms(1_000)).await;
        primary.crash().await?;
        replica.until_info("replication", "role", "master").await?;
        let promoted = now();
        members[0].until("published t all").await?;
        // What comes before the subscriber is there is lost, too.
        let mut last = COUNT;
        let heard = loop {
            members[0].tell(&format!("publish t 1 from={last}"))?;
            let got = format!("got t p {last} ");
            if let Ok(heard) = members[1].until_within(&got, ms(200)).await {
                break heard;
            }
            last += 1;
            anyhow::ensure!(last < COUNT + 50, "it is not heard again");
        };
        assert!(heard_at(&replica).await?);
        let numbers = got(&mut members[1], "t").await;
        rise(&numbers);
        let told = gaps(&mut members[1], "t").await;
        let missing: u64 = told.values().map(|(_, sum)| sum).sum();
        println!(
            "B8 live in a cluster, {client}: {} of {}, told {told:?}; the last heard {:?} after the promotion",
            numbers.len(),
            last + 1,
            heard.at.saturating_sub(promoted)
        );
        assert_eq!(numbers.len() as u64 + missing, last + 1, "{told:?}");
    }
    Ok(())
}

/// I1, I7: the slot of a group moves to another node, whose run is another: that is a new memory of the store. The holder leads on
/// (I6), nobody else is granted anything until the quarantine has passed, and nothing is silent.
#[tokio::test]
async fn i1_a_slot_that_moves_is_a_new_memory_and_its_holder_leads_on() -> Tested {
    for client in CLIENTS {
        let Some(cluster) = Cluster::start(3, &[]).await? else {
            return Ok(());
        };
        let (_place, url) = place_in(client, &cluster);
        let lead = format!("lead x ttl={TTL}");
        let mut members = vec![Member::start("a", &url, ms(TTL), &[&lead])?];
        members[0].until("elected x").await?;
        members.push(Member::start("b", &url, ms(TTL), &[&lead])?);
        members[1].until("ready").await?;
        let moved = now();
        cluster.move_slot_of(TAG).await?;
        let took = now().saturating_sub(moved);
        members[0].listen(ms(1_500)).await;
        assert_eq!(
            members[0].count("lost x").await,
            0,
            "the slot moved in {took:?}"
        );
        let killed = members[0].kill()?;
        let elected = members[1].until("elected x").await?;
        let after = elected.at.saturating_sub(moved);
        println!(
            "I1 slot moved in {took:?}, {client}: next leader {after:?} after, {:?} after the end of the last",
            elected.at.saturating_sub(killed)
        );
        assert!(after >= ms(MAX_TTL + NODE_TIMEOUT - 200), "{after:?}");
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        members[1].quit().await?;
    }
    Ok(())
}
