//! Transactions that end in another order than they began, or not for a long time.

use std::time::Duration;

use coordinator_core::{FeedEvent, GapCause, Group, Start, Topic};
use coordinator_postgres::{Cursors, Spill};
use coordinator_tests::servers::{Postgres, Schema};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::kit::{Kit, MODES, Publisher, SOON, bus_of, subscribe, text};
use crate::fixture;
use crate::warnings::Warnings;

const NEWS: Topic<String> = Topic::new("news");
/// As a node of group `g` calls it.
const WIRE: &str = "g/topic/news";

/// B15, U13: delivered on commit, and at once; gone on rollback.
#[tokio::test]
async fn the_outbox_delivers_what_is_committed_and_nothing_else() {
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let backend = kit.backend().await;
        let outbox = backend.outbox(Group::from("g"), "ann").unwrap();
        let pool = PgPool::connect(kit.schema.url()).await.unwrap();
        let mut feed = subscribe(&kit.bus().await, WIRE, Start::Now).await;
        let mut gone = pool.begin().await.unwrap();
        outbox
            .publish(&mut gone, &NEWS, &"gone".to_owned())
            .await
            .unwrap();
        let mut kept = pool.begin().await.unwrap();
        for message in ["one", "two"] {
            outbox
                .publish(&mut kept, &NEWS, &message.to_owned())
                .await
                .unwrap();
        }
        gone.rollback().await.unwrap();
        feed.silent(Duration::from_millis(100)).await;
        kept.commit().await.unwrap();
        for expected in ["one", "two"] {
            let frame = feed.frame().await;
            assert_eq!(text(&frame), expected);
            assert_eq!(frame.origin.as_str(), "ann");
        }
        feed.silent(Duration::from_millis(1_100)).await;
        pool.close().await;
    }
}

/// B15: without rows there is nothing that a transaction could hold.
#[tokio::test]
async fn the_outbox_of_a_bus_that_keeps_nothing_says_what_to_choose() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let backend = kit.backend().await;
    let outbox = backend.outbox("g", "ann").unwrap();
    let pool = PgPool::connect(kit.schema.url()).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    let error = outbox
        .publish(&mut tx, &NEWS, &String::new())
        .await
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("Spill::Always"), "{source}");
    tx.rollback().await.unwrap();
    pool.close().await;
}

/// B18, U9, U12: commits overtake each other; whoever resumes from any cursor skips nothing.
#[tokio::test]
async fn a_commit_that_was_overtaken_is_not_skipped() {
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let backend = kit.backend().await;
        let bus = bus_of(backend.clone());
        let outbox = backend.outbox("g", "ann").unwrap();
        let pool = PgPool::connect(kit.schema.url()).await.unwrap();
        let mut feed = subscribe(&bus, WIRE, Start::Oldest).await;
        let mut slow = pool.begin().await.unwrap();
        outbox
            .publish(&mut slow, &NEWS, &"slow".to_owned())
            .await
            .unwrap();
        let mut fast = Publisher::new(bus.clone());
        fast.publish(WIRE, "fast 1").await;
        fast.publish(WIRE, "fast 2").await;
        let mut cursor = None;
        if cursors == Cursors::Counter {
            // Nothing is held up, and what comes last has the last number.
            assert_eq!(text(&feed.frame().await), "fast 1");
            let (frame, place) = feed.with_cursor().await;
            assert_eq!(text(&frame), "fast 2");
            cursor = Some(place);
        } else {
            feed.silent(Duration::from_millis(300)).await;
        }
        slow.commit().await.unwrap();
        fast.publish(WIRE, "fast 3").await;
        let rest: &[&str] = match cursors {
            Cursors::Counter => &["slow", "fast 3"],
            Cursors::Watermark => &["slow", "fast 1", "fast 2", "fast 3"],
        };
        let mut places = Vec::new();
        for expected in rest {
            let (frame, place) = feed.with_cursor().await;
            assert_eq!(text(&frame), *expected);
            places.push(place);
        }
        let starts = cursor.into_iter().map(|place| (place, 0));
        let starts = starts.chain(places.into_iter().zip(1..));
        for (place, from) in starts {
            let mut again = subscribe(&bus, WIRE, Start::After(place)).await;
            for expected in &rest[from..] {
                assert_eq!(text(&again.frame().await), *expected);
            }
        }
        pool.close().await;
    }
}

/// B18: many writers, whose transactions end in any order, and a reader that comes back from every
/// cursor it gets: each message once.
#[tokio::test]
async fn no_message_of_many_writers_is_skipped_by_a_reader_that_resumes() {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let backend = kit.backend().await;
        let outbox = backend.outbox("g", "ann").unwrap();
        let pool = PgPool::connect(kit.schema.url()).await.unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let (outbox, pool) = (outbox.clone(), pool.clone());
            tokio::spawn(async move {
                for number in 0..EACH {
                    let mut tx = pool.begin().await.unwrap();
                    let message = format!("{writer}/{number}");
                    outbox.publish(&mut tx, &NEWS, &message).await.unwrap();
                    let pause = Duration::from_millis((writer * 7 + number * 13) as u64 % 20);
                    tokio::time::sleep(pause).await;
                    tx.commit().await.unwrap();
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let bus = kit.bus().await;
        let mut feed = subscribe(&bus, WIRE, Start::Oldest).await;
        let mut seen = Vec::new();
        while seen.len() < WRITERS * EACH {
            let (frame, cursor) = feed.with_cursor().await;
            seen.push(text(&frame));
            if seen.len() % 5 == 0 {
                feed = subscribe(&bus, WIRE, Start::After(cursor)).await;
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        feed.silent(Duration::from_millis(1_100)).await;
        let mut all: Vec<_> = (0..WRITERS)
            .flat_map(|writer| (0..EACH).map(move |number| format!("{writer}/{number}")))
            .collect();
        all.sort();
        seen.sort();
        assert_eq!(seen, all);
        pool.close().await;
    }
}

/// B19, U9, U12, U16: a long transaction elsewhere holds up the watermark, visibly, and never makes it
/// skip; the counter is not held up.
#[tokio::test]
async fn a_long_transaction_elsewhere_stalls_the_watermark_and_not_the_counter() {
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let bus = kit.bus().await;
        let mut ann = Publisher::new(bus.clone());
        let mut feed = subscribe(&bus, "news", Start::Now).await;
        let long = kit.client().await;
        long.batch_execute("begin; select pg_current_xact_id()")
            .await
            .unwrap();
        let sent = ann.publish("news", "held up").await;
        match cursors {
            Cursors::Watermark => {
                feed.silent(Duration::from_millis(1_500)).await;
                let blocker = kit.sql("select {schema}.log_blocker()");
                let blocker: String = kit
                    .client()
                    .await
                    .query_one(&blocker, &[])
                    .await
                    .unwrap()
                    .get(0);
                assert!(blocker.starts_with("server process "), "{blocker}");
            }
            Cursors::Counter => assert_eq!(feed.frame().await, sent),
        }
        long.batch_execute("commit").await.unwrap();
        if cursors == Cursors::Watermark {
            assert_eq!(feed.frame().await, sent);
        }
    }
}

/// U16: when rows have waited for long, the log names who keeps them from being delivered: a session, or a
/// transaction that was prepared and forgotten.
#[tokio::test]
async fn a_stall_is_told_with_the_transaction_that_is_to_blame() {
    // Of its own: on another's server others have transactions, too.
    let settings = [("max_prepared_transactions", "2")];
    let Some(server) = Postgres::start(&settings).await.unwrap() else {
        return;
    };
    let kit = Kit::at(Schema::at(server.url()), |config| {
        config.spill(Spill::Always)
    });
    let mut warnings = Warnings::listen();
    let bus = kit.bus().await;
    let mut ann = Publisher::new(bus.clone());
    let mut feed = subscribe(&bus, "news", Start::Now).await;
    let long = fixture::client(&server.url()).await;
    let asked = "select pg_backend_pid()";
    let pid: i32 = long.query_one(asked, &[]).await.unwrap().get(0);
    let gid = format!("forgotten by {pid}");
    for (end, named) in [
        ("commit".to_owned(), format!("server process {pid}")),
        (
            format!("prepare transaction '{gid}'"),
            format!("prepared transaction '{gid}' of postgres"),
        ),
    ] {
        let begin = "begin; select pg_current_xact_id()";
        long.batch_execute(begin).await.unwrap();
        if end != "commit" {
            long.batch_execute(&end).await.unwrap();
        }
        let sent = ann.publish("news", "held up").await;
        let named = [&*named];
        tokio::select! {
            _ = warnings.until(&named, SOON) => {}
            event = feed.0.next() => panic!("nothing, not {event:?}"),
        }
        let end = match &*end {
            "commit" => end,
            _ => format!("rollback prepared '{gid}'"),
        };
        long.batch_execute(&end).await.unwrap();
        assert_eq!(feed.frame().await, sent);
    }
}

/// U10, B17: a subscription begins where it was made: what was committed before is not for it, though
/// an older transaction is still open, and what is committed after it is.
#[tokio::test]
async fn a_subscription_begins_at_its_snapshot() {
    let Some(kit) = Kit::durable(Cursors::Watermark) else {
        return;
    };
    let backend = kit.backend().await;
    let bus = bus_of(backend.clone());
    let outbox = backend.outbox("g", "ann").unwrap();
    let pool = PgPool::connect(kit.schema.url()).await.unwrap();
    let mut open = pool.begin().await.unwrap();
    outbox
        .publish(&mut open, &NEWS, &"open".to_owned())
        .await
        .unwrap();
    let mut ann = Publisher::new(bus.clone());
    ann.publish(WIRE, "before").await;
    let mut feed = subscribe(&bus, WIRE, Start::Now).await;
    ann.publish(WIRE, "after").await;
    open.commit().await.unwrap();
    assert_eq!(text(&feed.frame().await), "open");
    assert_eq!(text(&feed.frame().await), "after");
    pool.close().await;
}

/// B12, U14: a reader that keeps up within the retention misses nothing that the janitor deletes; one that
/// fell behind is told of the range.
#[tokio::test]
async fn whoever_falls_behind_the_retention_gets_a_gap_with_the_range() {
    for cursors in MODES {
        let Some(mut kit) = Kit::durable(cursors) else {
            return;
        };
        kit.config = kit.config.retention(Duration::from_secs(2));
        let bus = kit.bus().await;
        let mut ann = Publisher::new(bus.clone());
        let mut live = subscribe(&bus, "news", Start::Now).await;
        let mut first = None;
        for number in 0..20 {
            let sent = ann.publish("news", number.to_string()).await;
            let (frame, cursor) = live.with_cursor().await;
            assert_eq!(frame, sent);
            first.get_or_insert(cursor);
        }
        let client = kit.client().await;
        let rows = kit.sql("select count(*) from {schema}.log");
        while client.query_one(&rows, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let after = ann.publish("news", "after").await;
        assert_eq!(live.frame().await, after);
        let mut late = subscribe(&bus, "news", Start::After(first.unwrap())).await;
        let FeedEvent::Gap(gap) = late.event().await else {
            panic!("a gap")
        };
        assert_eq!(gap.cause, GapCause::Retention);
        assert!(gap.range.is_some());
        assert_eq!(gap.missing, (cursors == Cursors::Counter).then_some(19));
        assert_eq!(late.frame().await, after);
        let mut oldest = subscribe(&bus, "news", Start::Oldest).await;
        assert_eq!(oldest.frame().await, after);
    }
}

/// U14: of a fleet that was durable once, the log goes as it would have gone: by its retention, not by that of
/// those who came after.
#[tokio::test]
async fn the_log_of_a_fleet_that_left_it_goes_by_its_retention() {
    for (cursors, spill) in MODES.into_iter().zip([Spill::Overflow, Spill::Never]) {
        let Some(mut kit) = Kit::durable(cursors) else {
            return;
        };
        let (began, retention) = (Instant::now(), Duration::from_secs(3));
        kit.config = kit.config.retention(retention);
        let client = kit.client().await;
        let kept = kit.sql("select count(*) from {schema}.log_kept");
        let durable = kit.bus().await;
        Publisher::new(durable.clone()).publish("news", "old").await;
        until(&client, &kept, 1).await;
        drop(durable);

        let other = kit.config.clone().spill(spill).cursors(Cursors::Watermark);
        let other = other.clean_every(Duration::from_millis(100));
        kit.config = other.retention(Duration::from_hours(24));
        let _after = kit.bus().await;
        let rows = kit.sql("select count(*) from {schema}.log");
        until(&client, &rows, 0).await;
        assert!(began.elapsed() >= retention, "{:?}", began.elapsed());
    }
}

async fn count(client: &Client, rows: &str) -> i64 {
    let row = client.query_one(rows, &[]).await;
    row.expect("a count").get(0)
}

async fn until(client: &Client, rows: &str, wanted: i64) {
    let deadline = Instant::now() + SOON;
    while count(client, rows).await != wanted {
        assert!(Instant::now() < deadline, "{rows}: never {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// U15: a log that took another's place is told, and its last minute comes again, but for what this
/// subscription had.
#[tokio::test]
async fn another_log_is_told_and_read_from_a_minute_back() {
    for cursors in MODES {
        let Some(kit) = Kit::durable(cursors) else {
            return;
        };
        let bus = kit.bus().await;
        let mut ann = Publisher::new(bus.clone());
        let mut feed = subscribe(&bus, "news", Start::Now).await;
        ann.publish("news", "one").await;
        ann.publish("news", "two").await;
        let (_, cursor) = feed.with_cursor().await;
        feed.with_cursor().await;
        let reborn = kit.sql("update {schema}.identity set birth = gen_random_uuid()");
        kit.client().await.batch_execute(&reborn).await.unwrap();
        let three = ann.publish("news", "three").await;
        let FeedEvent::Gap(gap) = feed.event().await else {
            panic!("a gap")
        };
        assert_eq!((gap.cause, gap.missing), (GapCause::LogReset, None));
        assert_eq!(feed.frame().await, three);
        let mut again = subscribe(&bus, "news", Start::After(cursor)).await;
        let FeedEvent::Gap(gap) = again.event().await else {
            panic!("a gap")
        };
        assert_eq!(gap.cause, GapCause::LogReset);
        for expected in ["one", "two", "three"] {
            assert_eq!(text(&again.frame().await), expected);
        }
    }
}

/// U15: a log out of a dump is refused with the command that mends it, and is whole afterwards.
#[tokio::test]
async fn a_restored_log_is_refused_until_it_is_repaired() {
    let Some(kit) = Kit::durable(Cursors::Watermark) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    for number in 0..5 {
        ann.publish("news", number.to_string()).await;
    }
    drop(ann);
    let client = kit.client().await;
    let ahead = "update {schema}.log set xid = (xid::text::bigint + 1000000000)::text::xid8";
    client.batch_execute(&kit.sql(ahead)).await.unwrap();
    let refused = coordinator_postgres::PostgresBackend::connect(kit.config.clone()).await;
    let error = refused.map(drop).unwrap_err().to_string();
    assert!(error.contains("log_repair()"), "{error}");
    client
        .batch_execute(&kit.sql("select {schema}.log_repair()"))
        .await
        .unwrap();
    let mut feed = subscribe(&kit.bus().await, "news", Start::Oldest).await;
    for number in 0..5 {
        assert_eq!(text(&feed.frame().await), number.to_string());
    }
}
