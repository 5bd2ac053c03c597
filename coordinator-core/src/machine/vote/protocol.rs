//! What goes into the machine, and what comes out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::names::MemberId;
use crate::numbers::{FencingToken, Instance};
use crate::time::Moment;
use crate::trust::Trust;

/// How one member takes part in an election by vote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// The name of this member.
    pub me: MemberId,
    /// This start of its process: what an earlier one promised, it does not know.
    pub instance: Instance,
    /// Who votes.
    pub electorate: Electorate,
    /// The window `E` of the election as its ttl, and the trust in a heartbeat, `T`, that follows.
    /// The same for all members.
    pub trust: Trust,
    /// How long a message and its answer usually take. Members that find their leader gone ask one
    /// after the other, spread over `max(E, 4·N·round_trip)`.
    pub round_trip: Duration,
}

/// Who votes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Electorate {
    /// These, by name: two majorities of one list always share a voter. Others only observe.
    Fixed(BTreeSet<MemberId>),
    /// Whoever is seen, as told by [`Event::Seen`]. Views differ, so this alone is safe for nothing.
    Seen(BTreeSet<MemberId>),
}

impl Electorate {
    /// The names that are known now.
    pub fn names(&self) -> &BTreeSet<MemberId> {
        match self {
            Self::Fixed(names) | Self::Seen(names) => names,
        }
    }
}

/// The clocks of a member, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Its own clock, by which its trust is judged. It may jump ahead.
    pub now: Moment,
    /// The one that never runs ahead, by which its promises are judged: a voter whose clock jumped
    /// must not vote for another while a leader still trusts on its ack.
    pub steady: Moment,
    /// Its wall clock in milliseconds since 1970, with which terms rise (V5).
    pub wall_millis: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A deadline has come, or may have.
    Tick,
    /// A message arrived.
    Received(Message),
    /// These members are seen now. Ignored by a fixed electorate.
    Seen(BTreeSet<MemberId>),
    /// Somebody here wants to lead, and has seen no higher token than this.
    Stand {
        /// The highest token seen (K1).
        floor: Option<FencingToken>,
    },
    /// Nobody here wants to lead any more.
    StandDown,
    /// Ask a quorum to confirm the reign by acks of a heartbeat that leaves now or later. Answered
    /// by [`Action::Confirmed`] or [`Action::Refused`], at the latest when `E` has passed.
    Confirm {
        /// To be repeated in the answer.
        request: u64,
    },
    /// The reign of this term is over: its trust has ended, and its work has stopped (V7).
    Resign {
        /// Which reign.
        term: u64,
        /// Who is to lead next.
        next: Option<MemberId>,
    },
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send to all members.
    Broadcast(Body),
    /// Send to one member.
    Send {
        /// Its name.
        to: MemberId,
        /// Which start of it: another one drops the message.
        instance: Instance,
        /// What to say.
        body: Body,
    },
    /// A quorum voted for us: we may lead as soon as a heartbeat is confirmed.
    Won {
        /// The term, which is the token.
        term: u64,
    },
    /// A quorum acked a heartbeat that left after the request.
    Confirmed {
        /// The request.
        request: u64,
        /// The term.
        term: u64,
    },
    /// We do not reign, or nobody confirmed it in time.
    Refused {
        /// The request.
        request: u64,
    },
    /// The reign of this term, or the chance of one, is over for good (V3).
    Deposed {
        /// The term.
        term: u64,
    },
    /// [`Vote::leader`](super::Vote::leader) has something else to say.
    Changed,
}

/// One message, and who sent it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The sender.
    pub from: MemberId,
    /// Which start of it.
    pub instance: Instance,
    /// What it says.
    pub body: Body,
}

/// What members say to each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    /// To all: would you vote for me in this term? Binds nobody.
    PreVote {
        /// The term that would be asked for.
        term: u64,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteReply {
        /// The term that was asked about.
        term: u64,
        /// Whether the sender would.
        granted: bool,
        /// The highest term that the sender has heard of.
        highest: u64,
    },
    /// To all: vote for me in this term.
    VoteRequest {
        /// The term.
        term: u64,
        /// The reign that ended for the sender to lead: voids promises to it (V7).
        release: Option<Reign>,
    },
    /// The answer to [`Body::VoteRequest`].
    VoteReply {
        /// The term that was asked for.
        term: u64,
        /// Whether the sender votes so.
        granted: bool,
        /// The highest term that the sender has heard of.
        highest: u64,
    },
    /// To all: I lead in this term. Acks of a quorum are what trust rests on.
    Heartbeat {
        /// The term.
        term: u64,
        /// Which heartbeat of the term, from 1.
        seq: u64,
        /// Whether an earlier one was confirmed by a quorum: for observers.
        leads: bool,
    },
    /// The answer to [`Body::Heartbeat`].
    HeartbeatReply {
        /// The term of the heartbeat.
        term: u64,
        /// The number of the heartbeat.
        seq: u64,
        /// Whether the sender promises to follow (V1).
        acked: bool,
        /// The highest term that the sender has heard of.
        highest: u64,
    },
    /// To all: my reign is over; promises to it are void (V7).
    Resigned {
        /// The term.
        term: u64,
        /// Who is to lead next.
        next: Option<MemberId>,
    },
}

impl Body {
    /// The term that it speaks of.
    pub const fn term(&self) -> u64 {
        match self {
            Self::PreVote { term }
            | Self::PreVoteReply { term, .. }
            | Self::VoteRequest { term, .. }
            | Self::VoteReply { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::Resigned { term, .. } => *term,
        }
    }
}

/// One reign of one start of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reign {
    /// Whose.
    pub instance: Instance,
    /// Its term.
    pub term: u64,
}

/// Who leads, as this member has heard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Its name.
    pub member: MemberId,
    /// Its reign.
    pub reign: Reign,
    /// How long it may lead without being heard of again.
    pub until: Moment,
}

/// Where this member stands in the election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is no voter: it observes.
    Observing,
    /// It may have forgotten a promise, and so neither votes nor leads before then (V4).
    Abstaining {
        /// How long still.
        left: Duration,
    },
    /// It has a leader, or waits for one.
    Following,
    /// It asks for votes.
    Campaigning,
    /// It has the votes of a quorum for this term, and may be confirmed.
    Reigning {
        /// The term.
        term: u64,
    },
}
