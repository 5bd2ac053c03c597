//! Drives one planner machine: campaigns, asks the stores, and tells what was planned.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use coordinator_core::machine::lease::Patience;
use coordinator_core::machine::planner::{
    EvictCause, PlannedSwap, Planner, PlannerAction as Action, PlannerConfig,
    PlannerEvent as Event, ResignCause, Summary,
};
use coordinator_core::{
    Epoch, FencingToken, Key, Keyspace, Life, MemoryId, Moment, Strategy, Swapped,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, trace, warn};

use super::requests::{Requests, Stores};
use crate::context::Context;
use crate::errors::AcquireError;
use crate::lease::{Campaign, CampaignConfig, HeldLease};
use crate::members::{Membership, Standing, WantsReports};
use crate::tasks::sleep_until;
use crate::telemetry;
use crate::watch;

type Elected = Pin<Box<dyn Future<Output = Result<Option<HeldLease>, AcquireError>> + Send>>;

/// Where the driver stands with the planner's lease.
enum Seat {
    /// It does not campaign before this.
    Resting(Moment),
    Campaigning(Elected),
    Leading {
        held: HeldLease,
        _wants_reports: WantsReports,
    },
}

/// A plan whose answer is awaited.
struct Pending {
    request: u64,
    summary: Summary,
}

pub(super) struct Driver {
    context: Arc<Context>,
    membership: Membership,
    stores: Stores,
    keyspace: Keyspace,
    machine: Planner,
    requests: Requests,
    seat: Seat,
    /// The highest token of any planner that we know of (K1).
    floor: Option<FencingToken>,
    standing: watch::Receiver<Standing>,
    /// The end of trust in the membership, when it was last looked at: it moves with each answered
    /// heartbeat.
    trusted_until: Option<Moment>,
    memory: Option<MemoryId>,
    pending: Option<Pending>,
    end: CancellationToken,
    /// Asked to end: the last answer is still awaited.
    ending: bool,
}

enum Woken {
    Event(Event),
    Deadline,
    Lost,
    Elected(Result<Option<HeldLease>, AcquireError>),
    Standing(bool),
    End,
    Stop,
}

impl Driver {
    pub(super) fn new(
        context: &Arc<Context>,
        membership: &Membership,
        stores: Stores,
        config: PlannerConfig,
        strategy: Arc<dyn Strategy>,
        end: CancellationToken,
    ) -> Self {
        let mut standing = membership.standing();
        standing.mark_changed();
        let keyspace = config.keyspace.clone();
        Self {
            requests: Requests::new(context, stores.clone(), keyspace.clone()),
            machine: Planner::new(config, strategy),
            seat: Seat::Resting(context.now()),
            context: context.clone(),
            membership: membership.clone(),
            stores,
            keyspace,
            floor: None,
            standing,
            trusted_until: None,
            memory: None,
            pending: None,
            end,
            ending: false,
        }
    }

    /// Runs until it is no longer wanted: then it gives the lease back, when the last swap is
    /// answered.
    pub(super) async fn run(mut self) {
        while !(self.ending && self.requests.is_idle()) {
            match self.wake().await {
                Woken::Event(event) => self.answered(event),
                Woken::Deadline => self.tick(),
                Woken::Lost => self.lose(),
                Woken::Elected(answer) => self.elected(answer),
                Woken::Standing(true) => self.follow_standing(),
                Woken::End => self.end(),
                Woken::Standing(false) | Woken::Stop => break,
            }
        }
    }

    /// Biased, in order of importance: what is lost, then answers, deadlines, news.
    async fn wake(&mut self) -> Woken {
        let context = &self.context;
        let rest = match &self.seat {
            Seat::Resting(until) if self.trusted_until.is_some() && !self.ending => Some(*until),
            Seat::Resting(_) | Seat::Campaigning(_) | Seat::Leading { .. } => None,
        };
        let deadline = self.machine.deadline().into_iter().chain(rest).min();
        let look_every = context.trust.look_every();
        let (elected, grip) = match &mut self.seat {
            Seat::Resting(_) => (None, None),
            Seat::Campaigning(elected) => (Some(elected), None),
            Seat::Leading { held, .. } => (None, Some(held.grip().clone())),
        };
        let elected = async {
            match elected {
                Some(elected) => elected.await,
                None => pending().await,
            }
        };
        let lost = async {
            match grip {
                Some(grip) => grip.lost().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = context.stopping.cancelled() => Woken::Stop,
            _ = lost => Woken::Lost,
            () = self.end.cancelled(), if !self.ending => Woken::End,
            () = context.draining.cancelled(), if !self.ending => Woken::End,
            event = self.requests.next() => Woken::Event(event),
            () = sleep_until(&*context.clock, deadline, look_every) => Woken::Deadline,
            answer = elected => Woken::Elected(answer),
            changed = self.standing.changed() => Woken::Standing(changed.is_ok()),
        }
    }

    fn tick(&mut self) {
        if let Seat::Resting(until) = self.seat
            && self.trusted_until.is_some()
            && self.context.now() >= until
            && !self.ending
        {
            self.campaign();
        }
        self.dispatch(Event::Tick);
    }

    /// Every answered heartbeat moves the end of trust.
    fn follow_standing(&mut self) {
        let standing = self.standing.borrow_and_update().clone();
        let until = standing.life.map(|(_, until)| until);
        let answered = until.is_some() && until != self.trusted_until;
        let news = standing.memory != self.memory;
        self.trusted_until = until;
        self.memory.clone_from(&standing.memory);
        if let Some(memory) = standing.memory
            && (answered || news)
        {
            // This planner may be younger than the outage that its process has lived through.
            if let Some(at) = standing.back_since {
                self.machine.came_back(at);
            }
            self.dispatch(Event::Beat { memory });
        }
    }

    /// Campaigns under the keyspace's own key: only members that serve it do.
    fn campaign(&mut self) {
        let name = format!("planner/{}", self.keyspace);
        let config = CampaignConfig {
            key: Key::scoped(&self.context.group, "planner", self.keyspace.as_str()),
            label: name.clone(),
            name: name.clone(),
            trust: self.context.trust,
            patience: Patience::Wait,
            stall_limit: None,
            drain_timeout: self.context.drain_timeout,
            floor: self.floor,
            changed: Arc::new(Notify::new()),
        };
        let campaign = Campaign::start(&self.context, &self.stores.locks, config);
        self.seat = Seat::Campaigning(Box::pin(async move { campaign.elected(&name).await }));
    }

    fn elected(&mut self, answer: Result<Option<HeldLease>, AcquireError>) {
        match answer {
            Ok(Some(held)) => {
                let token = held.grip().terms().token;
                self.floor = self.floor.max(Some(token));
                self.seat = Seat::Leading {
                    held,
                    _wants_reports: self.membership.want_reports(),
                };
                debug!(keyspace = %self.keyspace, member = %self.context.me, %token, "planning");
                self.gauge(1.0);
                self.dispatch(Event::Leading { token });
            }
            // A campaign that waits never ends so.
            Ok(None) => self.rest(self.context.trust.ttl()),
            Err(error) => {
                // While the node drains, this is as it should be.
                debug!(keyspace = %self.keyspace, error = %error, "no planner's lease");
                self.rest(self.context.trust.ttl() * 3);
            }
        }
    }

    /// The lease is lost: what is under way stays safe by the swap's own checks (S2).
    fn lose(&mut self) {
        self.dispatch(Event::Lost);
        self.rest(std::time::Duration::ZERO);
    }

    /// Gives the lease back, or the campaign up.
    fn rest(&mut self, cool_down: std::time::Duration) {
        self.seat = Seat::Resting(self.context.now() + cool_down);
        self.requests.stop_listening();
        self.gauge(0.0);
    }

    fn gauge(&self, planning: f64) {
        let labels = [("keyspace", self.keyspace.as_str())];
        telemetry::gauge(telemetry::PLANNING, planning, &labels);
    }

    /// No longer wanted: begins nothing more. The lease is kept until the last swap is answered.
    fn end(&mut self) {
        self.ending = true;
        self.dispatch(Event::Lost);
        self.requests.stop_listening();
        if let Seat::Campaigning(_) = self.seat {
            self.rest(std::time::Duration::ZERO);
        }
        self.gauge(0.0);
    }

    fn answered(&mut self, event: Event) {
        if let Event::SnapshotAnswered {
            answer: Ok(snapshot),
            ..
        } = &event
            && matches!(self.seat, Seat::Leading { .. })
            && !self.ending
        {
            self.requests.listen(snapshot.versions);
        }
        if let Event::SwapAnswered { request, answer } = &event {
            self.note(*request, answer.as_ref().ok());
        }
        self.dispatch(event);
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.context.now();
        trace!(keyspace = %self.keyspace, event = event_name(&event), "planner event");
        for action in self.machine.step(now, event) {
            self.perform(action);
        }
    }

    /// Sets a request going. Its answer comes back as an event of its own.
    fn perform(&mut self, action: Action) {
        match action {
            Action::Lead { request, token } => self.requests.lead(request, token),
            Action::Load { request } => self.requests.load(request),
            Action::ReadSnapshot { request } => self.requests.read_snapshot(request),
            Action::Swap(plan) => self.swap(plan),
            Action::Evict { life, cause } => self.evict(life, cause),
            Action::Resign { cool_down, cause } => {
                self.log_resignation(&cause);
                if let ResignCause::Superseded { by } = cause {
                    self.floor = self.floor.max(Some(by));
                }
                self.rest(cool_down);
            }
        }
    }

    fn swap(&mut self, plan: PlannedSwap) {
        let Summary {
            granted,
            revoked,
            freed,
            ..
        } = plan.summary;
        debug!(
            keyspace = %self.keyspace, token = %plan.token, granted, revoked, freed,
            ended = plan.ended.len(), bytes = plan.document.len(), "plan"
        );
        self.pending = Some(Pending {
            request: plan.request,
            summary: plan.summary,
        });
        self.requests.swap(plan);
    }

    fn evict(&mut self, life: Life, cause: EvictCause) {
        let (member, incarnation) = (&life.0, life.1);
        let (label, why) = match cause {
            EvictCause::Overran => ("overran", "it has not given its shards back in time"),
            EvictCause::Missing => ("missing", "the store has no record of it"),
        };
        warn!(keyspace = %self.keyspace, %member, %incarnation, cause = why, "evicting");
        let labels = [("keyspace", self.keyspace.as_str()), ("cause", label)];
        telemetry::count(telemetry::EVICTIONS, 1, &labels);
        self.requests.evict(life);
    }

    fn log_resignation(&self, cause: &ResignCause) {
        let (keyspace, member) = (&self.keyspace, &self.context.me);
        if let ResignCause::Superseded { .. } = cause {
            info!(%keyspace, %member, %cause, "no longer planning");
        } else {
            warn!(%keyspace, %member, %cause, "cannot plan: another may try");
        }
    }

    /// Logs and counts the answer to a swap.
    fn note(&mut self, request: u64, answer: Option<&Swapped>) {
        let Some(pending) = self.pending.take_if(|pending| pending.request == request) else {
            return;
        };
        let (outcome, epoch) = match answer {
            Some(Swapped::Stored(epoch)) => ("stored", Some(*epoch)),
            Some(Swapped::Conflict { .. }) => ("conflict", None),
            Some(Swapped::Fenced { .. }) => ("fenced", None),
            Some(Swapped::NotEnded(_)) => ("not-ended", None),
            None => ("failed", None),
        };
        let keyspace = self.keyspace.as_str();
        let labels = [("keyspace", keyspace), ("outcome", outcome)];
        telemetry::count(telemetry::PLANS, 1, &labels);
        if let Some(epoch) = epoch {
            self.note_stored(epoch, pending.summary);
        } else {
            debug!(keyspace, outcome, "plan not stored");
        }
    }

    fn note_stored(&self, epoch: Epoch, summary: Summary) {
        let Summary {
            granted,
            revoked,
            freed,
            ..
        } = summary;
        let (keyspace, member) = (self.keyspace.as_str(), &self.context.me);
        info!(keyspace, %member, %epoch, granted, revoked, freed, "assigned");
        for (what, shards) in [("granted", granted), ("revoked", revoked), ("freed", freed)] {
            let labels = [("keyspace", keyspace), ("what", what)];
            telemetry::count(telemetry::SHARDS_PLANNED, shards as u64, &labels);
        }
    }
}

fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Leading { .. } => "leading",
        Event::Lost => "lost",
        Event::Beat { .. } => "beat",
        Event::Changed => "changed",
        Event::LeadAnswered { .. } => "lead-answered",
        Event::LoadAnswered { .. } => "load-answered",
        Event::SnapshotAnswered { .. } => "snapshot-answered",
        Event::SwapAnswered { .. } => "swap-answered",
        Event::EvictAnswered { .. } => "evict-answered",
        Event::Tick => "tick",
    }
}
