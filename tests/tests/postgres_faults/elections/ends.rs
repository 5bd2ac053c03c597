//! Leaders that resign, and leaders that are killed.

use std::time::{Duration, Instant};

use coordinator_node::{ElectionConfig, Node};
use coordinator_postgres::{PostgresBackend, PostgresConfig};
use sqlx::postgres::PgPoolOptions;
use tokio::time::timeout;

use super::AT_ONCE;
use crate::kit::{LONG, Member, Place, Sessions, Tested, first_of, one_at_a_time, reigns};

async fn node(config: PostgresConfig, name: &str) -> Tested<Node> {
    let backend = PostgresBackend::connect(config).await?;
    let node = Node::builder("g").backend(backend).member(name);
    Ok(node.ttl(Duration::from_secs(20)).start().await?)
}

/// E3: a clean resign hands over by push, with a pool of one connection that is busy all the time.
#[tokio::test]
async fn e3_a_resign_is_pushed_to_the_next_also_with_a_busy_pool_of_one() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(place.server()).await?;
    let _busy = pool.acquire().await?;
    let (a, b) = (
        node(place.config().pool(pool.clone()), "a").await?,
        node(place.config().pool(pool.clone()), "b").await?,
    );
    // No renewal falls into what is measured, and no poll.
    let election = ElectionConfig::new("x").ttl(Duration::from_secs(20));
    let sessions = Sessions::of(&place).await?;
    let mut took = Vec::new();
    for _ in 0..10 {
        for (from, to) in [(&a, &b), (&b, &a)] {
            let leader = from.election(election.clone()).campaign().await?;
            let next = to.election(election.clone());
            let next =
                tokio::spawn(async move { next.campaign().await.map(|won| (won, Instant::now())) });
            sessions.until_waiting(1).await?;
            let began = Instant::now();
            leader.resign().await?;
            let (won, at) = timeout(LONG, next).await???;
            took.push(at.saturating_duration_since(began));
            won.resign().await?;
        }
    }
    took.sort();
    println!(
        "E3 resign to next: p50 {:?}, worst {:?}",
        took[10], took[19]
    );
    assert!(took[19] < AT_ONCE, "{took:?}");
    a.shutdown().await?;
    b.shutdown().await?;
    Ok(())
}

/// E4: a killed leader has a successor at once, a hundred times of a hundred, where the ttl is so long
/// that only the end of its sessions can have told.
#[tokio::test]
async fn e4_a_killed_leader_has_a_successor_at_once_each_time() -> Tested {
    const KILLS: usize = 100;
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let start = |number: usize| {
        let orders = ["lead x ttl=10000 every=2"];
        Member::start(
            &format!("m{number}"),
            &place.url(),
            Duration::from_secs(10),
            &orders,
        )
    };
    let mut members: Vec<_> = (0..4).map(start).collect::<Result<_, _>>()?;
    let (mut leader, _) = first_of(&mut members, "elected x").await?;
    let (mut dead, mut took) = (Vec::new(), Vec::new());
    for number in 0..KILLS {
        let mut killed = members.swap_remove(leader);
        let at = killed.kill()?;
        dead.push(killed);
        let (next, elected) = first_of(&mut members, "elected x").await?;
        took.push(elected.at.saturating_sub(at));
        leader = next;
        members.push(start(4 + number)?);
    }
    took.sort();
    println!(
        "E4 kill -9 to next: p50 {:?}, worst of {KILLS} {:?}",
        took[KILLS / 2],
        took[KILLS - 1]
    );
    one_at_a_time(
        &reigns(members.iter_mut().chain(&mut dead), "x").await,
        KILLS + 1,
    );
    // Six seconds and more of each lease were left.
    assert!(took[KILLS - 1] < Duration::from_secs(3), "{took:?}");
    Ok(())
}

/// E4, by rows: no end of a session tells, so the successor starts when the lease has run out.
#[tokio::test]
async fn e4_by_rows_a_killed_leader_has_a_successor_after_its_ttl() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    let place = place.with("leases", "row");
    let mut members = super::campaigning(&place, &["m0", "m1"]).await?;
    let mut dead = Vec::new();
    for number in 2..7 {
        let mut killed = members.remove(0);
        let at = killed.kill()?;
        dead.push(killed);
        let elected = members[0].until("elected x").await?;
        let took = elected.at.saturating_sub(at);
        println!("E4 by rows, kill -9 to next: {took:?}");
        assert!(took < super::CUT_OFF, "{took:?}");
        let name = format!("m{number}");
        members.push(Member::start(
            &name,
            &place.url(),
            super::TTL,
            &["lead x ttl=1000"],
        )?);
        members[1].until("ready").await?;
    }
    one_at_a_time(&reigns(members.iter_mut().chain(&mut dead), "x").await, 6);
    Ok(())
}
