//! Connections that break while messages are under way.

use std::time::Duration;

use coordinator_tests::servers::{Direction, Mode, Proxy};
use tokio::time::sleep;

use crate::kit::{CLIENTS, Member, Place, Tested, gaps, got, ms, rise};

const TTL: Duration = Duration::from_secs(5);
const COUNT: u64 = 4_000;

/// What makes topics durable.
const DURABLE: (&str, &str) = ("durable", "true");

/// A publisher on a direct path, and a subscriber behind a proxy.
async fn pair(place: &Place, proxy: &Proxy, orders: &[&str]) -> Tested<[Member; 2]> {
    let mut publisher = Member::start("p", &place.url(), TTL, &[])?;
    publisher.until("ready").await?;
    let mut subscriber = Member::start("s", &place.through(proxy), TTL, orders)?;
    for _ in orders {
        subscriber.until("subscribed").await?;
    }
    Ok([publisher, subscriber])
}

/// Breaks the subscriber's connections in four ways, in the middle of what is published.
async fn break_off(proxy: &Proxy, round: u32) -> Tested {
    match round % 4 {
        0 => proxy.close_all().await,
        1 => proxy.reset_all().await,
        2 => {
            proxy.set(Direction::ToClient, Mode::Lose);
            sleep(ms(100)).await;
            proxy.reset_all().await;
            proxy.set(Direction::ToClient, Mode::Pass);
        }
        _ => {
            proxy.refuse().await?;
            proxy.close_all().await;
            sleep(ms(150)).await;
            proxy.accept().await?;
        }
    }
    Ok(())
}

/// B8: the listener is cut off again and again while messages of all sizes are published. A durable
/// subscriber gets each, once and in order.
#[tokio::test]
async fn b8_a_durable_subscriber_that_is_cut_off_loses_nothing() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let place = place.with(DURABLE.0, DURABLE.1);
        let proxy = Proxy::before(place.server()).await?;
        let [mut publisher, mut subscriber] = pair(&place, &proxy, &["subscribe t"]).await?;
        publisher.tell(&format!("publish t {COUNT} every=1 size=40"))?;
        for round in 0..8 {
            sleep(ms(350)).await;
            break_off(&proxy, round).await?;
        }
        publisher.until("published t all, 0 failed").await?;
        publisher.tell(&format!("publish t 1 from={COUNT}"))?;
        subscriber.until(&format!("got t p {COUNT} ")).await?;
        let numbers = got(&mut subscriber, "t").await;
        rise(&numbers);
        println!(
            "B8 durable, {client}: {} of {} after 8 cuts",
            numbers.len(),
            COUNT + 1
        );
        assert_eq!(numbers.len() as u64, COUNT + 1);
        let lost = gaps(&mut subscriber, "t").await;
        assert!(lost.values().all(|(_, sum)| *sum == 0), "{lost:?}");
    }
    Ok(())
}

/// B8: the same when it is the publisher that is cut off: what it has published is published once.
#[tokio::test]
async fn b8_a_durable_publisher_that_is_cut_off_loses_and_doubles_nothing() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let place = place.with(DURABLE.0, DURABLE.1);
        let proxy = Proxy::before(place.server()).await?;
        let mut publisher = Member::start("p", &place.through(&proxy), TTL, &[])?;
        publisher.until("ready").await?;
        let mut subscriber = Member::start("s", &place.url(), TTL, &["subscribe t"])?;
        subscriber.until("subscribed").await?;
        publisher.tell(&format!("publish t {COUNT} every=1 size=40"))?;
        for round in 0..8 {
            sleep(ms(350)).await;
            break_off(&proxy, round).await?;
        }
        publisher.until("published t all, 0 failed").await?;
        publisher.tell(&format!("publish t 1 from={COUNT}"))?;
        subscriber.until(&format!("got t p {COUNT} ")).await?;
        let numbers = got(&mut subscriber, "t").await;
        rise(&numbers);
        println!(
            "B8 durable, the publisher cut off, {client}: {} of {} after 8 cuts",
            numbers.len(),
            COUNT + 1
        );
        assert_eq!(numbers.len() as u64, COUNT + 1);
    }
    Ok(())
}

/// B8, U5: the server's half of a listening connection is closed, and the subscriber hears nothing of
/// it: it finds out by its own questions, and says what it missed.
#[tokio::test]
async fn b8_a_listener_that_only_seems_to_be_connected_is_found_out() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let [mut publisher, mut subscriber] = pair(&place, &proxy, &["subscribe t"]).await?;
        publisher.tell("publish t 10")?;
        subscriber.until("got t p 9 ").await?;
        proxy.close_server_side().await;
        publisher.tell("publish t 10 from=10")?;
        publisher.until("published t all, 0 failed").await?;
        let gap = subscriber.until("gap t ").await?;
        println!("B8 half-open listener, {client}: {}", gap.text);
        publisher.tell("publish t 10 from=20")?;
        subscriber.until("got t p 29 ").await?;
        let numbers = got(&mut subscriber, "t").await;
        rise(&numbers);
        let told = gaps(&mut subscriber, "t").await;
        let missing: u64 = told.values().map(|(_, sum)| sum).sum();
        assert_eq!(numbers.len() as u64 + missing, 30, "{told:?}");
    }
    Ok(())
}

/// B8: the same with best effort: what is missing is told, and its size is right.
#[tokio::test]
async fn b8_a_best_effort_subscriber_that_is_cut_off_is_told_how_many_it_lost() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let [mut publisher, mut subscriber] = pair(&place, &proxy, &["subscribe t"]).await?;
        publisher.tell(&format!("publish t {COUNT} every=1 size=40"))?;
        for round in 0..8 {
            sleep(ms(350)).await;
            break_off(&proxy, round).await?;
        }
        publisher.until("published t all, 0 failed").await?;
        publisher.tell(&format!("publish t 1 from={COUNT}"))?;
        subscriber.until(&format!("got t p {COUNT} ")).await?;
        let numbers = got(&mut subscriber, "t").await;
        rise(&numbers);
        let told = gaps(&mut subscriber, "t").await;
        let missing: u64 = told.values().map(|(_, sum)| sum).sum();
        println!(
            "B8 best effort, {client}: {} of {}, told {told:?}",
            numbers.len(),
            COUNT + 1
        );
        assert_eq!(numbers.len() as u64 + missing, COUNT + 1, "{told:?}");
        assert!(missing > 0, "nothing was lost, so nothing was shown");
    }
    Ok(())
}

/// B9: a subscription that is made while the connection is being made anew is live after it.
#[tokio::test]
async fn b9_a_subscription_made_during_a_reconnect_is_live_after_it() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let [mut publisher, mut subscriber] = pair(&place, &proxy, &["subscribe t"]).await?;
        for round in 0..10 {
            proxy.refuse().await?;
            proxy.reset_all().await;
            let topic = format!("u{round}");
            subscriber.tell(&format!("subscribe {topic}"))?;
            sleep(ms(100)).await;
            proxy.accept().await?;
            subscriber.until(&format!("subscribed {topic}")).await?;
            publisher.tell(&format!("publish {topic} 3"))?;
            subscriber.until(&format!("got {topic} p 2 ")).await?;
            assert_eq!(got(&mut subscriber, &topic).await, [0, 1, 2]);
        }
    }
    Ok(())
}

/// A server that does not confirm a subscription for a while holds up no message of others.
#[tokio::test]
async fn b9_a_subscription_that_is_not_confirmed_holds_up_no_message() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let proxy = Proxy::before(place.server()).await?;
        let [mut publisher, mut subscriber] = pair(&place, &proxy, &["subscribe t"]).await?;
        proxy.set(Direction::ToServer, Mode::Hold);
        subscriber.tell("subscribe u")?;
        // The wish is on its way for sure when the first of these arrive, or soon after.
        publisher.tell("publish t 10 every=50")?;
        // Sooner than the wish is given up.
        subscriber.until_within("got t p 9 ", ms(2_000)).await?;
        assert_eq!(subscriber.count("subscribed u").await, 0);
        proxy.set(Direction::ToServer, Mode::Pass);
        subscriber.until("subscribed u").await?;
        assert_eq!(got(&mut subscriber, "t").await, (0..10).collect::<Vec<_>>());
    }
    Ok(())
}

/// B7: the messages of one origin keep their order, whichever way each of them travels: by
/// itself, packed with others, or stored aside.
#[tokio::test]
async fn b7_messages_of_all_sizes_keep_their_order() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let mut members = [
            Member::start("p", &place.url(), TTL, &[])?,
            Member::start("s", &place.url(), TTL, &["subscribe t"])?,
        ];
        members[1].until("subscribed").await?;
        members[0].until("ready").await?;
        // Published one after the other, without a wait between them.
        for (number, size) in [10, 20_000, 100_000, 10, 9_000, 200_000, 5, 70_000, 8_000]
            .iter()
            .enumerate()
        {
            let first = number * 20;
            members[0].tell(&format!("publish t 20 from={first} size={size}"))?;
            members[0].until("published t all, 0 failed").await?;
        }
        members[1].until("got t p 179 ").await?;
        let numbers = got(&mut members[1], "t").await;
        assert_eq!(numbers, (0..180).collect::<Vec<_>>());
    }
    Ok(())
}
