//! Drives the keeper of one keyspace: reads the document, starts and ends the runs of shards.

mod document;
mod runs;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use coordinator_core::machine::keeper::{
    Keeper, KeeperAction as Action, KeeperEvent as Event, Terms,
};
use coordinator_core::machine::planner::PlannerConfig;
use coordinator_core::{Backoff, Epoch, Incarnation, LostCause, MemoryId, Moment};
use rand::rngs::StdRng;
use tracing::{debug, info, trace, warn};

use document::{FIRST_PAUSE, Read};

use super::Handoff;
use super::line::{Line, Offer, Stop};
use super::seat::SeatId;
use crate::lease::Grip;
use crate::members::Standing;
use crate::planner::{self, Planning};
use crate::tasks::sleep_until;
use crate::watch;

type Reading = Pin<Box<dyn Future<Output = (MemoryId, Read)> + Send>>;
type Hint = Pin<Box<dyn Future<Output = bool> + Send>>;

/// One run, as the driver sees it.
struct Run {
    grip: Arc<Grip>,
    /// The life that it was granted to.
    life: Option<Incarnation>,
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
    end: End,
    /// Whether the profile says that this node serves the keyspace.
    announced: bool,
}

/// How the node ends, as far as this keyspace is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// The shards pass on.
    ForGood,
    /// The shards are kept for its return (S5).
    ToReturn,
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
            end: End::NotYet,
            announced: false,
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
            self.announce();
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
            () = context.draining.cancelled(), if self.end == End::NotYet => Woken::Drain,
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
                if self.extend_runs(until) {
                    self.step(Event::MembershipLost(LostCause::Expired));
                }
                if !self.keeper.is_member() && self.now() < until {
                    // Renewed in time, but we were told too late: go on where we stopped.
                    let incarnation = life;
                    self.step(Event::Joined { incarnation, until });
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

    /// Whether a guard has seen the end of its trust although the membership lasts: it was told of
    /// the renewal too late. Nothing revives it, so its shard must begin anew.
    fn extend_runs(&self, until: Moment) -> bool {
        let mut expired = false;
        for run in self.runs.values() {
            if let Err(lost) = run.grip.extend(until) {
                expired |= run.asked.is_none() && lost.cause == LostCause::Expired;
            }
        }
        expired
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
        if self.end != End::NotYet {
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
        self.announce();
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
        if how == Stop::Drop {
            for run in self.runs.values() {
                run.grip.lose(LostCause::Released);
            }
        }
        // The host is still there, to give back what waits to be taken.
        self.step(Event::Drain { within });
        self.offer = None;
        self.announce();
        self.line.state.send_modify(|state| state.serving = false);
    }

    /// The node ends. Where shards are kept for the return of a static name, the profile stays as
    /// it is (S5); otherwise they pass on at once, however long other work of the node may drain.
    fn drain_for_shutdown(&mut self) {
        let offer = self.offer.as_ref();
        let kept = offer.is_some_and(|offer| !offer.config.grace_period.is_zero());
        self.end = if kept && self.line.context.fixed {
            End::ToReturn
        } else {
            End::ForGood
        };
        let within = match &self.offer {
            Some(offer) => offer.config.drain_timeout,
            None => self.line.context.drain_timeout,
        };
        self.step(Event::Drain { within });
        self.line.state.send_modify(|state| state.serving = false);
    }

    /// Lets the profile say whether shards can be served here. They cannot while work of an
    /// earlier life is left, which stands in their way: a shard that were granted would rest.
    fn announce(&mut self) {
        let served = match self.end {
            End::NotYet => self.offer.is_some(),
            End::ForGood => false,
            End::ToReturn => return,
        };
        let left_over = self.runs.values().any(|run| run.life != self.life);
        let serves = served && !left_over;
        if serves != self.announced {
            self.announced = serves;
            self.line.membership.serve(&self.line.keyspace, serves);
        }
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
