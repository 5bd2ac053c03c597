//! Effects that are fenced with their positions.

use std::collections::BTreeMap;

use coordinator_servers::Talk;
use coordinator_tests::effects::{Effect, key};
use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::TTL;
use crate::kit::{CLIENTS, LONG, Member, Place, SHARDS, Tested, ms};

/// So many events each shard has.
const EVENTS: u64 = 2_000;

/// A member behind a proxy, as its application is: what that has written before a cut arrives after it,
/// too late.
struct Worker {
    member: Member,
    proxy: Proxy,
}

impl Worker {
    async fn start(place: &Place, number: usize) -> Tested<Self> {
        let proxy = Proxy::before(place.server()).await?;
        let (hash, store) = (hash(place), place.through(&proxy));
        let order = format!("effects k {SHARDS} to={hash} store={store} drain=1000");
        let name = format!("w{number}");
        let member = Member::start(&name, &place.through(&proxy), TTL, &[order.as_str()])?;
        Ok(Self { member, proxy })
    }
}

fn hash(place: &Place) -> String {
    format!("{}:effects", place.namespace())
}

/// All effects that there are.
fn effects(place: &Place) -> Tested<BTreeMap<String, Effect>> {
    let found = Talk::to(place.server())?.ask(&["HGETALL", &hash(place)])?;
    let pairs = found.list().chunks_exact(2);
    let read = pairs.map(|pair| {
        let effect = pair[1].text().parse().map_err(anyhow::Error::msg)?;
        Ok((pair[0].text(), effect))
    });
    read.collect()
}

/// What one process would have made of them.
fn expected() -> BTreeMap<String, Effect> {
    let mut effects = BTreeMap::<_, Effect>::new();
    for shard in 0..u16::try_from(SHARDS).unwrap() {
        for number in 1..=EVENTS {
            let effect = effects.entry(key(shard, number)).or_default();
            *effect = effect.and(number);
        }
    }
    effects
}

/// H15, L5: members join, are killed, suspended and cut off at random; each event of each key has its
/// effect once and in order, as in a run of one process.
#[tokio::test]
async fn h15_each_event_has_its_effect_once_and_in_order_whatever_happens() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut workers = Vec::new();
        for number in 0..3 {
            workers.push(Worker::start(&place, number).await?);
        }
        workers[0].member.until("ready").await?;
        let mut draw = StdRng::seed_from_u64(15);
        let mut faults = [0; 4];
        for number in 3..13 {
            sleep(ms(draw.random_range(200..600))).await;
            let victim = draw.random_range(0..workers.len());
            let fault = number % 4;
            faults[fault] += 1;
            match fault {
                0 => {
                    let mut killed = workers.swap_remove(victim);
                    killed.member.kill()?;
                    workers.push(Worker::start(&place, number).await?);
                }
                1 => {
                    workers[victim].member.suspend()?;
                    sleep(TTL + ms(300)).await;
                    workers[victim].member.resume()?;
                }
                2 => {
                    workers[victim].proxy.set(Direction::Both, Mode::Hold);
                    sleep(TTL + ms(300)).await;
                    workers[victim].proxy.set(Direction::Both, Mode::Pass);
                    workers[victim].proxy.close_client_side().await;
                }
                _ => workers.push(Worker::start(&place, number).await?),
            }
        }
        let count = || -> Tested<u64> { Ok(effects(&place)?.values().map(|one| one.count).sum()) };
        let all = EVENTS * u64::try_from(SHARDS)?;
        let at_work = count()?;
        assert!(at_work < all, "the last fault came too late");
        let deadline = now() + LONG * 2;
        while count()? < all {
            anyhow::ensure!(now() < deadline, "only {} of {all} events", count()?);
            sleep(ms(50)).await;
        }
        println!(
            "H15 {all} events, {client}, {at_work} of them by the last fault; kills, pauses, cuts, joins: {faults:?}"
        );
        assert_eq!(effects(&place)?, expected());
        for worker in &mut workers {
            worker.member.quit().await?;
        }
    }
    Ok(())
}
