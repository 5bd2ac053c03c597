//! Channels that the user may not hear, and a listener that is not there: who is told, of what, and who is not.

use std::sync::Arc;

use coordinator_core::{
    Backend, BusError, ClusterBus, Feed, FeedEvent, Frame, Instance, MemberId, Start, Topic,
};
use coordinator_redis::{RedisBackend, RedisConfig};
use coordinator_tests::servers::{Proxy, Redis};
use tokio::time::timeout;

use crate::kit::{CLIENTS, LONG, Place, Tested, chain, ms};

const HEARD: Topic = Topic::new("heard");
const TAKEN: Topic = Topic::new("taken");
const NEVER: Topic = Topic::new("never");

async fn bus(url: &str) -> Tested<Arc<dyn ClusterBus>> {
    let config = RedisConfig::from_url(url)?;
    let backend = Backend::from(RedisBackend::connect(config).await?);
    Ok(backend.bus.expect("it has a bus"))
}

/// Lets the guest hear these topics, and no others.
async fn admit(server: &Redis, place: &Place, topics: &[&Topic]) -> Tested {
    let ours = place.namespace();
    let mut rule = vec!["ACL".to_owned(), "SETUSER".to_owned(), "guest".to_owned()];
    let rights = ["on", ">open-sesame", "~*", "+@all", "resetchannels"];
    rule.extend(rights.map(str::to_owned));
    rule.extend([format!("&{{{ours}:}}*"), format!("&{ours}:wake:*")]);
    rule.extend(topics.iter().map(|topic| format!("&{{{ours}:{topic}}}*")));
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    server.ask(&rule).await?;
    Ok(())
}

fn frame(topic: &Topic, sequence: u64) -> Frame {
    let (origin, instance) = (MemberId::from("p"), Instance::from_bytes([1; 16]));
    Frame::new(topic.clone(), origin, instance, sequence.to_string().into()).sequence(sequence)
}

/// The number of the next message, and what came before it.
async fn next(feed: &mut Box<dyn Feed>) -> Tested<(u64, Vec<FeedEvent>)> {
    let mut before = Vec::new();
    let number = timeout(LONG, until_message(feed, &mut before)).await??;
    Ok((number, before))
}

async fn until_message(feed: &mut Box<dyn Feed>, before: &mut Vec<FeedEvent>) -> Tested<u64> {
    loop {
        match feed.next().await {
            Some(FeedEvent::Frame { frame, .. }) => return Ok(frame.sequence),
            Some(other) => before.push(other),
            None => anyhow::bail!("it has ended, behind {before:?}"),
        }
    }
}

/// One who asks for a channel that it may not hear is told which, and what to do; nobody else notices. When a
/// right is taken away, the other channels come back, and that one with the right.
#[tokio::test]
async fn a_channel_that_is_refused_is_refused_alone() -> Tested {
    for (client, hosts) in CLIENTS
        .into_iter()
        .flat_map(|client| [(client, 1), (client, 2)])
    {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server);
        admit(&server, &place, &[&HEARD, &TAKEN]).await?;
        let ours = bus(&place.url()).await?;
        // Of several, the one that is a primary is listened to by way of those that follow it.
        let at = format!("127.0.0.1:{}", server.port());
        let guest = format!("redis://guest:open-sesame@{}", vec![at; hosts].join(","));
        let bus = bus(&place.at(&guest)).await?;
        let mut heard = bus.subscribe(&[HEARD], Start::Now).await?;
        let mut taken = bus.subscribe(&[TAKEN], Start::Now).await?;
        let refused = bus.subscribe(&[NEVER], Start::Now).await;
        let error = refused.map(drop).expect_err("the guest may not");
        assert!(matches!(error, BusError::Rejected { .. }), "{error:?}");
        let text = chain(&error);
        println!("{text}");
        assert!(text.contains("{ours:never}:bus:"), "{text}");
        assert!(text.contains("ACL SETUSER guest "), "{text}");
        ours.publish(&[frame(&HEARD, 1), frame(&TAKEN, 1)]).await?;
        assert_eq!(next(&mut heard).await?, (1, vec![]), "it was not cut off");
        assert_eq!(next(&mut taken).await?, (1, vec![]));

        admit(&server, &place, &[&HEARD]).await?;
        loop {
            match timeout(LONG, heard.next()).await? {
                Some(FeedEvent::Connected) => break,
                Some(_) => {}
                None => anyhow::bail!("it has ended"),
            }
        }
        ours.publish(&[frame(&HEARD, 2), frame(&TAKEN, 2)]).await?;
        assert_eq!(next(&mut heard).await?.0, 2, "it is heard again");
        let again = bus.subscribe(&[TAKEN], Start::Now).await;
        let text = chain(&again.map(drop).expect_err("the guest may no longer"));
        assert!(text.contains("{ours:taken}:bus:"), "{text}");

        admit(&server, &place, &[&HEARD, &TAKEN]).await?;
        let (mut number, mut before) = (2, Vec::new());
        loop {
            number += 1;
            ours.publish(&[frame(&TAKEN, number)]).await?;
            let found = timeout(ms(200), until_message(&mut taken, &mut before)).await;
            if let Ok(found) = found {
                assert_eq!(found?, number);
                break;
            }
            assert!(number < 100, "it is not tried again");
        }
        assert_eq!(before.first(), Some(&FeedEvent::Disconnected), "{before:?}");
        assert_eq!(before.last(), Some(&FeedEvent::Connected), "{before:?}");
    }
    Ok(())
}

/// A right that was taken away, and given back, while nobody wanted the channel is no matter to those who come later.
#[tokio::test]
async fn a_channel_that_was_refused_in_between_is_heard_like_any_other() -> Tested {
    for client in CLIENTS {
        let Some(server) = Redis::start(&[]).await? else {
            return Ok(());
        };
        let place = Place::on(client, &server);
        admit(&server, &place, &[&HEARD, &TAKEN]).await?;
        let ours = bus(&place.url()).await?;
        let guest = format!("redis://guest:open-sesame@127.0.0.1:{}", server.port());
        let proxy = Proxy::before(&guest).await?;
        let bus = bus(&place.at(&proxy.url(&guest))).await?;
        let mut heard = bus.subscribe(&[HEARD], Start::Now).await?;
        let taken = bus.subscribe(&[TAKEN], Start::Now).await?;
        proxy.refuse().await?;
        proxy.close_all().await;
        assert_eq!(
            timeout(LONG, heard.next()).await?,
            Some(FeedEvent::Disconnected)
        );
        drop(taken);
        admit(&server, &place, &[&HEARD]).await?;
        proxy.accept().await?;
        assert_eq!(
            timeout(LONG, heard.next()).await?,
            Some(FeedEvent::Connected)
        );
        admit(&server, &place, &[&HEARD, &TAKEN]).await?;
        let mut taken = bus.subscribe(&[TAKEN], Start::Now).await?;
        proxy.close_all().await;
        let back = async {
            let mut told = Vec::new();
            while told.last() != Some(&FeedEvent::Connected) {
                told.extend(taken.next().await);
            }
            told
        };
        let told = timeout(LONG, back).await?;
        assert_eq!(told, [FeedEvent::Disconnected, FeedEvent::Connected]);
        ours.publish(&[frame(&TAKEN, 1)]).await?;
        assert_eq!(next(&mut taken).await?, (1, vec![]));
    }
    Ok(())
}

/// Who subscribes while nothing is heard is told why.
#[tokio::test]
async fn a_subscription_without_a_listener_is_told_why_there_is_none() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let bus = bus(&place.through(&proxy)).await?;
        let mut feed = bus.subscribe(&[HEARD], Start::Now).await?;
        proxy.refuse().await?;
        proxy.close_all().await;
        assert_eq!(
            timeout(LONG, feed.next()).await?,
            Some(FeedEvent::Disconnected)
        );
        let refused = bus.subscribe(&[TAKEN], Start::Now).await;
        let error = refused.map(drop).expect_err("nothing is heard");
        assert!(matches!(error, BusError::Unavailable { .. }), "{error:?}");
        let text = chain(&error);
        println!("{text}");
        assert!(text.contains("is down: "), "{text}");
        proxy.accept().await?;
        assert_eq!(
            timeout(LONG, feed.next()).await?,
            Some(FeedEvent::Connected)
        );
        timeout(LONG, bus.subscribe(&[TAKEN], Start::Now)).await??;
    }
    Ok(())
}
