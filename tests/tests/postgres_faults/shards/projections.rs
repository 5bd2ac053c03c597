//! Effects that are fenced with their positions.

use coordinator_tests::servers::process::now;
use coordinator_tests::servers::{Direction, Mode, Proxy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;
use tokio_postgres::Client;

use super::TTL;
use crate::kit::{LONG, Member, Place, Tested, connect, ms};

/// Events of 30 keys on 6 shards; what has been made of them; and the step that applies the next few,
/// to either table. A digest shows which events a key saw, how often, and in which order.
const SETUP: &str = "\
    create table {schema}.t_events (shard int, n bigint, key text, primary key (shard, n)); \
    insert into {schema}.t_events select s, n, s || '.' || n * 7919 % 5 \
        from generate_series(0, 5) s, generate_series(1, 2000) n; \
    create table {schema}.t_effects (key text primary key, digest text, count bigint); \
    create table {schema}.t_expected (like {schema}.t_effects including all); \
    create function {schema}.t_apply(target regclass, s int, after bigint, most int) returns bigint \
    language plpgsql as $$ \
    declare \
        e record; \
        last bigint := after; \
    begin \
        for e in select n, key from {schema}.t_events where shard = s and n > after order by n limit most loop \
            execute format('insert into %s as t values ($1, md5($2::text), 1) on conflict (key) do update \
                set digest = md5(t.digest || $2), count = t.count + 1', target) using e.key, e.n; \
            last := e.n; \
        end loop; \
        return last; \
    end $$; \
    create function {schema}.t_step(s int, after bigint) returns bigint language sql as \
        $$ select {schema}.t_apply('{schema}.t_effects', s, after, 3) $$; \
    select {schema}.t_apply('{schema}.t_expected', s, 0, 1000000) from generate_series(0, 5) s";

const EVENTS: i64 = 6 * 2_000;

const DONE: &str = "select coalesce(sum(count), 0)::bigint from {schema}.t_effects";

/// By shard.
const REST: &str = "select split_part(key, '.', 1)::int, sum(count)::bigint from {schema}.t_effects \
    group by 1 order by 1";

const WRONG: &str = "select count(*) from {schema}.t_expected e full join {schema}.t_effects f using (key) \
    where e.digest is distinct from f.digest or e.count is distinct from f.count";

/// A member behind a proxy, whose application reaches its database directly: so what it writes too
/// late does reach it.
struct Worker {
    member: Member,
    proxy: Proxy,
}

impl Worker {
    async fn start(place: &Place, number: usize) -> Tested<Self> {
        let proxy = Proxy::before(place.server()).await?;
        let order = format!(
            "project k 6 by={}.t_step pool={} drain=1000",
            place.schema(),
            place.server()
        );
        let name = format!("w{number}");
        let member = Member::start(&name, &place.through(&proxy), TTL, &[order.as_str()])?;
        Ok(Self { member, proxy })
    }
}

/// H15: members join, are killed, suspended and cut off at random; each event of each key has its
/// effect once and in order, as in a run of one process.
#[tokio::test]
async fn h15_each_event_has_its_effect_once_and_in_order_whatever_happens() -> Tested {
    let Some(place) = Place::shared() else {
        return Ok(());
    };
    // It makes the schema.
    let mut workers = vec![Worker::start(&place, 0).await?];
    workers[0].member.until("ready").await?;
    let owner = connect(place.server()).await?;
    owner.batch_execute(&place.sql(SETUP)).await?;
    for number in 1..3 {
        workers.push(Worker::start(&place, number).await?);
    }
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
    let at_work = done(&owner, &place).await?;
    assert!(at_work < EVENTS, "the last fault came too late");
    let deadline = now() + LONG * 2;
    while done(&owner, &place).await? < EVENTS {
        if now() > deadline {
            let rest = owner.query(&place.sql(REST), &[]).await?;
            let rest: Vec<(i32, i64)> = rest.iter().map(|row| (row.get(0), row.get(1))).collect();
            anyhow::bail!("shards, and how many of their events have their effects: {rest:?}");
        }
        sleep(ms(50)).await;
    }
    let wrong: i64 = owner.query_one(&place.sql(WRONG), &[]).await?.get(0);
    println!(
        "H15 {EVENTS} events, {at_work} of them by the last fault; kills, pauses, cuts, joins: {faults:?}; keys that are wrong: {wrong}"
    );
    assert_eq!(wrong, 0);
    for worker in &mut workers {
        worker.member.quit().await?;
    }
    Ok(())
}

async fn done(owner: &Client, place: &Place) -> Tested<i64> {
    Ok(owner.query_one(&place.sql(DONE), &[]).await?.get(0))
}
