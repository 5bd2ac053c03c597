//! A connection that listens: what asks, and what is heard.
//!
//! The library takes a subscription for made as soon as it is written, and drops what the server says to it; where the server
//! refuses, it takes the refusal for the answer to the command that was sent next. So each wish is followed by a `PING` with a
//! number of its own. Its echo says that the server has done what was asked before; an error in its place is the refusal, and then
//! the echo is still to come: numbers that are too low are echoes of the past.
//!
//! Of sharded channels it is only `SUNSUBSCRIBE` that has no answer; where that is refused, for the slot has moved, the connection ends.
//! The server gives the channels of such a slot up by itself, which the library keeps to itself: so the server is asked how many it sends.

use std::time::Duration;

use bytes::Bytes;
use fred::types::{Message, Resp3Frame as Frame};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::value::{error_of, read, said};
use super::wire::{Plan, Wire};
use crate::client::PubSub;
use crate::reply::Read as _;
use crate::trouble::Trouble;

/// U5: an answer to a probe may take so long.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// So many messages wait within the library; they are taken as soon as they come. It takes room for each beforehand.
const WAITING: usize = 1_024;

/// A connection, and what is heard on it.
pub(super) struct Line {
    pub(super) sink: Sink,
    pub(super) heard: broadcast::Receiver<Message>,
}

/// What asks. One at a time.
pub(super) struct Sink {
    pub(super) wire: Wire,
    how: PubSub,
    within: Duration,
    /// The number of the last `PING`.
    echo: u64,
}

impl Line {
    pub(super) async fn dial(plan: &Plan, how: PubSub) -> Result<Self, Trouble> {
        let dialled = Wire::dial(plan, WAITING).await;
        let wire = dialled.map_err(|error| Trouble::Unavailable(error.into()))?;
        let heard = wire.messages();
        let sink = Sink {
            wire,
            how,
            within: plan.within,
            echo: 0,
        };
        Ok(Self { sink, heard })
    }
}

impl Sink {
    /// Ok when the server has done it. An error of a plain channel, other than a refusal, is the end of the connection.
    pub(super) async fn wish(&mut self, channel: &Bytes, hears: bool) -> Result<(), Trouble> {
        let (within, ended) = (self.within, self.wire.ended());
        let done = async {
            match (self.how, hears) {
                (PubSub::Plain, _) => self.plainly(channel, hears).await,
                (PubSub::Sharded, true) => self.enter(channel).await,
                (PubSub::Sharded, false) => self.leave(channel).await,
            }
        };
        // The library's futures are large.
        let done = timeout(within, Box::pin(done));
        tokio::select! {
            biased;
            done = done => match done {
                Ok(done) => done,
                Err(_) => Err(Trouble::unavailable("the server did not answer in time")),
            },
            () = ended => Err(Trouble::unavailable("the listening connection was lost")),
        }
    }

    async fn plainly(&mut self, channel: &Bytes, hears: bool) -> Result<(), Trouble> {
        let wished = self.wire.wish(channel.clone(), hears).await;
        wished.map_err(|error| Trouble::Unavailable(error.into()))?;
        self.confirm().await
    }

    async fn enter(&mut self, channel: &Bytes) -> Result<(), Trouble> {
        let answer = self.ask(vec!["SSUBSCRIBE".into(), channel.clone()]).await?;
        if let Some(error) = error_of(&answer) {
            return Err(said(&error).0);
        }
        match &answer {
            Frame::Push { data, .. } if data.get(1).is_some_and(|told| is(told, channel)) => Ok(()),
            other => Err(Trouble::unavailable(format!(
                "the server confirmed something else: {other:?}"
            ))),
        }
    }

    async fn leave(&mut self, channel: &Bytes) -> Result<(), Trouble> {
        let lost = |why: String| Trouble::unavailable(why);
        let left = self.wire.leave(channel.clone()).await;
        left.map_err(|error| lost(error.to_string()))?;
        let done = self.confirm().await;
        done.map_err(|refused| lost(refused.to_string()))
    }

    async fn confirm(&mut self) -> Result<(), Trouble> {
        let since = self.echo + 1;
        loop {
            self.echo += 1;
            let words = vec!["PING".into(), self.echo.to_string().into()];
            let answer = self.ask(words).await?;
            if let Some(error) = error_of(&answer) {
                return Err(said(&error).0);
            }
            if read(answer)?.number()? >= since {
                return Ok(());
            }
        }
    }

    async fn ask(&self, words: Vec<Bytes>) -> Result<Frame, Trouble> {
        let answer = self.wire.wait(self.within, self.wire.ask(words)).await;
        let lost = || Trouble::unavailable("the listening connection was lost");
        answer.map_err(|_| lost())?.map_err(|_| lost())
    }

    /// Says why the connection works no longer, if so. A refusal is an answer, too. `channels`: so many should be heard.
    pub(super) async fn probe(&mut self, channels: usize) -> Option<String> {
        let probed = async {
            match self.how {
                PubSub::Plain => self.confirm().await,
                PubSub::Sharded => self.count(channels).await,
            }
        };
        match timeout(PROBE_WITHIN, Box::pin(probed)).await {
            Ok(Ok(()) | Err(Trouble::Denied(_))) => None,
            Ok(Err(trouble)) => Some(trouble.to_string()),
            Err(_) => Some("the server did not answer a probe in time".to_owned()),
        }
    }

    /// Redis before 7.0.3 does not say how many it sends: then a slot that comes back within a look at the cluster goes unseen.
    async fn count(&self, channels: usize) -> Result<(), Trouble> {
        let answer = self.ask(vec!["CLIENT".into(), "INFO".into()]).await?;
        match error_of(&answer) {
            None if counted(read(answer)?.text()?).is_none_or(|count| count == channels) => Ok(()),
            None => Err(Trouble::unavailable(
                "another server has a channel's slot now",
            )),
            Some(_) => Ok(()),
        }
    }
}

fn counted(info: &str) -> Option<usize> {
    let mut fields = info.split_whitespace();
    let count = fields.find_map(|field| field.strip_prefix("ssub="));
    count?.parse().ok()
}

fn is(told: &Frame, channel: &Bytes) -> bool {
    matches!(told, Frame::BlobString { data, .. } if data == channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_sharded_channels_is_read_where_it_is_told() {
        let told =
            "id=5 addr=127.0.0.1:3 flags=N db=0 sub=0 psub=0 ssub=12 multi=-1 cmd=client|info";
        assert_eq!(counted(told), Some(12));
        assert_eq!(counted("id=5 sub=0 psub=0 multi=-1"), None);
    }
}
