//! What a voter grants to others: votes, and promises.

use rand::Rng;

use super::{Action, Body, Leader, Promise, Reading, Reign, Role, Vote};
use crate::names::MemberId;
use crate::time::Moment;

impl<R: Rng> Vote<R> {
    /// V6: the same test as for a vote, and it changes nothing.
    pub(super) fn pre_vote(
        &mut self,
        at: Reading,
        from: MemberId,
        asked: Reign,
        actions: &mut Vec<Action>,
    ) {
        if !self.votes() {
            return;
        }
        let granted = self.would_vote(at, asked);
        if granted {
            // It asks first: two that ask at once may both fail.
            self.yield_to(at.now);
        }
        let body = Body::PreVoteReply {
            term: asked.term,
            granted,
            highest: self.highest.max(self.term),
        };
        actions.push(Action::Send {
            to: from,
            instance: asked.instance,
            body,
        });
    }

    pub(super) fn vote(
        &mut self,
        at: Reading,
        from: MemberId,
        asked: Reign,
        release: Option<Reign>,
        actions: &mut Vec<Action>,
    ) {
        if !self.votes() {
            return;
        }
        if let Some(release) = release {
            // The successor may be heard before its predecessor.
            self.void(release);
        }
        let again = self
            .voted
            .as_ref()
            .is_some_and(|(_, voted)| *voted == asked);
        let granted = (again && self.is_free(at)) || self.would_vote(at, asked);
        if granted && !again {
            self.adopt(at.now, asked.term, actions);
            self.voted = Some((from.clone(), asked));
            self.postpone(at.now);
        }
        let body = Body::VoteReply {
            term: asked.term,
            granted,
            highest: self.highest.max(self.term),
        };
        actions.push(Action::Send {
            to: from,
            instance: asked.instance,
            body,
        });
        // Heard of, also where it was refused: the next campaign goes above it.
        self.highest = self.highest.max(asked.term);
    }

    /// One vote a term, none while a promise runs, to whomever it was made (V1, V4, V6).
    fn would_vote(&self, at: Reading, asked: Reign) -> bool {
        let unvoted = self.voted.is_none() && self.leader_of_term.is_none();
        let fresh = asked.term > self.term || (asked.term == self.term && unvoted);
        fresh && self.is_free(at)
    }

    /// V1: the ack is a promise to this reign. While one to another runs it is not given, not even
    /// for a higher term: that other leader may trust on it.
    pub(super) fn heartbeat(
        &mut self,
        at: Reading,
        from: MemberId,
        reign: Reign,
        (seq, leads): (u64, bool),
        actions: &mut Vec<Action>,
    ) {
        if self.ended == Some(reign) {
            return; // it has resigned, and this was under way
        }
        self.highest = self.highest.max(reign.term);
        if leads {
            self.observe(at.now, from.clone(), reign, actions);
        }
        if !self.votes() {
            return;
        }
        let acked = self.may_follow(at, reign);
        if acked {
            self.follow(at, reign, actions);
        } else if self.abstains(at) {
            // It listens, and takes up terms, but says nothing: it may have promised otherwise.
            return self.adopt(at.now, reign.term, actions);
        }
        let body = Body::HeartbeatReply {
            term: reign.term,
            seq,
            acked,
            highest: self.highest.max(self.term),
        };
        actions.push(Action::Send {
            to: from,
            instance: reign.instance,
            body,
        });
    }

    pub(super) fn may_follow(&self, at: Reading, reign: Reign) -> bool {
        let promised_to_another =
            (self.promise).is_some_and(|promise| at.steady < promise.until && promise.to != reign);
        let other_leader =
            reign.term == self.term && (self.leader_of_term).is_some_and(|leader| leader != reign);
        !self.abstains(at) && reign.term >= self.term && !promised_to_another && !other_leader
    }

    pub(super) fn follow(&mut self, at: Reading, reign: Reign, actions: &mut Vec<Action>) {
        let own = reign.instance == self.config.instance;
        if !own {
            self.stop_asking(at.now, actions);
        }
        self.adopt(at.now, reign.term, actions);
        self.leader_of_term = Some(reign);
        let until = at.steady + self.config.trust.ttl();
        self.promise = Some(Promise { to: reign, until });
        self.postpone(at.now);
    }

    /// Enters a term that is higher than ours.
    pub(super) fn adopt(&mut self, now: Moment, term: u64, actions: &mut Vec<Action>) {
        if term <= self.term {
            return;
        }
        self.term = term;
        self.highest = self.highest.max(term);
        self.voted = None;
        self.leader_of_term = None;
        self.stop_asking(now, actions);
    }

    /// Whoever asked for votes, or won them and was never confirmed, is a follower now.
    fn stop_asking(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match std::mem::replace(&mut self.role, Role::Following) {
            Role::Following | Role::Sounding(_) => {}
            Role::Campaigning(_) => self.postpone(now),
            Role::Reigning(reign) => self.depose(now, reign.term, actions),
        }
    }

    /// Notes who leads: news for observers, binding for nobody.
    pub(super) fn observe(
        &mut self,
        now: Moment,
        member: MemberId,
        reign: Reign,
        actions: &mut Vec<Action>,
    ) {
        let known = self.leader.as_ref().map(|leader| leader.reign);
        if known.is_some_and(|known| known.term > reign.term) {
            return;
        }
        let until = now + self.config.trust.ttl();
        self.leader = Some(Leader {
            member,
            reign,
            until,
        });
        if known != Some(reign) {
            actions.push(Action::Changed);
        }
    }

    pub(super) fn resigned(
        &mut self,
        at: Reading,
        reign: Reign,
        next: Option<MemberId>,
        actions: &mut Vec<Action>,
    ) {
        let followed = (self.promise).is_some_and(|promise| promise.to == reign);
        self.void(reign);
        if self
            .leader
            .take_if(|leader| leader.reign == reign)
            .is_some()
        {
            actions.push(Action::Changed);
        }
        self.highest = self.highest.max(reign.term);
        // Who leads or asks, or follows another, has nothing to do with it.
        if !followed || self.role != Role::Following || !self.is_free(at) {
            return;
        }
        let window = self.config.trust.ttl();
        match next {
            Some(next) if next == self.config.me => self.campaign_as_successor(at, reign, actions),
            // The one that was named first; then everybody.
            Some(_) => {
                let wait = self.draw(window / 2, self.hand_over_spread());
                self.campaign_after(at.now, wait);
            }
            None => {
                let spread = self.hand_over_spread();
                let wait = self.draw(std::time::Duration::ZERO, spread);
                self.campaign_after(at.now, wait);
            }
        }
    }

    /// Another asks first: let it have its answers before we ask. But not for ever: many that ask
    /// again and again, and hear no answer, must not keep those from asking who would hear one.
    fn yield_to(&mut self, now: Moment) {
        if self.role == Role::Following {
            let window = self.config.trust.ttl();
            let pause = self.draw(window / 4, self.hand_over_spread());
            let asked = (now + pause).min(self.yields_until);
            self.campaign_at = self.campaign_at.max(asked);
        }
    }
}
