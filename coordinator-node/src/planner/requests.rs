//! What a planner asks of its stores: each request with a deadline, each answer an event.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use coordinator_core::machine::planner::{PlannedSwap, PlannerEvent as Event};
use coordinator_core::{
    AssignmentStore, ErrorKind, FencingToken, Keyspace, Life, LockBackend, MembershipStore, Swap,
    Versions,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use crate::context::Context;
use crate::tasks::sleep_until;
use crate::telemetry;

/// The parts of the backend that planning needs.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) locks: Arc<dyn LockBackend>,
    pub(super) members: Arc<dyn MembershipStore>,
    pub(super) assignments: Arc<dyn AssignmentStore>,
}

type Request = Pin<Box<dyn Future<Output = Event> + Send>>;
type Hint = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests in flight of one planner.
pub(super) struct Requests {
    context: Arc<Context>,
    stores: Stores,
    keyspace: Keyspace,
    in_flight: FuturesUnordered<Request>,
    hint: Option<Hint>,
    /// What the last hint was asked with: one that brought nothing is not asked again at once.
    heard: Option<Versions>,
}

impl Requests {
    pub(super) fn new(context: &Arc<Context>, stores: Stores, keyspace: Keyspace) -> Self {
        Self {
            context: context.clone(),
            stores,
            keyspace,
            in_flight: FuturesUnordered::new(),
            hint: None,
            heard: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The next answer or hint; never, if none is awaited. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        let Self {
            in_flight, hint, ..
        } = self;
        let hinted = async {
            match hint {
                Some(hint) => hint.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(event) = in_flight.next() => event,
            () = hinted => {
                // Listened for again with the next snapshot, which this one leads to.
                self.hint = None;
                Event::Changed
            }
        }
    }

    /// Listens for news of the members since `known`.
    pub(super) fn listen(&mut self, known: Versions) {
        let nothing_new = self.heard == Some(known);
        if nothing_new && self.hint.is_some() {
            return;
        }
        self.heard = Some(known);
        let (members, context) = (self.stores.members.clone(), self.context.clone());
        self.hint = Some(Box::pin(async move {
            if nothing_new {
                let look_every = context.trust.look_every();
                let after = context.now() + look_every;
                sleep_until(&*context.clock, Some(after), look_every).await;
            }
            if let Err(error) = members.changed(&context.group, known).await {
                // Without hints, the machine looks by its own timers.
                debug!(error = %error, "no hints of the members");
                pending::<()>().await;
            }
        }));
    }

    /// Hears no more of the members.
    pub(super) fn stop_listening(&mut self) {
        self.hint = None;
        self.heard = None;
    }

    pub(super) fn lead(&mut self, request: u64, token: FencingToken) {
        let (store, context) = (self.stores.assignments.clone(), self.context.clone());
        let keyspace = self.keyspace.clone();
        let call = async move {
            let answer = store.lead(&context.group, &keyspace, token).await;
            answer.map_err(|error| told(&keyspace, &error, error.kind()))
        };
        self.send(call, move |answer| Event::LeadAnswered { request, answer });
    }

    pub(super) fn load(&mut self, request: u64) {
        let (store, context) = (self.stores.assignments.clone(), self.context.clone());
        let keyspace = self.keyspace.clone();
        let call = async move {
            let answer = store.load(&context.group, &keyspace).await;
            answer.map_err(|error| told(&keyspace, &error, error.kind()))
        };
        self.send(call, move |answer| Event::LoadAnswered { request, answer });
    }

    pub(super) fn read_snapshot(&mut self, request: u64) {
        let (store, context) = (self.stores.members.clone(), self.context.clone());
        let keyspace = self.keyspace.clone();
        let call = async move {
            let answer = store.snapshot(&context.group).await;
            answer
                .map(Arc::new)
                .map_err(|error| told(&keyspace, &error, error.kind()))
        };
        self.send(call, move |answer| Event::SnapshotAnswered {
            request,
            answer,
        });
    }

    pub(super) fn evict(&mut self, life: Life) {
        let (store, context) = (self.stores.members.clone(), self.context.clone());
        let (keyspace, (id, incarnation)) = (self.keyspace.clone(), life.clone());
        let call = async move {
            let answer = store.evict(&context.group, &id, incarnation).await;
            answer.map_err(|error| told(&keyspace, &error, error.kind()))
        };
        self.send(call, move |answer| Event::EvictAnswered { life, answer });
    }

    pub(super) fn swap(&mut self, plan: PlannedSwap) {
        let (store, context) = (self.stores.assignments.clone(), self.context.clone());
        let keyspace = self.keyspace.clone();
        let (request, group) = (plan.request, context.group.clone());
        let mut swap = Swap::new(group, keyspace.clone(), plan.token, plan.document);
        swap.expected = plan.expected;
        swap.floor = plan.floor;
        swap.ended = plan.ended;
        let call = async move {
            let asked = context.now();
            let answer = store.swap(&swap).await;
            let seconds = context.now().since(asked).as_secs_f64();
            let labels = [("keyspace", keyspace.as_str())];
            telemetry::observe(telemetry::SWAP_SECONDS, seconds, &labels);
            answer.map_err(|error| told(&keyspace, &error, error.kind()))
        };
        self.send(call, move |answer| Event::SwapAnswered { request, answer });
    }

    /// Sends a request; without an answer within a trust window its outcome is unknown (T6).
    fn send<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, ErrorKind>> + Send + 'static,
        event: impl FnOnce(Result<T, ErrorKind>) -> Event + Send + 'static,
    ) {
        let context = self.context.clone();
        let deadline = context.trust.until(context.now());
        self.in_flight.push(Box::pin(async move {
            let look_every = context.trust.look_every();
            tokio::select! {
                biased;
                answer = call => event(answer),
                () = sleep_until(&*context.clock, Some(deadline), look_every) => {
                    event(Err(ErrorKind::Indeterminate))
                }
            }
        }));
    }
}

/// The kind is what the machine acts on; the rest is for the log.
fn told(keyspace: &Keyspace, error: &dyn std::error::Error, kind: ErrorKind) -> ErrorKind {
    debug!(%keyspace, error = %error, ?kind, "no answer");
    kind
}
