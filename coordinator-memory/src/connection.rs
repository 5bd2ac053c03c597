//! One member's connection: how requests reach the store, and replies the member.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{Guarantee, Guarantees, StoreId};
use tokio::sync::oneshot;
use tokio::task::consume_budget;
use tokio::time::sleep;

use crate::faults::{Failure, Plan};
use crate::gate::Process;
use crate::link::LinkState;
use crate::state::State;
use crate::store::Hub;

/// All five parts of one start of a member.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) hub: Arc<Hub>,
    pub(crate) link: Arc<LinkState>,
    pub(crate) process: Arc<Process>,
    store: StoreId,
}

impl Connection {
    pub(crate) fn new(
        hub: Arc<Hub>,
        link: Arc<LinkState>,
        process: Arc<Process>,
        store: StoreId,
    ) -> Self {
        Self {
            hub,
            link,
            process,
            store,
        }
    }

    pub(crate) fn store_id(&self) -> StoreId {
        self.store.clone()
    }

    /// A request to the store, and its reply.
    ///
    /// With no fault in the way it is handled at once. Otherwise it travels in a task of its own,
    /// which no pause and no crash of the member stops: what has left takes effect.
    pub(crate) async fn request<T, F>(&self, operation: F) -> Result<T, Failure>
    where
        F: FnOnce(&mut State) -> T + Send + 'static,
        T: Send + 'static,
    {
        let plan = self.leave().await?;
        if plan.is_plain() {
            return Ok(operation(&mut self.hub.state.lock()));
        }
        let (send, reply) = oneshot::channel();
        let journey = Journey {
            hub: self.hub.clone(),
            link: self.link.clone(),
            plan,
        };
        drop(tokio::spawn(journey.carry(operation, send)));
        self.await_reply(reply).await
    }

    /// Whether a request can leave now, and what will become of it.
    async fn leave(&self) -> Result<Plan, Failure> {
        self.can_ask().await?;
        self.link.plan()
    }

    /// Whether there is a process that runs, and a store that runs.
    pub(crate) async fn can_ask(&self) -> Result<(), Failure> {
        self.process.gate.opened().await;
        // Requests that are answered at once must not keep other tasks from running.
        consume_budget().await;
        if self.process.gate.is_crashed() {
            return Err(Failure::Crashed);
        }
        if self.hub.is_stopped() {
            return Err(Failure::Stopped);
        }
        Ok(())
    }

    async fn await_reply<T>(&self, reply: oneshot::Receiver<T>) -> Result<T, Failure> {
        let arrival = async {
            match reply.await {
                Ok(answer) => answer,
                // It was lost on its way, which nobody can tell from one that is late.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = arrival => Ok(answer),
            failure = self.no_reply() => Err(failure),
        }
    }

    /// The deadline of a request.
    pub(crate) async fn no_reply(&self) -> Failure {
        let timeout = self.hub.settings.request_timeout;
        sleep(timeout).await;
        Failure::NoReply(timeout)
    }

    /// Waits until `hint` returns, and lets the member hear of it.
    ///
    /// Ends when the connection breaks, for then the store no longer knows who waits. Cancel safe.
    pub(crate) async fn hint(&self, hint: impl Future<Output = ()> + Send) -> Result<(), Failure> {
        let broken = self.link.broken();
        self.leave().await?;
        let heard = async {
            hint.await;
            if !self.link.passes_replies() {
                // Lost on its way.
                std::future::pending::<()>().await;
            }
            sleep_if_needed(self.link.delay()).await;
        };
        tokio::select! {
            biased;
            () = broken => self.connected(),
            () = heard => Ok(()),
        }
    }

    /// Whether there is a connection. After a break that is mended already a hint may as well
    /// return: something may have changed meanwhile.
    fn connected(&self) -> Result<(), Failure> {
        if self.process.gate.is_crashed() {
            Err(Failure::Crashed)
        } else if self.hub.is_stopped() {
            Err(Failure::Stopped)
        } else if !self.link.passes_requests() || !self.link.passes_replies() {
            Err(Failure::Cut)
        } else {
            Ok(())
        }
    }
}

/// What carries one request there and its reply back.
struct Journey {
    hub: Arc<Hub>,
    link: Arc<LinkState>,
    plan: Plan,
}

impl Journey {
    async fn carry<T, F>(self, operation: F, reply: oneshot::Sender<T>)
    where
        F: FnOnce(&mut State) -> T,
    {
        sleep_if_needed(self.plan.out).await;
        if self.plan.request_lost || !self.link.passes_requests() || self.hub.is_stopped() {
            return;
        }
        let answer = operation(&mut self.hub.state.lock());
        sleep_if_needed(self.plan.back).await;
        if self.plan.reply_lost || !self.link.passes_replies() || self.hub.is_stopped() {
            return;
        }
        // The asker may have given up.
        drop(reply.send(answer));
    }
}

async fn sleep_if_needed(span: Duration) {
    if !span.is_zero() {
        sleep(span).await;
    }
}

/// What a store in memory gives, honestly.
pub(crate) fn guarantees() -> Guarantees {
    let elsewhere = "use a store that runs outside of this process";
    Guarantees::unknown()
        .missing(
            Guarantee::SurvivesCrash,
            "everything is kept in the memory of this process",
            elsewhere,
        )
        .missing(
            Guarantee::SurvivesFailover,
            "there is one copy, in the memory of this process",
            elsewhere,
        )
        .missing(
            Guarantee::SeesDeadHolders,
            "a crashed member is not told from a silent one",
            elsewhere,
        )
        .given(Guarantee::NeverEvicts, "no lease is removed to make room")
}
