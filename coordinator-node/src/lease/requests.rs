//! What a lease's driver asks of its backend: each request with a deadline, each answer an event.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::lease::Event;
use coordinator_core::{
    Acquisition, Claim, ErrorKind, FencingToken, Key, LockBackend, LockError, MemberId, Moment,
    Renewal, StoreId,
};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Mutex;

use crate::context::Context;
use crate::tasks::{panic_message, sleep_until};
use crate::telemetry;

/// The outcome of a request.
pub(super) struct Reply {
    pub(super) event: Event,
    pub(super) error: Option<LockError>,
}

/// What the backend has to say.
pub(super) enum Answer {
    /// The answer to a request.
    Reply(Reply),
    /// The end of the wait for our turn.
    Hint(Result<(), LockError>),
    /// The grant may have ended.
    Alarm(Result<(), LockError>),
}

type Request = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Turn = Pin<Box<dyn Future<Output = Result<(), LockError>> + Send>>;

/// The requests in flight of one campaign.
pub(super) struct Requests {
    context: Arc<Context>,
    locks: Arc<dyn LockBackend>,
    claim: Claim,
    look_every: Duration,
    label: String,
    in_flight: FuturesUnordered<Request>,
    turn: Option<Turn>,
    alarm: Option<Turn>,
    /// Held by the renewal under way: no release leaves before its answer (W6).
    renewing: Arc<Mutex<()>>,
}

impl Requests {
    pub(super) fn new(
        context: &Arc<Context>,
        locks: &Arc<dyn LockBackend>,
        claim: Claim,
        look_every: Duration,
        label: String,
    ) -> Self {
        Self {
            context: context.clone(),
            locks: locks.clone(),
            claim,
            look_every,
            label,
            in_flight: FuturesUnordered::new(),
            turn: None,
            alarm: None,
            renewing: Arc::default(),
        }
    }

    /// Which store is asked.
    pub(super) fn store(&self) -> StoreId {
        self.locks.store()
    }

    /// The next answer or hint; never, if none is waited for. Cancel safe.
    pub(super) async fn next(&mut self) -> Answer {
        let Self {
            in_flight,
            turn,
            alarm,
            ..
        } = self;
        let hint = async |hint: &mut Option<Turn>| match hint {
            Some(hint) => hint.await,
            None => std::future::pending().await,
        };
        tokio::select! {
            biased;
            Some(reply) = in_flight.next() => Answer::Reply(reply),
            hint = hint(turn) => {
                self.turn = None;
                Answer::Hint(hint)
            }
            hint = hint(alarm) => {
                self.alarm = None;
                Answer::Alarm(hint)
            }
        }
    }

    /// Gives the place in the queue up.
    pub(super) fn stop_waiting(&mut self) {
        self.turn = None;
    }

    pub(super) fn acquire(&mut self, request: u64, floor: Option<FencingToken>, deadline: Moment) {
        self.claim.floor = floor;
        let (locks, claim) = (self.locks.clone(), self.claim.clone());
        let missing = self.context.missing_guarantee();
        self.request(request, deadline, async move {
            if let Some(guarantee) = missing {
                // Demanded, and found at the start: no new grant until it is back.
                let error = format!("the store no longer gives `{guarantee}`, which was demanded");
                return Err(LockError::unavailable("acquire", &claim.key, error));
            }
            locks.acquire(&claim).await.map(|answer| match answer {
                Acquisition::Granted(token) => Event::Granted { request, token },
                Acquisition::HeldBy(holder) => Event::Held { request, holder },
            })
        });
    }

    /// A wait that runs goes on: it has a place in the queue.
    pub(super) fn wait_turn(&mut self) {
        if self.turn.is_none() {
            let (locks, claim) = (self.locks.clone(), self.claim.clone());
            let key = claim.key.clone();
            let turn = unless_it_panics(key, async move { locks.wait_turn(&claim).await });
            self.turn = Some(Box::pin(turn));
        }
    }

    /// Listens for the end of this grant, unless it does already.
    pub(super) fn listen(&mut self, token: FencingToken) {
        if self.alarm.is_none() {
            let (locks, claim) = (self.locks.clone(), self.claim.clone());
            let key = claim.key.clone();
            let alarm = unless_it_panics(key, async move { locks.alarm(&claim, token).await });
            self.alarm = Some(Box::pin(alarm));
        }
    }

    /// The term is over.
    pub(super) fn stop_listening(&mut self) {
        self.alarm = None;
    }

    pub(super) fn renew(&mut self, request: u64, token: FencingToken, deadline: Moment) {
        let (locks, claim) = (self.locks.clone(), self.claim.clone());
        let (clock, label) = (self.context.clock.clone(), self.label.clone());
        let renewing = self.renewing.clone();
        self.request(request, deadline, async move {
            let _renewing = renewing.lock().await;
            let asked = clock.now();
            let answer = locks.renew(&claim, token).await;
            let seconds = clock.now().since(asked).as_secs_f64();
            telemetry::observe(telemetry::RENEW_SECONDS, seconds, &[("key", &label)]);
            answer.map(|answer| match answer {
                Renewal::Renewed => Event::Renewed { request },
                Renewal::Lost => Event::Gone { request },
            })
        });
    }

    pub(super) fn release(
        &mut self,
        request: u64,
        token: FencingToken,
        next: Option<MemberId>,
        deadline: Moment,
    ) {
        let (locks, claim) = (self.locks.clone(), self.claim.clone());
        let renewing = self.renewing.clone();
        self.request(request, deadline, async move {
            let _renewing = renewing.lock().await;
            // Released or not held any more: either way nothing of ours is left.
            locks
                .release(&claim, token, next.as_ref())
                .await
                .map(|_| Event::Released { request })
        });
    }

    /// Sends a request; without an answer by the deadline its outcome is unknown.
    fn request(
        &mut self,
        request: u64,
        deadline: Moment,
        call: impl Future<Output = Result<Event, LockError>> + Send + 'static,
    ) {
        let (clock, look_every) = (self.context.clock.clone(), self.look_every);
        let call = unless_it_panics(self.claim.key.clone(), call);
        self.in_flight.push(Box::pin(async move {
            tokio::select! {
                biased;
                answer = call => match answer {
                    Ok(event) => Reply { event, error: None },
                    Err(error) => {
                        let kind = error.kind();
                        Reply { event: Event::Failed { request, kind }, error: Some(error) }
                    }
                },
                () = sleep_until(&*clock, Some(deadline), look_every) => {
                    let kind = ErrorKind::Indeterminate;
                    Reply { event: Event::Failed { request, kind }, error: None }
                }
            }
        }));
    }
}

/// A call in which the backend panics has an unknown outcome, and must not take the driver along.
async fn unless_it_panics<T>(
    key: Key,
    call: impl Future<Output = Result<T, LockError>>,
) -> Result<T, LockError> {
    let answer = AssertUnwindSafe(call).catch_unwind().await;
    answer.unwrap_or_else(|panic| {
        let error = format!("the backend panicked: {}", panic_message(&*panic));
        Err(LockError::indeterminate("call for", &key, error))
    })
}
