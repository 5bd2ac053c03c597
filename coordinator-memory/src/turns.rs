//! Whose turn it is: the waiters of each key, in order, and for whom a free lease is kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Claim, Instance, Key, MemberId, Moment};
use tokio::sync::Notify;

/// How long a released lease is kept for the member that it was handed to (P10).
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long a free lease is kept for the first waiter, at least: then the next one is woken (P2).
const LEAST_TURN: Duration = Duration::from_millis(250);

/// For whom a free lease is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) owner: MemberId,
    /// `None`: for any start of that member, as in a hand-over.
    pub(crate) instance: Option<Instance>,
    pub(crate) until: Moment,
    /// The waiter that was woken for it, until it has heard of it.
    ticket: Option<Ticket>,
}

impl Turn {
    /// Whether this claim may have the lease.
    pub(crate) fn admits(&self, claim: &Claim) -> bool {
        self.owner == claim.owner
            && self
                .instance
                .is_none_or(|instance| instance == claim.instance)
    }
}

/// Names one waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The waiters of all keys.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lines: BTreeMap<Key, Line>,
    tickets: u64,
}

/// The waiters of one key.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiter>,
    turn: Option<Turn>,
    /// Rings when the line's keeper must look again at how long to sleep.
    moved: Arc<Notify>,
    /// Whether a keeper attends this line.
    kept: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    owner: MemberId,
    instance: Instance,
    patience: Duration,
    woken: Arc<Notify>,
}

/// What a new waiter gets.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The lease is free, and kept for no other: ask for it.
    Now,
    /// Wait until `woken` rings. `unkept`: nobody attends this line yet.
    Wait {
        ticket: Ticket,
        woken: Arc<Notify>,
        unkept: bool,
    },
}

/// What the keeper of a line does next.
#[derive(Debug)]
pub(crate) enum Watch {
    /// Look again then, or when `moved` rings.
    Until { at: Moment, moved: Arc<Notify> },
    /// Nobody waits.
    Over,
}

impl Turns {
    /// For whom the free lease of a key is kept now.
    pub(crate) fn turn(&self, key: &Key, now: Moment) -> Option<&Turn> {
        let turn = self.lines.get(key)?.turn.as_ref()?;
        (turn.until > now).then_some(turn)
    }

    /// Joins the line. `held_until`: the end of the present lease, if there is one.
    pub(crate) fn enter(
        &mut self,
        claim: &Claim,
        held_until: Option<Moment>,
        now: Moment,
    ) -> Entry {
        let line = self.lines.entry(claim.key.clone()).or_default();
        line.lapse(now);
        let admitted = line.turn.as_ref().map(|turn| turn.admits(claim));
        let free = held_until.is_none() && line.waiting.is_empty();
        if admitted.unwrap_or(free) && held_until.is_none() {
            self.tidy(&claim.key);
            return Entry::Now;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let woken = Arc::new(Notify::new());
        line.waiting.push_back(Waiter {
            ticket,
            owner: claim.owner.clone(),
            instance: claim.instance,
            patience: LEAST_TURN.max(claim.ttl / 4),
            woken: woken.clone(),
        });
        let unkept = !std::mem::replace(&mut line.kept, true);
        Entry::Wait {
            ticket,
            woken,
            unkept,
        }
    }

    /// Leaves the line, or gives the turn back: the waiter will not ask.
    pub(crate) fn leave(&mut self, key: &Key, ticket: Ticket) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        line.waiting.retain(|waiter| waiter.ticket != ticket);
        line.turn.take_if(|turn| turn.ticket == Some(ticket));
        line.moved.notify_one();
    }

    /// The lease was granted: nobody's turn is left.
    pub(crate) fn granted(&mut self, key: &Key) {
        if let Some(line) = self.lines.get_mut(key) {
            line.turn = None;
            line.moved.notify_one();
        }
        self.tidy(key);
    }

    /// The lease was released: to `next`, or to the first in line.
    pub(crate) fn released(&mut self, key: &Key, next: Option<&MemberId>, now: Moment) {
        if let Some(next) = next {
            let line = self.lines.entry(key.clone()).or_default();
            line.hand_over(next, now);
        } else if let Some(line) = self.lines.get_mut(key) {
            line.call(now);
            line.moved.notify_one();
        }
    }

    /// The lease is free: it is the first one's turn, unless somebody has it.
    pub(crate) fn call(&mut self, key: &Key, now: Moment) {
        if let Some(line) = self.lines.get_mut(key) {
            line.call(now);
        }
    }

    /// One look of a line's keeper: wakes whoever's turn it is.
    pub(crate) fn attend(&mut self, key: &Key, held_until: Option<Moment>, now: Moment) -> Watch {
        let Some(line) = self.lines.get_mut(key) else {
            return Watch::Over;
        };
        line.lapse(now);
        if held_until.is_none() {
            line.call(now);
        }
        if line.waiting.is_empty() {
            line.kept = false;
            self.tidy(key);
            return Watch::Over;
        }
        let turn = line.turn.as_ref().map(|turn| turn.until);
        Watch::Until {
            // Without a lease there is a turn, for somebody waits.
            at: held_until.or(turn).unwrap_or(now),
            moved: line.moved.clone(),
        }
    }

    /// All keepers look again: the clock was set, or the leases are others.
    pub(crate) fn shake(&mut self) {
        for line in self.lines.values_mut() {
            line.moved.notify_one();
        }
    }

    /// Drops what turns are kept, as a loss of memory does.
    pub(crate) fn forget(&mut self) {
        for line in self.lines.values_mut() {
            line.turn = None;
            line.moved.notify_one();
        }
        self.lines.retain(|_, line| line.kept);
    }

    /// Drops a line that says nothing.
    fn tidy(&mut self, key: &Key) {
        let idle = |line: &Line| !line.kept && line.waiting.is_empty() && line.turn.is_none();
        if self.lines.get(key).is_some_and(idle) {
            self.lines.remove(key);
        }
    }
}

impl Line {
    /// Ends a turn that was not taken in time.
    fn lapse(&mut self, now: Moment) {
        self.turn.take_if(|turn| turn.until <= now);
    }

    /// Gives the turn to the first in line, unless somebody has it.
    fn call(&mut self, now: Moment) {
        self.lapse(now);
        if self.turn.is_some() {
            return;
        }
        if let Some(first) = self.waiting.pop_front() {
            self.turn = Some(first.turn(now));
            first.woken.notify_one();
        }
    }

    /// Keeps the lease for one member, wherever it stands in the line, or even if it does not.
    fn hand_over(&mut self, next: &MemberId, now: Moment) {
        self.turn = Some(Turn {
            owner: next.clone(),
            instance: None,
            until: now + HAND_OVER,
            ticket: None,
        });
        let place = self.waiting.iter().position(|waiter| waiter.owner == *next);
        if let Some(waiter) = place.and_then(|place| self.waiting.remove(place)) {
            waiter.woken.notify_one();
        }
        self.moved.notify_one();
    }
}

impl Waiter {
    fn turn(&self, now: Moment) -> Turn {
        Turn {
            owner: self.owner.clone(),
            instance: Some(self.instance),
            until: now + self.patience,
            ticket: Some(self.ticket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EPOCH;
    use coordinator_core::ClaimId;

    fn at(millis: u64) -> Moment {
        EPOCH + Duration::from_millis(millis)
    }

    fn claim(owner: u8) -> Claim {
        let instance = Instance::from_bytes([owner; 16]);
        let name = MemberId::new(format!("m{owner}"));
        let ttl = Duration::from_secs(2); // a turn lasts 500 ms
        Claim::new(Key::from("k"), name, instance, ClaimId::new(1), ttl)
    }

    fn wait(turns: &mut Turns, owner: u8) -> Ticket {
        match turns.enter(&claim(owner), Some(at(1000)), at(0)) {
            Entry::Wait { ticket, .. } => ticket,
            Entry::Now => panic!("the lease is held"),
        }
    }

    fn whose(turns: &Turns, now: Moment) -> Option<String> {
        let turn = turns.turn(&Key::from("k"), now);
        turn.map(|turn| turn.owner.to_string())
    }

    fn look(turns: &mut Turns, now: Moment) {
        turns.attend(&Key::from("k"), None, now);
    }

    /// L3: in order, one a release.
    #[test]
    fn waiters_are_served_in_order_one_a_release() {
        let (mut turns, key) = (Turns::default(), Key::from("k"));
        wait(&mut turns, 1);
        wait(&mut turns, 2);
        turns.released(&key, None, at(10));
        assert_eq!(whose(&turns, at(10)).unwrap(), "m1");
        turns.granted(&key);
        turns.released(&key, None, at(20));
        assert_eq!(whose(&turns, at(20)).unwrap(), "m2");
        turns.granted(&key);
        look(&mut turns, at(30));
        assert!(
            turns.lines.is_empty(),
            "a line that says nothing is dropped"
        );
    }

    /// L4, P2: a waiter that was woken and does not ask passes its turn on.
    #[test]
    fn a_turn_that_is_not_taken_passes_on() {
        let (mut turns, key) = (Turns::default(), Key::from("k"));
        wait(&mut turns, 1);
        wait(&mut turns, 2);
        turns.released(&key, None, at(0));
        look(&mut turns, at(499));
        assert_eq!(whose(&turns, at(499)).unwrap(), "m1");
        look(&mut turns, at(500));
        assert_eq!(whose(&turns, at(500)).unwrap(), "m2");
    }

    /// E9, E19: nothing is left hanging by a waiter that goes away.
    #[test]
    fn who_leaves_gives_up_the_place_and_the_turn() {
        let (mut turns, key) = (Turns::default(), Key::from("k"));
        let first = wait(&mut turns, 1);
        let second = wait(&mut turns, 2);
        wait(&mut turns, 3);
        turns.leave(&key, second);
        turns.released(&key, None, at(0));
        turns.leave(&key, first);
        look(&mut turns, at(1));
        assert_eq!(whose(&turns, at(1)).unwrap(), "m3");
    }

    /// P10: the lease is kept for the named member, for a second.
    #[test]
    fn a_hand_over_passes_by_the_line_for_a_second() {
        let (mut turns, key) = (Turns::default(), Key::from("k"));
        wait(&mut turns, 1);
        turns.released(&key, Some(&MemberId::from("m9")), at(0));
        look(&mut turns, at(999));
        assert_eq!(whose(&turns, at(999)).unwrap(), "m9");
        assert!(turns.turn(&key, at(999)).unwrap().admits(&claim(9)));
        look(&mut turns, at(1000));
        assert_eq!(whose(&turns, at(1000)).unwrap(), "m1");
    }

    #[test]
    fn a_free_lease_that_is_kept_for_nobody_is_asked_for_at_once() {
        let mut turns = Turns::default();
        let entry = turns.enter(&claim(1), None, at(0));
        assert!(matches!(entry, Entry::Now));
        assert!(turns.lines.is_empty());
    }
}
