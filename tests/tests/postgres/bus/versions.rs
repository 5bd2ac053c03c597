//! Packets and bells of a newer build, while both are in the fleet.

use coordinator_core::{FeedEvent, Start};

use super::kit::{Kit, Publisher, subscribe};

/// U6: what a newer build says in a way of its own is told as such to every subscriber, one for one, and costs nothing else.
#[tokio::test]
async fn packets_of_a_newer_version_are_told_and_cost_nothing_else() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let bus = kit.bus().await;
    let mut news = subscribe(&bus, "news", Start::Now).await;
    let mut sport = subscribe(&bus, "sport", Start::Now).await;
    let client = kit.client().await;
    // Another version of packets, an unknown kind of item, a bell that this build does not know.
    for newer in ["p2;whatever", "p17;?x", "zfd1a6b90"] {
        let sent = ann.publish("news", "before").await;
        assert_eq!(news.frame().await, sent);
        let notify = "select pg_notify($1 || '_bus', $2)";
        let name = kit.schema.name();
        let told = client.execute(notify, &[&name, &newer]).await;
        told.expect("a notification");
        for reader in [&mut news, &mut sport] {
            let event = reader.event().await;
            assert!(
                matches!(event, FeedEvent::Malformed(_)),
                "{newer}: {event:?}"
            );
        }
        let sent = ann.publish("news", "behind").await;
        assert_eq!(news.frame().await, sent);
        let sent = ann.publish("sport", "behind").await;
        assert_eq!(sport.frame().await, sent);
    }
}
