//! Members from nothing but a bus: each beats to all, and judges the others by its own clock (G6).
//!
//! Every member beats every third of its ttl, with jitter; at once when it joins and when its
//! profile changes; and soon when a newcomer asks who is there. Who was not heard for a ttl is
//! gone. There is no store, so there is no truth: two members may see different fleets, for a while
//! after each change, and for as long as a part of the bus is cut. ONE-OWNER never rests on it.
//!
//! # Whose silence is it?
//!
//! A member that hears nothing cannot tell whether all others died or it went deaf itself. The
//! second is far likelier; so it suspects itself first, as *Lifeguard* (Dadgar, Phillips, Currey,
//! 2017) does for SWIM (Das, Gupta, Motivala, 2002):
//!
//! - Nobody is gone because a timer ran out. Somebody is gone when **another sign is heard** a ttl
//!   after his last one. That sign may be our own, for the bus brings it back: when somebody has
//!   been silent for too long he is a *suspect*, and we beat, to hear whether we hear.
//! - A pause of half a ttl in which not even our own beats came back is ours: when it ends,
//!   everybody gets a fresh ttl. The same after the bus was disconnected. So an outage of the whole
//!   bus costs nobody his place, and what follows is one beat of each, spread by chance.
//! - Time in which this machine was not run (a paused process, a jump of the clock) is not counted
//!   against others.
//!
//! Of SWIM itself nothing else is used: a bus reaches all at once, so there is nothing to gossip
//! and nobody to ask on one's behalf. Silence is judged by a fixed bound, not by a distribution of
//! arrival times (as φ-accrual would): a bound can be stated, and tested.
//!
//! # Traffic
//!
//! A beat goes to all. So a fleet of N costs N² deliveries in a third of a ttl, of which each
//! member takes N; and it carries the profile, so metadata should be small. A newcomer costs one
//! beat of each more, spread over a tenth of a ttl; any number that come within it cost the same. No
//! member beats more often than [`MOST_BEATS`] times a ttl.

#[cfg(test)]
mod fleet;
mod roll;
mod sign;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

pub use sign::{Beat, Sign, Word};

use crate::member::{Member, MemberState, Profile};
use crate::names::{Group, MemberId};
use crate::numbers::{Incarnation, Instance};
use crate::time::Moment;
use roll::{Noted, Roll};

/// The most beats that a member sends in a ttl, whatever happens.
pub const MOST_BEATS: u32 = 30;

/// The most instances under our own name that are told of.
const MOST_RIVALS: usize = 64;

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HearingConfig {
    /// The fleet.
    pub group: Group,
    /// Our name.
    pub id: MemberId,
    /// This start of our process.
    pub instance: Instance,
    /// Whether the name is static.
    pub fixed: bool,
    /// How long we may be silent before the others count us as gone, and the least silence for
    /// which we count them as gone.
    pub ttl: Duration,
}

impl HearingConfig {
    /// What a beat with this profile takes on the wire at most, in bytes.
    pub fn weigh(&self, profile: &Profile) -> usize {
        let beat = Beat {
            ttl: self.ttl,
            asks: true,
            fixed: self.fixed,
            profile: profile.clone(),
        };
        let sign = self.sign(u64::MAX, Duration::MAX, Word::Beat(beat));
        sign.to_bytes().len()
    }

    fn sign(&self, beat: u64, age: Duration, word: Word) -> Sign {
        Sign {
            group: self.group.clone(),
            id: self.id.clone(),
            instance: self.instance,
            beat,
            age,
            word,
        }
    }
}

/// What the hearing is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HearingEvent {
    /// The bus carries signs from now on, or again.
    Connected,
    /// It does no longer.
    Disconnected,
    /// A sign arrived: also our own ones.
    Heard(Sign),
    /// What we tell about ourselves, from now on.
    Announce(Profile),
    /// All work has stopped: leave for good.
    Leave,
    /// A deadline has come.
    Tick,
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HearingAction {
    /// Send this to all, once. Lost or refused, the next one says it again.
    Publish(Sign),
    /// Who is there has changed, or what somebody announces: see [`Hearing::members`].
    Changed,
    /// We hear nobody, not even ourselves. Until that changes nobody is judged.
    Isolated,
    /// We hear again.
    Rejoined,
    /// Two live instances use one name. Told once of each that is not shown.
    Duplicate {
        /// The name: ours, or another's.
        id: MemberId,
        /// The instance that is not shown under it.
        instance: Instance,
    },
    /// There are more than [`MAX_MEMBERS`](crate::MAX_MEMBERS): this one is not shown.
    Crowded {
        /// Who.
        id: MemberId,
    },
}

/// How a member is regarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regard {
    /// It was heard within its ttl, by the time that counts.
    Live,
    /// It was not; but nothing was heard since, so it may be us.
    Suspect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The bus carries nothing, not yet or not now.
    Deaf,
    Listening,
    Left,
}

/// Decides when to beat, and who is there. Performs nothing.
#[derive(Debug)]
pub struct Hearing {
    me: HearingConfig,
    profile: Profile,
    random: StdRng,
    phase: Phase,
    started: Moment,
    beats: u64,
    /// We are new: others should beat. Until our own question has come back to us.
    asking: bool,
    sent_at: Option<Moment>,
    beat_at: Moment,
    /// When to test our own ear, for somebody seems silent.
    test_at: Option<Moment>,
    /// The last sign of anybody, ourselves included; moved on by the time that does not count.
    heard_at: Moment,
    /// The last step.
    ran_at: Moment,
    isolated: bool,
    roll: Roll,
    /// Other instances under our name that were told of.
    rivals: BTreeSet<Instance>,
}

impl Hearing {
    /// One that is not connected yet, and so far knows itself alone.
    pub fn new(me: HearingConfig, profile: Profile, random: StdRng, now: Moment) -> Self {
        Self {
            roll: Roll::new(me.ttl),
            me,
            profile,
            random,
            phase: Phase::Deaf,
            started: now,
            beats: 0,
            asking: true,
            sent_at: None,
            beat_at: now,
            test_at: None,
            heard_at: now,
            ran_at: now,
            isolated: false,
            rivals: BTreeSet::new(),
        }
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: HearingEvent) -> Vec<HearingAction> {
        let mut out = Vec::new();
        self.forgive_a_stall(now);
        match event {
            HearingEvent::Connected => self.connected(now),
            HearingEvent::Disconnected => self.disconnected(&mut out),
            HearingEvent::Heard(sign) => self.heard(now, sign, &mut out),
            HearingEvent::Announce(profile) => self.announce(now, profile, &mut out),
            HearingEvent::Leave => self.leave(now, &mut out),
            HearingEvent::Tick => {}
        }
        self.act_if_due(now, &mut out);
        self.ran_at = now;
        out
    }

    /// When the driver must next deliver [`HearingEvent::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        if self.phase != Phase::Listening {
            return None;
        }
        let isolation = (!self.isolated).then(|| self.heard_at + self.me.ttl);
        let others = [self.test_at, isolation, self.roll.deadline()];
        let others = others.into_iter().flatten();
        Some(others.fold(self.beat_at, Moment::min))
    }

    /// Who is there, as we see it: ourselves, and whom we count as live. By name.
    pub fn members(&self, now: Moment) -> Vec<Member> {
        let me = Member {
            id: self.me.id.clone(),
            incarnation: Incarnation::new(1),
            instance: self.me.instance,
            fixed: self.me.fixed,
            ttl: self.me.ttl,
            beat: self.beats,
            state: MemberState::Live {
                expires_in: self.me.ttl,
                evicted: false,
            },
            profile: self.profile.clone(),
            report: std::collections::BTreeMap::new(),
        };
        let mut members: Vec<_> = self.roll.members(now).collect();
        let at = members.partition_point(|other| other.id < me.id);
        members.insert(at, me);
        members
    }

    /// How another member is regarded; `None`: it is gone, or was never heard.
    pub fn regard(&self, id: &MemberId) -> Option<Regard> {
        let suspected = self.roll.is_suspected(id)?;
        Some(if suspected {
            Regard::Suspect
        } else {
            Regard::Live
        })
    }

    /// Whether we hear nobody, and so suspect ourselves.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// The invariants, as sentences that are violated; for tests, after each step.
    pub fn check(&self, now: Moment) -> Result<(), &'static str> {
        if self.heard_at > now || self.sent_at.is_some_and(|at| at > now) {
            return Err("something happened in the future");
        }
        if self.phase == Phase::Listening && self.deadline().is_some_and(|at| at <= now) {
            return Err("a deadline was not moved");
        }
        if self.phase == Phase::Listening && self.beat_at.since(now) > self.pace() {
            return Err("we fall silent");
        }
        if self.phase == Phase::Deaf && self.sent_at.is_some() && !self.isolated {
            return Err("who is cut off does not suspect itself");
        }
        self.roll.check(now, &self.me.id)
    }

    /// A process that was paused, or whose clock jumped, has not listened in that time.
    fn forgive_a_stall(&mut self, now: Moment) {
        let Some(due) = self.deadline() else {
            return;
        };
        if now.since(due) > self.moment() {
            let lost = now.since(self.ran_at);
            self.heard_at = (self.heard_at + lost).min(now);
            self.roll.forgive(now, lost);
        }
    }

    fn connected(&mut self, now: Moment) {
        if self.phase == Phase::Left {
            return;
        }
        self.phase = Phase::Listening;
        self.heard_at = now;
        self.test_at = None;
        self.roll.forgive_all(now);
        // The others may have dropped us; but after an outage all come back at once.
        self.beat_at = match self.sent_at {
            None => now,
            Some(_) => self.soon(now).max(self.spaced(now)),
        };
    }

    fn disconnected(&mut self, out: &mut Vec<HearingAction>) {
        if self.phase == Phase::Left {
            return;
        }
        // Also where it never was connected: who could not listen yet knows as little.
        self.phase = Phase::Deaf;
        self.test_at = None;
        self.suspect_myself(out);
    }

    fn heard(&mut self, now: Moment, sign: Sign, out: &mut Vec<HearingAction>) {
        match self.phase {
            Phase::Left => return,
            // The feed knows better than what was last said of it.
            Phase::Deaf => self.connected(now),
            Phase::Listening => {}
        }
        if now.since(self.heard_at) > self.me.ttl / 2 {
            self.roll.forgive_all(now);
        }
        self.heard_at = now;
        self.test_at = None;
        if std::mem::replace(&mut self.isolated, false) {
            out.push(HearingAction::Rejoined);
        }
        let asks = matches!(&sign.word, Word::Beat(beat) if beat.asks);
        let noted = if sign.instance == self.me.instance {
            self.asking &= !asks;
            Noted::Nothing
        } else {
            if asks {
                self.answer(now);
            }
            self.heard_another(now, sign, out)
        };
        let gone = self.roll.expire(now);
        if gone || noted == Noted::Changed {
            out.push(HearingAction::Changed);
        }
    }

    fn heard_another(&mut self, now: Moment, sign: Sign, out: &mut Vec<HearingAction>) -> Noted {
        let (id, instance) = (sign.id.clone(), sign.instance);
        let noted = if id == self.me.id {
            self.heard_a_rival(now, &sign)
        } else {
            self.roll.note(now, sign)
        };
        match noted {
            Noted::Nothing | Noted::Changed => {}
            Noted::Duplicate => out.push(HearingAction::Duplicate { id, instance }),
            Noted::Full => out.push(HearingAction::Crowded { id }),
        }
        noted
    }

    /// Somebody else uses our name. An older start may just have ended, and this be its last word.
    fn heard_a_rival(&mut self, now: Moment, sign: &Sign) -> Noted {
        let ours = now.since(self.started);
        let lives = sign.word != Word::Goodbye && (sign.age < ours || ours >= self.me.ttl);
        if lives && self.rivals.len() < MOST_RIVALS && self.rivals.insert(sign.instance) {
            return Noted::Duplicate;
        }
        Noted::Nothing
    }

    /// Beats soon, once for all who ask meanwhile.
    fn answer(&mut self, now: Moment) {
        let soon = self.soon(now);
        let spaced = self.sent_at.map_or(soon, |sent| sent + self.moment());
        self.beat_at = self.beat_at.min(soon.max(spaced));
    }

    fn announce(&mut self, now: Moment, profile: Profile, out: &mut Vec<HearingAction>) {
        if self.phase == Phase::Left || profile == self.profile {
            return;
        }
        self.profile = profile;
        self.beat_at = self.beat_at.min(self.spaced(now));
        out.push(HearingAction::Changed);
    }

    fn leave(&mut self, now: Moment, out: &mut Vec<HearingAction>) {
        if self.phase == Phase::Listening {
            self.beats += 1;
            out.push(HearingAction::Publish(self.sign(now, Word::Goodbye)));
        }
        self.phase = Phase::Left;
    }

    fn act_if_due(&mut self, now: Moment, out: &mut Vec<HearingAction>) {
        if self.phase != Phase::Listening {
            return;
        }
        if now.since(self.heard_at) >= self.me.ttl {
            self.suspect_myself(out);
        }
        if self.roll.suspect(now) && self.test_at.is_none() {
            // Spread by chance: the first of us to beat shows it to all.
            self.test_at = Some(self.soon(now).max(self.spaced(now)));
        }
        if now >= self.beat_at || self.test_at.is_some_and(|at| now >= at) {
            self.beat(now, out);
        }
    }

    fn beat(&mut self, now: Moment, out: &mut Vec<HearingAction>) {
        self.beats += 1;
        let word = Word::Beat(Beat {
            ttl: self.me.ttl,
            asks: self.asking,
            fixed: self.me.fixed,
            profile: self.profile.clone(),
        });
        out.push(HearingAction::Publish(self.sign(now, word)));
        self.sent_at = Some(now);
        self.test_at = None;
        let pace = self.pace();
        self.beat_at = now + self.random.random_range(pace * 4 / 5..=pace);
    }

    fn suspect_myself(&mut self, out: &mut Vec<HearingAction>) {
        if !std::mem::replace(&mut self.isolated, true) {
            out.push(HearingAction::Isolated);
        }
    }

    fn sign(&self, now: Moment, word: Word) -> Sign {
        let age = now.since(self.started);
        self.me.sign(self.beats, age, word)
    }

    /// So that two lost beats in a row cost nothing.
    fn pace(&self) -> Duration {
        self.me.ttl / 3
    }

    /// A tenth of a ttl: what is meant by "soon".
    fn moment(&self) -> Duration {
        self.me.ttl / 10
    }

    fn soon(&mut self, now: Moment) -> Moment {
        let most = self.moment();
        now + self.random.random_range(Duration::from_micros(1)..=most)
    }

    /// Now, or when we may beat again.
    fn spaced(&self, now: Moment) -> Moment {
        let least = self.me.ttl / MOST_BEATS;
        self.sent_at.map_or(now, |sent| now.max(sent + least))
    }
}

#[cfg(test)]
#[path = "hearing_tests.rs"]
mod tests;
