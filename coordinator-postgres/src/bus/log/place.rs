//! Places in the log, and what a snapshot of the server shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator_core::Topic;
use uuid::Uuid;

use crate::bus::line::topic_id;
use crate::config::Cursors;

/// The topics of a subscription, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) topics: BTreeMap<Uuid, Topic>,
}

impl Wanted {
    pub(super) fn new(topics: &[Topic]) -> Arc<Self> {
        let topics = topics
            .iter()
            .map(|topic| (topic_id(topic.name()), topic.clone()));
        Arc::new(Self {
            topics: topics.collect(),
        })
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.topics.keys().map(Uuid::to_string).collect()
    }

    pub(super) fn names(&self) -> Vec<Vec<u8>> {
        let names = self.topics.values();
        names
            .map(|topic| topic.name().as_bytes().to_vec())
            .collect()
    }

    /// Which of them this is.
    pub(super) fn index(&self, id: Uuid) -> Option<usize> {
        self.topics.keys().position(|known| *known == id)
    }

    /// Tells these topics from others, in a cursor that counts each of them.
    pub(super) fn digest(&self) -> u64 {
        let ids: Vec<u8> = self.topics.keys().flat_map(|id| *id.as_bytes()).collect();
        xxhash_rust::xxh3::xxh3_64(&ids)
    }
}

/// After which row a reader is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The last row's transaction and id: one order for all topics (U9).
    Watermark { xid: u64, id: i64 },
    /// The last number of each topic, in order of the topics (U12).
    Numbers(Vec<i64>),
}

impl Place {
    pub(super) fn oldest(cursors: Cursors, wanted: &Wanted) -> Self {
        match cursors {
            Cursors::Watermark => Self::Watermark { xid: 0, id: 0 },
            Cursors::Counter => Self::Numbers(vec![0; wanted.topics.len()]),
        }
    }
}

/// What the server had committed at a moment: `xmin:xmax:in progress`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Snapshot {
    xmin: u64,
    xmax: u64,
    open: Vec<u64>,
}

impl Snapshot {
    /// What cannot be read shows nothing.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (xmin, xmax) = (number().unwrap_or(0), number().unwrap_or(0));
        let open = parts.next().unwrap_or_default().split(',');
        Self {
            xmin,
            xmax,
            open: open.filter_map(|xid| xid.parse().ok()).collect(),
        }
    }

    /// The oldest transaction that was open.
    pub(super) fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Whether it showed what that transaction wrote.
    pub(super) fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.open.contains(&xid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_had_been_committed() {
        let snapshot = Snapshot::parse("100:105:100,103");
        let shown: Vec<_> = (98..107).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [98, 99, 101, 102, 104]);
        assert!(Snapshot::parse("7:7:").shows(6));
        assert!(!Snapshot::parse("rubbish").shows(6));
    }
}
