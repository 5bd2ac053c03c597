//! A voter: the machine, and somebody behind it who always wants to lead.

use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use coordinator_core::machine::vote::{
    Action, Body, Config, Electorate, Event, Message, Reading, Standing, Vote,
};
use coordinator_core::trust::Trust;
use coordinator_core::{Instance, MemberId};
use rand::rand_core::TryRng;

use super::{Defect, MARGIN, MEMBERS, RENEW, WINDOW};
use crate::models::clock::{moment, span};
use crate::models::outline::{Fork, Outline, Outlined};

/// What stands before the numbers that mean something only beside others: terms, then numbers of
/// heartbeats.
const RELATIVE: &[&str] = &[
    "term: ",
    "highest: ",
    "reigned: Some(",
    "seq: ",
    "rounds: {",
    "}, ",
];
/// So many of them are classes of terms.
pub(super) const TERMS: usize = 3;

/// A generator that always says the same: what it says is decided by the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lot(pub(super) u64);

impl TryRng for Lot {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.0 >> 32).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

impl Fork for Vote<Lot> {
    fn fork(&self) -> Self {
        self.clone()
    }
}

/// A message under way.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Which start of the addressee; `None`: any.
    pub(super) addressee: Option<Instance>,
    pub(super) message: Rc<Message>,
    /// In which round of the present unit it is heard.
    pub(super) round: u32,
    /// Whether it may take any time; else it arrives before time passes.
    pub(super) slow: bool,
    pub(super) since: u32,
    pub(super) outline: Rc<Outline>,
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: {:?}", self.from, self.to, self.message.body)
    }
}

/// A process that runs.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) vote: Outlined<Vote<Lot>>,
    pub(super) asleep: bool,
    /// When to ask for the next confirmation. `None`: it is asked for, or there is no reign.
    pub(super) confirm_at: Option<u32>,
    /// By how much its clock is ahead of the steady one.
    pub(super) ahead: u32,
    /// The number of its last heartbeat.
    pub(super) seq: u64,
}

/// A voter, whether its process runs or not.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) starts: u32,
    pub(super) process: Option<Process>,
}

/// What the steps of machines have sent.
pub(super) type Sent = Vec<Letter>;

pub(super) fn name(at: usize) -> MemberId {
    MemberId::new(format!("m{at}"))
}

fn instance(at: usize, starts: u32) -> Instance {
    Instance::from_random((u128::from(starts) << 8) + at as u128)
}

/// The lots of the members lie as far apart as they can.
fn lot(at: usize) -> Lot {
    let share = u64::MAX / (MEMBERS as u64 - 1);
    Lot(share.saturating_mul(at as u64))
}

impl Node {
    pub(super) fn new(at: usize) -> Self {
        Self {
            at,
            starts: 0,
            process: None,
        }
    }

    pub(super) fn start(&mut self, now: u32, defect: Option<Defect>) {
        self.starts += 1;
        let window = match defect {
            Some(Defect::ShortPromise) if self.at == 1 => WINDOW / 2,
            _ => WINDOW,
        };
        let config = Config {
            me: name(self.at),
            instance: instance(self.at, self.starts),
            electorate: Electorate::Fixed((0..MEMBERS).map(name).collect()),
            trust: Trust::with_margin(span(window), span(MARGIN)).unwrap_or_default(),
            round_trip: Duration::ZERO,
        };
        let mut reading = reading(now, 0, defect);
        if defect == Some(Defect::NoAbstention) {
            reading.steady = reading.steady - span(WINDOW);
        }
        let vote = Vote::new(config, reading, lot(self.at));
        let mut vote = Outlined::new(vote, RELATIVE);
        let stand = Event::Stand { floor: None };
        // Nothing is due yet, so there is nothing to do about it.
        let _ = vote.change(|vote| vote.step(reading, stand));
        self.process = Some(Process {
            vote,
            asleep: false,
            confirm_at: None,
            ahead: 0,
            seq: 0,
        });
    }

    pub(super) fn awake(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| !process.asleep)
    }

    /// Which start of it runs, or ran last.
    pub(super) fn instance(&self) -> Instance {
        instance(self.at, self.starts)
    }

    /// Whatever the clock makes due.
    pub(super) fn settle(
        &mut self,
        now: u32,
        defect: Option<Defect>,
        sent: &mut Sent,
    ) -> Result<(), String> {
        if self.awake().is_none() {
            return Ok(());
        }
        self.tell(now, Event::Tick, defect, sent)?;
        self.confirm(now, defect, sent)
    }

    /// Asks for a confirmation, if it is time. One at a time, so one number will do.
    pub(super) fn confirm(
        &mut self,
        now: u32,
        defect: Option<Defect>,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let awake = self.process.as_mut().filter(|process| !process.asleep);
        if awake.is_some_and(|it| it.confirm_at.take_if(|at| now >= *at).is_some()) {
            self.tell(now, Event::Confirm { request: 1 }, defect, sent)?;
        }
        Ok(())
    }

    /// Feeds the machine, and does what it says.
    pub(super) fn tell(
        &mut self,
        now: u32,
        event: Event,
        defect: Option<Defect>,
        sent: &mut Sent,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let reading = reading(now, process.ahead, defect);
        let step = |vote: &mut Vote<Lot>| vote.step(reading, event);
        let actions = process.vote.change(step);
        process.vote.machine().check()?;
        for action in actions {
            self.perform(now, action, sent);
        }
        Ok(())
    }

    fn perform(&mut self, now: u32, action: Action, sent: &mut Sent) {
        let Some(process) = &mut self.process else {
            return;
        };
        match action {
            Action::Broadcast(body) => {
                if let Body::Heartbeat { seq, .. } = body {
                    process.seq = seq;
                }
                for to in (0..MEMBERS).filter(|to| *to != self.at) {
                    self.send(now, to, None, body.clone(), sent);
                }
            }
            Action::Send { to, instance, body } => {
                let to = (0..MEMBERS).find(|at| name(*at) == to);
                if let Some(to) = to {
                    self.send(now, to, Some(instance), body, sent);
                }
            }
            Action::Won { .. } => process.confirm_at = Some(now),
            Action::Confirmed { .. } => process.confirm_at = Some(now + RENEW),
            Action::Refused { .. } => process.confirm_at = Some(now + 1),
            Action::Deposed { .. } => process.confirm_at = None,
            Action::Changed => {}
        }
    }

    fn send(&self, now: u32, to: usize, addressee: Option<Instance>, body: Body, sent: &mut Sent) {
        let message = Message {
            from: name(self.at),
            instance: instance(self.at, self.starts),
            body,
        };
        sent.push(Letter {
            from: self.at,
            to,
            outline: Rc::new(Outline::of(&(addressee, &message), RELATIVE)),
            addressee,
            message: Rc::new(message),
            round: 0,
            slow: false,
            since: now,
        });
    }
}

impl Process {
    /// The term that is trusted at this moment.
    pub(super) fn trusts(&self, now: u32) -> Option<u64> {
        let vote = self.vote.machine();
        let until = vote.trusted_until()?;
        let Standing::Reigning { term } = vote.standing(reading(now, self.ahead, None)) else {
            return None;
        };
        (moment(now + self.ahead) < until).then_some(term)
    }
}

fn reading(now: u32, ahead: u32, defect: Option<Defect>) -> Reading {
    let jumped = if defect == Some(Defect::PromiseByJumpyClock) {
        ahead
    } else {
        0
    };
    Reading {
        now: moment(now + ahead),
        steady: moment(now + jumped),
        wall_millis: wall(now, defect),
    }
}

/// The wall clock, by which terms rise: how fast makes no difference.
pub(super) fn wall(now: u32, defect: Option<Defect>) -> u64 {
    if defect == Some(Defect::TermsFromOne) {
        return 0;
    }
    1_000 + u64::from(now)
}
