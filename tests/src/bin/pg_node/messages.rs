//! The bus.

use coordinator_node::{BoxError, Bytes, Gap, Incoming, Node, Start, Topic};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::{Interval, interval};

use crate::order::Order;
use crate::{chain, say};

/// So many messages are under way at most.
const IN_FLIGHT: usize = 256;

/// Publishes numbers; settings: `from`, the first; `size`, the bytes of each; `every`, the pause
/// between two; `each=1` to be told of each. Says `published TOPIC NUMBER OUTCOME` of those that fail,
/// `accepted TOPIC NUMBER` of the others if it is to, and `published TOPIC` at the end.
pub(crate) async fn publish(node: Node, order: Order) -> Result<(), BoxError> {
    let topic = Topic::<Bytes>::named(order.subject()?.to_owned());
    let first: u64 = order.number("from")?.unwrap_or(0);
    let count: u64 = order.count()?;
    let size = order.number("size")?.unwrap_or(0);
    let each = order.text("each").is_some();
    let mut pace = order.span("every")?.map(interval);
    let bus = node.bus();
    let mut under_way = FuturesOrdered::new();
    let mut failed = 0_u64;
    let mut numbers = first..first + count;
    let mut draining = std::pin::pin!(node.draining());
    loop {
        // In turns, so that each is told of when it is known, and none waits for another's pace.
        let outcome = tokio::select! {
            biased;
            Some(outcome) = under_way.next() => outcome,
            // What is under way still leaves.
            () = &mut draining, if !numbers.is_empty() => {
                numbers = 0..0;
                continue;
            }
            () = due(&mut pace), if under_way.len() < IN_FLIGHT && !numbers.is_empty() => {
                if let Some(number) = numbers.next() {
                    let sent = bus.publish(&topic, &payload(number, size));
                    under_way.push_back(async move { (number, sent.await) });
                }
                continue;
            }
            else => break,
        };
        match outcome {
            (number, Ok(())) if each => drop(say(format_args!("accepted {topic} {number}"))),
            (_, Ok(())) => (),
            (number, Err(error)) => {
                failed += 1;
                let error = chain(&error);
                say(format_args!("published {topic} {number} {error}"));
            }
        }
    }
    say(format_args!("published {topic} all, {failed} failed"));
    Ok(())
}

/// When the next one may leave.
async fn due(pace: &mut Option<Interval>) {
    if let Some(pace) = pace {
        pace.tick().await;
    }
}

/// A number, filled up to a size.
fn payload(number: u64, size: usize) -> Bytes {
    let mut payload = number.to_string().into_bytes();
    payload.resize(payload.len().max(size), b'.');
    payload.into()
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
