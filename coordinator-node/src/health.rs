//! How a node stands, for a health endpoint or a log line.

use std::time::Duration;

use coordinator_core::{Guarantee, LostCause};

use crate::members::MemberSource;
use crate::shared::Shared;

/// How a node stands at one moment. [`Health::is_ready`] sums it up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the node was asked to shut down.
    pub draining: bool,
    /// Whether it is a member of its group, by its own clock.
    pub membership: Standing,
    /// The terms, locks and shards that it holds, or still lets finish.
    pub work: Vec<String>,
    /// A guarantee that was demanded, and that the store no longer gives: nothing new is granted
    /// until it is back.
    pub missing: Option<Guarantee>,
}

/// Whether a node is a member of its group, by its own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its backend has neither members nor a bus.
    Alone,
    /// Its backend has a bus and no members: it goes by the heartbeats that the bus brings.
    Listening {
        /// The bus brings nothing, not even its own heartbeats. What that means for the node's
        /// work is for the application to say: it counts as ready.
        isolated: bool,
    },
    /// It is a member, and trusts so for this long without an answer of the store.
    Member {
        /// What is left of the trust window.
        trust_left: Duration,
    },
    /// Its membership ended, and it tries to join anew.
    Joining {
        /// How the last one ended, if there was one.
        cause: Option<LostCause>,
    },
    /// It has left for good.
    Left,
}

impl Health {
    pub(crate) fn of(shared: &Shared) -> Self {
        let context = &shared.context;
        Self {
            draining: context.draining.is_cancelled(),
            membership: standing(shared),
            work: context.work.names(),
            missing: context.missing_guarantee(),
        }
    }

    /// Whether the node can take part: not draining, a member (where there are members), and
    /// nothing demanded is missing.
    pub fn is_ready(&self) -> bool {
        let member = match self.membership {
            Standing::Alone | Standing::Listening { .. } | Standing::Member { .. } => true,
            Standing::Joining { .. } | Standing::Left => false,
        };
        member && !self.draining && self.missing.is_none()
    }
}

fn standing(shared: &Shared) -> Standing {
    let standing = shared.membership.standing().borrow().clone();
    let isolated = standing.isolated;
    match shared.membership.source() {
        MemberSource::Nothing => return Standing::Alone,
        MemberSource::Bus | MemberSource::Store if standing.left => return Standing::Left,
        MemberSource::Bus => return Standing::Listening { isolated },
        MemberSource::Store => {}
    }
    match shared.membership.trusted() {
        Some((_, until)) => Standing::Member {
            trust_left: until.since(shared.context.now()),
        },
        None => Standing::Joining {
            cause: standing.cause,
        },
    }
}
