//! Election by vote, over nothing but a bus: the machine of one member.
//!
//! A relative of Raft's leader election (Ongaro and Ousterhout, 2014, with the pre-vote of Ongaro's
//! thesis, section 9.6), for members without a disk. What makes a leader is not its votes but the
//! *promises* behind them: a voter that acks a heartbeat follows that leader, and no other, for one
//! window `E` of its own clock (V1), and a leader trusts itself for the shorter `T`, counted from
//! when the heartbeat left that a quorum acked (V2), as in leader leases (Gray and Cheriton, 1989).
//! Two quorums of one list share a voter, so no two windows overlap. A voter that starts may have
//! forgotten a promise, and abstains until it must have ended (V4).
//!
//! The machine decides who may lead; [`lease::Lease`](super::lease::Lease) on top of it decides what
//! that means for the work: [`Event::Confirm`] is its acquire and its renewal, [`Event::Resign`] its
//! release.

mod campaign;
mod protocol;
mod reign;
#[cfg(test)]
mod tests;
mod voter;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

pub use self::protocol::{
    Action, Body, Config, Electorate, Event, Leader, Message, Reading, Reign, Standing,
};
use self::reign::Reigning;
pub use self::wire::{BadMessage, Envelope, MESSAGE_VERSION};
use crate::names::MemberId;
use crate::time::Moment;

/// What a voter promised: to follow this reign, and to vote for nobody, until then by the steady
/// clock (V1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Promise {
    to: Reign,
    until: Moment,
}

/// By how much the clock is ahead of the steady one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ahead {
    now: Moment,
    steady: Moment,
}

impl Ahead {
    const fn at(at: Reading) -> Self {
        Self {
            now: at.now,
            steady: at.steady,
        }
    }

    /// When the clock shows that the steady one has come to `steady`, unless it jumps before.
    fn now(&self, steady: Moment) -> Moment {
        self.now + steady.since(self.steady)
    }
}

/// What this member is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Role {
    Following,
    /// Asks whether it would be voted for.
    Sounding(campaign::Ballot),
    /// Asks for votes.
    Campaigning(campaign::Ballot),
    /// Has the votes.
    Reigning(Reigning),
}

/// One member of an election by vote. Performs nothing: [`Vote::step`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Vote<R = StdRng> {
    config: Config,
    random: R,
    role: Role,
    /// The highest term in which this voter has voted or followed.
    term: u64,
    /// The highest term heard of.
    highest: u64,
    /// Whom it voted for in `term` (V6).
    voted: Option<(MemberId, Reign)>,
    /// Whom it follows in `term`.
    leader_of_term: Option<Reign>,
    promise: Option<Promise>,
    /// The newest reign that is known to have ended: what is heard of it later is void (V7).
    ended: Option<Reign>,
    /// The newest reign of our own.
    reigned: Option<u64>,
    /// Neither votes nor acks before this, by the steady clock (V4).
    abstains_until: Moment,
    /// How far the clock is ahead of the steady one: grows when it jumps.
    ahead: Ahead,
    /// When to campaign, if nobody is followed by then.
    campaign_at: Moment,
    /// So far at most that is put off for others that ask first.
    yields_until: Moment,
    /// Whether somebody here wants to lead.
    stands: bool,
    /// The highest token that they have seen (K1).
    floor: Option<u64>,
    leader: Option<Leader>,
    /// Requests to confirm the reign, by number: which heartbeat must be acked, and until when.
    confirming: BTreeMap<u64, reign::Confirmation>,
}

impl<R: Rng> Vote<R> {
    /// A member that has just started, and so abstains for `E`. `random` spreads campaigns.
    pub fn new(config: Config, at: Reading, random: R) -> Self {
        let window = config.trust.ttl();
        let mut vote = Self {
            config,
            random,
            role: Role::Following,
            term: 0,
            highest: 0,
            voted: None,
            leader_of_term: None,
            promise: None,
            ended: None,
            reigned: None,
            abstains_until: at.steady + window,
            ahead: Ahead::at(at),
            campaign_at: at.now,
            yields_until: at.now,
            stands: false,
            floor: None,
            leader: None,
            confirming: BTreeMap::new(),
        };
        let wait = window + vote.draw(Duration::ZERO, vote.spread());
        vote.campaign_after(at.now, wait);
        vote
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, at: Reading, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.ahead = Ahead::at(at);
        // What has ended by now comes before whatever else is reported: an ack that was in the
        // queue when trust ended extends nothing (T2, V3).
        self.expire(at, &mut actions);
        match event {
            Event::Tick => self.campaign_if_due(at, &mut actions),
            Event::Received(message) => self.received(at, message, &mut actions),
            Event::Seen(names) => {
                if let Electorate::Seen(seen) = &mut self.config.electorate {
                    *seen = names;
                }
            }
            Event::Stand { floor } => {
                let floor = floor.map(crate::numbers::FencingToken::get);
                self.stands = true;
                self.floor = self.floor.max(floor);
            }
            Event::StandDown => self.stand_down(at, &mut actions),
            Event::Confirm { request } => self.confirm(at, request, &mut actions),
            Event::Resign { term, next } => self.resign(at, term, next, &mut actions),
        }
        actions
    }

    /// When the driver must next deliver [`Event::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        let role = match &self.role {
            Role::Following | Role::Sounding(_) => None,
            Role::Campaigning(ballot) => Some(ballot.asked + self.config.trust.window()),
            Role::Reigning(reign) => Some(reign.deadline(&self.config.trust)),
        };
        let campaign = (self.stands && self.votes() && !self.reigns()).then(|| {
            (self.ahead)
                .now(self.promised_until())
                .max(self.campaign_at)
        });
        let confirming = self.confirming.values().map(|waiting| waiting.until).min();
        let repeat = self.repeat_at();
        let leader = self.leader.as_ref().map(|leader| leader.until);
        [role, campaign, confirming, repeat, leader]
            .into_iter()
            .flatten()
            .min()
    }

    /// Who leads, as this member has heard; by its own account if it leads itself.
    pub fn leader(&self, now: Moment) -> Option<&Leader> {
        self.leader.as_ref().filter(|leader| now < leader.until)
    }

    /// Where this member stands.
    pub fn standing(&self, at: Reading) -> Standing {
        if !self.votes() {
            return Standing::Observing;
        }
        if self.abstains(at) {
            let left = self.abstains_until.since(at.steady);
            return Standing::Abstaining { left };
        }
        match &self.role {
            Role::Following => Standing::Following,
            Role::Sounding(_) | Role::Campaigning(_) => Standing::Campaigning,
            Role::Reigning(reign) => Standing::Reigning { term: reign.term },
        }
    }

    /// The end of trust in the present reign, if a quorum has confirmed it.
    pub fn trusted_until(&self) -> Option<Moment> {
        match &self.role {
            Role::Reigning(reign) => reign.trusted_until,
            Role::Following | Role::Sounding(_) | Role::Campaigning(_) => None,
        }
    }

    /// How many voters are a quorum: more than half of those that are known, oneself included.
    pub fn quorum(&self) -> usize {
        let names = self.config.electorate.names();
        let count = names.len() + usize::from(!names.contains(&self.config.me));
        count / 2 + 1
    }

    /// What must hold after every step.
    ///
    /// # Errors
    /// A sentence that names what does not hold.
    pub fn check(&self) -> Result<(), String> {
        let Role::Reigning(reign) = &self.role else {
            return Ok(());
        };
        reign.check(&self.config.trust)?;
        let own = Reign {
            instance: self.config.instance,
            term: reign.term,
        };
        if reign.term != self.term {
            return Err(format!("reigns in {}, and is in {}", reign.term, self.term));
        }
        // Its own ack is as binding as any other.
        match (reign.trusted_until, self.promise) {
            (Some(_), Some(promise)) if promise.to == own => Ok(()),
            (Some(until), promise) => Err(format!(
                "trusts until {until:?}, and has promised to follow {promise:?}"
            )),
            (None, _) => Ok(()),
        }
    }

    /// Ends what has ended by now.
    fn expire(&mut self, at: Reading, actions: &mut Vec<Action>) {
        self.expire_reign(at, actions);
        let over = |leader: &mut Leader| at.now >= leader.until;
        if self.leader.take_if(over).is_some() {
            actions.push(Action::Changed);
        }
        self.promise.take_if(|promise| at.steady >= promise.until);
    }

    fn received(&mut self, at: Reading, message: Message, actions: &mut Vec<Action>) {
        if message.instance == self.config.instance {
            return; // our own, which the bus brings to everyone
        }
        let from = message.from;
        // Who is not on the list has no say, and two lists never mix (V9).
        if !self.hears(&from) {
            return;
        }
        let reign = Reign {
            instance: message.instance,
            term: message.body.term(),
        };
        match message.body {
            Body::PreVote { .. } => self.pre_vote(at, from, reign, actions),
            Body::PreVoteReply {
                term,
                granted,
                highest,
            } => self.pre_vote_answered(at, from, (term, granted), highest, actions),
            Body::VoteRequest { release, .. } => {
                self.vote(at, from, reign, release, actions);
            }
            Body::VoteReply {
                term,
                granted,
                highest,
            } => self.vote_answered(at, from, (term, granted), highest, actions),
            Body::Heartbeat { seq, leads, .. } => {
                self.heartbeat(at, from, reign, (seq, leads), actions);
            }
            Body::HeartbeatReply {
                term,
                seq,
                acked,
                highest,
            } => {
                self.highest = self.highest.max(highest);
                if acked {
                    self.acked(at, from, (term, seq), actions);
                }
            }
            Body::Resigned { next, .. } => self.resigned(at, reign, next, actions),
        }
    }

    /// Whether a message of this member counts.
    fn hears(&self, from: &MemberId) -> bool {
        match &self.config.electorate {
            Electorate::Fixed(names) => names.contains(from),
            // Views differ: who is not seen yet may still lead, or ask.
            Electorate::Seen(_) => true,
        }
    }

    /// Whether this member votes at all.
    fn votes(&self) -> bool {
        match &self.config.electorate {
            Electorate::Fixed(names) => names.contains(&self.config.me),
            Electorate::Seen(_) => true,
        }
    }

    /// V4: for `E` after the start, a promise may have been forgotten.
    fn abstains(&self, at: Reading) -> bool {
        at.steady < self.abstains_until
    }

    fn reigns(&self) -> bool {
        matches!(self.role, Role::Reigning(_))
    }

    /// Whether this voter has promised nothing that may still hold.
    fn is_free(&self, at: Reading) -> bool {
        at.steady >= self.promised_until()
    }

    /// Until when this voter votes for nobody, itself included, by the steady clock.
    fn promised_until(&self) -> Moment {
        let promised = self.promise.map_or(Moment::ZERO, |promise| promise.until);
        promised.max(self.abstains_until)
    }

    /// Voids promises to a reign that has ended (V7), and to no other.
    fn void(&mut self, reign: Reign) {
        self.promise.take_if(|promise| promise.to == reign);
        if self.ended.is_none_or(|ended| ended.term <= reign.term) {
            self.ended = Some(reign);
        }
    }

    /// Campaigns are spread, so that the first has its votes before the second asks.
    fn spread(&self) -> Duration {
        let window = self.config.trust.ttl();
        self.hand_over_spread().max(window)
    }

    fn hand_over_spread(&self) -> Duration {
        let voters = u32::try_from(self.config.electorate.names().len()).unwrap_or(u32::MAX);
        let spread = self.config.round_trip.saturating_mul(4);
        spread.saturating_mul(voters)
    }

    /// The next time to campaign, if nothing is heard until then.
    fn postpone(&mut self, now: Moment) {
        let wait = self.draw(self.config.trust.ttl(), self.spread());
        self.campaign_after(now, wait);
    }

    fn campaign_after(&mut self, now: Moment, wait: Duration) {
        self.campaign_at = now + wait;
        self.yields_until = self.campaign_at + self.config.trust.ttl();
    }

    /// A random span from `least` to `least + spread`.
    fn draw(&mut self, least: Duration, spread: Duration) -> Duration {
        least.saturating_add(spread.mul_f64(self.random.random::<f64>()))
    }
}
