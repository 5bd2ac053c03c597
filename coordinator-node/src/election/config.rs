use std::time::Duration;

use coordinator_core::BoxError;
use coordinator_core::trust::Trust;

use crate::vote::{Quorum, VOTE_WINDOW};

/// How an election is held. A bare name is a configuration: `node.election("scheduler")`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ElectionConfig {
    /// What is led. One leader for each name and group. 1 to 512 bytes.
    pub name: String,
    /// How long a leader leads without a renewal, by the store's clock: so long, at most, nobody
    /// leads after a crash. 200 ms to 30 s; the node's by default.
    pub ttl: Option<Duration>,
    /// By how much trust ends before the ttl: pays for clocks that differ and for scheduling
    /// delays. A tenth of the ttl, at least 50 ms, by default; at most half of it.
    pub margin: Option<Duration>,
    /// Who should lead, all else being equal: where a candidate has been there for 30 s whose
    /// priority is higher, the leader lets it lead. Never preempts. 0 by default. Needs a bus.
    pub priority: u32,
    /// How long the work has to finish when it is asked to; the node's by default.
    pub drain_timeout: Option<Duration>,
    /// Lead only while the work reports progress at least this often, by `progress` or `tick`. A
    /// stuck leader then leads no longer than this and a ttl. Off by default.
    pub stall_limit: Option<Duration>,
    /// Let members vote who leads, over the bus, instead of asking the store for a lease. The ttl is
    /// then the window of the election, 2 s by default, and the same for all its members; how to
    /// change it is said at [`Quorum::Fixed`]. Off by default.
    ///
    /// All processes hold one election in the same way: who asks the store and who asks the members
    /// do not know of each other, and would both lead.
    pub by_vote: Option<Quorum>,
    /// How long not to campaign after a loss, so that another may try; 1 s by default.
    pub cool_down: Duration,
}

impl ElectionConfig {
    /// An election of this name, with defaults for all else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ttl: None,
            margin: None,
            priority: 0,
            drain_timeout: None,
            stall_limit: None,
            by_vote: None,
            cool_down: Duration::from_secs(1),
        }
    }

    /// Sets [`Self::ttl`].
    pub fn ttl(mut self, span: Duration) -> Self {
        self.ttl = Some(span);
        self
    }

    /// Sets [`Self::margin`].
    pub fn margin(mut self, span: Duration) -> Self {
        self.margin = Some(span);
        self
    }

    /// Sets [`Self::priority`].
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`Self::drain_timeout`].
    pub fn drain_timeout(mut self, span: Duration) -> Self {
        self.drain_timeout = Some(span);
        self
    }

    /// Sets [`Self::stall_limit`].
    pub fn stall_limit(mut self, span: Duration) -> Self {
        self.stall_limit = Some(span);
        self
    }

    /// Sets [`Self::by_vote`].
    pub fn by_vote(mut self, quorum: Quorum) -> Self {
        self.by_vote = Some(quorum);
        self
    }

    /// Sets [`Self::cool_down`].
    pub fn cool_down(mut self, span: Duration) -> Self {
        self.cool_down = span;
        self
    }

    /// Checks all values, and gives the trust that follows from them.
    pub(crate) fn check(&self, default_ttl: Duration) -> Result<Trust, BoxError> {
        coordinator_core::check_name("election", &self.name)?;
        check_spans(self.drain_timeout, self.stall_limit)?;
        if let Some(quorum) = &self.by_vote {
            quorum.check()?;
        }
        trust(self.ttl, self.margin, self.default_ttl(default_ttl))
    }

    /// The ttl where none is set.
    pub(crate) fn default_ttl(&self, of_leases: Duration) -> Duration {
        match &self.by_vote {
            Some(_) => VOTE_WINDOW,
            None => of_leases,
        }
    }
}

impl From<&str> for ElectionConfig {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ElectionConfig {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// Trust by the values of a configuration.
pub(crate) fn trust(
    ttl: Option<Duration>,
    margin: Option<Duration>,
    default_ttl: Duration,
) -> Result<Trust, BoxError> {
    let ttl = ttl.unwrap_or(default_ttl);
    let trust = match margin {
        Some(margin) => Trust::with_margin(ttl, margin),
        None => Trust::new(ttl),
    };
    Ok(trust?)
}

/// Spans of zero would end work that has just begun.
pub(crate) fn check_spans(
    drain_timeout: Option<Duration>,
    stall_limit: Option<Duration>,
) -> Result<(), BoxError> {
    for (what, span) in [
        ("drain_timeout", drain_timeout),
        ("stall_limit", stall_limit),
    ] {
        if span.is_some_and(|span| span.is_zero()) {
            return Err(
                format!("a {what} of 0s is not allowed: choose more, or leave it out").into(),
            );
        }
    }
    Ok(())
}
