//! The bus.

use coordinator_node::{BoxError, Bytes, Gap, Incoming, Node, Start, Topic};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::interval;

use crate::order::Order;
use crate::{chain, say};

/// So many messages are under way at most.
const IN_FLIGHT: usize = 256;

/// Publishes numbers; settings: `from`, the first; `size`, the bytes of each; `every`, the pause
/// between two. Says `published TOPIC NUMBER OUTCOME` of those that fail, and `published TOPIC` at the end.
pub(crate) async fn publish(node: Node, order: Order) -> Result<(), BoxError> {
    let topic = Topic::<Bytes>::named(order.subject()?.to_owned());
    let first: u64 = order.number("from")?.unwrap_or(0);
    let count: u64 = order.count()?;
    let size = order.number("size")?.unwrap_or(0);
    let mut pace = order.span("every")?.map(interval);
    let bus = node.bus();
    let mut under_way = FuturesOrdered::new();
    let mut failed = 0_u64;
    let told = |(number, outcome): (u64, Result<(), _>)| match outcome {
        Ok(()) => 0,
        Err(error) => {
            let error: coordinator_node::BusError = error;
            say(format_args!(
                "published {} {number} {}",
                topic.name(),
                chain(&error)
            ));
            1
        }
    };
    for number in first..first + count {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let sent = bus.publish(&topic, &payload(number, size));
        under_way.push_back(async move { (number, sent.await) });
        while under_way.len() >= IN_FLIGHT {
            failed += under_way.next().await.map_or(0, told);
        }
    }
    while let Some(outcome) = under_way.next().await {
        failed += told(outcome);
    }
    say(format_args!(
        "published {} all, {failed} failed",
        topic.name()
    ));
    Ok(())
}

/// A number, filled up to a size.
fn payload(number: u64, size: usize) -> Bytes {
    let number = number.to_string();
    format!("{number:.<size$}").into()
}

/// Subscribes; settings: `start=oldest`, or `after=CURSOR`; `capacity`.
pub(crate) async fn subscribe(node: Node, order: Order) -> Result<(), BoxError> {
    let name = order.subject()?;
    let topic = Topic::<Bytes>::named(name.to_owned());
    let mut wanted = node.bus().subscribe(&topic).start(start(&order)?);
    if let Some(capacity) = order.number("capacity")? {
        wanted = wanted.capacity(capacity);
    }
    let mut messages = wanted.await?;
    say(format_args!("subscribed {name}"));
    while let Some(incoming) = messages.next().await {
        match incoming {
            Incoming::Message(message) => {
                let text = String::from_utf8_lossy(&message.payload);
                let number = text.trim_end_matches('.');
                let cursor = message.cursor.map(|cursor| cursor.to_string());
                let cursor = cursor.as_deref().unwrap_or("-");
                say(format_args!(
                    "got {name} {} {number} {cursor}",
                    message.origin
                ));
            }
            Incoming::Gap(gap) => {
                say(format_args!("gap {name} {}", shown(&gap)));
            }
            Incoming::Malformed(bad) => {
                say(format_args!("malformed {name} {}", chain(&*bad.error)));
            }
        }
    }
    say(format_args!("closed {name}"));
    Ok(())
}

fn start(order: &Order) -> Result<Start, BoxError> {
    Ok(match (order.text("start"), order.text("after")) {
        (_, Some(cursor)) => Start::After(cursor.parse()?),
        (Some("oldest"), None) => Start::Oldest,
        (None, None) => Start::Now,
        (Some(other), None) => return Err(format!("start cannot be `{other}`").into()),
    })
}

/// `ORIGIN MISSING CAUSE`, with `?` for what is not known.
fn shown(gap: &Gap) -> String {
    let or_not_known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let origin = or_not_known(gap.origin.as_ref().map(ToString::to_string));
    let missing = or_not_known(gap.missing.map(|missing| missing.to_string()));
    format!("{origin} {missing} {:?}", gap.cause)
}
