//! Drives one lease machine over a lock backend: one task from the wish to the last reply (W6).

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::lease::{
    Action, Config, Event, Lease as Machine, Outcome, Patience,
};
use coordinator_core::trust::Trust;
use coordinator_core::{
    BoxError, Claim, ErrorKind, FencingToken, Key, Lease, LockBackend, LockError, LostCause,
    MemberId, Moment,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, trace};

use super::requests::{Answer as Answered, Reply, Requests};
use super::{Grip, GripParts};
use crate::context::{Context, WorkTicket};
use crate::errors::AcquireError;
use crate::tasks::sleep_until;
use crate::telemetry;
use crate::watch;

/// What to campaign for, and how.
#[derive(Clone)]
pub(crate) struct CampaignConfig {
    pub(crate) key: Key,
    /// What users, logs and metrics call it: `election/scheduler`.
    pub(crate) name: String,
    /// The metrics' label: bounded, even where names are not.
    pub(crate) label: String,
    pub(crate) trust: Trust,
    pub(crate) patience: Patience,
    pub(crate) stall_limit: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) floor: Option<FencingToken>,
    /// Told of each term that begins or ends here, so that observers look at once.
    pub(crate) changed: Arc<Notify>,
}

/// A wish to drain one term.
#[derive(Debug)]
struct DrainWish {
    next: Option<MemberId>,
}

/// The lease; `None`: asked once, and held by another.
pub(crate) type Answer = Result<Option<HeldLease>, AcquireError>;

/// A campaign under way. Dropping it gives the place up; the driver hands back a grant under way.
#[must_use]
pub(crate) struct Campaign {
    elected: oneshot::Receiver<Answer>,
    _withdraw: DropGuard,
}

impl Campaign {
    /// Starts the driver.
    pub(crate) fn start(
        context: &Arc<Context>,
        locks: &Arc<dyn LockBackend>,
        config: CampaignConfig,
    ) -> Self {
        let (send, elected) = oneshot::channel();
        let withdraw = CancellationToken::new();
        let driver = Driver::new(context, locks, config, withdraw.clone(), send);
        // The driver ends by itself: it is bounded by the lease's own TTL, and by `stopping`.
        drop(context.tasks.spawn(driver.run()));
        Self {
            elected,
            _withdraw: withdraw.drop_guard(),
        }
    }

    /// Waits for the lease. Cancel safe: dropped, it gives the place up.
    pub(crate) async fn elected(mut self, name: &str) -> Answer {
        let answer = (&mut self.elected).await;
        answer.unwrap_or_else(|_| {
            Err(AcquireError::ShuttingDown {
                name: name.to_owned(),
            })
        })
    }
}

/// A lease that is held. Dropping it says that the work has stopped, and so releases it.
pub(crate) struct HeldLease {
    grip: Arc<Grip>,
    finished: watch::Receiver<Option<Outcome>>,
    drain: mpsc::Sender<DrainWish>,
    /// Dropped with the guard, in a panic too: so the driver learns that the work has stopped (W5).
    gone: Option<DropGuard>,
    ttl: Duration,
}

impl HeldLease {
    /// How long the store keeps it without a renewal.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) fn grip(&self) -> &Arc<Grip> {
        &self.grip
    }

    /// How to end the term from outside, and to know when it has ended.
    pub(crate) fn control(&self) -> TermControl {
        TermControl {
            drain: self.drain.clone(),
            finished: self.finished.clone(),
        }
    }

    /// Says that the work has stopped.
    pub(crate) fn stop(&mut self) {
        drop(self.gone.take());
    }
}

impl std::fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.grip.fmt(f)
    }
}

/// Ends a term from outside its guard.
#[derive(Clone)]
pub(crate) struct TermControl {
    drain: mpsc::Sender<DrainWish>,
    finished: watch::Receiver<Option<Outcome>>,
}

impl TermControl {
    /// Asks the work to finish, and keeps the lease for `next` after that.
    pub(crate) fn drain(&self, next: Option<MemberId>) {
        // Full or closed: a wish is pending already, or the term has ended.
        drop(self.drain.try_send(DrainWish { next }));
    }

    /// Whether the term has ended, and the store knows it, or nothing is left to try.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished.borrow().is_some()
    }

    /// Waits until the store knows of the end, or nothing is left to try. `None`: the driver is
    /// gone without having got that far.
    pub(crate) async fn finished(&mut self) -> Option<Outcome> {
        self.finished
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone())
    }
}

struct Driver {
    context: Arc<Context>,
    config: CampaignConfig,
    machine: Machine,
    requests: Requests,
    elected: Option<oneshot::Sender<Answer>>,
    withdraw: CancellationToken,
    gone: CancellationToken,
    drain: mpsc::Receiver<DrainWish>,
    drain_sender: mpsc::Sender<DrainWish>,
    finished: watch::Sender<Option<Outcome>>,
    grip: Option<Arc<Grip>>,
    work: Option<WorkTicket>,
    closing: Option<WorkTicket>,
    error: Option<LockError>,
    wished_at: Moment,
    lost: bool,
    done: bool,
}

/// What woke the driver.
enum Woken {
    Answer(Answered),
    Deadline,
    WorkStopped,
    Withdraw,
    Drain(Option<MemberId>),
    Stop,
}

impl Driver {
    fn new(
        context: &Arc<Context>,
        locks: &Arc<dyn LockBackend>,
        config: CampaignConfig,
        withdraw: CancellationToken,
        elected: oneshot::Sender<Answer>,
    ) -> Self {
        let claim = Claim::new(
            config.key.clone(),
            context.me.clone(),
            context.instance,
            context.next_claim(),
            config.trust.ttl(),
        )
        .floor(config.floor);
        let machine = Machine::new(
            Config {
                claim: claim.clone(),
                trust: config.trust,
                patience: config.patience,
                wakes: locks.capabilities().wakes,
                stall_limit: config.stall_limit,
            },
            context.now(),
            context.fork_random(),
        );
        let look_every = config.trust.look_every();
        let label = config.label.clone();
        let requests = Requests::new(context, locks, claim, look_every, label);
        let (drain_sender, drain) = mpsc::channel(4);
        Self {
            context: context.clone(),
            config,
            machine,
            requests,
            elected: Some(elected),
            withdraw,
            gone: CancellationToken::new(),
            drain,
            drain_sender,
            finished: watch::Sender::new(None),
            grip: None,
            work: None,
            closing: None,
            error: None,
            wished_at: context.now(),
            lost: false,
            done: false,
        }
    }

    async fn run(mut self) {
        let (mut withdrawn, mut stopped, mut draining) = (false, false, false);
        self.dispatch(Event::Tick);
        while !self.done {
            match self.wake(withdrawn, stopped, draining).await {
                Woken::Answer(Answered::Reply(reply)) => self.replied(reply),
                Woken::Deadline => self.tick(),
                Woken::WorkStopped => {
                    stopped = true;
                    self.dispatch(Event::WorkStopped);
                    self.work = None;
                }
                Woken::Withdraw => {
                    withdrawn = true;
                    self.requests.stop_waiting();
                    self.dispatch(Event::Withdraw);
                }
                Woken::Drain(next) => {
                    draining |= self.context.draining.is_cancelled();
                    self.drain(next);
                }
                // Without a hint, the machine asks again by its own timer.
                Woken::Answer(Answered::Hint(Err(_)) | Answered::Alarm(Err(_))) => {}
                Woken::Answer(Answered::Alarm(Ok(()))) => self.dispatch(Event::Alarm),
                Woken::Answer(Answered::Hint(Ok(()))) => self.dispatch(Event::Turn),
                Woken::Stop => self.abandon(),
            }
        }
    }

    /// The order matters: first answers, of which one may prolong our trust; then deadlines, which
    /// must hold however many wishes come.
    async fn wake(&mut self, withdrawn: bool, stopped: bool, draining: bool) -> Woken {
        let deadline = self.machine.deadline();
        let look_every = self.config.trust.look_every();
        tokio::select! {
            biased;
            () = self.context.stopping.cancelled() => Woken::Stop,
            answer = self.requests.next() => Woken::Answer(answer),
            () = sleep_until(&*self.context.clock, deadline, look_every) => Woken::Deadline,
            () = self.gone.cancelled(), if !stopped => Woken::WorkStopped,
            () = self.withdraw.cancelled(), if !withdrawn && self.grip.is_none() => Woken::Withdraw,
            () = self.context.draining.cancelled(), if !draining => Woken::Drain(None),
            Some(wish) = self.drain.recv() => Woken::Drain(wish.next),
        }
    }

    fn replied(&mut self, reply: Reply) {
        self.note(&reply);
        self.error = reply.error.or(self.error.take());
        if let Event::Failed { kind, .. } = reply.event
            && self.grip.is_none()
        {
            self.refuse(kind);
        }
        self.dispatch(reply.event);
    }

    fn tick(&mut self) {
        if let Some(grip) = &self.grip {
            let at = grip.last_progress();
            self.dispatch(Event::Progress { at });
        }
        self.dispatch(Event::Tick);
    }

    /// Asked to finish: by shutdown, by transfer. A campaign that leads nothing is given up.
    fn drain(&mut self, next: Option<MemberId>) {
        if self.grip.is_some() {
            let within = self.config.drain_timeout;
            return self.dispatch(Event::Drain { within, next });
        }
        if self.context.draining.is_cancelled() {
            let name = self.config.name.clone();
            self.answer(Err(AcquireError::ShuttingDown { name }));
            self.dispatch(Event::Withdraw);
        }
    }

    /// The node ends at once, and with it whatever work did not end in time: what is held runs out
    /// by itself, for nobody has said that the work has stopped.
    fn abandon(&mut self) {
        if let Some(grip) = self.grip.clone() {
            self.lose(&grip, LostCause::Overran);
        }
        let by = self.context.now() + Trust::surely(self.config.trust.ttl());
        self.finish(Outcome::Unconfirmed { by });
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.context.now();
        trace!(key = %self.config.key, ?event, "lease event");
        for action in self.machine.step(now, event) {
            trace!(key = %self.config.key, ?action, "lease action");
            self.perform(action);
        }
    }

    /// Sets a request going. Its answer comes back as an event of its own.
    fn perform(&mut self, action: Action) {
        match action {
            Action::Acquire {
                request,
                floor,
                deadline,
            } => {
                self.requests.acquire(request, floor, deadline);
            }
            Action::WaitTurn => self.requests.wait_turn(),
            Action::Renew {
                request,
                token,
                deadline,
            } => self.requests.renew(request, token, deadline),
            Action::Release {
                request,
                token,
                next,
                deadline,
            } => {
                self.requests.release(request, token, next, deadline);
            }
            Action::Elected { token, until } => self.lead(token, until),
            Action::Trust { until } => {
                let extended = self.grip.as_ref().map_or(Ok(()), |grip| grip.extend(until));
                if let Err(lost) = extended {
                    // Its guard saw the end of trust between our reading of the clock and now.
                    self.dispatch(Event::TrustEnded { cause: lost.cause });
                } else if let Some(grip) = &self.grip {
                    // Only after an answer: an alarm that rings for no reason costs no more than that.
                    let token = grip.terms().token;
                    self.requests.listen(token);
                }
            }
            Action::Drain { deadline } => {
                debug!(key = %self.config.key, in_ = ?deadline.since(self.context.now()), "draining");
                if let Some(grip) = &self.grip {
                    grip.drain();
                }
            }
            Action::Lose { cause } => {
                if let Some(grip) = self.grip.clone() {
                    self.lose(&grip, cause);
                }
            }
            Action::Finish(outcome) => self.finish(outcome),
        }
    }

    /// Logs and counts an answer, and keeps an error for who waits.
    fn note(&mut self, reply: &Reply) {
        let outcome = match &reply.event {
            Event::Renewed { .. } => "renewed",
            Event::Gone { .. } => "lost",
            Event::Failed { .. } => "failed",
            _ => "",
        };
        if self.grip.is_some() && !outcome.is_empty() {
            let labels = [("key", self.config.label.as_str()), ("outcome", outcome)];
            telemetry::count(telemetry::RENEWALS, 1, &labels);
        }
        if let Event::Failed { kind, .. } = reply.event {
            let error = reply.error.as_ref().map(ToString::to_string);
            debug!(key = %self.config.key, ?kind, error, "no answer");
        }
    }

    /// Tells who waits, if there is no hope, or no patience. The machine goes on to hand back what
    /// may have been granted.
    fn refuse(&mut self, kind: ErrorKind) {
        let name = self.config.name.clone();
        if kind == ErrorKind::Rejected {
            let source = self.take_error();
            self.answer(Err(AcquireError::Rejected { name, source }));
        } else if self.config.patience == Patience::Once {
            let source = self.take_error();
            self.answer(Err(AcquireError::Unavailable { name, source }));
        }
    }

    fn take_error(&mut self) -> BoxError {
        match self.error.take() {
            Some(error) => Box::new(error),
            None => "the store did not answer in time".into(),
        }
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(elected) = self.elected.take() {
            // Nobody waits any more: a lease among it is dropped, and so released.
            drop(elected.send(answer));
        }
    }

    fn lead(&mut self, token: FencingToken, until: Moment) {
        let CampaignConfig {
            key,
            name,
            label,
            trust,
            stall_limit,
            ..
        } = &self.config;
        let waited = self.context.now().since(self.wished_at);
        info!(group = %self.context.group, member = %self.context.me, %key, %token, ?waited, "elected");
        let labels = [("key", label.as_str())];
        telemetry::count(telemetry::TERMS, 1, &labels);
        telemetry::gauge(telemetry::LEADING, 1.0, &labels);
        telemetry::observe(telemetry::ACQUIRE_SECONDS, waited.as_secs_f64(), &labels);
        let grip = Grip::new(GripParts {
            lease: Lease::new(
                key.clone(),
                self.context.me.clone(),
                token,
                self.requests.store(),
            ),
            clock: self.context.clock.clone(),
            look_every: trust.look_every(),
            stall_limit: *stall_limit,
            until,
        });
        self.requests.stop_waiting();
        self.requests.listen(token);
        self.work = Some(
            self.context
                .work
                .begin(name.clone(), self.config.drain_timeout),
        );
        self.closing = Some(self.context.closing.begin(name.clone(), trust.ttl()));
        self.grip = Some(grip.clone());
        self.config.changed.notify_waiters();
        self.answer(Ok(Some(HeldLease {
            grip,
            finished: self.finished.subscribe(),
            drain: self.drain_sender.clone(),
            gone: Some(self.gone.clone().drop_guard()),
            ttl: self.config.trust.ttl(),
        })));
        if self.context.draining.is_cancelled() {
            self.drain(None);
        }
    }

    /// Ends the term, once: the first cause counts (W6), also if the guard saw it before us.
    fn lose(&mut self, grip: &Grip, cause: LostCause) {
        if std::mem::replace(&mut self.lost, true) {
            return;
        }
        self.requests.stop_listening();
        let cause = grip.lose(cause);
        let CampaignConfig { key, label, .. } = &self.config;
        let token = grip.terms().token;
        info!(group = %self.context.group, member = %self.context.me, %key, %token, %cause, "lost");
        let cause = cause.to_string();
        telemetry::count(
            telemetry::TERMS_LOST,
            1,
            &[("key", label), ("cause", &cause)],
        );
        telemetry::gauge(telemetry::LEADING, 0.0, &[("key", label)]);
        self.config.changed.notify_waiters();
    }

    fn finish(&mut self, outcome: Outcome) {
        debug!(key = %self.config.key, ?outcome, "campaign finished");
        self.refuse_by(&outcome);
        self.work = None;
        self.closing = None;
        self.config.changed.notify_waiters();
        self.finished.send_replace(Some(outcome));
        self.done = true;
    }

    /// Tells who still waits why nothing came.
    fn refuse_by(&mut self, outcome: &Outcome) {
        let name = self.config.name.clone();
        let answer = match outcome {
            Outcome::HeldBy(_) => Ok(None),
            Outcome::NoAnswer(ErrorKind::Rejected) => Err(AcquireError::Rejected {
                name,
                source: self.take_error(),
            }),
            Outcome::NoAnswer(_) => Err(AcquireError::Unavailable {
                name,
                source: self.take_error(),
            }),
            Outcome::Withdrawn | Outcome::Released | Outcome::Unconfirmed { .. } => {
                Err(AcquireError::ShuttingDown { name })
            }
        };
        self.answer(answer);
    }
}
