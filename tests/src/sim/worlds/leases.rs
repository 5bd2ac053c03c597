//! An election, and a lock that all want: with stall limits, priorities and transfers, with calls
//! that are dropped midway, and with work that misbehaves.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use coordinator_node::core::{Key, MemberId};
use coordinator_node::{
    AcquireError, Election, ElectionConfig, Leadership, LockConfig, LockGuard, RunError, WorkResult,
};
use futures_util::FutureExt;
use rand::RngExt;
use tokio::time::{sleep, timeout};

use super::super::bounds::Terms;
use super::super::faults::Class;
use super::super::resource::{Actor, Resources};
use super::super::scene::{Scene, Sort, What};
use super::draw::{ANY, BUS, Draw, WORK};
use super::{Life, Living, ON_PURPOSE, SeatPlan, World};

/// So long a transfer is asked for, at most.
pub(super) const TRANSFER: Duration = Duration::from_secs(20);
/// How often a leader acts.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// An election, and perhaps a lock.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    terms: Terms,
    latency: Duration,
    members: usize,
    reserves: usize,
    priorities: bool,
    locks: bool,
    resources: Resources,
}

impl Leases {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let members = draw.members();
        let reserves = draw.reserves(members);
        let priorities = draw.chance(0.25);
        let mut terms = draw.terms();
        terms.members = members + reserves;
        terms.stall = draw.chance(0.6).then(|| terms.ttl / 2 + PERIOD * 2);
        terms.restless = priorities;
        Self {
            latency: draw.latency(),
            locks: draw.chance(0.6),
            terms,
            members,
            reserves,
            priorities,
            resources: Resources::default(),
        }
    }
}

impl World for Leases {
    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn seats(&self) -> Vec<SeatPlan> {
        let seat = |at| SeatPlan::named("g", at >= self.members);
        (0..self.members + self.reserves).map(seat).collect()
    }

    fn wanted(&self) -> BTreeSet<What> {
        BTreeSet::from(["g/leader".into()])
    }

    fn faults(&self) -> Vec<(Class, u32)> {
        let own = [(Class::Transfer, 6)];
        [&ANY[..], &WORK, &BUS, &own].concat()
    }

    fn latency(&self) -> Duration {
        self.latency
    }

    fn live(&self, mut life: Life) -> Living {
        let world = self.clone();
        Box::pin(async move {
            let (leader, locker) = (life.fork(), life.fork());
            let lead = lead(leader, world.election(life.process.seat), world.clone());
            let lock = async {
                if world.locks {
                    lock(locker, &world).await;
                }
            };
            tokio::join!(lead, lock, hand_over(life, world.election(0)));
        })
    }

    fn settled(&self, scene: &Scene) -> Result<(), String> {
        leads(scene, "g/leader")
    }
}

impl Leases {
    fn election(&self, seat: usize) -> ElectionConfig {
        let mut config = ElectionConfig::new("leader");
        config.stall_limit = self.terms.stall;
        if self.priorities {
            config = config.priority(u32::try_from(seat % 3).unwrap_or(0));
        }
        config
    }
}

/// Whether somebody leads.
pub(super) fn leads(scene: &Scene, what: &str) -> Result<(), String> {
    if scene.is_served(&what.into()) {
        Ok(())
    } else {
        Err(format!("nobody serves {what}"))
    }
}

/// Leads, again and again, until the node shuts down.
pub(super) async fn lead(mut life: Life, config: ElectionConfig, world: impl Leads) {
    let election = life.node.election(config);
    loop {
        let mut part = life.fork();
        let work = |term: Leadership| leading(part.fork(), term, world.clone());
        let led = AssertUnwindSafe(election.run(work)).catch_unwind();
        tokio::select! {
            biased;
            ended = led => match ended {
                Ok(Ok(()) | Err(RunError::Acquire(AcquireError::ShuttingDown { .. }))) => return,
                // Work that fails on purpose.
                Ok(Err(RunError::Work { .. })) | Err(_) => sleep(Duration::from_millis(300)).await,
                Ok(Err(error)) => return life.complain(format!("{error}: {error:?}")),
            },
            () = life.cancelled() => {}
        }
        if life.node.health().draining {
            return;
        }
    }
}

/// What a leader's work needs to know.
pub(super) trait Leads: Clone + Send + Sync + 'static {
    fn drain(&self) -> Duration;
    fn resources(&self) -> &Resources;
    /// By what right a leader leads.
    fn sort(&self, key: Key) -> Sort {
        Sort::Lease(key)
    }
}

impl Leads for Leases {
    fn drain(&self) -> Duration {
        self.terms.drain
    }

    fn resources(&self) -> &Resources {
        &self.resources
    }
}

async fn leading(mut life: Life, term: Leadership, world: impl Leads) -> WorkResult {
    let what = life.what("leader");
    let key = Key::scoped(&life.group, "election", "leader");
    let view = term.view();
    let begun = life
        .witness
        .begins(life.process, &what, world.sort(key), view.clone());
    let Some(tenure) = begun else {
        return Ok(());
    };
    let token = term.term().token.get();
    loop {
        life.while_wedged(&tenure).await;
        if !term.tick(PERIOD).await {
            break;
        }
        world.resources().write(Actor {
            witness: &life.witness,
            tenure: &tenure,
            what: &what,
            token,
            trusted: view.token().is_ok(),
        })?;
        if life.fails() {
            assert!(life.random.random_bool(0.5), "{ON_PURPOSE}");
            return Err("the work fails on purpose".into());
        }
    }
    life.drain_slowly(world.drain()).await;
    Ok(())
}

/// Takes the lock now and then, in every way there is.
async fn lock(mut life: Life, world: &Leases) {
    let draining = life.node.draining();
    let mut draining = std::pin::pin!(draining);
    while (&mut draining).now_or_never().is_none() {
        let pause = life.span(world.terms.ttl);
        tokio::select! {
            biased;
            () = &mut draining => return,
            () = sleep(pause) => {}
        }
        let mut config = LockConfig::new("lock");
        config.stall_limit = world.terms.stall;
        let lock = life.node.lock(config);
        let patience = life.span(world.terms.ttl * 2);
        match life.random.random_range(0..3) {
            0 => {
                if let Ok(Ok(Some(guard))) = timeout(patience, lock.try_acquire()).await {
                    hold(&mut life, guard, world).await;
                }
            }
            1 => {
                // Dropped midway, if it takes too long.
                if let Ok(Ok(guard)) = timeout(patience, lock.acquire()).await {
                    hold(&mut life, guard, world).await;
                }
            }
            _ => {
                let mut part = life.fork();
                let held = lock.run(async |guard| {
                    hold(&mut part, guard, world).await;
                    Ok(())
                });
                drop(timeout(patience, held).await);
            }
        }
    }
}

async fn hold(life: &mut Life, guard: LockGuard, world: &Leases) {
    let what = life.what("lock");
    let key = Key::scoped(&life.group, "lock", "lock");
    let (view, process) = (guard.view(), life.process);
    let begun = life
        .witness
        .begins(process, &what, Sort::Lease(key), view.clone());
    let (Some(tenure), Ok(token)) = (begun, guard.token()) else {
        return;
    };
    // Nobody but this function drops the guard.
    tenure.keeps_guard();
    let span = life.span(world.terms.ttl * 2);
    let held = guard.until_drain(sleep(span)).await;
    let actor = Actor {
        witness: &life.witness,
        tenure: &tenure,
        what: &what,
        token: token.get(),
        trusted: view.token().is_ok(),
    };
    let refused = world.resources.write(actor).is_err();
    life.while_wedged(&tenure).await;
    drop(tenure);
    if held.is_some() && !refused && life.random.random_bool(0.5) {
        let patience = life.span(world.terms.ttl);
        drop(timeout(patience, guard.release()).await);
    }
}

/// Asks the leader to hand over, whenever that is wanted of this member.
pub(super) async fn hand_over(mut life: Life, config: ElectionConfig) {
    let (election, draining) = (life.node.election(config), life.node.draining());
    let asked = async {
        loop {
            life.mood.transfer.notified().await;
            transfer(&mut life, &election).await;
        }
    };
    tokio::select! {
        biased;
        () = draining => {}
        () = asked => {}
    }
}

async fn transfer(life: &mut Life, election: &Election) {
    let members = life.node.members().current();
    let Some(successor) = members.get(life.random.random_range(0..members.len().max(1))) else {
        return;
    };
    let successor: MemberId = successor.id.clone();
    let patience = life.span(TRANSFER);
    // It may fail in many ways; what counts is what it leaves behind.
    drop(timeout(patience, election.transfer_to(&successor)).await);
}
