//! Drives the hearing machine over a bus: members where no store knows them (G6).

mod wire;

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::hearing::{
    Hearing, HearingAction as Action, HearingConfig, HearingEvent as Event, Sign,
};
use coordinator_core::{
    Backoff, Bytes, ClusterBus, FeedEvent, Frame, LostCause, Profile, Snapshot, Topic, Version,
    Versions, WireError, scoped,
};
use rand::rngs::StdRng;
use tracing::{debug, info, trace, warn};

use super::{Shared, Wish};
use crate::inbox::{Inbox, News};
use crate::tasks::sleep_until;
use crate::telemetry;
use wire::Sending;

/// A feed that was refused is opened again after so long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// So many events of a feed that always has one are read until others may run.
const READ_AT_ONCE: u32 = 64;

/// The topic of the beats: outside of the numbered streams of users, for a lost beat is no gap
/// that anybody would want to hear of.
fn topic(shared: &Shared) -> Topic {
    Topic::named(scoped(&shared.context.group, "members", "beats"))
}

pub(super) struct Ear {
    shared: Arc<Shared>,
    machine: Hearing,
    inbox: Inbox,
    topic: Topic,
    sending: Sending,
    backoff: Backoff,
    random: StdRng,
    /// The edition of the profile that the machine has.
    edition: u64,
    version: u64,
    /// Events of the feed in a row.
    read: u32,
    leaving: bool,
}

enum Woken {
    Stop,
    Sent(Result<(), String>),
    Heard(News),
    Deadline,
    Told,
}

/// Whether this profile fits a beat that the bus takes. If not: by how many bytes it does not.
pub(super) fn excess(shared: &Shared, profile: &Profile) -> usize {
    let bus = shared.context.backend.bus.as_ref();
    let Some(limit) = bus.and_then(|bus| bus.capabilities().payload_limit) else {
        return 0;
    };
    config(shared).weigh(profile).saturating_sub(limit)
}

fn config(shared: &Shared) -> HearingConfig {
    let context = &shared.context;
    HearingConfig {
        group: context.group.clone(),
        id: context.me.clone(),
        instance: context.instance,
        fixed: context.fixed,
        ttl: context.trust.ttl(),
    }
}

impl Ear {
    /// One that has shown nobody but this node so far.
    pub(super) fn new(shared: Arc<Shared>, bus: Arc<dyn ClusterBus>) -> Self {
        let context = &shared.context;
        let (profile, edition) = {
            let desk = shared.desk();
            (desk.profile.clone(), desk.edition)
        };
        let now = context.now();
        let mut ear = Self {
            machine: Hearing::new(config(&shared), profile, context.fork_random(), now),
            inbox: Inbox::new(bus.clone(), vec![topic(&shared)]),
            topic: topic(&shared),
            sending: Sending::new(bus, context.trust.renew_every()),
            backoff: Backoff::new(context.trust.look_every(), LONGEST_PAUSE),
            random: context.fork_random(),
            edition,
            version: 0,
            read: 0,
            leaving: false,
            shared,
        };
        ear.show();
        ear
    }

    /// Runs until it has said goodbye, or the node stops.
    pub(super) async fn run(mut self) {
        self.read_desk();
        while !self.has_left() {
            match self.wake().await {
                Woken::Stop => break,
                Woken::Sent(sent) => self.sent(sent),
                Woken::Heard(news) => self.heard(news).await,
                Woken::Deadline => self.dispatch(Event::Tick),
                Woken::Told => self.read_desk(),
            }
        }
        let left = self.has_left();
        self.shared.standing.send_modify(|standing| {
            standing.left = left;
            standing.cause.get_or_insert(LostCause::Released);
        });
    }

    /// Our own beats first: they must not wait for a flood of others. What arrives comes before
    /// deadlines, for it may be what a deadline waits for; and each step looks at those anyway.
    async fn wake(&mut self) -> Woken {
        let context = &self.shared.context;
        let deadline = self.machine.deadline();
        let look_every = context.trust.look_every();
        tokio::select! {
            biased;
            () = context.stopping.cancelled() => Woken::Stop,
            sent = self.sending.sent() => Woken::Sent(sent),
            news = self.inbox.next() => Woken::Heard(news),
            () = sleep_until(&*context.clock, deadline, look_every) => Woken::Deadline,
            () = self.shared.told.notified() => Woken::Told,
        }
    }

    fn has_left(&self) -> bool {
        self.leaving && self.sending.is_idle()
    }

    fn sent(&mut self, sent: Result<(), String>) {
        let outcome = if sent.is_ok() { "sent" } else { "failed" };
        telemetry::count(telemetry::HEARTBEATS, 1, &[("outcome", outcome)]);
        if let Err(error) = sent {
            // The next beat says it again.
            debug!(member = %self.shared.context.me, error, "a beat was not sent");
        }
    }

    async fn heard(&mut self, news: News) {
        match news {
            News::Open => {
                self.backoff.reset();
                self.dispatch(Event::Connected);
            }
            News::Closed(error) => {
                debug!(group = %self.shared.context.group, error, "beats are not received");
                let pause = self.backoff.next(&mut self.random);
                self.inbox.reopen(pause);
                self.dispatch(Event::Disconnected);
            }
            News::Event(event) => {
                self.feed(event);
                self.read = self.read.wrapping_add(1);
                if self.read.is_multiple_of(READ_AT_ONCE) {
                    // A feed that always has something must not keep others from running.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn feed(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Frame { frame, .. } => {
                match Sign::from_bytes(&frame.payload, &self.shared.context.group) {
                    Ok(sign) => self.dispatch(Event::Heard(sign)),
                    Err(error) => self.drop_sign(&error),
                }
            }
            FeedEvent::Malformed(bad) => {
                telemetry::count(telemetry::HEARTBEATS_DROPPED, 1, &[("cause", "malformed")]);
                debug!(error = bad.error, "a frame that should be a beat is none");
            }
            FeedEvent::Disconnected => self.dispatch(Event::Disconnected),
            FeedEvent::Connected => self.dispatch(Event::Connected),
            // What was lost will be said again.
            FeedEvent::Gap(_) => {}
        }
    }

    /// Another build, another program, or noise: counted, and never fatal.
    fn drop_sign(&self, error: &WireError) {
        let cause = match error {
            WireError::UnknownVersion { .. } => "version",
            WireError::Foreign { .. } => "foreign",
            _ => "malformed",
        };
        telemetry::count(telemetry::HEARTBEATS_DROPPED, 1, &[("cause", cause)]);
        debug!(group = %self.shared.context.group, error = %error, cause, "a beat was dropped");
    }

    /// What was laid on the desk, in one go.
    fn read_desk(&mut self) {
        let (profile, leave) = {
            let desk = self.shared.desk();
            let profile = (desk.edition != self.edition).then(|| desk.profile.clone());
            self.edition = desk.edition;
            (profile, desk.wishes.contains(&Wish::Leave))
        };
        if let Some(profile) = profile {
            self.dispatch(Event::Announce(profile));
        }
        if leave && !self.leaving {
            self.leaving = true;
            self.dispatch(Event::Leave);
        }
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.shared.context.now();
        trace!(member = %self.shared.context.me, ?event, "hearing event");
        for action in self.machine.step(now, event) {
            trace!(member = %self.shared.context.me, ?action, "hearing action");
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let context = &self.shared.context;
        match action {
            Action::Publish(sign) => {
                let payload = sign.to_bytes();
                self.publish(sign.beat, payload);
            }
            Action::Changed => self.show(),
            Action::Isolated => {
                warn!(member = %context.me, group = %context.group, "hears nobody, not even itself");
                self.stand_isolated(true);
            }
            Action::Rejoined => {
                info!(member = %context.me, group = %context.group, "hears the others again");
                self.stand_isolated(false);
            }
            Action::Duplicate { id, instance } => {
                telemetry::count(telemetry::DUPLICATE_NAMES, 1, &[]);
                warn!(member = %id, group = %context.group, %instance, "two live processes have this name");
            }
            Action::Crowded { id } => {
                telemetry::count(telemetry::HEARTBEATS_DROPPED, 1, &[("cause", "crowded")]);
                debug!(member = %id, group = %context.group, "there are too many members");
            }
        }
    }

    fn publish(&mut self, beat: u64, payload: Bytes) {
        let context = &self.shared.context;
        let topic = self.topic.clone();
        let (origin, instance) = (context.me.clone(), context.instance);
        let frame = Frame::new(topic, origin, instance, payload).sequence(beat);
        if self.leaving {
            self.sending.send_last(frame);
        } else {
            self.sending.send(frame);
        }
    }

    fn stand_isolated(&self, isolated: bool) {
        let change = |standing: &mut super::Standing| standing.isolated = isolated;
        self.shared.standing.send_modify(change);
    }

    fn show(&mut self) {
        self.version += 1;
        let versions = Versions {
            members: Version::new(self.version),
            ..Versions::default()
        };
        let members = self.machine.members(self.shared.context.now());
        let live = u32::try_from(members.len()).unwrap_or(u32::MAX);
        telemetry::gauge(telemetry::MEMBERS, f64::from(live), &[]);
        debug!(live, version = self.version, "members, as heard");
        let snapshot = Snapshot { versions, members };
        self.shared
            .roster
            .send_if_modified(|roster| roster.update(&snapshot));
        self.shared.snapshot.send_replace(Arc::new(snapshot));
    }
}
