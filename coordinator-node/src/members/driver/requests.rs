//! What the membership asks of its store.

use std::future::Future;
use std::pin::Pin;

use coordinator_core::{
    Beat, Heartbeat, Incarnation, Join, Joined, Leave, MembershipError, Moment, Snapshot,
};

use super::Driver;
use crate::tasks::sleep_until;

/// What a request brought back.
pub(super) enum Reply {
    Joined {
        request: u64,
        edition: u64,
        answer: Result<Joined, MembershipError>,
    },
    Beaten {
        request: u64,
        life: Incarnation,
        /// The edition of the profile that it carried, if it did.
        carried: Option<u64>,
        answer: Result<Beat, MembershipError>,
    },
    Left {
        request: u64,
        answer: Result<Leave, MembershipError>,
    },
    Looked(Result<Snapshot, MembershipError>),
}

pub(super) type Request = Pin<Box<dyn Future<Output = Reply> + Send>>;

impl Driver {
    pub(super) fn join(&mut self, now: Moment, request: u64, floor: Option<Incarnation>) {
        let context = &self.shared.context;
        let (group, me) = (context.group.clone(), context.me.clone());
        let mut join = Join::new(group, me, context.instance, context.trust.ttl());
        join.fixed = context.fixed;
        join.floor = floor;
        let edition = {
            let desk = self.shared.desk();
            join.profile = desk.profile.clone();
            desk.edition
        };
        let store = self.store.clone();
        self.request(now, "join", async move { store.join(&join).await }, {
            move |answer| Reply::Joined {
                request,
                edition,
                answer,
            }
        });
    }

    pub(super) fn beat(&mut self, now: Moment, request: u64, life: Incarnation, beat: u64) {
        let context = &self.shared.context;
        let (group, me) = (context.group.clone(), context.me.clone());
        let mut heartbeat = Heartbeat::new(group, me, life, beat, context.trust.ttl());
        heartbeat.known = self.known;
        let memory = self.shared.standing.borrow().memory.clone();
        let carried = {
            let desk = self.shared.desk();
            heartbeat.wants_reports = desk.planners > 0;
            heartbeat.report = desk.report_of(life);
            let wanted = memory.map(|memory| (memory, desk.edition));
            let news = wanted != self.announced;
            heartbeat.profile = news.then(|| desk.profile.clone());
            news.then_some(desk.edition)
        };
        let store = self.store.clone();
        self.request(
            now,
            "heartbeat",
            async move { store.heartbeat(&heartbeat).await },
            {
                move |answer| Reply::Beaten {
                    request,
                    life,
                    carried,
                    answer,
                }
            },
        );
    }

    pub(super) fn leave(&mut self, now: Moment, request: u64, life: Incarnation) {
        let context = &self.shared.context;
        let (group, me) = (context.group.clone(), context.me.clone());
        let store = self.store.clone();
        self.request(
            now,
            "leave",
            async move { store.leave(&group, &me, life).await },
            move |answer| Reply::Left { request, answer },
        );
    }

    pub(super) fn look(&mut self) {
        self.looking = true;
        let (group, store) = (self.shared.context.group.clone(), self.store.clone());
        let now = self.shared.context.now();
        let read = async move { store.snapshot(&group).await };
        self.request(now, "read", read, Reply::Looked);
    }

    /// Sends a request; without an answer by the end of its window, its outcome is unknown (T6).
    pub(super) fn request<T: Send + 'static>(
        &self,
        asked: Moment,
        operation: &'static str,
        call: impl Future<Output = Result<T, MembershipError>> + Send + 'static,
        reply: impl FnOnce(Result<T, MembershipError>) -> Reply + Send + 'static,
    ) {
        let context = self.shared.context.clone();
        self.requests.push(Box::pin(async move {
            let deadline = context.trust.until(asked);
            let look_every = context.trust.look_every();
            tokio::select! {
                biased;
                answer = call => reply(answer),
                () = sleep_until(&*context.clock, Some(deadline), look_every) => {
                    let group = context.group.clone();
                    let silence = "no answer within the trust window";
                    reply(Err(MembershipError::indeterminate(operation, group, silence)))
                }
            }
        }));
    }
}
