//! Drives the keeper of one keyspace: reads the document, starts and ends the runs of shards.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;

use coordinator_core::machine::keeper::{
    Keeper, KeeperAction as Action, KeeperEvent as Event, Terms,
};
use coordinator_core::machine::planner::PlannerConfig;
use coordinator_core::{
    AssignmentError, Backoff, Document, Epoch, Incarnation, LostCause, MemoryId, Moment, ShardId,
    StoredDocument,
};
use rand::rngs::StdRng;
use tokio::sync::watch;
use tracing::{debug, info, trace, warn};

use super::Handoff;
use super::line::{Line, Offer, Stop};
use super::seat::{Seat, SeatId, SeatParts};
use crate::lease::Grip;
use crate::members::Standing;
use crate::planner::{self, Planning};
use crate::tasks::sleep_until;
use crate::telemetry;

/// The first pause after a failed read; it grows up to the pace of heartbeats.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

type Read = Result<Option<StoredDocument>, AssignmentError>;
type Reading = Pin<Box<dyn Future<Output = (MemoryId, Read)> + Send>>;
type Hint = Pin<Box<dyn Future<Output = bool> + Send>>;

/// One run, as the driver sees it.
struct Run {
    grip: Arc<Grip>,
    /// The keeper has asked for its end, and so waits for it.
    asked: Option<Moment>,
    cause: Option<LostCause>,
    /// The work ended unasked: it is done with this grant, or was refused by the checkpoints.
    resting: bool,
}

pub(super) struct Driver {
    line: Arc<Line>,
    keeper: Keeper,
    standing: watch::Receiver<Standing>,
    life: Option<Incarnation>,
    memory: Option<MemoryId>,
    offer: Option<Offer>,
    /// Who serves a keyspace takes part in planning it.
    planning: Option<Planning>,
    runs: BTreeMap<SeatId, Run>,
    reading: Option<Reading>,
    /// Read again as soon as the read under way is done: it may have begun too early.
    reread: bool,
    read_at: Moment,
    known: Option<Epoch>,
    hint: Option<Hint>,
    /// The read under way, or about to be, follows a hint.
    hinted: bool,
    backoff: Backoff,
    random: StdRng,
    drained: bool,
}

enum Woken {
    Standing(bool),
    Read(MemoryId, Read),
    Deadline,
    Told,
    Hint(bool),
    Drain,
    Stop,
}

impl Driver {
    pub(super) fn new(line: Arc<Line>) -> Self {
        let context = &line.context;
        let now = context.now();
        line.membership.enlist(&line.keyspace);
        let mut standing = line.membership.standing();
        standing.mark_changed();
        Self {
            keeper: Keeper::new(context.me.clone()),
            standing,
            life: None,
            memory: None,
            offer: None,
            planning: None,
            runs: BTreeMap::new(),
            reading: None,
            reread: false,
            read_at: now,
            known: None,
            hint: None,
            hinted: false,
            backoff: Backoff::new(FIRST_PAUSE, context.trust.renew_every()),
            random: context.fork_random(),
            drained: false,
            line,
        }
    }

    /// Runs until the node stops: a keeper acks for as long as any document may name it.
    pub(super) async fn run(mut self) {
        loop {
            match self.wake().await {
                Woken::Standing(true) => self.follow_standing(),
                Woken::Read(under, answer) => self.read(under, answer),
                Woken::Deadline => self.tick(),
                Woken::Told => self.read_desk(),
                Woken::Hint(news) => self.hinted(news),
                Woken::Drain => self.drain_for_shutdown(),
                Woken::Standing(false) | Woken::Stop => break,
            }
            self.tell_state();
        }
        for run in self.runs.values() {
            run.grip.lose(LostCause::Released);
        }
        self.offer = None;
        self.line.state.send_modify(|state| state.serving = false);
    }

    /// Biased, in order of importance: the end of trust, then what may extend it, then news.
    async fn wake(&mut self) -> Woken {
        let context = &self.line.context;
        let read_at = self.reading.is_none().then_some(self.read_at);
        let deadlines = [
            self.keeper.deadline(),
            read_at.filter(|_| self.life.is_some()),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let look_every = context.trust.look_every();
        let reading = or_never(&mut self.reading);
        let hint = or_never(&mut self.hint);
        tokio::select! {
            biased;
            () = context.stopping.cancelled() => Woken::Stop,
            changed = self.standing.changed() => Woken::Standing(changed.is_ok()),
            () = sleep_until(&*context.clock, deadline, look_every) => Woken::Deadline,
            () = context.draining.cancelled(), if !self.drained => Woken::Drain,
            () = self.line.told.notified() => Woken::Told,
            (under, answer) = reading => Woken::Read(under, answer),
            news = hint => Woken::Hint(news),
        }
    }

    fn now(&self) -> Moment {
        self.line.context.now()
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        trace!(keyspace = %self.line.keyspace, ?event, "keeper event");
        for action in self.keeper.step(now, event) {
            trace!(keyspace = %self.line.keyspace, ?action, "keeper action");
            self.perform(now, action);
        }
    }

    fn perform(&mut self, now: Moment, action: Action) {
        match action {
            Action::Read => {
                self.reread = self.reading.is_some();
                self.read_at = now;
            }
            Action::Start {
                shard,
                token,
                count,
            } => self.start(shard, token, count),
            Action::Drain { shard, token, .. } => self.ask_to_end((shard, token), None),
            Action::Cancel {
                shard,
                token,
                cause,
            } => self.ask_to_end((shard, token), Some(cause)),
            Action::Report(report) => {
                if let Some(life) = self.life {
                    debug!(keyspace = %self.line.keyspace, epoch = %report.seen,
                        draining = report.draining.len(), "report");
                    self.line
                        .membership
                        .report(&self.line.keyspace, life, report);
                }
            }
            Action::Verified(memory) => {
                self.line.membership.verified(&self.line.keyspace, memory);
            }
            Action::LeaveAndRejoin => {
                warn!(keyspace = %self.line.keyspace, "the store forgot what was acted upon");
                self.line.membership.rejoin();
            }
        }
    }

    // The membership.

    fn follow_standing(&mut self) {
        let standing = self.standing.borrow_and_update().clone();
        match standing.life {
            Some((life, until)) if self.life == Some(life) => {
                self.step(Event::Trusted(until));
                for run in self.runs.values() {
                    // One that has ended is not revived; its guard acts upon it.
                    drop(run.grip.extend(until));
                }
                if standing.memory != self.memory
                    && let Some(memory) = standing.memory
                {
                    self.memory = Some(memory.clone());
                    self.step(Event::MemoryChanged(memory));
                }
            }
            Some((incarnation, until)) => {
                self.life = Some(incarnation);
                self.memory = standing.memory;
                self.known = None;
                if let Some(memory) = self.memory.clone() {
                    // A new life has acted upon nothing yet, and so can miss nothing.
                    self.line.membership.verified(&self.line.keyspace, memory);
                }
                self.step(Event::Joined { incarnation, until });
            }
            None => {
                self.life = None;
                self.step(Event::MembershipLost(
                    standing.cause.unwrap_or(LostCause::Expired),
                ));
            }
        }
    }

    // The document.

    fn tick(&mut self) {
        let now = self.now();
        self.step(Event::Tick);
        if self.reading.is_none() && self.life.is_some() && now >= self.read_at {
            self.begin_reading(now);
        }
    }

    /// Reads the document. What is read counts under the memory that was known before (S12).
    fn begin_reading(&mut self, now: Moment) {
        let Some(under) = self.memory.clone() else {
            return;
        };
        self.reread = false;
        let line = self.line.clone();
        self.reading = Some(Box::pin(async move {
            let context = &line.context;
            let deadline = context.trust.until(now);
            let read = tokio::select! {
                biased;
                read = line.store.load(&context.group, &line.keyspace) => read,
                () = sleep_until(&*context.clock, Some(deadline), context.trust.look_every()) => {
                    let silence = "no answer within the trust window";
                    Err(AssignmentError::unavailable("load", &line.keyspace, silence))
                }
            };
            (under, read)
        }));
    }

    fn read(&mut self, under: MemoryId, answer: Read) {
        self.reading = None;
        let now = self.now();
        match answer {
            Ok(stored) => {
                self.backoff.reset();
                let epoch = stored.as_ref().map(|stored| stored.epoch);
                let idle_hint = std::mem::take(&mut self.hinted) && epoch == self.known;
                self.known = epoch;
                self.read_at = if self.reread {
                    now
                } else if idle_hint {
                    // A hint for no reason: read again, but do not listen in a hot loop.
                    now + FIRST_PAUSE
                } else {
                    self.listen();
                    now + self.line.context.trust.renew_every()
                };
                self.act_on(under, stored);
            }
            Err(error) => {
                debug!(keyspace = %self.line.keyspace, error = %error, "document not read");
                self.read_at = now + self.backoff.next(&mut self.random);
            }
        }
    }

    fn act_on(&mut self, under: MemoryId, stored: Option<StoredDocument>) {
        let document = stored.map(|stored| Document::decode(stored.epoch, &stored.document));
        let document = match document.transpose() {
            Ok(document) => document,
            // Who cannot read it does not set `seen` (S10).
            Err(error) => {
                warn!(keyspace = %self.line.keyspace, error = %error, "document not understood");
                return;
            }
        };
        if let (Some(document), Some(offer)) = (&document, &self.offer)
            && let Err(mismatch) = document.agrees(offer.layout, offer.config.routing)
        {
            warn!(keyspace = %self.line.keyspace, error = %mismatch, "refused");
            self.line
                .state
                .send_modify(|state| state.refused = Some(mismatch));
            self.stop_serving(Stop::Drain);
        }
        let document = document.map(Box::new);
        self.step(Event::Read { document, under });
    }

    /// Waits for the store to say that the document may be another.
    fn listen(&mut self) {
        let (line, known) = (self.line.clone(), self.known);
        self.hint = Some(Box::pin(async move {
            let group = &line.context.group;
            line.store
                .changed(group, &line.keyspace, known)
                .await
                .is_ok()
        }));
    }

    fn hinted(&mut self, news: bool) {
        self.hint = None;
        if news {
            self.hinted = true;
            self.reload();
        }
    }

    fn reload(&mut self) {
        self.reread = self.reading.is_some();
        self.read_at = self.now();
    }

    // The service.

    fn read_desk(&mut self) {
        let told = self.line.read_desk();
        for id in told.gone {
            self.seat_gone(id);
        }
        if let Some(how) = told.stop {
            self.stop_serving(how);
        }
        if let Some(offer) = told.serve {
            self.serve(offer);
        }
        if told.reload {
            self.reload();
        }
    }

    fn serve(&mut self, offer: Offer) {
        if self.drained {
            return; // The node is shutting down: the service sees that by itself.
        }
        let mut terms = Terms::new(offer.config.drain_timeout);
        terms.overlap = offer.handoff() == Handoff::Immediate;
        info!(keyspace = %self.line.keyspace, layout = %offer.layout, "serving");
        self.planning = self.plan(&offer);
        self.offer = Some(offer);
        self.line.state.send_modify(|state| {
            state.serving = true;
            state.refused = None;
        });
        self.line.membership.serve(&self.line.keyspace, true);
        // What was read for nobody may be read for somebody now.
        self.reload();
        self.step(Event::Serve(terms));
    }

    fn plan(&self, offer: &Offer) -> Option<Planning> {
        let Line {
            context,
            membership,
            keyspace,
            ..
        } = &*self.line;
        let served = &offer.config;
        let mut config = PlannerConfig::new(keyspace.clone(), offer.layout, served.routing);
        config.handoff = offer.handoff();
        config.reshard_interval = served.reshard_interval;
        config.grace_period = served.grace_period;
        config.drain_timeout = served.drain_timeout;
        config.ttl = context.trust.ttl();
        planner::serve(context, membership, config, served.strategy.clone())
    }

    fn stop_serving(&mut self, how: Stop) {
        let Some(offer) = &self.offer else {
            return;
        };
        let within = offer.config.drain_timeout;
        info!(keyspace = %self.line.keyspace, "serving no longer");
        self.planning = None;
        if !self.drained {
            self.line.membership.serve(&self.line.keyspace, false);
        }
        if how == Stop::Drop {
            for run in self.runs.values() {
                run.grip.lose(LostCause::Released);
            }
        }
        // The host is still there, to give back what waits to be taken.
        self.step(Event::Drain { within });
        self.offer = None;
        self.line.state.send_modify(|state| state.serving = false);
    }

    /// The node ends: the profile stays as it is, so that the shards of a static name can be kept
    /// for its return (S5).
    fn drain_for_shutdown(&mut self) {
        self.drained = true;
        let within = match &self.offer {
            Some(offer) => offer.config.drain_timeout,
            None => self.line.context.drain_timeout,
        };
        self.step(Event::Drain { within });
        self.line.state.send_modify(|state| state.serving = false);
    }

    // The runs.

    fn start(&mut self, shard: ShardId, token: Epoch, count: u16) {
        let (Some(offer), Some(count)) = (&self.offer, NonZeroU16::new(count)) else {
            return self.never_began((shard, token));
        };
        let Some((_, until)) = self.line.membership.trusted() else {
            return self.never_began((shard, token));
        };
        let parts = SeatParts {
            shard,
            token,
            count,
            routing: offer.config.routing,
            until,
            drain_timeout: offer.config.drain_timeout,
        };
        let seat = Seat::new(&self.line, &offer.node, &parts);
        info!(keyspace = %self.line.keyspace, %shard, %token, "shard owned");
        let run = Run {
            grip: seat.grip.clone(),
            asked: None,
            cause: None,
            resting: false,
        };
        self.runs.insert(seat.id(), run);
        self.line.membership.busy(&self.line.keyspace, true);
        offer.host.start(seat);
    }

    /// The grant came when nobody was there to take it any more.
    fn never_began(&self, id: SeatId) {
        self.line.seat_gone(id);
    }

    /// Tells a run to finish, or, with a cause, to stop.
    fn ask_to_end(&mut self, id: SeatId, cause: Option<LostCause>) {
        let now = self.now();
        let Some(run) = self.runs.get_mut(&id) else {
            return; // It has ended, and the keeper is about to hear of it.
        };
        let (shard, token) = id;
        run.asked.get_or_insert(now);
        if let Some(cause) = cause {
            let cause = run.grip.lose(cause);
            run.cause = Some(cause);
            info!(keyspace = %self.line.keyspace, %shard, %token, %cause, "shard lost");
        } else {
            run.grip.drain();
            debug!(keyspace = %self.line.keyspace, %shard, %token, "shard draining");
        }
        let resting = run.resting;
        if let Some(offer) = &self.offer {
            offer.host.withdraw(id);
        }
        if resting {
            // Nothing of it is left. Not now: the keeper is in the middle of its step.
            self.line.seat_gone(id);
        }
    }

    /// Nobody holds any of it any more.
    fn seat_gone(&mut self, id: SeatId) {
        let now = self.now();
        let (shard, token) = id;
        if let Some(run) = self.runs.get_mut(&id) {
            let Some(asked) = run.asked else {
                run.resting = true;
                debug!(keyspace = %self.line.keyspace, %shard, %token, "shard rests");
                return;
            };
            let cause = run
                .cause
                .map_or_else(|| "drained".into(), |cause| cause.to_string());
            let keyspace = self.line.keyspace.as_str();
            let labels = [("keyspace", keyspace), ("cause", &cause)];
            telemetry::count(telemetry::HANDOFFS, 1, &labels);
            let seconds = now.since(asked).as_secs_f64();
            telemetry::observe(telemetry::DRAIN_SECONDS, seconds, &[("keyspace", keyspace)]);
            info!(%keyspace, %shard, %token, %cause, "shard given back");
            // Whatever is left of it, a view or a clone of its signals, is of no use any more.
            run.grip.lose(LostCause::Released);
            self.runs.remove(&id);
        }
        self.step(Event::Ended { shard, token });
    }

    fn tell_state(&mut self) {
        let busy = !self.runs.is_empty();
        let changed = self.line.state.send_if_modified(|state| {
            let changed = state.busy != busy;
            state.busy = busy;
            changed
        });
        if changed && !busy {
            self.line.membership.busy(&self.line.keyspace, false);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 65,535")]
        let owned = self.runs.values().filter(|run| run.asked.is_none()).count() as f64;
        let keyspace = self.line.keyspace.as_str();
        telemetry::gauge(telemetry::SHARDS_OWNED, owned, &[("keyspace", keyspace)]);
    }
}

impl Offer {
    fn handoff(&self) -> Handoff {
        match self.layout {
            coordinator_core::Layout::Fixed { .. } => Handoff::Barrier,
            coordinator_core::Layout::Dense => self.config.handoff,
        }
    }
}

async fn or_never<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
