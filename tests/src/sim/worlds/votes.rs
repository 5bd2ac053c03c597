//! Elections by vote: over nothing but a bus, and over a bus with a store that decides.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_node::core::{Backend, Key};
use coordinator_node::{ElectionConfig, Quorum};
use tokio::time::sleep;

use super::super::bounds::Terms;
use super::super::faults::Class;
use super::super::resource::Resources;
use super::super::scene::{Phase, Scene, Sort, What};
use super::draw::{ANY, BUS, Draw, WORK};
use super::leases::{self, Leads};
use super::{Life, Living, SeatPlan, World};

/// An election by vote.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and any set of them may be on"
)]
pub(super) struct Votes {
    terms: Terms,
    latency: Duration,
    members: usize,
    live: bool,
    priorities: bool,
    /// The last one was configured with another window by mistake, and so is a stranger (V9).
    stranger: bool,
    /// Its members ask for transfers all the time, until the faults have stopped: so there are many
    /// elections.
    busy: bool,
    resources: Resources,
}

impl Votes {
    /// A fixed list of voters, who have nothing but a bus.
    pub(super) fn fixed(draw: &mut Draw) -> Self {
        Self::draw(draw, false)
    }

    /// Whoever is seen chooses who asks the store.
    pub(super) fn live(draw: &mut Draw) -> Self {
        Self::draw(draw, true)
    }

    fn draw(draw: &mut Draw, live: bool) -> Self {
        let members = draw.members();
        let priorities = draw.chance(0.2);
        let window = Duration::from_secs([1, 2, 2, 5][draw.number(0..4)]);
        let mut terms = draw.terms();
        terms.ttl = Duration::from_secs([5, 10][draw.number(0..2)]);
        terms.max_ttl = terms.max_ttl.max(window);
        terms.members = members;
        terms.stall = draw.chance(0.5).then(|| window * 2 + leases::PERIOD * 2);
        terms.restless = priorities;
        terms.window = Some(window);
        // What comes later than a window is stale, and does little.
        terms.delay = window * [1, 2, 4][draw.number(0..3)] / 4;
        terms.drain = terms.drain.min(Duration::from_secs(2));
        Self {
            latency: draw.latency().min(window / 50),
            terms,
            members,
            live,
            priorities,
            stranger: !live && members >= 5 && draw.chance(0.5),
            busy: draw.chance(0.5),
            resources: Resources::default(),
        }
    }

    fn election(&self, seat: usize) -> ElectionConfig {
        let voters = (0..self.members).map(|at| format!("m{at}"));
        let quorum = if self.live {
            Quorum::Live
        } else {
            Quorum::fixed(voters)
        };
        let mut config = ElectionConfig::new("leader").by_vote(quorum);
        config.ttl = self.terms.window;
        if self.stranger && seat + 1 == self.members {
            config.ttl = self.terms.window.map(|window| window * 4);
        }
        config.stall_limit = self.terms.stall;
        if self.priorities {
            config = config.priority(u32::try_from(seat % 3).unwrap_or(0));
        }
        config
    }
}

/// What has no meaning where nobody else may join, or no store is asked.
fn fits(class: Class, live: bool) -> bool {
    match class {
        // Voters have names of their own, and strangers do not vote.
        Class::RestartNewId | Class::MassJoin => false,
        Class::StoreOutage
        | Class::StoreRestart
        | Class::StoreAmnesia
        | Class::FailOver
        | Class::ReplyLost
        | Class::WallForward
        | Class::WallBack => live,
        _ => true,
    }
}

impl World for Votes {
    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn seats(&self) -> Vec<SeatPlan> {
        let seat = |_| SeatPlan::named("g", false);
        (0..self.members).map(seat).collect()
    }

    fn wanted(&self) -> BTreeSet<What> {
        BTreeSet::from(["g/leader".into()])
    }

    fn faults(&self) -> Vec<(Class, u32)> {
        // What a voter forgets is what elections by vote are about.
        let own = [
            (Class::Transfer, 6),
            (Class::MemberWall, 3),
            (Class::RestartSameId, 20),
            (Class::OneWayIn, 8),
        ];
        let all = [&ANY[..], &WORK, &BUS, &BUS, &own].concat();
        let fitting = all.into_iter().filter(|(class, _)| fits(*class, self.live));
        fitting.collect()
    }

    fn latency(&self) -> Duration {
        self.latency
    }

    /// Members come from the bus alone; only `Live` has a store for its leases.
    fn backend(&self, backend: Backend) -> Backend {
        Backend {
            locks: backend.locks.filter(|_| self.live),
            members: None,
            assignments: None,
            checkpoints: None,
            ..backend
        }
    }

    fn live(&self, mut life: Life) -> Living {
        let world = self.clone();
        Box::pin(async move {
            let config = world.election(life.process.seat);
            let ask = transfers(life.fork(), world.clone());
            let lead = leases::lead(life.fork(), config.clone(), world);
            tokio::join!(lead, leases::hand_over(life, config), ask);
        })
    }

    fn settled(&self, scene: &Scene) -> Result<(), String> {
        leases::leads(scene, "g/leader")?;
        // The one that is being asked for, and the one that is next.
        if self.busy && scene.since(scene.phase_began) < leases::TRANSFER * 2 {
            return Err("a transfer may still be asked for".to_owned());
        }
        // A voter that abstains still is missing at the next renewal (V4).
        let window = self.terms.window.unwrap_or_default() * 2;
        for at in scene.present() {
            let up = scene.now.saturating_sub(scene.seats[at].running_since);
            if up < window {
                return Err(format!("m{at} abstains"));
            }
        }
        Ok(())
    }
}

impl Leads for Votes {
    fn drain(&self) -> Duration {
        self.terms.drain
    }

    fn resources(&self) -> &Resources {
        &self.resources
    }

    fn sort(&self, key: Key) -> Sort {
        if self.live {
            Sort::Lease(key)
        } else {
            Sort::Vote
        }
    }
}

/// Asks for transfers, again and again, as long as there are faults.
async fn transfers(mut life: Life, world: Votes) {
    let window = world.terms.window.unwrap_or_default();
    let draining = life.node.draining();
    let asking = async {
        while world.busy && life.witness.ask(|scene| scene.phase) == Phase::Wild {
            let span = life.span(window * 8);
            sleep(span).await;
            life.mood.transfer.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = draining => {}
        () = asking => {}
    }
}
