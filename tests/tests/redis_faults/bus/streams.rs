//! Durable topics: what many publish at once, and what a server forgets.

use std::collections::BTreeSet;

use coordinator_node::{Cursor, Incoming, Node, Start, Subscription, Topic};
use coordinator_tests::servers::{Direction, Mode, Proxy, Redis};
use futures_util::future::try_join_all;
use tokio::time::timeout;

use crate::kit::{CLIENTS, LONG, Member, Place, Tested, gaps, got, ms, rise};

const NEWS: Topic<String> = Topic::new("news");

/// What makes topics durable.
const DURABLE: (&str, &str) = ("durable", "true");

async fn next(news: &mut Subscription<String>) -> Tested<(String, Cursor)> {
    match timeout(LONG, news.next()).await? {
        Some(Incoming::Message(message)) => {
            Ok((message.payload, message.cursor.expect("it is durable")))
        }
        other => anyhow::bail!("no message, but {other:?}"),
    }
}

/// B18: many publish at once. A reader that follows, and one that resumes from each of its cursors,
/// get all that was accepted, once, in one order.
#[tokio::test]
async fn b18_whoever_resumes_from_any_cursor_misses_nothing_that_others_published() -> Tested {
    const WRITERS: usize = 6;
    const EACH: usize = 25;
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let place = place.with(DURABLE.0, DURABLE.1);
        let start = |_| Node::builder("g").url(place.url()).start();
        let nodes = try_join_all((0..WRITERS).map(start)).await?;
        let reader = nodes[0].bus();
        let mut follows = reader.subscribe(&NEWS).start(Start::Oldest).await?;
        let writers = nodes.iter().enumerate().map(|(writer, node)| async move {
            for number in 0..EACH {
                let text = format!("{writer}.{number}");
                node.bus().publish(&NEWS, &text).await?;
            }
            anyhow::Ok(())
        });
        let resumes = async {
            let (mut read, mut from) = (Vec::new(), Start::Oldest);
            while read.len() < WRITERS * EACH {
                let mut news = reader.subscribe(&NEWS).start(from).await?;
                let (text, cursor) = next(&mut news).await?;
                read.push(text);
                from = Start::After(cursor);
            }
            anyhow::Ok(read)
        };
        let (written, resumed) = tokio::join!(try_join_all(writers), resumes);
        written?;
        let resumed = resumed?;
        let mut followed = Vec::new();
        while followed.len() < WRITERS * EACH {
            followed.push(next(&mut follows).await?.0);
        }
        assert_eq!(resumed, followed, "one order for all");
        let different: BTreeSet<_> = followed.iter().collect();
        assert_eq!(different.len(), WRITERS * EACH, "none twice");
        println!(
            "B18 {client}: {} published, none lost, none twice",
            followed.len()
        );
        for node in nodes {
            node.shutdown().await?;
        }
    }
    Ok(())
}

/// B8, U15: the server restarts with its memory while messages are published: those that were accepted
/// are all delivered, in order.
#[tokio::test]
async fn b8_a_restart_of_a_server_that_remembers_loses_nothing_that_was_accepted() -> Tested {
    for client in CLIENTS {
        let memory = [("appendonly", "yes"), ("appendfsync", "always")];
        let Some(server) = Redis::start(&memory).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server)
            .with("trust_empty_store", "true")
            .with(DURABLE.0, DURABLE.1);
        let mut members = [
            Member::start("p", &place.url(), LONG, &[])?,
            Member::start("s", &place.url(), LONG, &["subscribe t"])?,
        ];
        members[0].until("ready").await?;
        members[1].until("subscribed").await?;
        members[0].tell("publish t 1500 every=1 each=1")?;
        for _ in 0..3 {
            members[0].listen(ms(350)).await;
            server.restart().await?;
        }
        members[0].until("published t all").await?;
        members[0].tell("publish t 1 from=1500")?;
        members[1].until("got t p 1500 ").await?;
        let numbers = got(&mut members[1], "t").await;
        let beginning = "accepted t ";
        let said = members[0].said().await;
        let accepted: BTreeSet<u64> = said
            .iter()
            .filter_map(|event| event.text.strip_prefix(beginning)?.parse().ok())
            .collect();
        let delivered: BTreeSet<u64> = numbers.iter().copied().collect();
        let lost: Vec<_> = accepted.difference(&delivered).collect();
        println!(
            "B8 three restarts, {client}: {} accepted, {} delivered",
            accepted.len(),
            delivered.len()
        );
        assert!(lost.is_empty(), "accepted, and not delivered: {lost:?}");
        // Another memory is another log: the last ones may be told again (U15).
        assert!(numbers.len() >= delivered.len());
    }
    Ok(())
}

/// B8, U15: who resumes from a cursor behind a restart is told that something may be missing; what it has
/// read is still there, so nothing comes twice.
#[tokio::test]
async fn b8_a_cursor_is_good_after_a_restart_of_a_server_that_remembers() -> Tested {
    for client in CLIENTS {
        let memory = [("appendonly", "yes"), ("appendfsync", "always")];
        let Some(server) = Redis::start(&memory).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server)
            .with("trust_empty_store", "true")
            .with(DURABLE.0, DURABLE.1);
        let node = Node::builder("g").url(place.url()).start().await?;
        let bus = node.bus();
        let mut news = bus.subscribe(&NEWS).start(Start::Oldest).await?;
        let mut cursor = None;
        for number in 0..5 {
            bus.publish(&NEWS, &number.to_string()).await?;
            cursor = Some(next(&mut news).await?.1);
        }
        drop(news);
        server.restart().await?;
        bus.publish(&NEWS, &"5".to_owned()).await?;
        let after = Start::After(cursor.expect("five were read"));
        let mut news = bus.subscribe(&NEWS).start(after).await?;
        let mut told = Vec::new();
        while told.last().is_none_or(|event| event != "5") {
            match timeout(LONG, news.next()).await? {
                Some(Incoming::Message(message)) => told.push(message.payload),
                Some(Incoming::Gap(gap)) => told.push(format!("{:?}", gap.cause)),
                Some(_) => {}
                None => anyhow::bail!("the subscription ended"),
            }
        }
        assert_eq!(told, ["LogReset", "5"], "{client}");
        node.shutdown().await?;
    }
    Ok(())
}

/// B8, U15: a replica without the last messages is promoted: what it lacks is a gap, and what is
/// published afterwards is delivered.
#[tokio::test]
async fn b8_messages_that_a_promoted_replica_lacks_are_told_as_a_gap() -> Tested {
    for client in CLIENTS {
        let Some(primary) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let stream = Proxy::to(primary.address())?;
        let replica = Redis::replica_of(&primary, stream.port(), &[]).await?;
        let front = Proxy::to(primary.address())?;
        let place = Place::on(client, &primary)
            .with("trust_empty_store", "true")
            .with(DURABLE.0, DURABLE.1);
        let url = place.through(&front);
        let mut members = [
            Member::start("p", &url, LONG, &[])?,
            Member::start("s", &url, LONG, &["subscribe t"])?,
        ];
        members[0].until("ready").await?;
        members[1].until("subscribed").await?;
        members[0].tell("publish t 20")?;
        members[0].until("published t all, 0 failed").await?;
        members[1].until("got t p 19 ").await?;
        primary.ask(&["WAIT", "1", "0"]).await?;
        stream.set(Direction::Both, Mode::Hold);
        members[0].tell("publish t 20 from=20")?;
        members[0].until("published t all, 0 failed").await?;
        members[1].until("got t p 39 ").await?;

        primary.crash().await?;
        replica.promote().await?;
        front.lead_to(replica.address());
        members[1].until("gap t ").await?;
        members[0].tell("publish t 20 from=40")?;
        members[0].until("published t all, 0 failed").await?;
        members[0].tell("publish t 1 from=60")?;
        members[1].until("got t p 60 ").await?;
        let told = gaps(&mut members[1], "t").await;
        println!("B8 promoted without the last messages, {client}: told {told:?}");
        let numbers = got(&mut members[1], "t").await;
        let new: Vec<_> = numbers.into_iter().filter(|number| *number >= 40).collect();
        rise(&new);
        assert_eq!(new.len(), 21, "{new:?}");
    }
    Ok(())
}
