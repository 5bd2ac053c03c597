//! Drives the membership machine over a membership store.

mod requests;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use coordinator_core::machine::membership::{
    BeatAnswer, JoinAnswer, Membership as Machine, MembershipAction as Action,
    MembershipEvent as Event,
};
use coordinator_core::{
    Beat, ErrorKind, Incarnation, Joined, LostCause, MemberState, MembershipError, MembershipStore,
    MemoryId, Moment, Snapshot, Versions,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tracing::{debug, info, trace, warn};

use requests::{Reply, Request};

use super::roster::next_look;
use super::{Shared, Standing, Wish};
use crate::errors::StartError;
use crate::tasks::sleep_until;
use crate::telemetry;

type Hint = Pin<Box<dyn Future<Output = bool> + Send>>;

pub(super) struct Driver {
    shared: Arc<Shared>,
    store: Arc<dyn MembershipStore>,
    machine: Machine,
    requests: FuturesUnordered<Request>,
    started: Option<oneshot::Sender<Result<(), StartError>>>,
    began: Moment,
    /// When the store last confirmed that this member lives.
    confirmed: Option<Moment>,
    /// When the store last answered at all; a start gives up a TTL later.
    answered: Moment,
    /// The edition of the profile that the store has, and in which memory: a store that comes back
    /// without its last writes may have an older one.
    announced: Option<(MemoryId, u64)>,
    known: Versions,
    /// The memory under which the documents are to be read.
    reading: Option<MemoryId>,
    hint: Option<Hint>,
    /// When to listen for hints again, and how many in a row brought nothing. To who does not
    /// plan, a change of reports is such a hint, and stays one until something else changes.
    listen_at: Moment,
    idle_hints: u32,
    /// When to look for members that died without a word, if anybody wants to know.
    look_at: Option<Moment>,
    looking: bool,
    done: bool,
}

enum Woken {
    Reply(Reply),
    Deadline,
    Told,
    Hint(bool),
    Stop,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn MembershipStore>,
        started: oneshot::Sender<Result<(), StartError>>,
    ) -> Self {
        let context = &shared.context;
        let now = context.now();
        Self {
            machine: Machine::new(context.trust, context.fork_random(), now),
            store,
            requests: FuturesUnordered::new(),
            started: Some(started),
            began: now,
            confirmed: None,
            answered: now,
            announced: None,
            known: Versions::default(),
            reading: None,
            hint: None,
            listen_at: now,
            idle_hints: 0,
            look_at: None,
            looking: false,
            done: false,
            shared,
        }
    }

    pub(super) async fn run(mut self) {
        self.dispatch(Event::Tick);
        while !self.done {
            match self.wake().await {
                Woken::Reply(reply) => self.answer(reply),
                Woken::Deadline => self.tick(),
                Woken::Told => self.read_desk(),
                Woken::Hint(news) => self.hinted(news),
                Woken::Stop => break,
            }
        }
        self.stand(|standing| {
            standing.life = None;
            standing.cause.get_or_insert(LostCause::Released);
        });
    }

    /// The order matters: first answers, of which one may prolong our trust; then deadlines, which
    /// must never wait.
    async fn wake(&mut self) -> Woken {
        let context = &self.shared.context;
        let listen = self.hint.is_none().then_some(self.listen_at);
        let look = self.look_at.filter(|_| !self.looking);
        let deadlines = [self.machine.deadline(), listen, look];
        let deadline = deadlines.into_iter().flatten().min();
        let look_every = context.trust.look_every();
        let hint = async {
            match &mut self.hint {
                Some(hint) => hint.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = context.stopping.cancelled() => Woken::Stop,
            Some(reply) = self.requests.next() => Woken::Reply(reply),
            () = sleep_until(&*context.clock, deadline, look_every) => Woken::Deadline,
            () = self.shared.told.notified() => Woken::Told,
            news = hint => Woken::Hint(news),
        }
    }

    fn tick(&mut self) {
        let now = self.shared.context.now();
        if self.hint.is_none() && now >= self.listen_at {
            self.listen();
        }
        if self.look_at.is_some_and(|at| now >= at) && !self.looking {
            self.look();
        }
        self.dispatch(Event::Tick);
        self.give_up_starting(None);
    }

    /// What was laid on the desk, in one go.
    fn read_desk(&mut self) {
        let (urge, rejoin, leave, idle, verified) = {
            let mut desk = self.shared.desk();
            let verified = self
                .reading
                .as_ref()
                .is_some_and(|memory| desk.all_verified(memory));
            let idle = desk.all_idle();
            let urge = desk.wishes.remove(&Wish::Urge);
            let rejoin = desk.wishes.remove(&Wish::Rejoin);
            let leave = desk.wishes.contains(&Wish::Leave);
            (urge, rejoin, leave, idle, verified)
        };
        if verified && let Some(memory) = self.reading.take() {
            self.dispatch(Event::DocumentsRead(memory));
        }
        if rejoin {
            self.dispatch(Event::Rejoin);
        }
        if idle {
            self.dispatch(Event::WorkGone);
        }
        if urge {
            self.dispatch(Event::Urge);
        }
        if leave {
            self.dispatch(Event::Leave);
        }
        self.plan_look();
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.shared.context.now();
        trace!(member = %self.shared.context.me, ?event, "membership event");
        for action in self.machine.step(now, event) {
            trace!(member = %self.shared.context.me, ?action, "membership action");
            self.perform(now, action);
        }
    }

    /// Sets a request going. Its answer comes back as an event of its own.
    fn perform(&mut self, now: Moment, action: Action) {
        match action {
            Action::Join { request, floor } => self.join(now, request, floor),
            Action::Beat {
                request,
                incarnation,
                beat,
            } => self.beat(now, request, incarnation, beat),
            Action::Leave {
                request,
                incarnation,
            } => self.leave(now, request, incarnation),
            Action::Entered {
                incarnation,
                until,
                memory,
            } => self.enter(incarnation, until, memory),
            Action::Trusted { until } => self.stand(|standing| {
                if let Some((_, trusted)) = &mut standing.life {
                    *trusted = until;
                }
            }),
            Action::Ended { cause } => self.end(cause),
            Action::ReadDocuments(memory) => self.read_documents(memory),
            Action::Duplicate => self.duplicate(),
            Action::Left => {
                info!(member = %self.shared.context.me, group = %self.shared.context.group, "left");
                self.done = true;
                self.stand(|standing| standing.left = true);
            }
        }
    }

    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Joined {
                request,
                edition,
                answer,
            } => self.joined(request, edition, answer),
            Reply::Beaten {
                request,
                life,
                carried,
                answer,
            } => self.beaten(request, life, carried, answer),
            Reply::Left { request, answer } => {
                if let Err(error) = &answer {
                    debug!(error = %error, "no answer to leave");
                }
                // Left, or over before: either way nothing of that life is left.
                let confirmed = answer.is_ok();
                self.dispatch(Event::LeaveAnswered { request, confirmed });
            }
            Reply::Looked(answer) => {
                self.looking = false;
                match answer {
                    Ok(snapshot) => self.learn(snapshot),
                    Err(error) => {
                        debug!(error = %error, "members not read");
                        self.look_at = Some(self.shared.context.now() + self.pace());
                    }
                }
            }
        }
    }

    fn joined(&mut self, request: u64, edition: u64, answer: Result<Joined, MembershipError>) {
        let (answer, snapshot, error) = match answer {
            Ok(Joined::Member {
                incarnation,
                memory,
                snapshot,
            }) => {
                self.confirm();
                let expires_in = self.own_rest(&snapshot, incarnation);
                self.announced = Some((memory.clone(), edition));
                let answer = JoinAnswer::Member {
                    incarnation,
                    memory,
                    expires_in,
                };
                (answer, Some(snapshot), None)
            }
            Ok(Joined::Taken(incumbent)) => {
                info!(member = %incumbent.id, "the name is taken: waiting for its holder's end");
                let expires_in = match incumbent.state {
                    MemberState::Live { expires_in, .. } => expires_in,
                    MemberState::Due | MemberState::Ended { .. } => std::time::Duration::ZERO,
                };
                let answer = JoinAnswer::Taken {
                    incarnation: incumbent.incarnation,
                    beat: incumbent.beat,
                    expires_in,
                };
                (answer, None, None)
            }
            Err(error) => (JoinAnswer::Failed(error.kind()), None, Some(error)),
        };
        // A store in quarantine is not silent: it says when it will grant again (I2, I5).
        let waits = error
            .as_ref()
            .is_some_and(|error| matches!(error.kind(), ErrorKind::Quarantined { .. }));
        if error.is_none() || waits {
            self.answered = self.shared.context.now();
        }
        self.known = Versions::default();
        self.dispatch(Event::JoinAnswered { request, answer });
        if let Some(snapshot) = snapshot {
            self.learn(snapshot);
        }
        if let Some(error) = error {
            debug!(error = %error, "not joined");
            self.give_up_starting(Some(error));
        }
    }

    /// How long our life lasts by the store's account: a join asked twice is one life, which may
    /// have begun at the first request.
    fn own_rest(&self, snapshot: &Snapshot, life: Incarnation) -> std::time::Duration {
        let ttl = self.shared.context.trust.ttl();
        match snapshot.get(&self.shared.context.me, life) {
            Some(member) => match member.state {
                MemberState::Live {
                    evicted: false,
                    expires_in,
                } => expires_in,
                // No trust in these; asked again when they have surely ended.
                MemberState::Live { evicted: true, .. }
                | MemberState::Due
                | MemberState::Ended { .. } => std::time::Duration::ZERO,
            },
            None => ttl,
        }
    }

    /// The store has confirmed that this member lives, after an outage perhaps: then the others may
    /// not have reached it either, and whoever plans here from now on spares them for a ttl (G4).
    fn confirm(&mut self) {
        let context = &self.shared.context;
        let (now, ttl) = (context.now(), context.trust.ttl());
        let before = self.confirmed.replace(now);
        if before.is_some_and(|before| now.since(before) >= ttl) {
            self.stand(|standing| standing.back_since = Some(now));
        }
    }

    fn beaten(
        &mut self,
        request: u64,
        life: Incarnation,
        carried: Option<u64>,
        answer: Result<Beat, MembershipError>,
    ) {
        let current = self.machine.life().is_some_and(|(now, _)| now == life);
        let (answer, news, outcome) = match answer {
            Ok(Beat::Alive { memory, news }) => {
                self.confirm();
                self.note_memory(&memory);
                if let Some(edition) = carried.filter(|_| current) {
                    self.note_announced(&memory, edition);
                }
                (BeatAnswer::Alive { memory }, news, "alive")
            }
            Ok(Beat::Expired) => (BeatAnswer::Expired, None, "expired"),
            Ok(Beat::Evicted) => (BeatAnswer::Evicted, None, "evicted"),
            Err(error) => {
                warn!(member = %self.shared.context.me, error = %error, "heartbeat failed");
                (BeatAnswer::Failed(error.kind()), None, "failed")
            }
        };
        telemetry::count(telemetry::HEARTBEATS, 1, &[("outcome", outcome)]);
        let alive = matches!(answer, BeatAnswer::Alive { .. });
        self.dispatch(Event::BeatAnswered { request, answer });
        if alive
            && current
            && let Some(snapshot) = news
        {
            self.learn(snapshot);
        }
    }

    /// The versions of another memory are not compared with those known: after a fail-over they
    /// may be lower, and yet be the newest.
    fn note_memory(&mut self, memory: &MemoryId) {
        let known = self.shared.standing.borrow().memory.clone();
        if known.is_some_and(|known| known != *memory) {
            self.known = Versions::default();
        }
    }

    /// The store may have an older profile of ours than it had: a join that was given up, and was
    /// under way for long, took effect behind the one that was answered. The next heartbeat tells.
    fn look_at_ourselves(&mut self, snapshot: &Snapshot) {
        let context = &self.shared.context;
        let life = self.machine.life().map(|(life, _)| life);
        let record = life.and_then(|life| snapshot.get(&context.me, life));
        let desk = self.shared.desk();
        let newest = |(_, edition): &(MemoryId, u64)| *edition == desk.edition;
        if record.is_some_and(|record| record.profile != desk.profile)
            && self.announced.as_ref().is_some_and(newest)
        {
            drop(desk);
            self.announced = None;
        }
    }

    /// Answers may overtake each other: the newest edition counts that this memory has.
    fn note_announced(&mut self, memory: &MemoryId, edition: u64) {
        let newer = match &self.announced {
            Some((known, announced)) => known != memory || *announced < edition,
            None => true,
        };
        if newer {
            self.announced = Some((memory.clone(), edition));
        }
    }

    fn enter(&mut self, incarnation: Incarnation, until: Moment, memory: MemoryId) {
        let context = &self.shared.context;
        info!(member = %context.me, group = %context.group, %incarnation, "joined");
        self.reading = None;
        self.stand(|standing| {
            *standing = Standing {
                life: Some((incarnation, until)),
                cause: None,
                memory: Some(memory),
                left: false,
                isolated: false,
                back_since: standing.back_since,
            };
        });
        if let Some(started) = self.started.take()
            && started.send(Ok(())).is_err()
        {
            // Nobody waits for the start any more.
            self.shared.desk().wish(Wish::Leave);
            self.shared.told.notify_one();
        }
    }

    fn end(&mut self, cause: LostCause) {
        let context = &self.shared.context;
        if cause == LostCause::Released {
            debug!(member = %context.me, "leaving");
        } else {
            warn!(member = %context.me, group = %context.group, %cause, "membership lost");
        }
        telemetry::count(
            telemetry::MEMBERSHIPS_LOST,
            1,
            &[("cause", &cause.to_string())],
        );
        self.reading = None;
        self.stand(|standing| {
            standing.life = None;
            standing.cause = Some(cause);
        });
        // A life that is left only when its work is gone: it may be gone already.
        self.shared.told.notify_one();
    }

    fn read_documents(&mut self, memory: MemoryId) {
        warn!(member = %self.shared.context.me, %memory, "the store's memory is another one");
        self.known = Versions::default();
        self.reading = Some(memory.clone());
        self.stand(|standing| standing.memory = Some(memory));
        // Without any keeper, there is nothing to read.
        self.shared.told.notify_one();
    }

    fn duplicate(&mut self) {
        let context = &self.shared.context;
        warn!(member = %context.me, "another live process has this name");
        let error = StartError::DuplicateName {
            group: context.group.clone(),
            member: context.me.clone(),
        };
        self.refuse_start(error);
    }

    /// While starting: an error that no waiting mends, or a store that is silent for too long.
    fn give_up_starting(&mut self, error: Option<MembershipError>) {
        if self.started.is_none() {
            return;
        }
        let context = &self.shared.context;
        let group = context.group.clone();
        let waited = context.now().since(self.began);
        let silent = context.now().since(self.answered) >= context.trust.window();
        match error {
            Some(error @ MembershipError::Rejected { .. }) => {
                self.refuse_start(StartError::Rejected {
                    group,
                    what: "the membership",
                    source: error.into(),
                });
            }
            Some(error) if silent => self.refuse_start(StartError::Unavailable {
                group,
                waited,
                source: error.into(),
            }),
            // A request is always under way or about to be: its error tells why.
            Some(_) | None => {}
        }
    }

    fn refuse_start(&mut self, error: StartError) {
        if let Some(started) = self.started.take() {
            self.done = true;
            // If nobody waits any more, nobody needs to know.
            drop(started.send(Err(error)));
        }
    }

    /// Takes the newest snapshot. An older one may come late.
    fn learn(&mut self, snapshot: Snapshot) {
        let now = self.shared.context.now();
        if snapshot.versions < self.known {
            // An older answer that was overtaken; or the store has lost what we know, which the
            // next join or heartbeat will tell. Until then, look again at the pace of heartbeats.
            self.look_at = self.look_at.map(|at| at.max(now + self.pace()));
            return;
        }
        self.known = snapshot.versions;
        self.look_at_ourselves(&snapshot);
        // Never sooner than a tenth of a TTL from now: another clock may run ahead of ours.
        let soonest = now + self.shared.context.trust.look_every();
        self.look_at = next_look(&snapshot, now).map(|at| at.max(soonest));
        self.shared
            .roster
            .send_if_modified(|roster| roster.update(&snapshot));
        let live = u32::try_from(snapshot.live().count()).unwrap_or(u32::MAX);
        telemetry::gauge(telemetry::MEMBERS, f64::from(live), &[]);
        debug!(live, version = %snapshot.versions.members, "members");
        self.shared.snapshot.send_replace(Arc::new(snapshot));
        self.plan_look();
        self.idle_hints = 0;
        self.listen();
    }

    fn pace(&self) -> std::time::Duration {
        self.shared.context.trust.renew_every()
    }

    /// Looks only where somebody looks back, and never more often than heartbeats go.
    fn plan_look(&mut self) {
        if !self.shared.desk().wishes.contains(&Wish::Watch) {
            self.look_at = None;
        } else if self.look_at.is_none() {
            let answered = self.shared.context.now();
            self.look_at = next_look(&self.shared.snapshot.borrow(), answered);
        }
    }

    /// Waits for the store to say that something may have changed.
    fn listen(&mut self) {
        let (group, store, known) = (
            self.shared.context.group.clone(),
            self.store.clone(),
            self.known,
        );
        self.hint = Some(Box::pin(async move {
            store.changed(&group, known).await.is_ok()
        }));
    }

    /// Asks for the news. If there are none for us, we listen again after a growing pause; plain
    /// heartbeats bring news as well, only later.
    fn hinted(&mut self, news: bool) {
        self.hint = None;
        let pause = self.shared.context.trust.look_every() * 2_u32.pow(self.idle_hints.min(9));
        self.listen_at = self.shared.context.now() + pause;
        self.idle_hints += 1;
        if news {
            self.dispatch(Event::Urge);
        }
    }

    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.shared.standing.send_modify(change);
    }
}
