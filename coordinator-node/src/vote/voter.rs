//! Drives one voter: one task, from the first use of an election by vote to the end of the node.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::vote::{
    Action, BadMessage, Body, Config, Electorate, Envelope, Event, Leader, Message, Reading, Reign,
    Standing, Vote,
};
use coordinator_core::{
    Backoff, BoxError, Bytes, ClusterBus, FeedEvent, FencingToken, Instance, MemberId,
    NUMBER_LIMIT, Topic, scoped,
};
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, trace, warn};

use super::post::Post;
use super::{Place, Quorum, ROUND_TRIP};
use crate::context::Context;
use crate::inbox::{Inbox, News};
use crate::members::{Members, Membership};
use crate::tasks::sleep_until;
use crate::telemetry;
use crate::watch;

/// Requests that wait for the voter's task.
const REQUESTS: usize = 64;

/// Where the election stands, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) standing: Standing,
    pub(super) leader: Option<Leader>,
}

/// Who wants to lead here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Wanted {
    by: usize,
    floor: Option<FencingToken>,
}

/// What is asked of the voter's task.
enum Wish {
    Confirm(oneshot::Sender<Option<u64>>),
    Resign {
        term: u64,
        next: Option<MemberId>,
        sent: oneshot::Sender<()>,
    },
}

/// A handle to the voter. Its task ends with the node.
pub(super) struct Voter {
    wishes: mpsc::Sender<Wish>,
    wanted: Arc<watch::Sender<Wanted>>,
    view: watch::Receiver<View>,
}

/// While it lives, the voter campaigns.
pub(crate) struct Stand(Arc<watch::Sender<Wanted>>);

impl Drop for Stand {
    fn drop(&mut self) {
        self.0
            .send_modify(|wanted| wanted.by = wanted.by.saturating_sub(1));
    }
}

impl Voter {
    /// # Errors
    /// The backend has no bus, or one whose messages are too small.
    pub(super) fn start(
        context: &Arc<Context>,
        membership: &Membership,
        place: &Place,
    ) -> Result<Self, BoxError> {
        let bus = context.backend.bus.clone();
        let bus = bus.ok_or("an election by vote needs the backend's `bus`, which is missing")?;
        check_room(context, place, &*bus)?;
        warn_of_two(place);
        let (wishes, desk) = mpsc::channel(REQUESTS);
        let wanted = Arc::new(watch::Sender::default());
        let driver = Driver::new(context, membership, place, bus, (desk, wanted.subscribe()));
        let view = driver.view.subscribe();
        // It ends with `stopping`.
        drop(context.tasks.spawn(driver.run()));
        Ok(Self {
            wishes,
            wanted,
            view,
        })
    }

    pub(super) fn stand(&self, floor: Option<FencingToken>) -> Stand {
        self.wanted.send_modify(|wanted| {
            wanted.by += 1;
            wanted.floor = wanted.floor.max(floor);
        });
        Stand(self.wanted.clone())
    }

    pub(super) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Whether a quorum acks a heartbeat that leaves after this call, and for which term; `None`:
    /// there is no reign to confirm, or nobody confirmed it in time.
    pub(super) async fn confirm(&self) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        self.wishes.send(Wish::Confirm(answer)).await.ok()?;
        answered.await.ok().flatten()
    }

    /// Says that a reign is over, and waits until that has left.
    pub(super) async fn resign(&self, term: u64, next: Option<MemberId>) {
        let (sent, left) = oneshot::channel();
        let wish = Wish::Resign { term, next, sent };
        if self.wishes.send(wish).await.is_ok() {
            // An error means that the node has ended.
            drop(left.await);
        }
    }
}

/// A voter that the bus lets say nothing would wait for its election for ever.
fn check_room(context: &Context, place: &Place, bus: &dyn ClusterBus) -> Result<(), BoxError> {
    let Some(limit) = bus.capabilities().payload_limit else {
        return Ok(());
    };
    let (instance, term) = (context.instance, NUMBER_LIMIT - 1);
    let longest = Message {
        from: context.me.clone(),
        instance,
        body: Body::VoteRequest {
            term,
            release: Some(Reign { instance, term }),
        },
    };
    let envelope = Envelope::new(&place.key, &place.quorum.electorate(), &place.trust);
    let needed = envelope.seal(&longest, None).len();
    if needed <= limit {
        return Ok(());
    }
    Err(format!(
        "votes of `{}` take {needed} bytes, and the bus takes {limit}",
        context.me
    )
    .into())
}

fn warn_of_two(place: &Place) {
    if let Quorum::Fixed(names) = &place.quorum
        && names.len() == 2
    {
        warn!(
            election = place.name,
            "two voters: without either of them there is no leader"
        );
    }
}

struct Driver {
    context: Arc<Context>,
    machine: Vote,
    members: Option<Members>,
    /// By this election's window, which may be shorter than the node's ttl.
    look_every: Duration,
    envelope: Envelope,
    label: String,
    to_all: Topic,
    inboxes: Inboxes,
    ear: Inbox,
    backoff: Backoff,
    random: StdRng,
    post: Post,
    desk: mpsc::Receiver<Wish>,
    wanted: watch::Receiver<Wanted>,
    view: watch::Sender<View>,
    confirming: BTreeMap<u64, oneshot::Sender<Option<u64>>>,
    requests: u64,
    /// Whose messages were refused, so that each is told of once.
    strangers: std::collections::BTreeSet<MemberId>,
}

/// The names of the topics on which single members are reached.
struct Inboxes {
    prefix: String,
}

impl Inboxes {
    fn of(&self, member: &MemberId) -> Topic {
        Topic::named(format!("{}{member}", self.prefix))
    }
}

enum Woken {
    Deadline,
    Sent,
    Heard(News),
    Members,
    Wanted,
    Wish(Wish),
    Stop,
}

impl Driver {
    fn new(
        context: &Arc<Context>,
        membership: &Membership,
        place: &Place,
        bus: Arc<dyn ClusterBus>,
        (desk, wanted): (mpsc::Receiver<Wish>, watch::Receiver<Wanted>),
    ) -> Self {
        let electorate = place.quorum.electorate();
        let envelope = Envelope::new(&place.key, &electorate, &place.trust);
        let members = matches!(electorate, Electorate::Seen(_)).then(|| Members::new(membership));
        let config = Config {
            me: context.me.clone(),
            instance: context.instance,
            electorate,
            trust: place.trust,
            round_trip: ROUND_TRIP,
        };
        let at = reading(context);
        let machine = Vote::new(config, at, context.fork_random());
        let view = View {
            standing: machine.standing(at),
            leader: None,
        };
        let (group, name) = (&context.group, &place.name);
        let inboxes = Inboxes {
            // The name's length keeps the names of two elections and two members apart.
            prefix: scoped(group, "ballots", &format!("{}/{name}/", name.len())),
        };
        let topics = vec![
            Topic::named(scoped(group, "votes", name)),
            inboxes.of(&context.me),
        ];
        let ear = Inbox::new(bus.clone(), topics);
        let post = Post::new(
            bus,
            context.me.clone(),
            context.instance,
            place.trust.renew_every(),
        );
        Self {
            machine,
            members,
            look_every: place.trust.look_every(),
            envelope,
            label: format!("election/{name}"),
            to_all: Topic::named(scoped(group, "votes", name)),
            inboxes,
            ear,
            backoff: Backoff::new(place.trust.ttl() / 20, place.trust.ttl() / 2),
            random: context.fork_random(),
            post,
            desk,
            wanted,
            view: watch::Sender::new(view),
            confirming: BTreeMap::new(),
            requests: 0,
            strangers: std::collections::BTreeSet::new(),
            context: context.clone(),
        }
    }

    async fn run(mut self) {
        loop {
            // A feed that is always ready must not keep the others of its thread waiting.
            tokio::task::coop::consume_budget().await;
            match self.wake().await {
                Woken::Deadline => self.dispatch(Event::Tick),
                Woken::Sent => {}
                Woken::Heard(News::Event(event)) => self.heard(event),
                Woken::Heard(News::Open) => self.backoff.reset(),
                Woken::Heard(News::Closed(error)) => {
                    debug!(election = self.label, error, "votes are not heard");
                    self.ear.reopen(self.backoff.next(&mut self.random));
                }
                Woken::Members => self.see(),
                Woken::Wanted => self.want(),
                Woken::Wish(wish) => self.grant(wish),
                Woken::Stop => return,
            }
        }
    }

    /// Deadlines first: they are promises. What is heard comes last, for others decide how much that
    /// is: no flood of it may keep a leader from renewing, or from resigning.
    async fn wake(&mut self) -> Woken {
        let deadline = self.machine.deadline();
        let clock = self.context.clock.clone();
        let look_every = self.look_every;
        let members = async {
            match &mut self.members {
                Some(members) => {
                    if !members.changed().await {
                        pending::<()>().await;
                    }
                }
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.context.stopping.cancelled() => Woken::Stop,
            () = sleep_until(&*clock, deadline, look_every) => Woken::Deadline,
            () = self.post.sent() => Woken::Sent,
            Ok(()) = self.wanted.changed() => Woken::Wanted,
            Some(wish) = self.desk.recv() => Woken::Wish(wish),
            () = members => Woken::Members,
            news = self.ear.next() => Woken::Heard(news),
        }
    }

    fn heard(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Frame { frame, .. } => self.read(&frame.payload),
            FeedEvent::Malformed(bad) => self.dropped("malformed", &bad.error),
            // What waited to be sent was meant for before the outage (E16).
            FeedEvent::Disconnected => self.post.clear(),
            // Whoever still needs an answer asks again.
            FeedEvent::Connected | FeedEvent::Gap(_) => {}
        }
    }

    fn read(&mut self, bytes: &Bytes) {
        match self.envelope.open(bytes) {
            // For another start of this member.
            Ok((_, Some(to))) if to != self.context.instance => {}
            Ok((message, _)) => self.dispatch(Event::Received(message)),
            Err(error) => {
                let reason = match &error {
                    BadMessage::OtherElection { from } => {
                        self.warn_of(from);
                        "other-election"
                    }
                    _ => "malformed",
                };
                self.dropped(reason, &error.to_string());
            }
        }
    }

    /// Once for each: during a change of the list it is expected, for ever it is a mistake.
    fn warn_of(&mut self, from: &MemberId) {
        if self.strangers.len() < 64 && self.strangers.insert(from.clone()) {
            let election = &self.label;
            warn!(election, member = %from, "has another list of voters, or another ttl: its votes do not count here, nor ours there");
        }
    }

    fn dropped(&self, reason: &'static str, error: &str) {
        debug!(election = self.label, reason, error, "a vote was dropped");
        let labels = [("key", self.label.as_str()), ("reason", reason)];
        telemetry::count(telemetry::VOTES_DROPPED, 1, &labels);
    }

    fn see(&mut self) {
        let seen = self.members.as_ref().map(|members| {
            let members = members.current().into_iter();
            members.map(|member| member.id).collect()
        });
        if let Some(seen) = seen {
            self.dispatch(Event::Seen(seen));
        }
    }

    fn want(&mut self) {
        let Wanted { by, floor } = *self.wanted.borrow_and_update();
        self.dispatch(match by {
            0 => Event::StandDown,
            _ => Event::Stand { floor },
        });
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Confirm(answer) => {
                self.requests += 1;
                let request = self.requests;
                self.confirming.insert(request, answer);
                self.dispatch(Event::Confirm { request });
            }
            Wish::Resign { term, next, sent } => {
                self.dispatch(Event::Resign { term, next });
                self.post.tell_when_sent(sent);
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        let at = reading(&self.context);
        trace!(member = %self.context.me, ?event, "vote event");
        for action in self.machine.step(at, event) {
            trace!(member = %self.context.me, ?action, "vote action");
            self.perform(action);
        }
        let view = View {
            standing: self.machine.standing(at),
            leader: self.machine.leader(at.now).cloned(),
        };
        self.view.send_if_modified(|known| {
            let modified = *known != view;
            *known = view;
            modified
        });
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Broadcast(body) => self.send(None, body),
            Action::Send { to, instance, body } => self.send(Some((to, instance)), body),
            Action::Won { term } => info!(election = self.label, term, "won the vote"),
            Action::Confirmed { request, term } => self.answer(request, Some(term)),
            Action::Refused { request } => self.answer(request, None),
            Action::Deposed { term } => debug!(election = self.label, term, "deposed"),
            // The view tells.
            Action::Changed => {}
        }
    }

    fn send(&mut self, to: Option<(MemberId, Instance)>, body: Body) {
        let message = Message {
            from: self.context.me.clone(),
            instance: self.context.instance,
            body,
        };
        let (member, instance) = to.unzip();
        let topic = match &member {
            Some(member) => self.inboxes.of(member),
            None => self.to_all.clone(),
        };
        self.post
            .send(&topic, self.envelope.seal(&message, instance));
        telemetry::count(telemetry::VOTES_SENT, 1, &[("key", &self.label)]);
    }

    fn answer(&mut self, request: u64, term: Option<u64>) {
        if let Some(answer) = self.confirming.remove(&request) {
            // Who asked may have given up waiting.
            answer.send(term).ok();
        }
    }
}

fn reading(context: &Context) -> Reading {
    Reading {
        now: context.clock.now(),
        steady: context.clock.steady(),
        wall_millis: context.clock.wall_millis(),
    }
}
