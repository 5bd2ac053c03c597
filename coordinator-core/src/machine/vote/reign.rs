//! Reigning: heartbeats, their acks, and the trust that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng;

use super::{Action, Body, Reading, Reign, Role, Vote};
use crate::names::MemberId;
use crate::time::Moment;
use crate::trust::Trust;

/// The reign of this member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reigning {
    pub(super) term: u64,
    /// When the first vote was asked for: without trust by `T` later, there will be none (V3).
    asked: Moment,
    pub(super) trusted_until: Option<Moment>,
    seq: u64,
    /// Heartbeats that may still give trust, and who acked which: a set of its own for each (V2).
    rounds: BTreeMap<u64, Round>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Round {
    sent: Moment,
    acks: BTreeSet<MemberId>,
}

/// Somebody waits for the reign to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Confirmation {
    /// The first heartbeat that left after the request.
    from_seq: u64,
    pub(super) until: Moment,
}

impl Reigning {
    pub(super) fn new(term: u64, asked: Moment) -> Self {
        Self {
            term,
            asked,
            trusted_until: None,
            seq: 0,
            rounds: BTreeMap::new(),
        }
    }

    /// When the reign ends unless a heartbeat is confirmed.
    pub(super) fn deadline(&self, trust: &Trust) -> Moment {
        self.trusted_until.unwrap_or(trust.until(self.asked))
    }

    pub(super) fn check(&self, trust: &Trust) -> Result<(), String> {
        let newest = self.rounds.values().next_back().map(|round| round.sent);
        match (self.trusted_until, newest) {
            (Some(until), Some(sent)) if until > trust.until(sent) => Err(format!(
                "trusts until {until:?}, further than its last heartbeat of {sent:?} allows"
            )),
            _ => Ok(()),
        }
    }
}

impl<R: Rng> Vote<R> {
    /// V3: a reign whose trust ended, or never came, is over for good.
    pub(super) fn expire_reign(&mut self, at: Reading, actions: &mut Vec<Action>) {
        let trust = self.config.trust;
        match &mut self.role {
            Role::Following | Role::Sounding(_) => {}
            Role::Campaigning(ballot) => {
                if at.now >= trust.until(ballot.asked) {
                    self.role = Role::Following;
                }
            }
            Role::Reigning(reign) if at.now >= reign.deadline(&trust) => {
                let term = reign.term;
                self.role = Role::Following;
                self.depose(at.now, term, actions);
            }
            Role::Reigning(reign) => {
                reign
                    .rounds
                    .retain(|_, round| at.now < trust.until(round.sent));
                self.repeat(at, actions);
            }
        }
        let late = |waiting: &Confirmation| at.now >= waiting.until;
        let refused: Vec<_> = (self.confirming.iter())
            .filter(|(_, waiting)| late(waiting))
            .map(|(request, _)| *request)
            .collect();
        self.refuse(refused, actions);
    }

    /// The role is another already.
    pub(super) fn depose(&mut self, now: Moment, term: u64, actions: &mut Vec<Action>) {
        self.postpone(now);
        let refused = self.confirming.keys().copied().collect();
        self.refuse(refused, actions);
        actions.push(Action::Deposed { term });
    }

    fn refuse(&mut self, requests: Vec<u64>, actions: &mut Vec<Action>) {
        for request in requests {
            self.confirming.remove(&request);
            actions.push(Action::Refused { request });
        }
    }

    /// Sends a heartbeat for it: none that left before proves anything about now.
    pub(super) fn confirm(&mut self, at: Reading, request: u64, actions: &mut Vec<Action>) {
        let Role::Reigning(reign) = &self.role else {
            actions.push(Action::Refused { request });
            return;
        };
        let from_seq = reign.seq + 1;
        let until = at.now + self.config.trust.ttl();
        let waiting = Confirmation { from_seq, until };
        self.confirming.insert(request, waiting);
        self.beat(at, actions);
    }

    /// Without an answer another heartbeat follows, with a number and acks of its own: one lost
    /// message must not cost the term.
    fn repeat(&mut self, at: Reading, actions: &mut Vec<Action>) {
        if self.repeat_at().is_some_and(|due| at.now >= due) {
            self.beat(at, actions);
        }
    }

    pub(super) fn repeat_at(&self) -> Option<Moment> {
        let Role::Reigning(reign) = &self.role else {
            return None;
        };
        let newest = reign.rounds.values().next_back()?;
        let waits = !self.confirming.is_empty();
        waits.then(|| newest.sent + self.beat_again())
    }

    fn beat_again(&self) -> Duration {
        self.config.trust.ttl() / 6
    }

    fn beat(&mut self, at: Reading, actions: &mut Vec<Action>) {
        let Role::Reigning(reign) = &mut self.role else {
            return;
        };
        reign.seq += 1;
        let (term, seq) = (reign.term, reign.seq);
        let leads = reign.trusted_until.is_some();
        let acks = BTreeSet::new();
        reign.rounds.insert(seq, Round { sent: at.now, acks });
        actions.push(Action::Broadcast(Body::Heartbeat { term, seq, leads }));
        // Its own ack obeys the same rule as everybody's (V1).
        let own = Reign {
            instance: self.config.instance,
            term,
        };
        if self.may_follow(at, own) {
            self.follow(at, own, actions);
            let me = self.config.me.clone();
            self.acked(at, me, (term, seq), actions);
        }
    }

    /// V2: trust lasts `T` from when the heartbeat left that a quorum has acked.
    pub(super) fn acked(
        &mut self,
        at: Reading,
        from: MemberId,
        (term, seq): (u64, u64),
        actions: &mut Vec<Action>,
    ) {
        let Role::Reigning(reign) = &mut self.role else {
            return;
        };
        if reign.term != term {
            return;
        }
        let Some(round) = reign.rounds.get_mut(&seq) else {
            return; // too old to give any trust
        };
        round.acks.insert(from);
        let (sent, acks) = (round.sent, round.acks.clone());
        if self.is_quorum(&acks) {
            self.confirmed(at, term, seq, sent, actions);
        }
    }

    fn confirmed(
        &mut self,
        at: Reading,
        term: u64,
        seq: u64,
        sent: Moment,
        actions: &mut Vec<Action>,
    ) {
        let until = self.config.trust.until(sent);
        let Role::Reigning(reign) = &mut self.role else {
            return;
        };
        let first = reign.trusted_until.is_none();
        reign.trusted_until = reign.trusted_until.max(Some(until));
        let answered = |(_, waiting): &(&u64, &Confirmation)| waiting.from_seq <= seq;
        let answered: Vec<_> = (self.confirming.iter())
            .filter(answered)
            .map(|(request, _)| *request)
            .collect();
        for request in answered {
            self.confirming.remove(&request);
            actions.push(Action::Confirmed { request, term });
        }
        let own = Reign {
            instance: self.config.instance,
            term,
        };
        self.observe(at.now, self.config.me.clone(), own, actions);
        if first {
            // The followers know now that this is the leader, and need not wait for a renewal.
            self.beat(at, actions);
        }
    }

    /// V7: says that the work has stopped. Frees whoever promised to follow.
    pub(super) fn resign(
        &mut self,
        at: Reading,
        term: u64,
        next: Option<MemberId>,
        actions: &mut Vec<Action>,
    ) {
        if self.reigned != Some(term) {
            return; // no reign of ours, or one whose promises have long ended
        }
        self.reigned = None;
        let own = Reign {
            instance: self.config.instance,
            term,
        };
        if let Role::Reigning(reign) = &self.role
            && reign.term == term
        {
            self.role = Role::Following;
            self.depose(at.now, term, actions);
        }
        self.void(own);
        if self.leader.take_if(|leader| leader.reign == own).is_some() {
            actions.push(Action::Changed);
        }
        actions.push(Action::Broadcast(Body::Resigned { term, next }));
    }
}
