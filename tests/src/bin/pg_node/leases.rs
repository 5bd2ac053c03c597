//! Elections and locks.

use std::time::Duration;

use coordinator_node::{
    BoxError, ElectionConfig, LeaseView, LockConfig, Node, Quorum, ReleaseError,
};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::order::Order;
use crate::reign::Reign;
use crate::say;

/// How often a holder acts.
const EVERY: Duration = Duration::from_millis(5);

/// Campaigns until told to end; settings: `ttl`, `every`, `stall`, `cool`, `voters` (their names, or
/// `live`), and `stuck=1` for work that makes no progress.
pub(crate) async fn lead(
    node: Node,
    order: Order,
    mut end: oneshot::Receiver<()>,
) -> Result<(), BoxError> {
    let name = order.subject()?;
    let election = node.election(election(&order)?);
    loop {
        let leadership = tokio::select! {
            elected = election.campaign() => elected?,
            _ = &mut end => return Ok(()),
        };
        let work = reign(name, leadership.view(), &order)?;
        let ends = Ends::new(&node, &mut end, leadership.draining());
        let Some(ending) = ends.wait(work).await else {
            continue;
        };
        told_of(name, leadership.resign().await);
        if matches!(ending, Ending::Asked | Ending::Down) {
            return Ok(());
        }
    }
}

/// Takes the lock, and holds it until told to end or until it is lost; settings: `ttl`, `every`, and
/// `for`: gives it back after so long, and takes it again after as long, until told to end.
pub(crate) async fn hold(
    node: Node,
    order: Order,
    mut end: oneshot::Receiver<()>,
) -> Result<(), BoxError> {
    let turn = order.span("for")?;
    loop {
        let goes_on = hold_once(&node, &order, &mut end, turn).await?;
        let Some(turn) = turn.filter(|_| goes_on) else {
            return Ok(());
        };
        sleep(turn).await;
    }
}

/// Whether it was neither told to end nor shut down.
async fn hold_once(
    node: &Node,
    order: &Order,
    end: &mut oneshot::Receiver<()>,
    turn: Option<Duration>,
) -> Result<bool, BoxError> {
    let name = order.subject()?;
    let mut config = LockConfig::new(name);
    config.ttl = order.span("ttl")?;
    let lock = node.lock(config);
    let guard = tokio::select! {
        guard = lock.acquire() => guard?,
        _ = &mut *end => return Ok(false),
    };
    let reign = reign(name, guard.view(), order)?;
    let work = async {
        match turn {
            // A turn that is over ends as if it had been asked for.
            Some(turn) => drop(timeout(turn, reign).await),
            None => reign.await,
        }
    };
    let ends = Ends::new(node, end, guard.draining());
    let ending = ends.wait(work).await;
    if ending.is_some() || guard.token().is_ok() {
        told_of(name, guard.release().await);
    }
    Ok(!matches!(ending, Some(Ending::Asked | Ending::Down)))
}

fn election(order: &Order) -> Result<ElectionConfig, BoxError> {
    let mut config = ElectionConfig::new(order.subject()?);
    config.ttl = order.span("ttl")?;
    config.stall_limit = order.span("stall")?;
    config.cool_down = order.span("cool")?.unwrap_or(Duration::from_millis(50));
    if let Some(voters) = order.text("voters") {
        config.by_vote = Some(match voters {
            "live" => Quorum::Live,
            names => Quorum::fixed(names.split(',')),
        });
    }
    Ok(config)
}

/// The work of a holder: ends when the lease is lost.
fn reign(
    name: &str,
    view: LeaseView,
    order: &Order,
) -> Result<impl Future<Output = ()> + use<>, BoxError> {
    let every = order.span("every")?.unwrap_or(EVERY);
    let progress = order.text("stuck").is_none();
    let reign = Reign::begin(name, view);
    Ok(async move {
        if let Some(reign) = reign {
            reign.act_until_lost(every, progress).await;
        }
    })
}

fn told_of(name: &str, released: Result<(), ReleaseError>) {
    match released {
        Ok(()) => say(format_args!("resigned {name}")),
        Err(error) => say(format_args!("resigned {name} {error}")),
    };
}

/// Why work ended that was not lost.
enum Ending {
    /// `resign`.
    Asked,
    /// The node shuts down.
    Down,
    /// It was asked to hand over.
    Drained,
}

/// What may end the work beside its loss.
struct Ends<'a, D> {
    node: Node,
    end: &'a mut oneshot::Receiver<()>,
    draining: D,
}

impl<'a, D: Future<Output = ()>> Ends<'a, D> {
    fn new(node: &Node, end: &'a mut oneshot::Receiver<()>, draining: D) -> Self {
        let node = node.clone();
        Self {
            node,
            end,
            draining,
        }
    }

    /// Works until something ends it; `None`: the lease was lost. The work is gone when this returns.
    async fn wait(self, work: impl Future<Output = ()>) -> Option<Ending> {
        tokio::select! {
            biased;
            () = work => None,
            _ = self.end => Some(Ending::Asked),
            () = self.node.draining() => Some(Ending::Down),
            () = self.draining => Some(Ending::Drained),
        }
    }
}
