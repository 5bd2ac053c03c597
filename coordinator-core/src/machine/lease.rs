//! One campaign for a lease, and the term that follows it: the machine behind elections by lease,
//! and behind locks.
//!
//! It asks, holds, renews, drains, and gives back. Its safety is that of rules T1 to T6 (trust is
//! counted from before the request left; nothing revives it) and W1 to W6 (work stops, then trust
//! ends, then the lease is released). A new campaign is a new machine, with a claim of its own.

mod campaign;
mod protocol;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand::rngs::StdRng;

pub use self::protocol::{Action, Config, Event, Outcome, Patience};
use crate::backoff::Backoff;
use crate::errors::ErrorKind;
use crate::held::LostCause;
use crate::names::MemberId;
use crate::numbers::FencingToken;
use crate::time::Moment;
use crate::trust::Trust;

/// Hints that follow each other faster than this are slowed down: they may come for no reason.
const HINT_SPACING: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Not asking at the moment.
    Waiting { ask_at: Moment },
    /// An acquire is in flight.
    Asking { request: u64 },
    /// A grant came after its window had ended. It is ours, and trusted only once renewed (T3).
    Confirming {
        token: FencingToken,
        renewal: Renewal,
    },
    /// The term.
    Leading(Leading),
    /// The term has ended, and its work may still run.
    Ended {
        token: FencingToken,
        next: Option<MemberId>,
    },
    /// The lease is being given back.
    Releasing(Releasing),
    /// Nothing is left to do.
    Finished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Leading {
    token: FencingToken,
    until: Moment,
    renewal: Renewal,
    progress: Moment,
    draining: Option<Draining>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Draining {
    deadline: Moment,
    next: Option<MemberId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Releasing {
    token: FencingToken,
    next: Option<MemberId>,
    in_flight: Option<u64>,
    retry_at: Moment,
    give_up_at: Moment,
}

/// When to renew next, or which renewal is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    At(Moment),
    InFlight { request: u64, asked: Moment },
}

/// One campaign and its term. Performs nothing: [`Lease::step`] says what to do.
#[derive(Debug)]
pub struct Lease {
    config: Config,
    phase: Phase,
    random: StdRng,
    requests: u64,
    /// When the first acquire was sent that may have led to a grant we do not know of. A grant is
    /// trusted from here, for it may be the answer to any acquire since.
    asked: Option<Moment>,
    /// When the last acquire was sent that was meant: until a TTL later, a withdrawn campaign looks
    /// for a grant that it does not know of.
    meant: Moment,
    /// Whether an acquire before the present one got no answer: it may still take effect.
    unknown: bool,
    withdrawn: bool,
    retries: Backoff,
    hints: Backoff,
    hinted_at: Option<Moment>,
}

impl Lease {
    /// A campaign that asks at its first tick. `random` spreads retries.
    pub fn new(config: Config, now: Moment, random: StdRng) -> Self {
        Self {
            config,
            phase: Phase::Waiting { ask_at: now },
            random,
            requests: 0,
            asked: None,
            meant: now,
            unknown: false,
            withdrawn: false,
            retries: Backoff::new(Duration::from_millis(50), Duration::from_secs(2)),
            hints: Backoff::new(Duration::from_millis(10), Duration::from_secs(1)),
            hinted_at: None,
        }
    }

    /// The same machine once more, which draws from another generator: for those who explore in
    /// how many ways a campaign can go on.
    pub fn fork(&self, random: StdRng) -> Self {
        Self {
            config: self.config.clone(),
            phase: self.phase.clone(),
            random,
            requests: self.requests,
            asked: self.asked,
            meant: self.meant,
            unknown: self.unknown,
            withdrawn: self.withdrawn,
            retries: self.retries.clone(),
            hints: self.hints.clone(),
            hinted_at: self.hinted_at,
        }
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        // A deadline that has passed comes before whatever else is reported: an answer that was
        // in the queue when trust ended extends nothing (T2).
        let mut actions = Vec::new();
        self.tick(now, &mut actions);
        match event {
            Event::Tick => {}
            Event::Turn => self.turn(now, &mut actions),
            Event::Alarm => self.alarmed(now, &mut actions),
            Event::Withdraw => self.withdraw(now, &mut actions),
            Event::Granted { request, token } => self.granted(now, request, token, &mut actions),
            Event::Held { request, holder } => self.held(now, request, holder, &mut actions),
            Event::Renewed { request } => self.renewed(now, request, &mut actions),
            Event::Gone { request } => self.gone(now, request, &mut actions),
            Event::Released { request } => self.released(request, &mut actions),
            Event::Failed { request, kind } => self.failed(now, request, kind, &mut actions),
            Event::Progress { at } => self.progressed(at),
            Event::Drain { within, next } => self.drain(now + within, next, &mut actions),
            Event::TrustEnded { cause } => self.lose(cause, &mut actions),
            Event::WorkStopped => self.work_stopped(now, &mut actions),
        }
        actions
    }

    /// When the driver must next deliver [`Event::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Waiting { ask_at } => Some(*ask_at),
            Phase::Confirming {
                renewal: Renewal::At(at),
                ..
            } => Some(*at),
            Phase::Leading(term) => Some(term.deadline()),
            Phase::Releasing(Releasing {
                in_flight: None,
                retry_at,
                ..
            }) => Some(*retry_at),
            // Replies come by their own deadlines; the end of the work is the driver's to tell.
            Phase::Asking { .. }
            | Phase::Confirming { .. }
            | Phase::Releasing(_)
            | Phase::Ended { .. }
            | Phase::Finished => None,
        }
    }

    /// What must hold after every step.
    ///
    /// # Errors
    /// A sentence that names what does not hold.
    pub fn check(&self) -> Result<(), String> {
        let Phase::Leading(term) = &self.phase else {
            return Ok(());
        };
        match (self.asked, term.renewal) {
            (Some(asked), _) => Err(format!("leads, and still counts the acquire of {asked:?}")),
            (None, Renewal::InFlight { asked, .. })
                if self.config.trust.until(asked) < term.until =>
            {
                Err(format!(
                    "trusts until {:?}, further than the renewal of {asked:?}",
                    term.until
                ))
            }
            (None, Renewal::InFlight { .. } | Renewal::At(_)) => Ok(()),
        }
    }

    fn tick(&mut self, now: Moment, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::Waiting { ask_at } if now >= *ask_at => self.ask(now, actions),
            Phase::Confirming {
                token,
                renewal: Renewal::At(at),
            } if now >= *at => {
                self.confirm(now, *token, actions);
            }
            Phase::Leading(_) => self.tick_term(now, actions),
            Phase::Releasing(Releasing {
                in_flight: None,
                retry_at,
                give_up_at,
                ..
            }) if now >= *retry_at => {
                let by = *give_up_at;
                if now >= by {
                    self.finish(Outcome::Unconfirmed { by }, actions);
                } else {
                    self.send_release(now, actions);
                }
            }
            Phase::Waiting { .. }
            | Phase::Asking { .. }
            | Phase::Confirming { .. }
            | Phase::Ended { .. }
            | Phase::Releasing(_)
            | Phase::Finished => {}
        }
    }

    /// The deadlines of a term: the end of trust first, for it is the promise.
    fn tick_term(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Leading(term) = &self.phase else {
            return;
        };
        let (token, until) = (term.token, term.until);
        let stalled = self.stalled(now, term);
        if now >= until {
            let cause = if stalled {
                LostCause::Stalled
            } else {
                LostCause::Expired
            };
            return self.lose(cause, actions);
        }
        if term
            .draining
            .as_ref()
            .is_some_and(|draining| now >= draining.deadline)
        {
            return self.lose(LostCause::Overran, actions);
        }
        let Renewal::At(at) = term.renewal else {
            return;
        };
        if now < at {
            return;
        }
        let renewal = if stalled {
            // Look again soon: the lease is saved if progress resumes before trust ends.
            Renewal::At((now + self.config.trust.look_every()).min(until))
        } else {
            self.renew(now, token, until, actions)
        };
        if let Phase::Leading(term) = &mut self.phase {
            term.renewal = renewal;
        }
    }

    /// W3. A drain is bounded by its own deadline instead.
    fn stalled(&self, now: Moment, term: &Leading) -> bool {
        let limit = self.config.stall_limit.filter(|_| term.draining.is_none());
        limit.is_some_and(|limit| now.since(term.progress) > limit)
    }

    /// Whether no acquire that was meant can have left a grant behind: a TTL after the last one,
    /// any such grant has ended by itself.
    fn is_settled(&self, now: Moment) -> bool {
        self.asked.is_none() || now.since(self.meant) >= self.config.trust.ttl()
    }

    fn lead(&mut self, now: Moment, token: FencingToken, until: Moment, actions: &mut Vec<Action>) {
        let renewal = self.renewal_after(until, now);
        self.asked = None;
        self.retries.reset();
        // The first alarm of a term is heeded at once.
        self.hinted_at = None;
        self.phase = Phase::Leading(Leading {
            token,
            until,
            renewal,
            progress: now,
            draining: None,
        });
        actions.push(Action::Elected { token, until });
    }

    /// Asks now whether the term lasts. A renewal in flight will tell; and only its answer, or the end
    /// of the window, ends a term.
    fn alarmed(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Phase::Leading(Leading {
            renewal: Renewal::At(at),
            ..
        }) = self.phase
        else {
            return;
        };
        let heeded = now + self.hint_pause(now);
        self.set_renewal(Renewal::At(heeded.min(at)));
        self.tick(now, actions);
    }

    /// The next renewal, a third of the TTL after the request that trust until `until` rests on.
    fn renewal_after(&self, until: Moment, now: Moment) -> Renewal {
        let asked = until - self.config.trust.window();
        Renewal::At((asked + self.config.trust.renew_every()).max(now))
    }

    /// T4: of the window there is and the renewed one, the later end holds.
    fn renewed(&mut self, now: Moment, request: u64, actions: &mut Vec<Action>) {
        let Some(asked) = self.renewal_asked(request) else {
            return;
        };
        let renewed_until = self.config.trust.until(asked);
        match &mut self.phase {
            Phase::Confirming { token, .. } => {
                let token = *token;
                if now < renewed_until {
                    self.lead(now, token, renewed_until, actions);
                } else {
                    // So slow that the renewal's window has passed as well: once more.
                    self.confirm(now, token, actions);
                }
            }
            Phase::Leading(term) => {
                // Windows only grow (T4). That this one had not ended, the tick has checked.
                let until = term.until.max(renewed_until);
                term.until = until;
                let renewal = self.renewal_after(until, now);
                self.retries.reset();
                self.set_renewal(renewal);
                actions.push(Action::Trust { until });
            }
            Phase::Waiting { .. }
            | Phase::Asking { .. }
            | Phase::Ended { .. }
            | Phase::Releasing(_)
            | Phase::Finished => {}
        }
    }

    fn gone(&mut self, now: Moment, request: u64, actions: &mut Vec<Action>) {
        if self.renewal_asked(request).is_none() {
            return;
        }
        if let Phase::Leading(_) = self.phase {
            return self.lose(LostCause::Superseded, actions);
        }
        // The grant ended before it was trusted: campaign on.
        self.asked = None;
        self.unknown = false;
        match self.config.patience {
            Patience::Once => self.finish(Outcome::NoAnswer(ErrorKind::Unavailable), actions),
            Patience::Wait => self.phase = Phase::Waiting { ask_at: now },
        }
    }

    /// When the renewal in flight was asked for, if `request` is that one. A term that has ended
    /// has none, so that nothing revives it (T2).
    fn renewal_asked(&self, request: u64) -> Option<Moment> {
        let (Phase::Confirming { renewal, .. } | Phase::Leading(Leading { renewal, .. })) =
            &self.phase
        else {
            return None;
        };
        match renewal {
            Renewal::InFlight {
                request: sent,
                asked,
            } if *sent == request => Some(*asked),
            Renewal::InFlight { .. } | Renewal::At(_) => None,
        }
    }

    fn set_renewal(&mut self, next: Renewal) {
        if let Phase::Confirming { renewal, .. } | Phase::Leading(Leading { renewal, .. }) =
            &mut self.phase
        {
            *renewal = next;
        }
    }

    fn failed(&mut self, now: Moment, request: u64, kind: ErrorKind, actions: &mut Vec<Action>) {
        if self.phase == (Phase::Asking { request }) {
            return self.ask_failed(now, kind, actions);
        }
        if self.renewal_asked(request).is_some() {
            // Not renewed is all that an unknown outcome means (T6).
            let pause = self.retries.next(&mut self.random);
            return self.set_renewal(Renewal::At(now + pause.min(self.config.trust.look_every())));
        }
        let pause = self.retries.next(&mut self.random);
        if let Phase::Releasing(releasing) = &mut self.phase
            && releasing.in_flight == Some(request)
        {
            releasing.in_flight = None;
            releasing.retry_at = (now + pause).min(releasing.give_up_at);
        }
    }

    fn progressed(&mut self, at: Moment) {
        if let Phase::Leading(term) = &mut self.phase {
            term.progress = term.progress.max(at);
        }
    }

    /// Asked twice, the earlier deadline holds, and the latest wish for a successor. The end of trust
    /// comes before either (W2).
    fn drain(&mut self, deadline: Moment, next: Option<MemberId>, actions: &mut Vec<Action>) {
        let Phase::Leading(term) = &mut self.phase else {
            return;
        };
        match &mut term.draining {
            Some(draining) => {
                draining.next = next.or(draining.next.take());
                if deadline >= draining.deadline {
                    return;
                }
                draining.deadline = deadline;
            }
            None => term.draining = Some(Draining { deadline, next }),
        }
        actions.push(Action::Drain { deadline });
    }

    fn work_stopped(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // W1: the work has stopped, so trust ends, so the lease may be released.
        self.lose(LostCause::Released, actions);
        if let Phase::Ended { token, next } = &self.phase {
            let (token, next) = (*token, next.clone());
            self.release(now, token, next, actions);
        }
    }

    /// The term is over; the work may still run, so nothing is released yet (W1).
    fn lose(&mut self, cause: LostCause, actions: &mut Vec<Action>) {
        let Phase::Leading(term) = &mut self.phase else {
            return;
        };
        let next = term.draining.take().and_then(|draining| draining.next);
        self.phase = Phase::Ended {
            token: term.token,
            next,
        };
        actions.push(Action::Lose { cause });
    }

    fn release(
        &mut self,
        now: Moment,
        token: FencingToken,
        next: Option<MemberId>,
        actions: &mut Vec<Action>,
    ) {
        // After a TTL the lease has ended by itself, and asking on would be for nothing.
        let give_up_at = now + Trust::surely(self.config.trust.ttl());
        self.retries.reset();
        let releasing = Releasing {
            token,
            next,
            in_flight: None,
            retry_at: now,
            give_up_at,
        };
        self.phase = Phase::Releasing(releasing);
        self.send_release(now, actions);
    }

    fn send_release(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let request = self.next_request();
        let patience = self.config.trust.renew_every();
        let Phase::Releasing(releasing) = &mut self.phase else {
            return;
        };
        releasing.in_flight = Some(request);
        actions.push(Action::Release {
            request,
            token: releasing.token,
            next: releasing.next.clone(),
            deadline: (now + patience).min(releasing.give_up_at),
        });
    }

    fn released(&mut self, request: u64, actions: &mut Vec<Action>) {
        if let Phase::Releasing(releasing) = &self.phase
            && releasing.in_flight == Some(request)
        {
            self.finish(Outcome::Released, actions);
        }
    }

    /// Sends a renewal. Its answer is waited for less long than the whole window, so that a lost
    /// one leaves time to ask again; and never beyond `end`.
    fn renew(
        &mut self,
        now: Moment,
        token: FencingToken,
        end: Moment,
        actions: &mut Vec<Action>,
    ) -> Renewal {
        let request = self.next_request();
        let deadline = (now + self.config.trust.renew_every()).min(end);
        actions.push(Action::Renew {
            request,
            token,
            deadline,
        });
        Renewal::InFlight {
            request,
            asked: now,
        }
    }

    fn finish(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.phase = Phase::Finished;
        actions.push(Action::Finish(outcome));
    }

    fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }
}

impl Leading {
    fn deadline(&self) -> Moment {
        let renew_at = match self.renewal {
            Renewal::At(at) => at,
            Renewal::InFlight { .. } => self.until,
        };
        let drained = self
            .draining
            .as_ref()
            .map_or(self.until, |draining| draining.deadline);
        renew_at.min(self.until).min(drained)
    }
}
