//! The others: who was heard, and for how long each has been silent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sign::{Beat, Sign, Word};
use crate::member::{MAX_MEMBERS, Member, MemberState, Profile};
use crate::names::MemberId;
use crate::numbers::{Incarnation, Instance};
use crate::time::Moment;

/// What a sign of another member changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noted {
    /// Nothing that anybody would see.
    Nothing,
    /// Who is there, or what they announce.
    Changed,
    /// The name is in use by two live instances. Said once of each.
    Duplicate,
    /// There is no room for one more member.
    Full,
}

/// One other member.
#[derive(Debug)]
struct Other {
    instance: Instance,
    life: Incarnation,
    fixed: bool,
    ttl: Duration,
    beat: u64,
    /// Its age at `heard`, as far as is known: a sign that took long makes it look younger.
    age: Duration,
    heard: Moment,
    /// Its silence counts from here: its last sign, moved on by the time that does not count.
    since: Moment,
    joined: Moment,
    /// It was silent for too long, and nothing was heard since that shows our own ear to work.
    suspected: bool,
    profile: Profile,
}

impl Other {
    fn age_at(&self, now: Moment) -> Duration {
        self.age.saturating_add(now.since(self.heard))
    }
}

/// An instance that is no longer the one under its name.
#[derive(Debug)]
struct Former {
    /// It said goodbye: whatever still comes of it is late. Otherwise a newer start took its name.
    left: bool,
    reported: bool,
    heard: Moment,
}

/// Everybody else. An ear that tests itself every third of `patience` cannot tell a silence that is
/// shorter, so nobody is judged by less.
#[derive(Debug)]
pub(super) struct Roll {
    patience: Duration,
    others: BTreeMap<MemberId, Other>,
    former: BTreeMap<Instance, Former>,
    /// Numbers the lives that were seen; the first is our own.
    lives: u64,
}

impl Roll {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            others: BTreeMap::new(),
            former: BTreeMap::new(),
            lives: 1,
        }
    }

    /// Takes in a sign under another name than ours.
    pub(super) fn note(&mut self, now: Moment, sign: Sign) -> Noted {
        match sign.word {
            Word::Goodbye => self.goodbye(now, &sign.id, sign.instance),
            Word::Beat(ref beat) => match self.others.get_mut(&sign.id) {
                Some(known) if known.instance == sign.instance => {
                    let profile = beat.profile.clone();
                    known.hear(now, &sign, beat.ttl, profile)
                }
                Some(_) => self.contest(now, sign),
                None => self.admit(now, sign),
            },
        }
    }

    /// Drops who has been silent for too long. Called when a sign was heard: the silence is theirs.
    pub(super) fn expire(&mut self, now: Moment) -> bool {
        let (before, patience) = (self.others.len(), self.patience);
        self.others
            .retain(|_, other| now.since(other.since) < other.ttl.max(patience));
        self.others.len() < before
    }

    /// Marks who has been silent for too long. Whether there is a new one.
    pub(super) fn suspect(&mut self, now: Moment) -> bool {
        let mut any = false;
        for other in self.others.values_mut() {
            if !other.suspected && now.since(other.since) >= other.ttl.max(self.patience) {
                other.suspected = true;
                any = true;
            }
        }
        any
    }

    /// When the next one will have been silent for too long.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let quiet = self.others.values().filter(|other| !other.suspected);
        quiet
            .map(|other| other.since + other.ttl.max(self.patience))
            .min()
    }

    /// A time that counts against nobody has passed.
    pub(super) fn forgive(&mut self, now: Moment, span: Duration) {
        for other in self.others.values_mut() {
            other.since = (other.since + span).min(now);
            other.suspected = false;
        }
    }

    /// All begin anew: nobody has been silent yet.
    pub(super) fn forgive_all(&mut self, now: Moment) {
        for other in self.others.values_mut() {
            other.since = now;
            other.suspected = false;
        }
    }

    pub(super) fn is_suspected(&self, id: &MemberId) -> Option<bool> {
        self.others.get(id).map(|other| other.suspected)
    }

    /// Everybody, by name.
    pub(super) fn members(&self, now: Moment) -> impl Iterator<Item = Member> {
        self.others.iter().map(move |(id, other)| Member {
            id: id.clone(),
            incarnation: other.life,
            instance: other.instance,
            fixed: other.fixed,
            ttl: other.ttl,
            beat: other.beat,
            state: MemberState::Live {
                expires_in: other
                    .ttl
                    .max(self.patience)
                    .saturating_sub(now.since(other.since)),
                evicted: false,
            },
            profile: other.profile.clone(),
            report: BTreeMap::new(),
        })
    }

    pub(super) fn check(&self, now: Moment, me: &MemberId) -> Result<(), &'static str> {
        if self.others.len() >= MAX_MEMBERS || self.former.len() > MAX_MEMBERS {
            return Err("the table outgrows its bound");
        }
        if self.others.contains_key(me) {
            return Err("we are one of the others");
        }
        if self.others.values().any(|other| other.since > now) {
            return Err("somebody was heard in the future");
        }
        Ok(())
    }

    fn goodbye(&mut self, now: Moment, id: &MemberId, instance: Instance) -> Noted {
        self.remember(now, instance, true);
        if self.others.get(id).map(|known| known.instance) != Some(instance) {
            return Noted::Nothing;
        }
        self.others.remove(id);
        Noted::Changed
    }

    /// A second instance under a name: the newer start has it.
    fn contest(&mut self, now: Moment, sign: Sign) -> Noted {
        let Some(known) = self.others.get(&sign.id) else {
            return Noted::Nothing;
        };
        let (incumbent, joined) = (known.instance, known.joined);
        let order = (sign.age, incumbent).cmp(&(known.age_at(now), sign.instance));
        if order.is_lt() && !self.former.contains_key(&sign.instance) {
            self.remember(now, incumbent, false);
            self.others.remove(&sign.id);
            return self.admit(now, sign);
        }
        let patience = self.patience;
        let former = self.remember(now, sign.instance, false);
        // Until then it may have been under way since before the newer one started.
        let lives = !former.left && now.since(joined) >= patience;
        if lives && !std::mem::replace(&mut former.reported, true) {
            return Noted::Duplicate;
        }
        Noted::Nothing
    }

    fn admit(&mut self, now: Moment, sign: Sign) -> Noted {
        let Word::Beat(beat) = sign.word else {
            return Noted::Nothing;
        };
        if self
            .former
            .get(&sign.instance)
            .is_some_and(|former| former.left)
        {
            return Noted::Nothing;
        }
        // One place is our own.
        if self.others.len() + 1 >= MAX_MEMBERS {
            return Noted::Full;
        }
        self.former.remove(&sign.instance);
        self.lives += 1;
        let Beat {
            ttl,
            asks: _,
            fixed,
            profile,
        } = beat;
        let other = Other {
            instance: sign.instance,
            life: Incarnation::new(self.lives),
            fixed,
            ttl,
            beat: sign.beat,
            age: sign.age,
            heard: now,
            since: now,
            joined: now,
            suspected: false,
            profile,
        };
        self.others.insert(sign.id, other);
        Noted::Changed
    }

    fn remember(&mut self, now: Moment, instance: Instance, left: bool) -> &mut Former {
        let span = self.patience * 2;
        self.former
            .retain(|_, former| now.since(former.heard) <= span);
        if self.former.len() >= MAX_MEMBERS && !self.former.contains_key(&instance) {
            let oldest = self.former.iter().min_by_key(|(_, former)| former.heard);
            if let Some(oldest) = oldest.map(|(instance, _)| *instance) {
                self.former.remove(&oldest);
            }
        }
        let former = self.former.entry(instance).or_insert(Former {
            left,
            reported: false,
            heard: now,
        });
        former.left |= left;
        former.heard = now;
        former
    }
}

impl Other {
    fn hear(&mut self, now: Moment, sign: &Sign, ttl: Duration, profile: Profile) -> Noted {
        if sign.beat <= self.beat {
            return Noted::Nothing;
        }
        self.beat = sign.beat;
        self.age = self.age_at(now).max(sign.age);
        self.heard = now;
        self.since = now;
        self.suspected = false;
        let changed = self.profile != profile || self.ttl != ttl;
        self.profile = profile;
        self.ttl = ttl;
        if changed {
            Noted::Changed
        } else {
            Noted::Nothing
        }
    }
}
