//! A member: the machine of a campaign, the driver around it, and its requests under way.

use coordinator_core::machine::lease::{Action, Config, Event, Lease, Patience};
use coordinator_core::trust::Trust;
use coordinator_core::{Claim, ClaimId, ErrorKind, FencingToken, Instance, Key, MemberId, Moment};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::store::Ask;
use super::{Defect, LINGER, MARGIN, TTL};
use crate::models::clock::{moment, span};
use crate::models::outline::{Fork, Outlined};

/// Where a request is, or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On the way, and at the store before time passes.
    Prompt,
    /// On the way for who knows how long.
    Slow,
    /// Answered; and the answer is on the way for who knows how long.
    Back(Event),
    /// Nowhere.
    Lost,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Of which of the node's attempts.
    pub(super) attempt: u32,
    pub(super) request: u64,
    pub(super) ask: Ask,
    pub(super) place: Place,
    /// When the driver stops waiting; `None`: it has.
    pub(super) deadline: Option<Moment>,
    /// When it was sent.
    pub(super) since: u32,
}

/// A machine's generator is always as new: so chance is the same everywhere, and at the grain of a
/// unit it makes no difference.
impl Fork for Lease {
    fn fork(&self) -> Self {
        self.fork(chance())
    }
}

fn chance() -> StdRng {
    StdRng::seed_from_u64(0)
}

/// What stands before the numbers that count back from others: the store's newest token, and the
/// newest request.
pub(super) const RELATIVE: &[&str] = &[
    "FencingToken(",
    "request: ",
    "requests: ",
    "in_flight: Some(",
];

/// A process that runs.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) campaign: Outlined<Lease>,
    /// The newest request of this campaign.
    pub(super) asked: u64,
    /// The term, and the end of trust in it.
    pub(super) term: Option<(FencingToken, Moment)>,
    pub(super) works: bool,
    pub(super) drains: bool,
    pub(super) asleep: bool,
}

/// A member, whether its process runs or not.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) process: Option<Process>,
    /// Attempts count through restarts.
    pub(super) attempt: u32,
    pub(super) calls: Vec<Call>,
}

/// What a step of a machine brought about, for the properties.
pub(super) type Elected = Vec<FencingToken>;

impl Process {
    fn new(now: Moment) -> Self {
        let ttl = span(TTL);
        let trust = Trust::with_margin(ttl, span(MARGIN)).unwrap_or_default();
        let instance = Instance::from_random(0);
        // The model tells the attempts apart; to the machine they are all alike.
        let (key, owner) = (Key::new("k"), MemberId::from("m"));
        let config = Config {
            claim: Claim::new(key, owner, instance, ClaimId::new(1), ttl),
            trust,
            patience: Patience::Wait,
            wakes: false,
            stall_limit: None,
        };
        Self {
            campaign: Outlined::new(Lease::new(config, now, chance()), RELATIVE),
            asked: 0,
            term: None,
            works: false,
            drains: false,
            asleep: false,
        }
    }

    pub(super) fn is_trusted(&self, now: Moment) -> bool {
        self.term.is_some_and(|(_, until)| now < until)
    }
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            process: None,
            attempt: 0,
            calls: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, now: u32) {
        self.attempt += 1;
        self.process = Some(Process::new(moment(now)));
    }

    /// What is in the network stays there, and nobody waits for it.
    pub(super) fn crash(&mut self) {
        self.process = None;
        self.calls.retain(|call| call.place == Place::Slow);
        for call in &mut self.calls {
            call.deadline = None;
        }
    }

    pub(super) fn awake(&self) -> Option<&Process> {
        self.process.as_ref().filter(|process| !process.asleep)
    }

    /// Whether something must happen here before time passes.
    pub(super) fn is_busy(&self) -> bool {
        let stopping = |process: &Process| process.works && process.term.is_none();
        self.calls.iter().any(|call| call.place == Place::Prompt)
            || self.awake().is_some_and(stopping)
    }

    /// Whatever the clock makes due: answers that did not come, and the machine's own deadlines.
    pub(super) fn settle(
        &mut self,
        now: u32,
        defect: Option<Defect>,
        elected: &mut Elected,
    ) -> Result<(), String> {
        self.calls
            .retain(|call| call.place == Place::Prompt || now < call.since + LINGER);
        while let Some(event) = self.due(moment(now)) {
            self.tell(now, event, defect, elected)?;
        }
        Ok(())
    }

    fn due(&mut self, now: Moment) -> Option<Event> {
        let deadline = self.awake()?.campaign.machine().deadline();
        let overdue = |call: &&mut Call| call.deadline.is_some_and(|deadline| now >= deadline);
        if let Some(call) = self.calls.iter_mut().find(overdue) {
            call.deadline = None;
            let (request, kind) = (call.request, ErrorKind::Indeterminate);
            self.calls
                .retain(|call| call.deadline.is_some() || call.place != Place::Lost);
            return Some(Event::Failed { request, kind });
        }
        deadline.is_some_and(|at| now >= at).then_some(Event::Tick)
    }

    /// An answer has come to the process, if it is the one that asked.
    pub(super) fn answer(
        &mut self,
        now: u32,
        at: usize,
        event: Event,
        defect: Option<Defect>,
        elected: &mut Elected,
    ) -> Result<(), String> {
        let Some(call) = self.calls.get(at).cloned() else {
            return Ok(());
        };
        if self.process.as_ref().is_some_and(|process| process.asleep) {
            self.calls[at].place = Place::Back(event);
            return Ok(());
        }
        self.calls.remove(at);
        if self.process.is_none() || call.attempt != self.attempt {
            return Ok(());
        }
        self.tell(now, event, defect, elected)
    }

    /// Feeds the machine, and does what it says.
    pub(super) fn tell(
        &mut self,
        now: u32,
        event: Event,
        defect: Option<Defect>,
        elected: &mut Elected,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let step = |lease: &mut Lease| lease.step(moment(now), event);
        let actions = process.campaign.change(step);
        process.campaign.machine().check()?;
        for action in actions {
            self.perform(now, &action, defect, elected)?;
        }
        Ok(())
    }

    fn perform(
        &mut self,
        now: u32,
        action: &Action,
        defect: Option<Defect>,
        elected: &mut Elected,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let until = |until: Moment| match defect {
            Some(Defect::TrustFromReply) => moment(now + TTL - MARGIN),
            _ => until,
        };
        match *action {
            Action::Acquire {
                request,
                floor,
                deadline,
            } => self.send(now, request, Ask::Acquire { floor }, deadline),
            Action::Renew {
                request,
                token,
                deadline,
            } => self.send(now, request, Ask::Renew { token }, deadline),
            Action::Release {
                request,
                token,
                next: _,
                deadline,
            } => {
                if process.works || process.term.is_some() {
                    return Err("a lease is released while its work may run (W1)".to_owned());
                }
                self.send(now, request, Ask::Release { token }, deadline);
            }
            Action::Elected { token, until: end } => {
                process.term = Some((token, until(end)));
                process.works = true;
                elected.push(token);
            }
            Action::Trust { until: end } => {
                if let Some((_, trusted)) = &mut process.term {
                    *trusted = until(end);
                }
            }
            Action::Lose { .. } => {
                process.term = None;
                process.drains = false;
            }
            // Hints may never come; and the work may stop whenever it likes.
            Action::WaitTurn | Action::Drain { .. } => {}
            Action::Finish(_) => self.start(now),
        }
        Ok(())
    }

    fn send(&mut self, now: u32, request: u64, ask: Ask, deadline: Moment) {
        if let Some(process) = &mut self.process {
            process.asked = request;
        }
        self.calls.push(Call {
            attempt: self.attempt,
            request,
            ask,
            place: Place::Prompt,
            deadline: Some(deadline),
            since: now,
        });
    }
}
