//! Sizes around the limits of NOTIFY, and what does not fit.

use coordinator_core::{ErrorKind, Start};
use coordinator_postgres::Spill;

use super::kit::{Kit, Publisher, subscribe, text};

/// B5: in bytes, also where a letter takes several; around the limit of one NOTIFY, of fragments, and
/// far above. B7: they keep their order, whichever way they travel.
#[tokio::test]
async fn payloads_around_every_limit_arrive_whole_and_in_order() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let mut feed = subscribe(&kit.bus().await, "news", Start::Now).await;
    let limits = [
        7_800, 7_998, 7_999, 8_000, 8_001, 65_535, 65_536, 65_537, 1_000_000,
    ];
    for size in limits {
        for letter in ["x", "é", "\u{1F980}", "\0"] {
            let mut payload = letter.repeat(size / letter.len());
            payload.push_str(&"y".repeat(size - payload.len()));
            let sent = ann.publish("news", payload).await;
            let small = ann.publish("news", "small").await;
            assert!(feed.frame().await == sent, "{size} bytes of {letter:?}");
            assert_eq!(feed.frame().await, small);
        }
    }
}

/// B7, U7: a batch whose messages take all three ways arrives in its order.
#[tokio::test]
async fn a_batch_of_all_sizes_keeps_its_order() {
    let Some(kit) = Kit::new(|config| config) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let mut feed = subscribe(&kit.bus().await, "news", Start::Now).await;
    let sizes = [
        3, 100_000, 10, 20_000, 0, 200_000, 7_990, 1, 70_000, 70_000, 5,
    ];
    let batch: Vec<_> = sizes
        .iter()
        .map(|size| ann.frame("news", "x".repeat(*size)))
        .collect();
    ann.bus.publish(&batch).await.unwrap();
    for sent in &batch {
        assert!(feed.frame().await == *sent, "frame {}", sent.sequence);
    }
}

/// B13: what is refused is refused at once, says both sizes, and nothing of its batch is sent.
#[tokio::test]
async fn a_payload_that_does_not_fit_is_refused_with_both_sizes_and_poisons_nothing() {
    let Some(kit) = Kit::new(|config| config.spill(Spill::Never)) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let mut feed = subscribe(&ann.bus.clone(), "news", Start::Now).await;
    let refused = [
        // Over the limit; and within it, but base64 takes a third more.
        ("x".repeat(8_000), "has 8000 bytes, allowed are 7800"),
        ("\0".repeat(7_000), "has 7000 bytes, and one NOTIFY holds 5"),
    ];
    for (payload, expected) in refused {
        let mut doomed = Publisher::new(ann.bus.clone());
        let batch = [
            doomed.frame("news", "before"),
            doomed.frame("news", payload),
        ];
        let error = ann.bus.publish(&batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(expected), "{source}");
    }
    ann.publish("news", "after").await;
    assert_eq!(text(&feed.frame().await), "after");
}

/// B13: a full queue of notifications, which the server says with the rows, stores nothing and says what to do.
#[tokio::test]
async fn a_full_queue_of_notifications_says_what_to_do() {
    let Some(kit) = Kit::new(|config| config.spill(Spill::Always)) else {
        return;
    };
    let mut ann = Publisher::new(kit.bus().await);
    let mut feed = subscribe(&ann.bus.clone(), "news", Start::Now).await;
    let client = kit.client().await;
    // What fills it for a durable message is a trigger, with the code and words that the server has for it.
    let full = kit.sql(
        "create function {schema}.full() returns trigger language plpgsql as $$ begin \
             raise exception 'too many notifications in the NOTIFY queue' using errcode = '54000'; end $$; \
         create trigger full_queue after insert on {schema}.log for each row execute function {schema}.full()",
    );
    client.batch_execute(&full).await.expect("a trigger");
    let frame = ann.frame("news", "told");
    let refused = ann.bus.publish(std::slice::from_ref(&frame)).await;
    let error = refused.expect_err("the queue is full");
    assert!(matches!(error.kind(), ErrorKind::Unavailable), "{error:?}");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    let text = source.unwrap_or_default();
    assert!(text.contains("too many notifications"), "{text}");
    assert!(text.contains("pg_stat_activity"), "{text}");

    let emptied = kit.sql("drop trigger full_queue on {schema}.log");
    client.batch_execute(&emptied).await.expect("no trigger");
    ann.bus
        .publish(std::slice::from_ref(&frame))
        .await
        .expect("published");
    assert_eq!(feed.frame().await, frame);
}
