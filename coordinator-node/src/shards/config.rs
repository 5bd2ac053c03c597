//! How a keyspace is served.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Keyspace, Layout, Routing, Sticky, Strategy};

use super::Handoff;

/// The number of shards of a keyspace that is named and nothing else.
pub const DEFAULT_SHARDS: u16 = 256;

/// What becomes of a shard whose work fails or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// It is started again after a growing pause, for as long as the shard is held.
    #[default]
    Restart,
    /// It ends `run_shards`, which drains the other shards and returns the error.
    Stop,
}

/// How a keyspace is cut and served. A bare name is a configuration:
/// `node.run_shards("orders", work)`.
///
/// `shards` and `routing` belong to the keyspace: a member that has others is refused.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardConfig {
    /// The keyspace. 1 to 512 bytes.
    pub name: Keyspace,
    /// Into how many parts the keyspace is cut, for ever: 1 to 65,535. More parts than members
    /// will ever be: 256 by default. The dense layout has as many as members, and ignores this.
    pub shards: u16,
    /// The hash that says to which shard a key belongs. FNV-1a with 64 bits by default.
    pub routing: Routing,
    /// How long a shard's work has to finish when the shard is revoked. Then it is cancelled, and
    /// a member whose work does not end even so is put out a TTL later. 10 s by default.
    pub drain_timeout: Duration,
    /// Members that join within this after a change wait, and become one plan. 1 s by default.
    pub reshard_interval: Duration,
    /// How long the shards of a member with a static name are kept for its return, so that a
    /// rolling restart moves none. They rest meanwhile. Zero, the default: not at all.
    pub grace_period: Duration,
    /// Which member should own which shard. [`Sticky`] by default: balanced, and moves few.
    pub strategy: Arc<dyn Strategy>,
    /// How the dense layout passes from one cut to the next. Means nothing for fixed shards.
    pub handoff: Handoff,
    /// The pause after a shard's work first failed; it doubles, up to [`Self::restart_at_most`].
    /// 100 ms by default.
    pub restart_after: Duration,
    /// The longest pause between restarts. 30 s by default.
    pub restart_at_most: Duration,
    /// What becomes of a shard whose work fails or panics.
    pub on_error: OnError,
}

impl ShardConfig {
    /// A keyspace of so many shards, with defaults for all else.
    pub fn new(name: impl Into<Keyspace>, shards: u16) -> Self {
        Self {
            name: name.into(),
            shards,
            routing: Routing::default(),
            drain_timeout: Duration::from_secs(10),
            reshard_interval: Duration::from_secs(1),
            grace_period: Duration::ZERO,
            strategy: Arc::new(Sticky::new()),
            handoff: Handoff::default(),
            restart_after: Duration::from_millis(100),
            restart_at_most: Duration::from_secs(30),
            on_error: OnError::default(),
        }
    }

    /// Sets [`Self::shards`].
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Sets [`Self::routing`].
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// Sets [`Self::drain_timeout`].
    pub fn drain_timeout(mut self, span: Duration) -> Self {
        self.drain_timeout = span;
        self
    }

    /// Sets [`Self::reshard_interval`].
    pub fn reshard_interval(mut self, span: Duration) -> Self {
        self.reshard_interval = span;
        self
    }

    /// Sets [`Self::grace_period`].
    pub fn grace_period(mut self, span: Duration) -> Self {
        self.grace_period = span;
        self
    }

    /// Sets [`Self::strategy`].
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Sets [`Self::handoff`].
    pub fn handoff(mut self, handoff: Handoff) -> Self {
        self.handoff = handoff;
        self
    }

    /// Sets [`Self::restart_after`].
    pub fn restart_after(mut self, span: Duration) -> Self {
        self.restart_after = span;
        self
    }

    /// Sets [`Self::restart_at_most`].
    pub fn restart_at_most(mut self, span: Duration) -> Self {
        self.restart_at_most = span;
        self
    }

    /// Sets [`Self::on_error`].
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// What is wrong with it, and what is allowed.
    pub(crate) fn check(&self, layout: Layout) -> Result<(), String> {
        self.name.check().map_err(|error| error.to_string())?;
        if layout == (Layout::Fixed { shards: 0 }) {
            return Err("0 shards are not allowed: choose 1 to 65535".into());
        }
        let spans = [
            ("drain_timeout", self.drain_timeout),
            ("restart_after", self.restart_after),
        ];
        for (field, span) in spans {
            if span.is_zero() {
                return Err(format!("a {field} of 0s is not allowed: choose more"));
            }
        }
        if self.restart_at_most < self.restart_after {
            return Err(format!(
                "restart_at_most, {:?}, is less than restart_after, {:?}",
                self.restart_at_most, self.restart_after
            ));
        }
        Ok(())
    }
}

impl From<&str> for ShardConfig {
    fn from(name: &str) -> Self {
        Self::new(name, DEFAULT_SHARDS)
    }
}

impl From<String> for ShardConfig {
    fn from(name: String) -> Self {
        Self::new(name, DEFAULT_SHARDS)
    }
}

impl From<&Keyspace> for ShardConfig {
    fn from(name: &Keyspace) -> Self {
        Self::new(name, DEFAULT_SHARDS)
    }
}
