//! Sees everything, as nobody in a real fleet can: who works on which shard at what true time,
//! and what the store accepted. The verdict rests on it.

use std::time::Duration;

use coordinator_node::FencingToken;

/// Names one tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TenureId(usize);

/// How the witness knows whether a member may believe that a shard is its own. True time: a frozen
/// member does not ask, so we do.
pub(crate) enum Trust {
    /// By asking it, now: it is in this process.
    Asked(Box<dyn Fn() -> bool + Send>),
    /// Until then, as it has told from another process.
    Told(Duration),
}

impl Trust {
    fn holds(&self, now: Duration) -> bool {
        match self {
            Self::Asked(ask) => ask(),
            Self::Told(until) => now < *until,
        }
    }
}

/// One member's time with one shard, from the start of its work to the end of it.
struct Tenure {
    shard: usize,
    member: String,
    token: FencingToken,
    began: Duration,
    trust: Trust,
    /// The place in the shard's log from which it worked. None before its claim is answered.
    claimed: Option<usize>,
    /// Events folded since the last save.
    in_hand: usize,
    /// When its work stopped or froze.
    stopped: Option<Duration>,
    /// Whether the work has really ended: it will never do anything again.
    ended: bool,
    /// Whether it ended because it was asked to, with everything saved.
    drained: bool,
    /// Whether a write with its token is still to be tried.
    letter: bool,
}

/// A write that a stopped member may have sent, and that arrives late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) shard: usize,
    pub(crate) member: String,
    pub(crate) token: FencingToken,
}

/// What was seen of one shard.
#[derive(Default)]
struct Shard {
    /// Its tenures, oldest first.
    tenures: Vec<usize>,
    /// How far the store is known to be.
    saved: usize,
}

/// Figures of the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    /// Shards that went on at another member, or at the same in a new life.
    pub(crate) hand_offs: usize,
    /// Those of them where the old owner had finished in good order.
    pub(crate) drained: usize,
    /// The longest time for which a shard that had an owner had none at work.
    pub(crate) longest_unowned: Duration,
    /// Events folded, those folded again after an unsaved end included.
    pub(crate) folded: usize,
    /// Late writes of stopped members that the store refused.
    pub(crate) refused: usize,
    /// Moments at which two members could believe that they own a shard.
    pub(crate) overlaps: usize,
}

/// The record of a run.
pub(crate) struct Witness {
    tenures: Vec<Tenure>,
    shards: Vec<Shard>,
    figures: Figures,
    /// Broken promises, in words.
    violations: Vec<String>,
}

impl Witness {
    /// Nothing seen yet.
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            tenures: Vec::new(),
            shards: (0..shards).map(|_| Shard::default()).collect(),
            figures: Figures::default(),
            violations: Vec::new(),
        }
    }

    /// A member begins to work on a shard.
    pub(crate) fn begins(
        &mut self,
        now: Duration,
        shard: usize,
        member: &str,
        token: FencingToken,
        trust: Trust,
    ) -> TenureId {
        self.check_alone(now, shard, member);
        self.count_hand_off(now, shard, token);
        let id = self.tenures.len();
        self.shards[shard].tenures.push(id);
        self.tenures.push(Tenure {
            shard,
            member: member.to_owned(),
            token,
            began: now,
            trust,
            claimed: None,
            in_hand: 0,
            stopped: None,
            ended: false,
            drained: false,
            letter: false,
        });
        TenureId(id)
    }

    /// ONE-OWNER. Trust never comes back once it has ended, so an overlap can be seen at the
    /// moment when the later of the two begins.
    fn check_alone(&mut self, now: Duration, shard: usize, member: &str) {
        for id in &self.shards[shard].tenures {
            let other = &self.tenures[*id];
            if !other.ended && other.trust.holds(now) {
                self.figures.overlaps += 1;
                self.violations.push(format!(
                    "shard {shard}: {member} began while {} still trusted",
                    other.member
                ));
            }
        }
    }

    /// A tenure tells that it trusts for longer. It may say so late, when another has begun.
    pub(crate) fn told(&mut self, TenureId(id): TenureId, until: Duration) {
        let tenure = &mut self.tenures[id];
        let Trust::Told(before) = tenure.trust else {
            return;
        };
        tenure.trust = Trust::Told(until.max(before));
        let tenure = &self.tenures[id];
        let of_shard = &self.shards[tenure.shard].tenures;
        let later = of_shard.iter().skip_while(|other| **other != id).skip(1);
        for other in later.map(|other| &self.tenures[*other]) {
            if !tenure.ended && (before..until).contains(&other.began) {
                self.figures.overlaps += 1;
                self.violations.push(format!(
                    "shard {}: {} began while {} still trusted",
                    tenure.shard, other.member, tenure.member
                ));
            }
        }
    }

    fn count_hand_off(&mut self, now: Duration, shard: usize, token: FencingToken) {
        let Some(last) = self.shards[shard].tenures.last() else {
            return;
        };
        let last = &self.tenures[*last];
        // Work that failed is begun again under the same grant: that is no hand-off.
        if last.token != token {
            self.figures.hand_offs += 1;
            self.figures.drained += usize::from(last.drained);
        }
        let unowned = now.saturating_sub(last.stopped.unwrap_or(now));
        self.figures.longest_unowned = self.figures.longest_unowned.max(unowned);
    }

    /// The store answered a tenure's claim: it works on from `place`.
    pub(crate) fn claimed(&mut self, TenureId(id): TenureId, place: usize) {
        let tenure = &mut self.tenures[id];
        tenure.claimed = Some(place);
        let shard = &mut self.shards[tenure.shard];
        if place < shard.saved {
            self.violations.push(format!(
                "shard {}: {} was given place {place}, but {} had been saved",
                tenure.shard, tenure.member, shard.saved
            ));
        }
        // More than we know of: a save whose answer its sender did not live to see.
        shard.saved = shard.saved.max(place);
    }

    /// A tenure has folded one more event.
    pub(crate) fn folded(&mut self, TenureId(id): TenureId) {
        self.figures.folded += 1;
        self.tenures[id].in_hand += 1;
    }

    /// The store has accepted a tenure's events up to `place`.
    pub(crate) fn saved(&mut self, TenureId(id): TenureId, place: usize) {
        let tenure = &mut self.tenures[id];
        let from = place - tenure.in_hand.min(place);
        tenure.in_hand = 0;
        let shard = &mut self.shards[tenure.shard];
        let later = shard.tenures.iter().filter(|other| **other > id);
        let superseded = later
            .map(|other| self.tenures[*other].claimed)
            .any(|claimed| claimed.is_some());
        let right = if superseded {
            // Accepted before the later claim, answered after it: then that claim saw it.
            place <= shard.saved
        } else {
            from == shard.saved
        };
        if !right {
            let member = &self.tenures[id].member;
            self.violations.push(format!(
                "shard {}: {member}'s events {from} to {place} were accepted when {} were saved",
                self.tenures[id].shard, shard.saved
            ));
        }
        shard.saved = shard.saved.max(place);
    }

    /// A tenure's work has ended; `drained`: in good order, because it was asked to.
    pub(crate) fn ended(&mut self, now: Duration, TenureId(id): TenureId, drained: bool) {
        let tenure = &mut self.tenures[id];
        // What is dropped after it has drained has ended already.
        if !tenure.ended {
            tenure.ended = true;
            tenure.drained = drained;
            tenure.stopped.get_or_insert(now);
        }
    }

    /// A member was frozen or killed: it serves nobody from now on.
    pub(crate) fn stopped(&mut self, now: Duration, member: &str) {
        for tenure in self.open_tenures(member) {
            tenure.stopped.get_or_insert(now);
        }
    }

    /// A member is about to be cut off from the store, frozen or killed: what it has sent may
    /// arrive late.
    pub(crate) fn may_write_late(&mut self, member: &str) {
        for tenure in self.open_tenures(member) {
            tenure.letter = tenure.claimed.is_some();
        }
    }

    fn open_tenures(&mut self, member: &str) -> impl Iterator<Item = &mut Tenure> {
        let open = move |tenure: &&mut Tenure| tenure.member == member && !tenure.ended;
        self.tenures.iter_mut().filter(open)
    }

    /// What a member is working on.
    pub(crate) fn at_work(&self, member: &str) -> Hit {
        let works = |tenure: &&Tenure| tenure.member == member && tenure.stopped.is_none();
        let mut hit = Hit::default();
        for tenure in self.tenures.iter().filter(works) {
            hit.shards += 1;
            hit.unsaved += tenure.in_hand;
        }
        hit
    }

    /// The late writes that can be tried now, each once: a later owner has claimed the shard.
    pub(crate) fn letters(&mut self) -> Vec<Letter> {
        let mut letters = Vec::new();
        for shard in &self.shards {
            let claimed = |id: &&usize| self.tenures[**id].claimed.is_some();
            let newest = shard.tenures.iter().rfind(claimed);
            let Some(fence) = newest.map(|id| self.tenures[*id].token) else {
                continue;
            };
            for id in &shard.tenures {
                let tenure = &mut self.tenures[*id];
                if tenure.token < fence && std::mem::take(&mut tenure.letter) {
                    letters.push(Letter {
                        shard: tenure.shard,
                        member: tenure.member.clone(),
                        token: tenure.token,
                    });
                }
            }
        }
        letters
    }

    /// The store refused a late write because of a higher token, or did not.
    pub(crate) fn letter_answered(&mut self, letter: &Letter, refused: bool) {
        if refused {
            self.figures.refused += 1;
        } else {
            self.violations.push(format!(
                "shard {}: a late write of {} was not refused",
                letter.shard, letter.member
            ));
        }
    }

    /// A promise was broken, as somebody else has seen.
    pub(crate) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Who works on a shard, or is frozen in mid-work and not yet replaced.
    pub(crate) fn owner(&self, shard: usize) -> Option<&str> {
        let last = self.shards[shard].tenures.last()?;
        let tenure = &self.tenures[*last];
        (!tenure.ended).then_some(tenure.member.as_str())
    }

    /// How many events of a shard are saved.
    pub(crate) fn saved_of(&self, shard: usize) -> usize {
        self.shards[shard].saved
    }

    /// How many events of all shards are saved.
    pub(crate) fn saved_total(&self) -> usize {
        self.shards.iter().map(|shard| shard.saved).sum()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.figures
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }
}

/// What somebody was doing at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Hit {
    /// Shards it was working on.
    pub(crate) shards: usize,
    /// Events it had folded and not saved.
    pub(crate) unsaved: usize,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A witness of one shard, on which `a` has worked: it saved 10 events and folded 3 more.
    fn with_a(trusted: &Arc<AtomicBool>) -> (Witness, TenureId) {
        let mut witness = Witness::new(1);
        let trusted = trusted.clone();
        let asked = Trust::Asked(Box::new(move || trusted.load(Ordering::Relaxed)));
        let a = witness.begins(at(0), 0, "a", FencingToken::new(1), asked);
        witness.claimed(a, 0);
        (0..10).for_each(|_| witness.folded(a));
        witness.saved(a, 10);
        (0..3).for_each(|_| witness.folded(a));
        (witness, a)
    }

    fn begin_b(witness: &mut Witness, now: Duration) -> TenureId {
        let trust = Trust::Asked(Box::new(|| true));
        witness.begins(now, 0, "b", FencingToken::new(2), trust)
    }

    #[test]
    fn a_drained_shard_is_handed_off_without_a_word() {
        let trusted = Arc::new(AtomicBool::new(true));
        let (mut witness, a) = with_a(&trusted);
        witness.saved(a, 13);
        witness.ended(at(5), a, true);
        let b = begin_b(&mut witness, at(7));
        witness.claimed(b, 13);
        assert_eq!(witness.violations(), [""; 0]);
        let figures = witness.figures();
        assert_eq!((figures.hand_offs, figures.drained), (1, 1));
        assert_eq!(figures.longest_unowned, at(2));
    }

    #[test]
    fn a_successor_that_begins_while_the_predecessor_trusts_is_an_overlap() {
        let trusted = Arc::new(AtomicBool::new(true));
        let (mut witness, _) = with_a(&trusted);
        begin_b(&mut witness, at(5));
        assert_eq!(witness.figures().overlaps, 1);
        assert_eq!(
            witness.violations(),
            ["shard 0: b began while a still trusted"]
        );
    }

    /// A witness of one shard: `a` trusts until second 5 as far as it has told, `b` begins at 7.
    fn with_a_of_another_process() -> (Witness, TenureId) {
        let mut witness = Witness::new(1);
        let a = witness.begins(at(0), 0, "a", FencingToken::new(1), Trust::Told(at(5)));
        witness.claimed(a, 0);
        let b = Trust::Told(at(20));
        witness.begins(at(7), 0, "b", FencingToken::new(2), b);
        (witness, a)
    }

    #[test]
    fn trust_that_is_told_of_late_overlaps_with_who_has_begun_meanwhile() {
        let (mut witness, a) = with_a_of_another_process();
        witness.told(a, at(6));
        assert_eq!(witness.figures().overlaps, 0);
        witness.told(a, at(8));
        witness.told(a, at(9));
        assert_eq!(
            witness.violations(),
            ["shard 0: b began while a still trusted"]
        );
        assert_eq!(witness.figures().overlaps, 1);
    }

    #[test]
    fn trust_counts_until_the_second_that_was_told() {
        let (mut witness, _) = with_a_of_another_process();
        let begin = |witness: &mut Witness, second, token| {
            let trust = Trust::Told(at(60));
            witness.begins(at(second), 0, "c", FencingToken::new(token), trust);
        };
        begin(&mut witness, 20, 3);
        assert_eq!(witness.figures().overlaps, 0);
        begin(&mut witness, 59, 4);
        assert_eq!(witness.figures().overlaps, 1);
    }

    #[test]
    fn a_frozen_member_whose_trust_has_ended_overlaps_with_nobody() {
        let trusted = Arc::new(AtomicBool::new(true));
        let (mut witness, _) = with_a(&trusted);
        let hit = witness.at_work("a");
        assert_eq!((hit.shards, hit.unsaved), (1, 3));
        witness.stopped(at(5), "a");
        assert_eq!(witness.at_work("a"), Hit::default());
        trusted.store(false, Ordering::Relaxed);
        begin_b(&mut witness, at(15));
        assert_eq!(witness.violations(), [""; 0]);
        assert_eq!(witness.figures().longest_unowned, at(10));
        assert_eq!(witness.figures().drained, 0);
    }

    #[test]
    fn a_late_write_is_tried_once_and_only_after_the_successors_claim() {
        let trusted = Arc::new(AtomicBool::new(false));
        let (mut witness, _) = with_a(&trusted);
        witness.may_write_late("a");
        let b = begin_b(&mut witness, at(15));
        assert_eq!(witness.letters(), []);
        witness.claimed(b, 10);
        let letters = witness.letters();
        assert_eq!(letters.len(), 1);
        assert_eq!(witness.letters(), []);
        witness.letter_answered(&letters[0], true);
        assert_eq!(
            (witness.figures().refused, witness.violations().len()),
            (1, 0)
        );
        witness.letter_answered(&letters[0], false);
        assert_eq!(
            witness.violations(),
            ["shard 0: a late write of a was not refused"]
        );
    }

    #[test]
    fn work_begun_again_under_the_same_grant_is_no_hand_off() {
        let (mut witness, a) = with_a(&Arc::new(AtomicBool::new(true)));
        witness.ended(at(5), a, false);
        let again = witness.begins(at(6), 0, "a", FencingToken::new(1), Trust::Told(at(9)));
        witness.claimed(again, 10);
        assert_eq!(witness.figures().hand_offs, 0);
        assert_eq!(witness.violations(), [""; 0]);
    }

    #[test]
    fn a_checkpoint_that_goes_back_is_a_violation() {
        let (mut witness, _) = with_a(&Arc::new(AtomicBool::new(false)));
        let b = begin_b(&mut witness, at(15));
        witness.claimed(b, 9);
        assert_eq!(
            witness.violations(),
            ["shard 0: b was given place 9, but 10 had been saved"]
        );
    }

    #[test]
    fn a_save_that_is_accepted_after_a_later_claim_is_a_violation() {
        let (mut witness, a) = with_a(&Arc::new(AtomicBool::new(false)));
        let b = begin_b(&mut witness, at(15));
        witness.claimed(b, 10);
        witness.saved(a, 13);
        assert_eq!(
            witness.violations(),
            ["shard 0: a's events 10 to 13 were accepted when 10 were saved"]
        );
    }

    #[test]
    fn an_answer_that_comes_after_a_claim_that_saw_its_save_is_none() {
        let (mut witness, a) = with_a(&Arc::new(AtomicBool::new(false)));
        let b = begin_b(&mut witness, at(15));
        witness.claimed(b, 13);
        witness.saved(a, 13);
        assert_eq!(witness.violations(), [""; 0]);
        assert_eq!(witness.saved_total(), 13);
    }
}
