//! How messages spread among the nodes of a cluster.

use tokio::sync::watch;

/// Channels of one kind and of the other know nothing of each other, whatever their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PubSub {
    /// Each node gets all: `PUBLISH`.
    Plain,
    /// Those alone get it that have the channel's slot: `SPUBLISH`, since Redis 7.
    Sharded,
}

/// What is chosen now. Told anew, it may have been otherwise for others until now.
pub(crate) type Chosen = watch::Receiver<PubSub>;

impl PubSub {
    /// As it is written down.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sharded => "sharded",
        }
    }

    pub(crate) fn read(name: &str) -> Option<Self> {
        [Self::Plain, Self::Sharded]
            .into_iter()
            .find(|how| how.name() == name)
    }

    /// The command that publishes.
    pub(crate) fn publish(self) -> &'static str {
        match self {
            Self::Plain => "PUBLISH",
            Self::Sharded => "SPUBLISH",
        }
    }

    /// The choice that never changes.
    pub(crate) fn always(self) -> Chosen {
        watch::channel(self).1
    }
}
