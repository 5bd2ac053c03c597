//! Elections by vote: members agree over the bus alone, or ask a store only when the vote allows.
//!
//! A *voter* is this node's part in one election: it answers the others, and asks for votes while
//! somebody here wants to lead. [`Votes`] makes a lock backend of it, so that a term by vote is
//! driven like every other: trusted, drained, renewed only while its work makes progress, released.

mod live;
mod locks;
mod post;
mod voter;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_core::machine::vote::Electorate;
use coordinator_core::trust::Trust;
use coordinator_core::{BoxError, Key, MemberId};

pub(crate) use self::live::LiveLocks;
pub(crate) use self::locks::Votes;
use self::voter::Voter;
use crate::context::Context;
use crate::members::Membership;

/// The window of an election by vote, unless it says otherwise.
pub(crate) const VOTE_WINDOW: Duration = Duration::from_secs(2);

/// A message and its answer usually take no longer: it spreads the campaigns of many voters.
const ROUND_TRIP: Duration = Duration::from_millis(5);

/// Who decides an election by vote: see [`ElectionConfig::by_vote`](crate::ElectionConfig::by_vote).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quorum {
    /// A majority of these members, by their static names. **Safe**: never two leaders, whatever
    /// the bus loses, delays, doubles or parts, and however voters restart. Needs nothing but a bus.
    ///
    /// Others observe. Take three or five names, for two majorities must share one. A fleet that
    /// scales wants [`Quorum::Live`].
    ///
    /// To change the list, change it by one name at a time, in every process, before the next
    /// name: members with different lists do not count each other's votes. One name put in the
    /// place of another is two changes: add the one, then take the other away.
    ///
    /// The window, [`ElectionConfig::ttl`](crate::ElectionConfig::ttl), may grow by a rolling
    /// restart. To make it **shorter**, stop each process for as long as the older window before it
    /// starts with the new one: a voter that comes back sooner may have forgotten what it promised
    /// to a leader that still trusts in it, and then there are two.
    Fixed(std::collections::BTreeSet<MemberId>),
    /// A majority of the members seen chooses *who asks*; a lease in the store decides, and is
    /// renewed along with the votes. **Safe** like an election by lease, and as fast as a vote when
    /// a leader dies. Needs a backend with `locks`.
    Live,
    /// A majority of the members seen decides, and nothing else. **Not safe**: where the bus parts
    /// the members, each side sees itself as the whole, and elects a leader of its own, for as long
    /// as it is parted; and a member that starts may elect itself before it has heard of the others.
    /// For work that may be done twice but should not wait.
    ///
    /// Measured in simulation, with fleets of five that are split for 30 s, windows of 500 ms and a
    /// ttl of members of 10 s: two leaders for 21 s of the 30, which is from when the members have
    /// dropped each other from sight, and for another 1.7 s after the split, at most 3.3 s.
    Urgent,
}

impl Quorum {
    /// A majority of these names: see [`Quorum::Fixed`].
    pub fn fixed<N: Into<MemberId>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::Fixed(names.into_iter().map(Into::into).collect())
    }

    /// Checks the names.
    pub(crate) fn check(&self) -> Result<(), BoxError> {
        let Self::Fixed(names) = self else {
            return Ok(());
        };
        if names.is_empty() {
            return Err("an election by vote needs voters: the list is empty".into());
        }
        for name in names {
            name.check()?;
        }
        Ok(())
    }

    fn electorate(&self) -> Electorate {
        match self {
            Self::Fixed(names) => Electorate::Fixed(names.clone()),
            Self::Live | Self::Urgent => Electorate::Seen(std::collections::BTreeSet::new()),
        }
    }
}

/// The voters of a node: one for each election by vote that it takes part in.
#[derive(Default)]
pub(crate) struct Voters {
    voters: Mutex<BTreeMap<Key, Seat>>,
}

struct Seat {
    quorum: Quorum,
    trust: Trust,
    votes: Arc<Votes>,
}

impl Voters {
    /// The voter of this election; started at its first use, and there until the node ends.
    ///
    /// # Errors
    /// It runs already, with another list of voters or another window.
    pub(crate) fn votes(
        &self,
        context: &Arc<Context>,
        membership: &Membership,
        place: &Place,
    ) -> Result<Arc<Votes>, BoxError> {
        let Place {
            key, quorum, trust, ..
        } = place;
        let mut voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = voters.get(key) {
            // The margin is the leader's own affair.
            if seat.quorum != *quorum || seat.trust.ttl() != trust.ttl() {
                return Err(format!(
                    "this node votes already by {:?} with a ttl of {:?}, and was asked to by {quorum:?} with {:?}",
                    seat.quorum,
                    seat.trust.ttl(),
                    trust.ttl(),
                )
                .into());
            }
            return Ok(seat.votes.clone());
        }
        let voter = Voter::start(context, membership, place)?;
        let votes = Arc::new(Votes::new(context, key, *trust, voter));
        let seat = Seat {
            quorum: quorum.clone(),
            trust: *trust,
            votes: votes.clone(),
        };
        voters.insert(key.clone(), seat);
        Ok(votes)
    }
}

/// Where and how an election by vote is held.
pub(crate) struct Place {
    pub(crate) key: Key,
    /// The user's name of the election.
    pub(crate) name: String,
    pub(crate) quorum: Quorum,
    pub(crate) trust: Trust,
}
