//! A connection that listens, in the two halves that ask and hear.
//!
//! The library has one for plain channels. For sharded ones it is the connection that calls share, whose messages go to a queue of ours.
//! There the library takes any confirmation for the answer to what was asked first, also where the server gives a channel up by itself,
//! for its slot has moved. So an answer must be the one to its question; and what was given up without being asked for is the end of
//! the connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::{ConnectionLike as _, MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::errors::refused;
use super::road::Road;
use crate::client::PubSub;
use crate::trouble::Trouble;

/// The half that asks.
pub(super) enum Sink {
    Plain(PubSubSink),
    Sharded(MultiplexedConnection, Leaving),
}

/// The half that hears.
pub(super) enum Stream {
    Plain(PubSubStream),
    Sharded(UnboundedReceiver<PushInfo>, Leaving),
}

/// Why a channel is not heard.
pub(super) enum NotHeard {
    /// The server says so, and the connection is as good as before.
    Refused(Trouble),
    /// The connection is of no use.
    Broken(Trouble),
}

/// The channels that the server was asked to give up.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<Mutex<BTreeSet<Vec<u8>>>>);

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects. An answer may take so long.
pub(super) async fn dial(
    road: &Road,
    how: PubSub,
    within: Duration,
) -> Result<(Sink, Stream), Trouble> {
    match how {
        PubSub::Plain => {
            let (sink, stream) = road.listening().await.map_err(refused)?.split();
            Ok((Sink::Plain(sink), Stream::Plain(stream)))
        }
        PubSub::Sharded => {
            let (heard, pushes) = unbounded_channel();
            let connection = road.hearing(within, heard).await.map_err(refused)?;
            let leaving = Leaving::default();
            let sink = Sink::Sharded(connection, leaving.clone());
            Ok((sink, Stream::Sharded(pushes, leaving)))
        }
    }
}

impl Sink {
    /// Returns when the server has confirmed it.
    pub(super) async fn subscribe(&mut self, channel: &Bytes) -> Result<(), NotHeard> {
        match self {
            Self::Plain(sink) => sink
                .subscribe(channel.as_ref())
                .await
                .map_err(|error| not_heard(error, PubSub::Plain)),
            Self::Sharded(connection, _) => {
                let answer = ask(connection, "SSUBSCRIBE", channel).await;
                let answer = answer.map_err(|error| not_heard(error, PubSub::Sharded))?;
                confirmed(&answer, &PushKind::SSubscribe, channel)
            }
        }
    }

    /// Returns when the server sends no more of it.
    pub(super) async fn unsubscribe(&mut self, channel: &Bytes) -> Result<(), NotHeard> {
        match self {
            Self::Plain(sink) => sink
                .unsubscribe(channel.as_ref())
                .await
                .map_err(|error| not_heard(error, PubSub::Plain)),
            Self::Sharded(connection, leaving) => {
                leaving.lock().insert(channel.to_vec());
                let answer = ask(connection, "SUNSUBSCRIBE", channel).await;
                match answer.map_err(|error| not_heard(error, PubSub::Sharded)) {
                    Ok(answer) => confirmed(&answer, &PushKind::SUnsubscribe, channel),
                    // Of a slot that it has no longer it sends nothing in any case.
                    Err(NotHeard::Refused(_)) => {
                        leaving.lock().remove(channel.as_ref());
                        Ok(())
                    }
                    Err(broken @ NotHeard::Broken(_)) => Err(broken),
                }
            }
        }
    }

    /// Says why the connection works no longer, if so. An error is an answer, too.
    pub(super) async fn probe(&mut self) -> Option<String> {
        let answer = match self {
            Self::Plain(sink) => sink.ping::<Value>().await,
            Self::Sharded(connection, _) => {
                connection.req_packed_command(&redis::cmd("PING")).await
            }
        };
        match answer {
            Ok(Value::Push { .. }) => Some(MIXED_UP.to_owned()),
            Ok(_) => None,
            Err(error) if error.code().is_some() => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

const MIXED_UP: &str = "the server gave a channel up by itself";

async fn ask(
    connection: &mut MultiplexedConnection,
    word: &str,
    channel: &Bytes,
) -> Result<Value, RedisError> {
    let command: Cmd = redis::cmd(word).arg(channel.as_ref()).to_owned();
    match connection.req_packed_command(&command).await? {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// The answer must be to this question.
fn confirmed(answer: &Value, wanted: &PushKind, channel: &Bytes) -> Result<(), NotHeard> {
    match answer {
        Value::Push { kind, data } if kind == wanted && first(data) == Some(channel.as_ref()) => {
            Ok(())
        }
        _ => Err(NotHeard::Broken(Trouble::unavailable(MIXED_UP))),
    }
}

fn first(data: &[Value]) -> Option<&[u8]> {
    match data.first() {
        Some(Value::BulkString(text)) => Some(text),
        _ => None,
    }
}

/// What an error means. One who may not hear a channel may hear others; and where channels are sharded, a server may have any of them no longer.
fn not_heard(error: RedisError, how: PubSub) -> NotHeard {
    let is_answer = error.code().is_some();
    match refused(error) {
        denied @ Trouble::Denied(_) => NotHeard::Refused(denied),
        other if is_answer && how == PubSub::Sharded => NotHeard::Refused(other),
        other => NotHeard::Broken(other),
    }
}

impl Stream {
    /// The next channel and payload; or why nothing comes any more. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<(Bytes, Bytes), String> {
        let closed = || "the connection was closed".to_owned();
        match self {
            Self::Plain(stream) => loop {
                let message = stream.next().await.ok_or_else(closed)?;
                if let Ok(channel) = message.get_channel::<Vec<u8>>() {
                    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
                    return Ok((channel.into(), payload));
                }
            },
            Self::Sharded(pushes, leaving) => loop {
                let PushInfo { kind, data } = pushes.recv().await.ok_or_else(closed)?;
                match kind {
                    PushKind::SMessage => {
                        if let Some(message) = message(data) {
                            return Ok(message);
                        }
                    }
                    PushKind::SUnsubscribe => {
                        let channel = first(&data).unwrap_or_default();
                        if !leaving.lock().remove(channel) {
                            return Err("another server has a channel's slot now".to_owned());
                        }
                    }
                    PushKind::Disconnection => return Err(closed()),
                    _ => {}
                }
            },
        }
    }
}

fn message(data: Vec<Value>) -> Option<(Bytes, Bytes)> {
    let mut data = data.into_iter();
    match (data.next()?, data.next()?) {
        (Value::BulkString(channel), Value::BulkString(payload)) => {
            Some((channel.into(), payload.into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn push(kind: PushKind, channel: &str) -> PushInfo {
        let data = vec![text(channel), text("payload")];
        PushInfo { kind, data }
    }

    /// A slot that moves takes all of its channels along, unasked.
    #[tokio::test]
    async fn a_channel_that_is_given_up_unasked_is_the_end() {
        let (sender, pushes) = unbounded_channel();
        let leaving = Leaving::default();
        leaving.lock().insert(b"left".to_vec());
        let mut stream = Stream::Sharded(pushes, leaving);
        for (kind, channel) in [
            (PushKind::SSubscribe, "kept"),
            (PushKind::SUnsubscribe, "left"),
            (PushKind::SMessage, "kept"),
            (PushKind::SUnsubscribe, "kept"),
        ] {
            sender.send(push(kind, channel)).unwrap();
        }
        let (channel, payload) = stream.next().await.unwrap();
        assert_eq!(
            (&channel[..], &payload[..]),
            (&b"kept"[..], &b"payload"[..])
        );
        let end = stream.next().await.unwrap_err();
        assert!(end.contains("slot"), "{end}");
    }

    #[test]
    fn an_answer_to_another_question_is_the_end_too() {
        let answer = |kind| Value::Push {
            kind,
            data: vec![text("c"), Value::Int(1)],
        };
        let (wanted, channel) = (PushKind::SSubscribe, Bytes::from_static(b"c"));
        assert!(confirmed(&answer(PushKind::SSubscribe), &wanted, &channel).is_ok());
        let other = Bytes::from_static(b"d");
        assert!(confirmed(&answer(PushKind::SSubscribe), &wanted, &other).is_err());
        for mixed_up in [answer(PushKind::SUnsubscribe), text("PONG")] {
            assert!(confirmed(&mixed_up, &wanted, &channel).is_err());
        }
    }
}
