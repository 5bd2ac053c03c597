//! Asking for votes.

use std::collections::BTreeSet;

use rand::Rng;

use super::reign::Reigning;
use super::{Action, Body, Electorate, Reading, Reign, Role, Vote};
use crate::names::MemberId;
use crate::numbers::next_number;
use crate::time::Moment;

/// Who has said yes so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ballot {
    pub(super) term: u64,
    pub(super) asked: Moment,
    pub(super) granted: BTreeSet<MemberId>,
}

impl<R: Rng> Vote<R> {
    pub(super) fn campaign_if_due(&mut self, at: Reading, actions: &mut Vec<Action>) {
        let due = at.now >= self.campaign_at && self.is_free(at);
        if !self.stands || !self.votes() || self.reigns() || !due {
            return;
        }
        // A ballot that did not win by now has failed: once more, above whatever was heard.
        self.postpone(at.now);
        let Some(ballot) = self.ballot(at) else {
            return; // the numbers are used up: nothing higher can be granted (K2)
        };
        let term = ballot.term;
        self.role = Role::Sounding(ballot);
        actions.push(Action::Broadcast(Body::PreVote { term }));
        self.count_soundings(at, actions);
    }

    /// V7: named by the leader that resigned, so nobody else is expected to ask.
    pub(super) fn campaign_as_successor(
        &mut self,
        at: Reading,
        ended: Reign,
        actions: &mut Vec<Action>,
    ) {
        if self.stands && self.votes() && !self.abstains(at) {
            self.postpone(at.now);
            self.ask_for_votes(at, Some(ended), actions);
        }
    }

    pub(super) fn pre_vote_answered(
        &mut self,
        at: Reading,
        from: MemberId,
        (term, granted): (u64, bool),
        highest: u64,
        actions: &mut Vec<Action>,
    ) {
        self.highest = self.highest.max(highest);
        if let Role::Sounding(ballot) = &mut self.role
            && ballot.term == term
            && granted
        {
            ballot.granted.insert(from);
            self.count_soundings(at, actions);
        }
    }

    fn count_soundings(&mut self, at: Reading, actions: &mut Vec<Action>) {
        if let Role::Sounding(ballot) = &self.role
            && self.is_quorum(&ballot.granted)
        {
            self.ask_for_votes(at, None, actions);
        }
    }

    /// Votes for itself, and asks the others, in a term of its own.
    fn ask_for_votes(&mut self, at: Reading, release: Option<Reign>, actions: &mut Vec<Action>) {
        if !self.is_free(at) {
            return; // it has promised to follow since it asked
        }
        let Some(ballot) = self.ballot(at) else {
            return;
        };
        let term = ballot.term;
        self.term = term;
        self.highest = self.highest.max(term);
        let own = Reign {
            instance: self.config.instance,
            term,
        };
        self.voted = Some((self.config.me.clone(), own));
        self.leader_of_term = None;
        self.role = Role::Campaigning(ballot);
        actions.push(Action::Broadcast(Body::VoteRequest { term, release }));
        self.count_votes(actions);
    }

    pub(super) fn vote_answered(
        &mut self,
        at: Reading,
        from: MemberId,
        (term, granted): (u64, bool),
        highest: u64,
        actions: &mut Vec<Action>,
    ) {
        self.highest = self.highest.max(highest);
        let too_late = |ballot: &Ballot, span| at.now >= ballot.asked + span;
        if let Role::Campaigning(ballot) = &mut self.role
            && ballot.term == term
            && granted
            && !too_late(ballot, self.config.trust.window())
        {
            ballot.granted.insert(from);
            self.count_votes(actions);
        }
    }

    /// Votes give a chance, not trust: that comes with the first heartbeat that a quorum acks (V2).
    fn count_votes(&mut self, actions: &mut Vec<Action>) {
        if let Role::Campaigning(ballot) = &self.role
            && self.is_quorum(&ballot.granted)
        {
            let (term, asked) = (ballot.term, ballot.asked);
            self.role = Role::Reigning(Reigning::new(term, asked));
            self.reigned = Some(term);
            actions.push(Action::Won { term });
        }
    }

    /// V5: above all that was heard of, and no lower than the wall clock, for nobody remembers a
    /// term through its own restart.
    fn ballot(&self, at: Reading) -> Option<Ballot> {
        let heard = self.highest.max(self.term);
        let term = next_number(Some(heard), at.wall_millis, self.floor)?;
        Some(Ballot {
            term,
            asked: at.now,
            granted: BTreeSet::from([self.config.me.clone()]),
        })
    }

    pub(super) fn is_quorum(&self, names: &BTreeSet<MemberId>) -> bool {
        let counted = match &self.config.electorate {
            Electorate::Fixed(_) => names.len(),
            // Who is not seen any more does not count; oneself always does.
            Electorate::Seen(seen) => {
                let counts = |name: &&MemberId| seen.contains(*name) || **name == self.config.me;
                names.iter().filter(counts).count()
            }
        };
        counted >= self.quorum()
    }

    /// Nobody here wants to lead: no campaign goes on. Who reigns unconfirmed gives the term back.
    pub(super) fn stand_down(&mut self, at: Reading, actions: &mut Vec<Action>) {
        self.stands = false;
        match &self.role {
            Role::Sounding(_) | Role::Campaigning(_) => self.role = Role::Following,
            Role::Reigning(reign)
                if reign.trusted_until.is_none() && self.confirming.is_empty() =>
            {
                let term = reign.term;
                self.resign(at, term, None, actions);
            }
            Role::Following | Role::Reigning(_) => {}
        }
    }
}
