//! The durable log: one stream per topic, whose messages are numbered without a hole. So a reader sees exactly what
//! is missing, however it came to be missing.

mod feed;
mod follow;
mod inbox;
mod place;

use std::sync::Arc;

use bytes::Bytes;
use coordinator_core::Topic;
use coordinator_core::relay::Packer;

use crate::client::Value;
use crate::hub::Hub;
use crate::names::Tag;
use crate::reply::{Read as _, part};
use crate::script::Script;
use crate::trouble::Trouble;
pub(super) use feed::LogFeed;
pub(super) use inbox::LogRouter;
use place::{Id, Place};

/// A packet of up to this many bytes comes with the news of it; larger ones are read from the stream.
const TOLD: usize = 64 * 1024;
/// A read stops behind the entry that brings so many bytes.
const PAGE: usize = 1024 * 1024;

static APPEND: Script = Script::plain(
    "log_append",
    concat!(
        include_str!("../../lua/log_common.lua"),
        include_str!("../../lua/log_append.lua")
    ),
);
static LOOK: Script = Script::plain(
    "log_look",
    concat!(
        include_str!("../../lua/log_common.lua"),
        include_str!("../../lua/log_look.lua")
    ),
);
static READ: Script = Script::plain(
    "log_read",
    concat!(
        include_str!("../../lua/log_common.lua"),
        include_str!("../../lua/log_read.lua")
    ),
);

/// The logs of all topics.
#[derive(Debug)]
pub(super) struct Log {
    hub: Arc<Hub>,
}

/// One entry: some messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: Id,
    /// The number of the first.
    pub(super) first: u64,
    pub(super) packet: Bytes,
}

/// What one read brings.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) identity: Arc<str>,
    /// The number of the log's last message.
    pub(super) last: u64,
    pub(super) more: bool,
    pub(super) entries: Vec<Entry>,
}

impl Log {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Adds packets. They are kept, as well as the server keeps anything, when this returns.
    pub(super) async fn append(&self, topic: &Topic, packets: Vec<Packer>) -> Result<(), Trouble> {
        let config = &self.hub.config;
        let how = *self.hub.pubsub.borrow();
        let mut args = vec![
            how.publish().into(),
            self.channel(topic),
            config.log_entries.to_string().into(),
            config.retention.as_millis().to_string().into(),
            TOLD.to_string().into(),
        ];
        for packer in packets {
            args.push(packer.frames().to_string().into());
            args.push(packer.finish());
        }
        self.run(&APPEND, topic, args).await.map(drop)
    }

    /// Behind the last message.
    pub(super) async fn end(&self, topic: &Topic) -> Result<Place, Trouble> {
        let kept = self.hub.config.retention.as_millis().to_string().into();
        let answer = self.run(&LOOK, topic, vec![kept]).await?;
        let parts = answer.list()?;
        Ok(Place {
            identity: Some(part(parts, 0)?.text()?.into()),
            id: id(part(parts, 1)?)?,
            number: Some(part(parts, 2)?.number()?),
        })
    }

    /// Entries from this one on.
    pub(super) async fn read(&self, topic: &Topic, from: Id) -> Result<Page, Trouble> {
        let args = vec![from.to_string().into(), PAGE.to_string().into()];
        let answer = self.run(&READ, topic, args).await?;
        let parts = answer.list()?;
        let entries = part(parts, 3)?.list()?;
        Ok(Page {
            identity: part(parts, 0)?.text()?.into(),
            last: part(parts, 1)?.number()?,
            more: part(parts, 2)?.number()? == 1,
            entries: entries.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }

    /// Where news of a topic are told.
    fn channel(&self, topic: &Topic) -> Bytes {
        self.tag(topic).key("log-news", "")
    }

    fn tag(&self, topic: &Topic) -> Tag {
        self.hub.names.tag(topic.name())
    }

    async fn run(
        &self,
        script: &'static Script,
        topic: &Topic,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        let tag = self.tag(topic);
        let keys = [tag.key("log", ""), tag.key("log-meta", "")];
        self.hub.run(script, &tag, &keys, args).await
    }
}

fn entry(value: &Value) -> Result<Entry, Trouble> {
    let parts = value.list()?;
    Ok(Entry {
        id: id(part(parts, 0)?)?,
        first: part(parts, 1)?.number()?,
        packet: part(parts, 2)?.bytes()?.clone(),
    })
}

fn id(value: &Value) -> Result<Id, Trouble> {
    let text = value.text()?;
    text.parse().map_err(|()| Trouble::unreadable(text))
}
